//! `orderstream kpi` and `leaderboard`: what the relay keeps in Redis.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use pipeline::{
    domain::{Cents, FailureReason},
    relay::Board,
    store::{self, Currencies, DayFigures, Store, WorkerSettings},
    streams::{self, Connection, Redis},
    topology::Leaderboard,
};
use serde::Serialize;

use crate::{
    backends::Backends,
    cli::{KpiArgs, LeaderboardArgs, Who},
    config::Globals,
    exit::{Exit, Refusal},
    output::{self, money, thousands, titled},
};

/// Longest range of days.
pub(crate) const DAYS_MAX: i64 = 3_660;

/// Figures wait no longer for what only Postgres knows.
const PATIENCE: Duration = Duration::from_secs(2);

/// The figures of a range of days.
#[derive(Serialize)]
pub(crate) struct Kpis {
    pub(crate) from: NaiveDate,
    pub(crate) to: NaiveDate,
    pub(crate) orders: i64,
    pub(crate) completed: i64,
    pub(crate) failed: i64,
    /// Those by the reason; every reason is there.
    pub(crate) failed_by: BTreeMap<FailureReason, i64>,
    pub(crate) revenue: Cents,
    /// What went back of these orders, on whatever day.
    pub(crate) refunds: Cents,
    pub(crate) net_revenue: Cents,
    /// Revenue per completed order; null without any.
    pub(crate) average_order_value: Option<Cents>,
    /// What was refunded on these days, of orders of whatever day; without money that came late, which was never revenue.
    pub(crate) paid_back: Cents,
    /// In what the amounts are; they add up at face value where that is more than one.
    pub(crate) currencies: Currencies,
}

impl Kpis {
    pub(crate) fn new(from: NaiveDate, to: NaiveDate, figures: &DayFigures, currencies: Currencies) -> Self {
        let completed = figures.completed;
        Self {
            from,
            to,
            orders: completed + figures.failed,
            completed,
            failed: figures.failed,
            failed_by: FailureReason::ALL
                .iter()
                .map(|reason| (*reason, figures.failed_by.get(reason).copied().unwrap_or(0)))
                .collect(),
            revenue: Cents::new(figures.revenue_cents),
            refunds: Cents::new(figures.refunded_cents),
            net_revenue: Cents::new(figures.revenue_cents - figures.refunded_cents),
            // Half a cent rounds up.
            average_order_value: (completed > 0)
                .then(|| Cents::new((figures.revenue_cents + completed / 2) / completed)),
            paid_back: Cents::new(figures.paid_back_cents),
            currencies,
        }
    }
}

/// In what sums over orders are, up to a day, or ever; unknown while Postgres cannot be reached, without which the sums are still
/// there.
///
/// # Errors
/// As any statement.
pub(crate) async fn read_currencies(store: &Store, to: Option<NaiveDate>) -> Result<Currencies, store::Error> {
    let until = |day: NaiveDate| {
        let next = day.checked_add_days(Days::new(1))?;
        Some(DateTime::from_naive_utc_and_offset(next.and_time(NaiveTime::MIN), Utc))
    };
    let asked = async {
        let mut connection = store.pool().acquire().await.map_err(store::Error::from)?;
        store::currencies(&mut connection, to.and_then(until)).await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Err(error)) if error.is_unreachable() => Ok(Currencies::default()),
        Ok(asked) => asked,
        Err(_) => Ok(Currencies::default()),
    }
}

/// Sums up the days of a range.
///
/// # Errors
/// When Redis cannot be reached.
pub(crate) async fn read_kpis(
    redis: &Redis,
    connection: &mut Connection,
    from: NaiveDate,
    to: NaiveDate,
    currencies: Currencies,
) -> Result<Kpis, streams::Error> {
    let board = Board::new(redis.keys().clone());
    let days: Vec<NaiveDate> = from.iter_days().take_while(|day| *day <= to).collect();
    let mut sum = DayFigures::default();
    for figures in board.days(connection, &days).await? {
        sum.add(&figures);
    }
    Ok(Kpis::new(from, to, &sum, currencies))
}

