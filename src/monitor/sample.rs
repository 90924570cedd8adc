//! One look at both servers: what is there, nothing made of it yet.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use futures::future::try_join_all;
use pipeline::{
    relay::Board,
    store::{self, DayFigures, Store},
    streams::{self, Connection, DeadLetterReasons, Pause, ProcessReport, Redis, StreamState},
    topology::StageName,
};

/// What Redis says.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// When, by its clock, in Unix milliseconds.
    pub(super) at_ms: u64,
    /// The streams of each stage, one a partition, in the order of [`StageName::ALL`].
    pub(super) streams: Vec<(StageName, Vec<StreamState>)>,
    /// The streams of dead letters.
    pub(super) dead: Vec<StreamState>,
    /// What they died of.
    pub(super) reasons: Reasons,
    pub(super) pauses: Vec<Pause>,
    pub(super) processes: Vec<ProcessReport>,
    pub(super) cursor: Option<i64>,
    pub(super) day: NaiveDate,
    pub(super) figures: DayFigures,
}

/// What dead letters died of: looked at again only when there are others, because it takes reading them.
#[derive(Debug, Clone, Default)]
pub(super) struct Reasons {
    /// Length and last id of each stream when they were read.
    of: Vec<(u64, Option<String>)>,
    pub(super) reasons: BTreeMap<&'static str, u64>,
    pub(super) looked_at: u64,
    read_at_ms: u64,
}

/// Dead letters that keep coming are read again so often at most.
const REASONS_EVERY_MS: u64 = 5_000;

/// Looks at Redis. What does not depend on each other is asked at once: a look costs a few round trips, not fifty.
///
/// # Errors
/// When Redis cannot be reached.
pub(super) async fn look(
    redis: &Redis,
    connection: &Connection,
    partitions: u16,
    before: Option<&Sample>,
) -> Result<Sample, streams::Error> {
    let at_ms = redis.now_ms(&mut connection.clone()).await?;
    let day = instant(at_ms).date_naive();
    let streams = try_join_all(StageName::ALL.map(|stage| async move {
        let states = (0..partitions).map(|partition| {
            let mut connection = connection.clone();
            async move { redis.stream_state(&mut connection, partition, stage).await }
        });
        Ok::<_, streams::Error>((stage, try_join_all(states).await?))
    }));
    let dead = try_join_all((0..partitions).map(|partition| {
        let mut connection = connection.clone();
        async move { redis.dead_stream_state(&mut connection, partition).await }
    }));
    let pauses = try_join_all(StageName::ALL.map(|stage| {
        let mut connection = connection.clone();
        async move { redis.pause_of(&mut connection, 0, stage).await }
    }));
    let board = Board::new(redis.keys().clone());
    let (mut first, mut second, mut third) = (connection.clone(), connection.clone(), connection.clone());
    let (streams, dead, pauses, processes, cursor, figures) = tokio::try_join!(
        streams,
        dead,
        pauses,
        redis.processes(&mut first, at_ms),
        board.cursor(&mut second),
        board.day(&mut third, day),
    )?;
    let reasons = reasons(redis, connection, &dead, at_ms, before).await?;
    let pauses = pauses.into_iter().flatten().collect();
    Ok(Sample { at_ms, streams, dead, reasons, pauses, processes, cursor, day, figures })
}

async fn reasons(
    redis: &Redis,
    connection: &Connection,
    dead: &[StreamState],
    at_ms: u64,
    before: Option<&Sample>,
) -> Result<Reasons, streams::Error> {
    let of: Vec<_> = dead.iter().map(|stream| (stream.length, stream.last_id.map(|id| id.to_string()))).collect();
    if let Some(Sample { reasons: before, .. }) = before {
        // The first ones are read at once: an alert says why with its first word.
        let is_soon = before.looked_at > 0 && at_ms.saturating_sub(before.read_at_ms) < REASONS_EVERY_MS;
        if before.of == of || is_soon {
            return Ok(before.clone());
        }
    }
    let mut reasons = Reasons { of, read_at_ms: at_ms, ..Reasons::default() };
    for (partition, stream) in (0..).zip(dead) {
        if stream.length > 0 {
            let found: DeadLetterReasons = redis.dead_letter_reasons(&mut connection.clone(), partition).await?;
            reasons.looked_at += found.of;
            found.reasons.into_iter().for_each(|(reason, count)| *reasons.reasons.entry(reason).or_default() += count);
        }
    }
    Ok(reasons)
}

/// What Postgres says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth {
    pub(super) last_event: i64,
    pub(super) parked_orders: i64,
}

/// Looks at Postgres: two rows that are always in memory.
///
/// # Errors
/// When Postgres cannot be reached.
pub(super) async fn ask(store: &Store) -> Result<Truth, store::Error> {
    let mut postgres = store.pool().acquire().await?;
    let last_event = store::last_event_seq(&mut postgres).await?;
    let parked_orders = store::parked_orders(&mut postgres).await?;
    Ok(Truth { last_event, parked_orders })
}

/// How many products say that other pieces are held than those of open orders.
///
/// # Errors
/// When Postgres cannot be reached, or takes too long.
pub(super) async fn stock_drift(store: &Store) -> Result<i64, store::Error> {
    store::stock_drift(&mut *store.pool().acquire().await?).await
}

/// An instant of Redis' clock.
pub(super) fn instant(ms: u64) -> DateTime<Utc> {
    i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
}
