//! `orderstream status`: streams, groups, lag, pending, ages, consumers, dead letters, the relay.

use anyhow::Result;
use pipeline::{
    relay::Board,
    store::{self, WorkerSettings},
    streams::StreamState,
    topology::StageName,
};
use serde::Serialize;

use crate::{
    backends::Backends,
    config::Globals,
    exit::Exit,
    output::{self, thousands},
};

#[derive(Serialize)]
struct Status {
    partitions: Vec<Partition>,
    relay: RelayState,
}

#[derive(Serialize)]
struct Partition {
    partition: u16,
    streams: Vec<StreamState>,
    dead_letters: u64,
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
    let mut connection = redis.connect().await?;
    let mut partitions = Vec::new();
    for partition in 0..store.partitions().await? {
        let mut streams = Vec::new();
        for stage in StageName::ALL {
            streams.push(redis.stream_state(&mut connection, partition, stage).await?);
        }
        let dead_letters = redis.dead_letters(&mut connection, partition).await?;
        partitions.push(Partition { partition, streams, dead_letters });
    }
    let relay = RelayState {
        cursor: Board::new(redis.keys().clone()).cursor(&mut connection).await?,
        last_event: store::last_event_seq(&mut *store.pool().acquire().await?).await?,
    };
    let status = Status { partitions, relay };
    if globals.json {
        output::json(&status)?;
        return Ok(Exit::Done);
    }
    print(&status)?;
    Ok(Exit::Done)
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
                group.oldest_age_ms.map_or_else(|| "-".to_owned(), age),
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
    output::text_line(&format!("Dead letters  {}", thousands(dead)))?;
    output::text_line(&format!(
        "Relay         event {} of {} ({} behind)",
        thousands(cursor),
        thousands(status.relay.last_event),
        thousands(status.relay.last_event - cursor)
    ))
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
