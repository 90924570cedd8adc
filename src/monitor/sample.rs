//! One look at both servers: what is there, nothing made of it yet.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use futures::future::try_join_all;
use pipeline::{
    relay::Board,
    store::{self, AbandonedImports, Currencies, DayFigures, Reconciliation, Store},
    streams::{self, Connection, DeadLetterReasons, GroupState, Pause, ProcessReport, Redis, StreamState},
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
    /// How many of them have the mark of a replay.
    pub(super) replayed: u64,
    /// What is undecided among them, and what it died of.
    pub(super) reasons: Reasons,
    pub(super) pauses: Vec<Pause>,
    pub(super) processes: Vec<ProcessReport>,
    /// Why Redis takes no writes; `None` while it does.
    pub(super) redis_refuses: Option<String>,
    /// From when to when, by its clock in Unix milliseconds, it took none the last time.
    pub(super) refused_ms: Option<(u64, u64)>,
    pub(super) cursor: Option<i64>,
    pub(super) day: NaiveDate,
    pub(super) figures: DayFigures,
}

/// What dead letters died of: looked at again only when there are others, because it takes reading them.
#[derive(Debug, Clone, Default)]
pub(super) struct Reasons {
    /// Length and last id of each stream when they were read, and the marks of replays.
    of: (Vec<(u64, Option<String>)>, u64),
    pub(super) reasons: BTreeMap<&'static str, u64>,
    pub(super) looked_at: u64,
    /// Letters that nobody had replayed, among how many, beside how many marks of replays.
    pub(super) undecided: u64,
    pub(super) letters: u64,
    pub(super) marks: u64,
    /// When the newest and the oldest of them came, in Unix milliseconds.
    pub(super) newest_ms: Option<u64>,
    pub(super) oldest_ms: Option<u64>,
    read_at_ms: u64,
}

/// Dead letters that keep coming are read again so often at most.
const REASONS_EVERY_MS: u64 = 5_000;

/// What is known from the look before, and how far it may be gone by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before<'a> {
    pub(super) sample: Option<&'a Sample>,
    /// Somebody has just done something, and wants to see it.
    pub(super) is_called: bool,
}

/// Looks at Redis. What does not depend on each other is asked at once: a look costs a few round trips, not fifty.
///
/// # Errors
/// When Redis cannot be reached.
pub(super) async fn look(
    redis: &Redis,
    connection: &Connection,
    partitions: u16,
    before: Before<'_>,
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
    let replayed = try_join_all((0..partitions).map(|partition| {
        let mut connection = connection.clone();
        async move { redis.replayed_letters(&mut connection, partition).await }
    }));
    let pauses = try_join_all(StageName::ALL.map(|stage| {
        let mut connection = connection.clone();
        async move { redis.pause_of(&mut connection, 0, stage).await }
    }));
    let board = Board::new(redis.keys().clone());
    let (mut first, mut second, mut third) = (connection.clone(), connection.clone(), connection.clone());
    let (streams, dead, replayed, pauses, processes, cursor, figures) = tokio::try_join!(
        streams,
        dead,
        replayed,
        pauses,
        redis.processes(&mut first, at_ms),
        board.cursor(&mut second),
        board.day(&mut third, day),
    )?;
    close_books(redis, connection, partitions, at_ms, &processes).await?;
    note_unread(redis, connection, &streams).await?;
    let replayed = replayed.into_iter().sum();
    let reasons = reasons(redis, connection, (&dead, replayed), at_ms, before).await?;
    let pauses = pauses.into_iter().flatten().collect();
    let refusal = redis.probe(&mut connection.clone()).await?;
    let exhausted =
        || streams.iter().flat_map(|(_, streams)| streams).chain(&dead).find_map(StreamState::ids_exhausted);
    let redis_refuses = refusal.map(|refusal| refusal.as_str().to_owned()).or_else(exhausted);
    let refused_before = before.sample.and_then(|before| before.refused_ms);
    let refused_ms = match before.sample.and_then(|before| before.redis_refuses.as_ref()).and(refused_before) {
        Some((since, _)) if refusal.is_some() => Some((since, at_ms)),
        _ if refusal.is_some() => Some((at_ms, at_ms)),
        _ => refused_before,
    };
    Ok(Sample {
        at_ms,
        streams,
        dead,
        replayed,
        reasons,
        pauses,
        processes,
        redis_refuses,
        refused_ms,
        cursor,
        day,
        figures,
    })
}

