//! `orderstream kpi` and `leaderboard`: what the relay keeps in Redis.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::{NaiveDate, Utc};
use pipeline::{
    domain::{Cents, FailureReason},
    relay::Board,
    store::DayFigures,
    streams::{self, Connection, Redis},
    topology::Leaderboard,
};
use serde::Serialize;

use crate::{
    backends::Backends,
    cli::{KpiArgs, LeaderboardArgs, Who},
    config::Globals,
    exit::{Exit, Refusal},
    output::{self, money, thousands},
};

/// Longest range of days.
pub(crate) const DAYS_MAX: i64 = 3_660;

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
    pub(crate) refunds: Cents,
    pub(crate) net_revenue: Cents,
    /// Revenue per completed order; null without any.
    pub(crate) average_order_value: Option<Cents>,
}

impl Kpis {
    pub(crate) fn new(from: NaiveDate, to: NaiveDate, figures: &DayFigures) -> Self {
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
        }
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
) -> Result<Kpis, streams::Error> {
    let board = Board::new(redis.keys().clone());
    let days: Vec<NaiveDate> = from.iter_days().take_while(|day| *day <= to).collect();
    let mut sum = DayFigures::default();
    for figures in board.days(connection, &days).await? {
        sum.add(&figures);
    }
    Ok(Kpis::new(from, to, &sum))
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
    let kpis = read_kpis(&redis, &mut redis.connect().await?, from, to).await?;
    if globals.json {
        output::json(&kpis)?;
        return Ok(Exit::Done);
    }
    let days = if from == to { from.to_string() } else { format!("{from} to {to}") };
    let average = kpis.average_order_value.map_or_else(|| "-".to_owned(), money);
    output::table(
        &["DAY (UTC)", "ORDERS", "COMPLETED", "FAILED", "REVENUE", "REFUNDS", "NET REVENUE", "AVERAGE ORDER"],
        &[1, 2, 3, 4, 5, 6, 7],
        vec![vec![
            days,
            thousands(kpis.orders),
            thousands(kpis.completed),
            thousands(kpis.failed),
            money(kpis.revenue),
            money(kpis.refunds),
            money(kpis.net_revenue),
            average,
        ]],
    )?;
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
) -> Result<Vec<Place>, streams::Error> {
    let which = match who {
        Who::Customers => Leaderboard::Customers,
        Who::Products => Leaderboard::Products,
    };
    let top = Board::new(redis.keys().clone()).top(connection, which, day, top).await?;
    let place = |(rank, (id, score))| {
        let score = match who {
            Who::Customers => Score::NetRevenue(Cents::new(score)),
            Who::Products => Score::Pieces(score),
        };
        Place { rank, id, score }
    };
    Ok((1..).zip(top).map(place).collect())
}

pub(super) async fn leaderboard(backends: &Backends, args: &LeaderboardArgs, globals: &Globals) -> Result<Exit> {
    let header = match args.who {
        Who::Customers => ["RANK", "CUSTOMER", "NET REVENUE"],
        Who::Products => ["RANK", "PRODUCT", "PIECES"],
    };
    let redis = backends.redis()?;
    let places = read_places(&redis, &mut redis.connect().await?, args.who, args.day, args.top).await?;
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
    output::table(&header, &[0, 1, 2], rows)?;
    Ok(Exit::Done)
}
