//! One step of the relay: events summed up into the fewest changes, applied in one script.

use std::{collections::BTreeMap, sync::LazyLock};

use chrono::{Days, NaiveDate, SecondsFormat};
use redis::{Script, aio::MultiplexedConnection};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::{
    domain::{Cents, EventKind, FailureReason},
    failpoint,
    store::{BoardEvent, PiecesSold},
    streams::Error,
    topology::{Keyspace, Leaderboard, failed_field},
};

static APPLY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("apply.lua")));

/// How many events stay in the events stream. Who reads more slowly finds the older ones in Postgres.
pub const EVENTS_KEPT: u32 = 100_000;

/// The leaderboards of a day are kept for 90 days after the day has ended.
pub(super) const DAY_BOARDS_KEPT: Days = Days::new(1 + 90);

/// An event as its readers see it.
#[derive(Serialize)]
struct EventBody<'a> {
    seq: i64,
    kind: EventKind,
    order_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<i64>,
    amount: Cents,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_key: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    restocked: bool,
    /// The order's day in the KPIs.
    day: NaiveDate,
    at: String,
}

impl<'a> From<&'a BoardEvent> for EventBody<'a> {
    fn from(event: &'a BoardEvent) -> Self {
        Self {
            seq: event.seq,
            kind: event.kind,
            order_code: &event.order_code,
            customer_id: event.customer_id,
            amount: Cents::new(event.amount_cents),
            reason: event.reason.as_deref(),
            refund_key: event.refund_key.as_deref(),
            restocked: event.restocked,
            day: event.day,
            at: event.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        }
    }
}

/// What an event is, as far as another history would differ at its number.
pub(super) fn mark(event: &BoardEvent) -> String {
    format!("{} {} {}", event.kind, event.at.timestamp_micros(), event.order_code)
}

/// The layout of boards of this version. Another one, whatever its events, is built anew.
///
/// 1 had no counts of failed orders by reason, and wrote no layout. 2 had no refunds by the day on which they were paid.
const LAYOUT: &str = "3";

/// What a board at this event says of its layout. The event is part of it: a relay of an earlier version, which knows
/// of no layout, moves the cursor away from it.
pub(super) fn layout_at(seq: i64) -> String {
    format!("{LAYOUT} {seq}")
}

/// What a run of events changes.
pub(super) struct Change {
    from: i64,
    to: i64,
    to_event: String,
    keys: Vec<String>,
    bodies: Vec<String>,
    hashes: Vec<(usize, &'static str, i64)>,
    sets: Vec<(usize, i64, i64)>,
    expiries: Vec<(usize, i64)>,
}

impl Change {
    /// Sums up `events`, which follow on `cursor`, and the `pieces` that they sold.
    pub(super) fn new(keys: &Keyspace, cursor: i64, events: &[BoardEvent], pieces: &[PiecesSold]) -> Self {
        let mut kpis: BTreeMap<(NaiveDate, &'static str), i64> = BTreeMap::new();
        let mut boards: FxHashMap<(Leaderboard, Option<NaiveDate>, i64), i64> = FxHashMap::default();
        for event in events {
            let (count, money, net) = match event.kind {
                EventKind::Completed => (Some("completed"), Some("revenue_cents"), event.amount_cents),
                EventKind::Failed => (Some("failed"), None, 0),
                EventKind::Refunded => (None, Some("refunded_cents"), -event.amount_cents),
                EventKind::RefundRefused => continue,
            };
            if let Some(field) = count {
                *kpis.entry((event.day, field)).or_default() += 1;
            }
            if event.kind == EventKind::Refunded {
                // Money by the day on which it moved: the order may be of another one.
                *kpis.entry((event.at.date_naive(), "paid_back_cents")).or_default() += event.amount_cents;
            }
            if let Some(reason) = failure(event) {
                *kpis.entry((event.day, failed_field(reason))).or_default() += 1;
            }
            if let (Some(field), Some(customer)) = (money, event.customer_id) {
                *kpis.entry((event.day, field)).or_default() += event.amount_cents;
                for day in [None, Some(event.day)] {
                    *boards.entry((Leaderboard::Customers, day, customer)).or_default() += net;
                }
            }
        }
        for sold in pieces {
            for day in [None, Some(sold.day)] {
                *boards.entry((Leaderboard::Products, day, sold.product_id)).or_default() += sold.pieces;
            }
        }

        let mut index = KeyIndex::new(vec![keys.cursor(), keys.events(), keys.cursor_event(), keys.layout()]);
        let hashes = kpis.into_iter().map(|((day, field), by)| (index.of(keys.kpi(day)), field, by)).collect();
        let mut expiries = BTreeMap::new();
        let sets = boards
            .into_iter()
            .map(|((board, day, member), by)| {
                let key = index.of(keys.leaderboard(board, day));
                if let Some(day) = day {
                    expiries.insert(key, day_board_end(day));
                }
                (key, member, by)
            })
            .collect();
        Self {
            from: cursor,
            to: events.last().map_or(cursor, |event| event.seq),
            to_event: events.last().map(mark).unwrap_or_default(),
            keys: index.keys,
            bodies: events
                .iter()
                .map(|event| serde_json::to_string(&EventBody::from(event)).expect("plain values are always JSON"))
                .collect(),
            hashes,
            sets,
            expiries: expiries.into_iter().collect(),
        }
    }

    /// Applies it; `false` when the board stands elsewhere.
    pub(super) async fn apply(&self, redis: &mut MultiplexedConnection) -> Result<bool, Error> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(APPLY.get_hash()).arg(self.keys.len()).arg(&self.keys);
        command.arg(self.from).arg(self.to).arg(&self.to_event).arg(layout_at(self.to)).arg(EVENTS_KEPT);
        command.arg(self.bodies.len()).arg(self.hashes.len()).arg(self.sets.len()).arg(self.expiries.len());
        for body in &self.bodies {
            command.arg(body);
        }
        for (key, field, by) in &self.hashes {
            command.arg(*key).arg(*field).arg(*by);
        }
        for (key, member, by) in &self.sets {
            command.arg(*key).arg(*member).arg(*by);
        }
        for (key, at) in &self.expiries {
            command.arg(*key).arg(*at);
        }
        failpoint::hit::<Error>("relay.before_script")?;
        let applied = match command.query_async::<bool>(redis).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                APPLY.load_async(redis).await?;
                command.query_async(redis).await?
            }
            reply => reply?,
        };
        failpoint::hit::<Error>("relay.script_run")?;
        Ok(applied)
    }
}

/// Why the order failed of whose failure an event tells.
fn failure(event: &BoardEvent) -> Option<FailureReason> {
    // The schema knows no other words.
    (event.kind == EventKind::Failed).then(|| event.reason.as_deref()?.parse().ok()).flatten()
}

/// The end of a day's leaderboards, in Unix seconds.
pub(crate) fn day_board_end(day: NaiveDate) -> i64 {
    let last = day.checked_add_days(DAY_BOARDS_KEPT).unwrap_or(NaiveDate::MAX);
    last.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()
}

/// Keys in the order of their first use, counted from 1 as Lua does.
struct KeyIndex {
    keys: Vec<String>,
    places: FxHashMap<String, usize>,
}

impl KeyIndex {
    fn new(keys: Vec<String>) -> Self {
        Self { keys, places: FxHashMap::default() }
    }

    fn of(&mut self, key: String) -> usize {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        self.keys.push(key.clone());
        self.places.insert(key, self.keys.len());
        self.keys.len()
    }
}