/// Closes the books of stages that a living process of an earlier version works on, which does not count.
async fn close_books(
    redis: &Redis,
    connection: &Connection,
    partitions: u16,
    at_ms: u64,
    processes: &[ProcessReport],
) -> Result<(), streams::Error> {
    let live = |report: &&ProcessReport| at_ms.saturating_sub(report.at_ms) < streams::BOOKS_CLOSED_MS;
    for report in processes.iter().filter(live).filter(|report| !report.counts) {
        for stage in StageName::ALL.into_iter().filter(|stage| report.stages.contains_key(stage.as_str())) {
            for partition in 0..partitions {
                let until = at_ms + streams::BOOKS_CLOSED_MS;
                match redis.close_books(&mut connection.clone(), partition, stage, until).await {
                    Err(error) if error.refusal().is_some() => {}
                    closed => closed?,
                }
            }
        }
    }
    Ok(())
}

/// Notes what waits for workers, so that it is missed should somebody delete the stream with it.
async fn note_unread(
    redis: &Redis,
    connection: &Connection,
    streams: &[(StageName, Vec<StreamState>)],
) -> Result<(), streams::Error> {
    for (stage, states) in streams {
        for (partition, state) in (0..).zip(states) {
            let waits = |group: &GroupState| group.name == stage.as_str() && group.lag != Some(0);
            if state.groups.iter().any(waits) {
                match redis.note_added(&mut connection.clone(), partition, *stage).await {
                    Err(error) if error.refusal().is_some() => {}
                    noted => noted?,
                }
            }
        }
    }
    Ok(())
}

async fn reasons(
    redis: &Redis,
    connection: &Connection,
    (dead, replayed): (&[StreamState], u64),
    at_ms: u64,
    Before { sample, is_called }: Before<'_>,
) -> Result<Reasons, streams::Error> {
    let of: Vec<_> = dead.iter().map(|stream| (stream.length, stream.last_id.map(|id| id.to_string()))).collect();
    let of = (of, replayed);
    if let Some(Sample { reasons: before, .. }) = sample {
        // The first ones are read at once: an alert says why with its first word.
        let is_recent = before.looked_at > 0 && at_ms.saturating_sub(before.read_at_ms) < REASONS_EVERY_MS;
        let is_soon = is_recent && !is_called;
        if before.of == of || is_soon {
            return Ok(before.clone());
        }
    }
    let mut reasons = Reasons { of, read_at_ms: at_ms, ..Reasons::default() };
    for (partition, stream) in (0..).zip(dead) {
        if stream.length > 0 {
            let found: DeadLetterReasons = redis.dead_letter_reasons(&mut connection.clone(), partition).await?;
            reasons.looked_at += found.of;
            reasons.undecided += found.undecided;
            reasons.letters += found.size.0;
            reasons.marks += found.size.1;
            reasons.newest_ms = reasons.newest_ms.max(found.newest.map(|id| id.ms));
            reasons.oldest_ms = match (reasons.oldest_ms, found.oldest) {
                (Some(oldest), Some(id)) => Some(oldest.min(id.ms)),
                (oldest, id) => oldest.or(id.map(|id| id.ms)),
            };
            found.reasons.into_iter().for_each(|(reason, count)| *reasons.reasons.entry(reason).or_default() += count);
        }
    }
    Ok(reasons)
}

/// What Postgres says.
#[derive(Debug, Clone)]
pub(super) struct Truth {
    pub(super) last_event: i64,
    pub(super) parked_orders: i64,
    pub(super) abandoned_imports: AbandonedImports,
    /// Why it takes no writes, as far as asking tells.
    pub(super) refusal: Option<store::Refusal>,
    /// What was lost within the last minutes.
    pub(super) setbacks: Vec<Reconciliation>,
    /// In what all orders are paid.
    pub(super) currencies: Currencies,
    /// Age of the oldest event that the board did not show at the last look, in seconds.
    pub(super) behind_seconds: Option<f64>,
}

/// Looks at Postgres: a few rows that are always in memory. `shown` is the last event on the board, where that is known.
///
/// # Errors
/// When Postgres cannot be reached.
pub(super) async fn ask(store: &Store, shown: Option<i64>) -> Result<Truth, store::Error> {
    let mut postgres = store.pool().acquire().await?;
    let last_event = store::last_event_seq(&mut postgres).await?;
    let parked_orders = store::parked_orders(&mut postgres).await?;
    let setbacks = store::recent_setbacks(&mut postgres).await?;
    let currencies = store::currencies(&mut postgres, None).await?;
    let behind_seconds = match shown {
        Some(shown) => Some(store::event_age_after(&mut postgres, shown).await?.unwrap_or(0.0)),
        None => None,
    };
    drop(postgres);
    let abandoned_imports = store::abandoned_imports(&store.pool()).await?;
    let refusal = store.probe().await?;
    Ok(Truth { last_event, parked_orders, abandoned_imports, refusal, setbacks, currencies, behind_seconds })
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
