//! `orderstream status`: streams, groups, lag, pending, ages, consumers, dead letters, the relay.

use anyhow::Result;
use pipeline::{
    relay::Board,
    store::{self, Store, WorkerSettings},
    streams::{Books, Connection, DEAD_LETTERS_MAX, DeadLetterReasons, GroupState, Pause, Redis, StreamState},
    topology::StageName,
};
use serde::Serialize;

use super::pause::sentence;
use crate::{
    backends::Backends,
    config::Globals,
    exit::Exit,
    output::{self, inert, thousands},
    patience::ServerError,
};

/// From this share of their bound on, dead letters are warned of, in percent.
const DEAD_LETTERS_WARN_PERCENT: u64 = 80;

/// A strange group that is behind for longer than this is warned of.
const STRANGER_PATIENCE_MS: u64 = 600_000;

#[derive(Serialize)]
pub(crate) struct Status {
    partitions: Vec<Partition>,
    relay: RelayState,
    /// Stages that somebody has paused.
    paused: Vec<Pause>,
    /// Orders whose message is a dead letter, and that wait for it.
    parked_orders: i64,
    /// What somebody should do something about.
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Partition {
    partition: u16,
    streams: Vec<StreamState>,
    /// Kept, replayed or not.
    dead_letters: u64,
    /// What is undecided among them.
    dead_letter_reasons: DeadLetterReasons,
}

#[derive(Serialize)]
struct RelayState {
    /// The last event on the board; null when there is no board yet.
    cursor: Option<i64>,
    /// The last event in Postgres.
    last_event: i64,
}

pub(super) async fn run(backends: &Backends, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let redis = backends.redis()?;
    let status = look(&store, &redis, &mut redis.connect().await?).await?;
    if globals.json {
        output::json(&status)?;
        return Ok(Exit::Done);
    }
    print(&status)?;
    Ok(Exit::Done)
}

/// Looks at everything.
///
/// # Errors
/// When a server cannot be reached.
pub(crate) async fn look(store: &Store, redis: &Redis, connection: &mut Connection) -> Result<Status, ServerError> {
    let mut partitions = Vec::new();
    for partition in 0..store.partitions().await? {
        let mut streams = Vec::new();
        for stage in StageName::ALL {
            streams.push(redis.stream_state(connection, partition, stage).await?);
        }
        let dead_letters = redis.dead_letters(connection, partition).await?;
        let dead_letter_reasons = redis.dead_letter_reasons(connection, partition).await?;
        partitions.push(Partition { partition, streams, dead_letters, dead_letter_reasons });
    }
    let mut postgres = store.pool().acquire().await.map_err(store::Error::from)?;
    let relay = RelayState {
        cursor: Board::new(redis.keys().clone()).cursor(connection).await?,
        last_event: store::last_event_seq(&mut postgres).await?,
    };
    let parked_orders = store::parked_orders(&mut postgres).await?;
    let mut paused = Vec::new();
    for stage in StageName::ALL {
        paused.extend(redis.pause_of(connection, 0, stage).await?);
    }
    let warnings = partitions.iter().flat_map(warnings).collect();
    Ok(Status { partitions, relay, paused, parked_orders, warnings })
}

fn print(status: &Status) -> Result<()> {
    let mut rows = Vec::new();
    for stream in status.partitions.iter().flat_map(|partition| &partition.streams) {
        if stream.groups.is_empty() {
            let state = if stream.exists { "(no group yet)" } else { "(no stream yet)" };
            rows.push(vec![stream.key.clone(), thousands(stream.length), state.to_owned()]);
        }
        for group in &stream.groups {
            rows.push(vec![
                stream.key.clone(),
                thousands(stream.length),
                group.name.clone(),
                group.lag.map_or_else(|| "unknown".to_owned(), thousands),
                thousands(group.pending),
                match group.oldest_age_ms {
                    Some(ms) => age(ms),
                    None if group.age_unknown.is_some() => "unknown".to_owned(),
                    None => "-".to_owned(),
                },
                group.consumers.len().to_string(),
            ]);
        }
    }
    let header = ["STREAM", "LENGTH", "GROUP", "LAG", "PENDING", "OLDEST", "CONSUMERS"];
    output::table(&header, &[1, 3, 4, 5, 6], rows)?;

    let consumers: Vec<Vec<String>> = status
        .partitions
        .iter()
        .flat_map(|partition| &partition.streams)
        .flat_map(|stream| &stream.groups)
        .flat_map(|group| group.consumers.iter().map(move |consumer| (group, consumer)))
        .map(|(group, consumer)| {
            vec![group.name.clone(), consumer.name.clone(), thousands(consumer.pending), age(consumer.idle_ms)]
        })
        .collect();
    if !consumers.is_empty() {
        output::text_line("")?;
        output::table(&["GROUP", "CONSUMER", "PENDING", "IDLE"], &[2, 3], consumers)?;
    }
    output::text_line("")?;
    let dead: u64 = status.partitions.iter().map(|partition| partition.dead_letters).sum();
    let cursor = status.relay.cursor.unwrap_or(0);
    let undecided: u64 = status.partitions.iter().map(|partition| partition.dead_letter_reasons.undecided).sum();
    let kept = match dead.saturating_sub(undecided) {
        0 => String::new(),
        replayed => format!(" to decide about; {} more were replayed", thousands(replayed)),
    };
    output::text_line(&format!("Dead letters  {}{kept}", thousands(undecided)))?;
    let mut reasons = std::collections::BTreeMap::<&str, u64>::new();
    let mut looked_at = 0;
    for found in status.partitions.iter().map(|partition| &partition.dead_letter_reasons) {
        looked_at += found.of;
        found.reasons.iter().for_each(|(reason, count)| *reasons.entry(reason).or_default() += count);
    }
    for (reason, count) in reasons {
        let of = if looked_at < dead { format!("  of the newest {}", thousands(looked_at)) } else { String::new() };
        output::text_line(&format!("  {reason:20} {:>9}{of}", thousands(count)))?;
    }
    output::text_line(&format!("Parked orders {}", thousands(status.parked_orders)))?;
    output::text_line(&format!(
        "Relay         event {} of {} ({} behind)",
        thousands(cursor),
        thousands(status.relay.last_event),
        thousands(status.relay.last_event - cursor)
    ))?;
    status.paused.iter().try_for_each(|pause| output::text_line(&sentence(pause)))?;
    status.warnings.iter().try_for_each(|warning| output::text_line(&format!("warning: {warning}")))
}

/// What will go wrong if nobody does anything.
fn warnings(partition: &Partition) -> Vec<String> {
    let mut warnings = Vec::new();
    if partition.dead_letters >= DEAD_LETTERS_MAX * DEAD_LETTERS_WARN_PERCENT / 100 {
        warnings.push(format!(
            "partition {} has {} dead letters; beyond {} the oldest are dropped. Keep them with: orderstream dead export \
             -o FILE, then make room with: orderstream dead discard",
            partition.partition,
            thousands(partition.dead_letters),
            thousands(DEAD_LETTERS_MAX),
        ));
    }
    for (stage, stream) in StageName::ALL.iter().zip(&partition.streams) {
        warnings.extend(stream.ids_exhausted());
        let ageless = stream.groups.iter().find_map(|group| group.age_unknown);
        warnings.extend(ageless.map(|why| format!("ages of entries in {} are unknown: {why}", stream.key)));
        let own = stream.groups.iter().find(|group| group.name == stage.as_str());
        warnings.extend(own.and_then(|group| group.books).and_then(|books| unbalanced(&stream.key, books)));
        let strangers = stream.groups.iter().filter(|group| group.name != stage.as_str());
        for group in strangers.filter(|group| pins(group, own)) {
            let name = inert(group.name.as_bytes(), false);
            warnings.push(format!(
                "the group {name:?} on {} is not of orderstream and is {} behind: nothing after its oldest entry can be \
                 trimmed. Let it read, or remove it with: redis-cli XGROUP DESTROY '{}' {name:?}",
                stream.key,
                group.oldest_age_ms.map_or_else(|| "far".to_owned(), age),
                stream.key,
            ));
        }
    }
    warnings
}

/// That messages of a stream were delivered to nobody, and what became of them.
fn unbalanced(key: &str, books: Books) -> Option<String> {
    let missing = books.missing.unwrap_or_default();
    let found = books.lost + books.redriven;
    (missing + found > 0).then(|| {
        format!(
            "of {key}, {} messages were delivered to nobody: {} are missing now, {} were given out again, {} are gone and \
             have to be added again (orderstream reconcile --history)",
            thousands(missing + found),
            thousands(missing),
            thousands(books.redriven),
            thousands(books.lost),
        )
    })
}

/// Whether a strange group keeps entries in the stream that the stage is done with, and does not look like catching up.
fn pins(group: &GroupState, own: Option<&GroupState>) -> bool {
    let Some(low_water) = group.low_water else { return false };
    let needed = own.is_none_or(|own| own.low_water.is_some_and(|own| own <= low_water));
    let idle = group.consumers.is_empty() || group.oldest_age_ms.is_some_and(|age| age > STRANGER_PATIENCE_MS);
    !needed && idle
}

/// Milliseconds as people say them.
fn age(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_near_their_bound_are_warned_of() {
        let partition = |dead_letters| Partition {
            partition: 0,
            streams: Vec::new(),
            dead_letters,
            dead_letter_reasons: DeadLetterReasons::default(),
        };
        assert_eq!(warnings(&partition(799_999)), Vec::<String>::new());
        let [warning] = warnings(&partition(800_000)).try_into().expect("one warning");
        assert!(warning.contains("800,000") && warning.contains("orderstream dead export"), "{warning}");
    }
}