pub(super) async fn kpi(backends: &Backends, args: &KpiArgs, globals: &Globals) -> Result<Exit> {
    let today = Utc::now().date_naive();
    let (from, to) = match (args.from, args.to, args.day) {
        (Some(from), Some(to), _) => (from, to),
        (_, _, day) => (day.unwrap_or(today), day.unwrap_or(today)),
    };
    if to < from || (to - from).num_days() >= DAYS_MAX {
        let message = format!("--from {from} --to {to} is not a range of 1 to {DAYS_MAX} days");
        return Err(Refusal::new(Exit::Usage, message).into());
    }
    let redis = backends.redis()?;
    let mut connection = redis.connect().await?;
    let currencies = read_currencies(&backends.store(WorkerSettings::Report, 1)?, Some(to)).await?;
    let kpis = read_kpis(&redis, &mut connection, from, to, currencies).await?;
    if globals.json {
        output::json(&kpis)?;
        return Ok(Exit::Done);
    }
    let days = if from == to { from.to_string() } else { format!("{from} to {to}") };
    let currency = kpis.currencies.label();
    let average = kpis.average_order_value.map_or_else(|| "-".to_owned(), money);
    output::table(
        &[
            "DAY (UTC)",
            "ORDERS",
            "COMPLETED",
            "FAILED",
            &titled("REVENUE", &currency),
            "REFUNDS",
            "NET REVENUE",
            "AVERAGE ORDER",
            "PAID BACK",
        ],
        &[1, 2, 3, 4, 5, 6, 7, 8],
        vec![vec![
            days,
            thousands(kpis.orders),
            thousands(kpis.completed),
            thousands(kpis.failed),
            money(kpis.revenue),
            money(kpis.refunds),
            money(kpis.net_revenue),
            average,
            money(kpis.paid_back),
        ]],
    )?;
    if let Some(note) = kpis.currencies.note() {
        output::text_line(&note)?;
    }
    if kpis.refunds != kpis.paid_back {
        let (of, on) = if from == to { ("of this day", "on this day") } else { ("of these days", "on these days") };
        output::text_line(&format!(
            "REFUNDS are of orders {of}; PAID BACK is what went back {on}, of orders of any day."
        ))?;
    }
    let mut failed: Vec<(FailureReason, i64)> = kpis.failed_by.into_iter().filter(|(_, orders)| *orders > 0).collect();
    failed.sort_by_key(|(_, orders)| -orders);
    if !failed.is_empty() {
        output::text_line("")?;
        let row = |(reason, orders): (FailureReason, i64)| vec![reason.to_string(), thousands(orders)];
        output::table(&["FAILED FOR", "ORDERS"], &[1], failed.into_iter().map(row).collect())?;
    }
    Ok(Exit::Done)
}

/// A place on a leaderboard.
#[derive(Serialize)]
pub(crate) struct Place {
    rank: usize,
    id: i64,
    #[serde(flatten)]
    score: Score,
    /// In what money is; absent of pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    currencies: Option<Currencies>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Score {
    NetRevenue(Cents),
    Pieces(i64),
}

/// The first places of a leaderboard.
///
/// # Errors
/// When Redis cannot be reached.
pub(crate) async fn read_places(
    redis: &Redis,
    connection: &mut Connection,
    who: Who,
    day: Option<NaiveDate>,
    top: u32,
    currencies: &Currencies,
) -> Result<Vec<Place>, streams::Error> {
    let which = match who {
        Who::Customers => Leaderboard::Customers,
        Who::Products => Leaderboard::Products,
    };
    let top = Board::new(redis.keys().clone()).top(connection, which, day, top).await?;
    let place = |(rank, (id, score))| {
        let (score, currencies) = match who {
            Who::Customers => (Score::NetRevenue(Cents::new(score)), Some(currencies.clone())),
            Who::Products => (Score::Pieces(score), None),
        };
        Place { rank, id, score, currencies }
    };
    Ok((1..).zip(top).map(place).collect())
}

pub(super) async fn leaderboard(backends: &Backends, args: &LeaderboardArgs, globals: &Globals) -> Result<Exit> {
    let redis = backends.redis()?;
    let mut connection = redis.connect().await?;
    let currencies = match args.who {
        Who::Customers => read_currencies(&backends.store(WorkerSettings::Report, 1)?, args.day).await?,
        Who::Products => Currencies::new(Vec::new()),
    };
    let places = read_places(&redis, &mut connection, args.who, args.day, args.top, &currencies).await?;
    if globals.json {
        output::json(&places)?;
        return Ok(Exit::Done);
    }
    let rows = places
        .into_iter()
        .map(|place| {
            let score = match place.score {
                Score::NetRevenue(cents) => money(cents),
                Score::Pieces(pieces) => thousands(pieces),
            };
            vec![place.rank.to_string(), place.id.to_string(), score]
        })
        .collect();
    let net_revenue = titled("NET REVENUE", &currencies.label());
    let header = match args.who {
        Who::Customers => ["RANK", "CUSTOMER", &net_revenue],
        Who::Products => ["RANK", "PRODUCT", "PIECES"],
    };
    output::table(&header, &[0, 1, 2], rows)?;
    if let Some(note) = currencies.note() {
        output::text_line(&note)?;
    }
    Ok(Exit::Done)
}
