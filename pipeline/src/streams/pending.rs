//! What consumers hold: entries that were delivered and not acknowledged, seen from outside, and made free for others.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use redis::{Script, Value, aio::MultiplexedConnection};
use serde::Serialize;

use super::{Error, Redis, age::range_after, reply};
use crate::{
    message::{Entry, EntryId},
    topology::StageName,
};

static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));

/// Entries that are made free in one call of the script.
const RELEASE_PAGE: usize = 500;

/// How silent the holder of a free entry looks: longer than any worker waits before it takes over.
const LONG_AGO_MS: &str = "86400000";

/// Of one consumer: its name, entries made free, entries left.
type Count = (Vec<u8>, u64, u64);

/// A row of `XPENDING`: id, consumer, idle milliseconds, deliveries.
type Row = (Value, Vec<u8>, u64, u64);

/// An entry in somebody's hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingEntry {
    /// Its id.
    pub id: EntryId,
    /// Who holds it.
    pub consumer: String,
    /// Milliseconds since it was delivered, or kept fresh.
    pub idle_ms: u64,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// What a consumer held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Released {
    /// Entries that whoever takes over next takes at once.
    pub free: u64,
    /// Entries that were deleted from the stream: they wait until a worker finds them silent.
    pub left: u64,
}

/// A walk through what consumers hold, that makes it free.
#[derive(Debug)]
pub struct Release {
    stream: String,
    stage: StageName,
    consumer: Option<String>,
    idle: Duration,
    /// After which entry to go on; `None` when the walk is over.
    after: Option<EntryId>,
}

impl Redis {
    /// What the consumers of `stage` hold, or one of them, in the order of the stream: at most `count` entries after
    /// `after`. A stream or group that is not there holds nothing.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn pending_entries(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        consumer: Option<&str>,
        after: EntryId,
        count: usize,
    ) -> Result<Vec<PendingEntry>, Error> {
        let command = self.pending_command(partition, stage, None, after, count, consumer);
        pending_rows(command.query_async(connection).await)
    }

    /// As [`Redis::pending_entries`], but only what was not touched for `idle`; nothing is changed.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn idle_entries(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        consumer: Option<&str>,
        (idle, after, count): (Duration, EntryId, usize),
    ) -> Result<Vec<PendingEntry>, Error> {
        let command = self.pending_command(partition, stage, Some(idle), after, count, consumer);
        pending_rows(command.query_async(connection).await)
    }

    fn pending_command(
        &self,
        partition: u16,
        stage: StageName,
        idle: Option<Duration>,
        after: EntryId,
        count: usize,
        consumer: Option<&str>,
    ) -> redis::Cmd {
        let mut command = redis::cmd("XPENDING");
        command.arg(self.keys().stream(partition, stage)).arg(stage.as_str());
        if let Some(idle) = idle {
            command.arg("IDLE").arg(idle.as_millis().to_string());
        }
        let (from, to) = range_after(after);
        command.arg(from).arg(to).arg(count);
        if let Some(consumer) = consumer {
            command.arg(consumer);
        }
        command
    }

    /// These entries of the stream of `stage`, as far as they are still there: a look at what is in somebody's hands.
    /// Entries may be large, so only a few at a time.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn peek(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        ids: &[EntryId],
    ) -> Result<Vec<Entry>, Error> {
        let stream = self.keys().stream(partition, stage);
        let mut found = Vec::with_capacity(ids.len());
        // One by one: a pipeline would hold all of them in memory twice.
        for id in ids {
            let mut range = redis::cmd("XRANGE");
            range.arg(&stream).arg(id.to_string()).arg(id.to_string());
            found.extend(reply::entries("XRANGE", range.query_async(connection).await?)?);
        }
        Ok(found)
    }

    /// Starts a walk that makes free what the consumers of `stage`, or one of them, hold and have not touched for `idle`.
    pub fn release(&self, partition: u16, stage: StageName, consumer: Option<&str>, idle: Duration) -> Release {
        let stream = self.keys().stream(partition, stage);
        Release { stream, stage, consumer: consumer.map(str::to_owned), idle, after: Some(EntryId::default()) }
    }
}

impl Release {
    /// Makes the next entries free, by the names of those that hold them; `None` when there are no more.
    ///
    /// # Errors
    /// When Redis cannot be reached. After a lost reply entries may be free.
    pub async fn next_page(
        &mut self,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<BTreeMap<String, Released>>, Error> {
        const COMMAND: &str = "release.lua";
        let Some(from) = self.after.and_then(EntryId::successor) else { return Ok(None) };
        let mut command = redis::cmd("EVALSHA");
        command.arg(RELEASE.get_hash()).arg(1).arg(&self.stream).arg(self.stage.as_str());
        command.arg(self.consumer.as_deref().unwrap_or_default()).arg(self.idle.as_millis().to_string());
        command.arg(from.to_string()).arg(RELEASE_PAGE).arg(LONG_AGO_MS);
        let mut reply: redis::RedisResult<(Value, Vec<Count>)> = command.query_async(connection).await;
        // A restarted Redis has forgotten its scripts.
        if matches!(&reply, Err(error) if error.code() == Some("NOSCRIPT")) {
            RELEASE.load_async(connection).await?;
            reply = command.query_async(connection).await;
        }
        let (next, counts) = match reply {
            // Without a group nobody holds anything.
            Err(error) if error.code() == Some("NOGROUP") => {
                self.after = None;
                return Ok(None);
            }
            reply => reply?,
        };
        let next = reply::id(COMMAND, &next)?;
        self.after = (next != EntryId::default()).then_some(next);
        Ok(Some(counts.into_iter().map(|(name, free, left)| (text(&name), Released { free, left })).collect()))
    }
}

/// The rows of `XPENDING` with a range.
fn pending_rows(reply: redis::RedisResult<Vec<Row>>) -> Result<Vec<PendingEntry>, Error> {
    let rows = match reply {
        Err(error) if error.code() == Some("NOGROUP") => return Ok(Vec::new()),
        reply => reply?,
    };
    rows.into_iter()
        .map(|(id, consumer, idle_ms, deliveries)| {
            Ok(PendingEntry { id: reply::id("XPENDING", &id)?, consumer: text(&consumer), idle_ms, deliveries })
        })
        .collect()
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
