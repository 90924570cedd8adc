//! What streams and groups look like from outside: lengths, lag, pending, ages.

use std::{collections::HashMap, fmt};

use redis::{Value, aio::MultiplexedConnection};
use serde::Serialize;

use super::{
    Error, Redis,
    age::{Age, AgeUnknown, range_after},
    books::Books,
    reply,
};
use crate::{
    message::{Entry, EntryId},
    topology::StageName,
};

/// A stream as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct StreamState {
    /// The key.
    pub key: String,
    /// Entries in it, read or not.
    pub length: u64,
    /// Whether the key exists.
    pub exists: bool,
    /// Entries that were ever added.
    pub entries_added: u64,
    /// The oldest entry that is there; `None` without any.
    pub first_id: Option<EntryId>,
    /// The id that was given out last, whether or not the entry is still there; `None` without a stream.
    pub last_id: Option<EntryId>,
    /// Its groups.
    pub groups: Vec<GroupState>,
}

/// A consumer group as it is now.
#[derive(Debug, Clone, Serialize)]
pub struct GroupState {
    /// Its name.
    pub name: String,
    /// Entries that nobody has read. `None` when Redis cannot tell: unknown, not zero.
    pub lag: Option<u64>,
    /// Why the lag is unknown; `None` while it is known.
    pub lag_unknown: Option<LagUnknown>,
    /// Milliseconds since the oldest entry that nobody has read was added, by the server's clock; `None` when all is read,
    /// and where `age_unknown` says why. Known also where the lag is not.
    pub unread_age_ms: Option<u64>,
    /// Entries that were read and not acknowledged.
    pub pending: u64,
    /// Milliseconds since the oldest of them was added; `None` without any.
    pub pending_age_ms: Option<u64>,
    /// Milliseconds since the oldest entry that is not acknowledged was added, by the server's clock.
    pub oldest_age_ms: Option<u64>,
    /// Why an age is unknown although there is an entry: its id is of the future. `None` while all ages are known.
    pub age_unknown: Option<AgeUnknown>,
    /// The oldest entry that nobody has read.
    #[serde(skip)]
    pub oldest_unread: Option<EntryId>,
    /// The oldest entry that was read and not acknowledged.
    #[serde(skip)]
    pub oldest_pending: Option<EntryId>,
    /// The low-water mark: the oldest entry that is not acknowledged. `None` when everything is.
    #[serde(skip)]
    pub low_water: Option<EntryId>,
    /// The last entry that anybody read.
    #[serde(skip)]
    pub last_delivered: EntryId,
    /// Its members.
    pub consumers: Vec<ConsumerState>,
    /// Whether all that was added is dealt with; only of the stage's own group, and only with the whole stream.
    pub books: Option<Books>,
}

impl GroupState {
    /// Whether every entry of the stream is acknowledged.
    pub fn is_drained(&self) -> bool {
        self.low_water.is_none()
    }

    /// Entries between arrival and acknowledgement, or `None` when Redis cannot tell.
    pub fn backlog(&self) -> Option<u64> {
        self.lag.map(|lag| lag + self.pending)
    }
}

/// Why Redis cannot tell a group's lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LagUnknown {
    /// Redis says so itself.
    NotCounted,
    /// It counts more than there is.
    Miscounted,
}

impl LagUnknown {
    /// The reason, for people: the end of a sentence that says that the lag is unknown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotCounted => {
                "entries were deleted before they were read, or the group began in the middle of the stream"
            }
            Self::Miscounted => "Redis counts more than there is: it lost count over a restart",
        }
    }
}

impl fmt::Display for LagUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for LagUnknown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A member of a group.
#[derive(Debug, Clone, Serialize)]
pub struct ConsumerState {
    /// Its name: host, process, start, worker.
    pub name: String,
    /// Entries that it holds.
    pub pending: u64,
    /// Milliseconds since it last asked for work.
    pub idle_ms: u64,
}

impl Redis {
    /// The stream that `stage` reads, with all its groups.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn stream_state(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<StreamState, Error> {
        let mut state = stream_state(connection, self.keys().stream(partition, stage)).await?;
        if let Some(own) = state.groups.iter_mut().find(|group| group.name == stage.as_str()) {
            own.books = Some(self.books(connection, partition, stage).await?);
        }
        Ok(state)
    }

    /// The state of the stage's own group, or `None` when Redis does not know it.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn group_state(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<Option<GroupState>, Error> {
        let key = self.keys().stream(partition, stage);
        let length: u64 = redis::cmd("XLEN").arg(&key).query_async(connection).await?;
        let groups = groups(connection, &key, Some(stage.as_str()), length).await?;
        Ok(groups.into_iter().next())
    }

    /// The id that the stage's stream gave out last, whether or not the entry is still there; `None` without a stream.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn last_id(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<Option<EntryId>, Error> {
        let info = stream_info(connection, &self.keys().stream(partition, stage)).await?;
        info.map(|info| last_generated(&info)).transpose()
    }

    /// The stream of dead letters of a partition, as [`Redis::stream_state`] tells of a stage's.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn dead_stream_state(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
    ) -> Result<StreamState, Error> {
        stream_state(connection, self.keys().dead(partition)).await
    }

    /// Whether `stage` is past the entry `id` and all before it: they are acknowledged, or gone from Redis. Without a
    /// group nothing is acknowledged, and without entries nothing will be.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn is_past(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        id: EntryId,
    ) -> Result<bool, Error> {
        let key = self.keys().stream(partition, stage);
        let groups = group_maps(connection, &key).await?;
        let Some(group) =
            groups.iter().find(|group| group.get("name").is_some_and(|name| text(name) == stage.as_str()))
        else {
            let length: u64 = redis::cmd("XLEN").arg(&key).query_async(connection).await?;
            return Ok(length == 0);
        };
        let waits = |oldest: Option<EntryId>| oldest.is_some_and(|oldest| oldest <= id);
        if number(group, "pending") > 0 && waits(oldest_pending(connection, &key, stage.as_str()).await?) {
            return Ok(false);
        }
        let last_delivered = last_delivered(group)?;
        Ok(last_delivered >= id || !waits(oldest_unread(connection, &key, last_delivered).await?))
    }

    /// The next dead letters of a partition after this id, at most `count`.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn dead_letters_after(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        after: EntryId,
        count: usize,
    ) -> Result<Vec<Entry>, Error> {
        let mut range = redis::cmd("XRANGE");
        let (from, to) = range_after(after);
        range.arg(self.keys().dead(partition)).arg(from).arg(to).arg("COUNT").arg(count);
        reply::entries("XRANGE", range.query_async(connection).await?)
    }

    /// The server's clock, in Unix milliseconds.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn now_ms(&self, connection: &mut MultiplexedConnection) -> Result<u64, Error> {
        now_ms(connection).await
    }

    /// How many dead letters a partition has.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn dead_letters(&self, connection: &mut MultiplexedConnection, partition: u16) -> Result<u64, Error> {
        Ok(redis::cmd("XLEN").arg(self.keys().dead(partition)).query_async(connection).await?)
    }

    /// At most how many entries of `stage`'s stream are not acknowledged; cheap enough to ask before every read.
    ///
    /// The lag of Redis 7.0 can be unknown, and after a restart far too high for good. The stream's length bounds it: what
    /// is acknowledged is trimmed.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn backlog(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<u64, Error> {
        let key = self.keys().stream(partition, stage);
        let length: u64 = redis::cmd("XLEN").arg(&key).query_async(connection).await?;
        if length == 0 {
            return Ok(0);
        }
        let groups = group_maps(connection, &key).await?;
        let group = groups.iter().find(|group| group.get("name").is_some_and(|name| text(name) == stage.as_str()));
        let told = group.and_then(|group| lag(group).map(|lag| lag + number(group, "pending")));
        Ok(told.map_or(length, |told| told.min(length)))
    }
}

async fn stream_state(connection: &mut MultiplexedConnection, key: String) -> Result<StreamState, Error> {
    let Some(info) = stream_info(connection, &key).await? else {
        let nothing = StreamState {
            key,
            length: 0,
            exists: false,
            entries_added: 0,
            first_id: None,
            last_id: None,
            groups: Vec::new(),
        };
        return Ok(nothing);
    };
    let length = number(&info, "length");
    let first_id = match info.get("recorded-first-entry-id") {
        Some(id) if length > 0 => Some(reply::id(XINFO_STREAM, id)?),
        _ => None,
    };
    Ok(StreamState {
        length,
        exists: true,
        entries_added: number(&info, "entries-added"),
        first_id,
        last_id: Some(last_generated(&info)?),
        groups: groups(connection, &key, None, length).await?,
        key,
    })
}

const XINFO_STREAM: &str = "XINFO STREAM";

/// `XINFO STREAM`; `None` without the stream.
async fn stream_info(
    connection: &mut MultiplexedConnection,
    key: &str,
) -> Result<Option<HashMap<String, Value>>, Error> {
    match redis::cmd("XINFO").arg("STREAM").arg(key).query_async(connection).await {
        Ok(info) => Ok(Some(map(info))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn last_generated(info: &HashMap<String, Value>) -> Result<EntryId, Error> {
    reply::id(XINFO_STREAM, info.get("last-generated-id").unwrap_or(&Value::Nil))
}

async fn groups(
    connection: &mut MultiplexedConnection,
    key: &str,
    only: Option<&str>,
    length: u64,
) -> Result<Vec<GroupState>, Error> {
    let now_ms = now_ms(connection).await?;
    let mut groups = Vec::new();
    let maps = group_maps(connection, key).await?;
    // Entries that arrived between the two looks are no miscount: then there are as many by now.
    let length = match maps.iter().filter_map(lag).any(|lag| lag > length) {
        true => length.max(redis::cmd("XLEN").arg(key).query_async(connection).await?),
        false => length,
    };
    for map in maps {
        let name = map.get("name").map(text).unwrap_or_default();
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let pending = number(&map, "pending");
        let last_delivered = last_delivered(&map)?;
        let oldest_pending = if pending > 0 { oldest_pending(connection, key, &name).await? } else { None };
        let oldest_unread = oldest_unread(connection, key, last_delivered).await?;
        let low_water = oldest_pending.into_iter().chain(oldest_unread).min();
        let age = |id: Option<EntryId>| id.map(|id| Age::of(id, now_ms));
        let known = |id: Option<EntryId>| age(id).and_then(Age::known);
        let lag = known_lag(&map, oldest_unread, length);
        groups.push(GroupState {
            lag: lag.ok(),
            lag_unknown: lag.err(),
            unread_age_ms: known(oldest_unread),
            pending,
            pending_age_ms: known(oldest_pending),
            oldest_age_ms: known(low_water),
            age_unknown: age(oldest_unread).or(age(oldest_pending)).and_then(Age::unknown),
            oldest_unread,
            oldest_pending,
            low_water,
            last_delivered,
            consumers: consumers(connection, key, &name).await?,
            books: None,
            name,
        });
    }
    Ok(groups)
}

fn last_delivered(group: &HashMap<String, Value>) -> Result<EntryId, Error> {
    group.get("last-delivered-id").map_or(Ok(EntryId::default()), |id| reply::id("XINFO GROUPS", id))
}

async fn now_ms(connection: &mut MultiplexedConnection) -> Result<u64, Error> {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    Ok(seconds * 1_000 + micros / 1_000)
}

async fn oldest_pending(
    connection: &mut MultiplexedConnection,
    key: &str,
    group: &str,
) -> Result<Option<EntryId>, Error> {
    let reply = redis::cmd("XPENDING").arg(key).arg(group).query_async(connection).await;
    match if_there(reply)?.get(1) {
        None | Some(Value::Nil) => Ok(None),
        Some(id) => reply::id("XPENDING", id).map(Some),
    }
}

async fn oldest_unread(
    connection: &mut MultiplexedConnection,
    key: &str,
    after: EntryId,
) -> Result<Option<EntryId>, Error> {
    let mut command = redis::cmd("XRANGE");
    let (from, to) = range_after(after);
    command.arg(key).arg(from).arg(to).arg("COUNT").arg(1);
    let entries = reply::entries("XRANGE", command.query_async(connection).await?)?;
    Ok(entries.first().map(|entry| entry.id))
}

async fn consumers(
    connection: &mut MultiplexedConnection,
    key: &str,
    group: &str,
) -> Result<Vec<ConsumerState>, Error> {
    let reply = redis::cmd("XINFO").arg("CONSUMERS").arg(key).arg(group).query_async(connection).await;
    Ok(if_there(reply)?
        .into_iter()
        .map(map)
        .map(|map| ConsumerState {
            name: map.get("name").map(text).unwrap_or_default(),
            pending: number(&map, "pending"),
            idle_ms: number(&map, "idle"),
        })
        .collect())
}

/// Whether the stream has the group.
pub(super) async fn has_group(connection: &mut MultiplexedConnection, key: &str, group: &str) -> Result<bool, Error> {
    let groups = group_maps(connection, key).await?;
    Ok(groups.iter().any(|known| known.get("name").is_some_and(|name| text(name) == group)))
}

/// `XINFO GROUPS`; a missing stream has no groups.
async fn group_maps(connection: &mut MultiplexedConnection, key: &str) -> Result<Vec<HashMap<String, Value>>, Error> {
    let reply = redis::cmd("XINFO").arg("GROUPS").arg(key).query_async(connection).await;
    Ok(if_there(reply)?.into_iter().map(map).collect())
}

/// What Redis answers of a stream or group that may be gone, be it since the command before this one: then nothing.
fn if_there(reply: redis::RedisResult<Vec<Value>>) -> Result<Vec<Value>, Error> {
    match reply {
        Ok(reply) => Ok(reply),
        Err(error) if is_missing(&error) || error.code() == Some("NOGROUP") => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn is_missing(error: &redis::RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("no such key"))
}

fn map(value: Value) -> HashMap<String, Value> {
    match value {
        Value::Array(flat) => {
            let mut map = HashMap::with_capacity(flat.len() / 2);
            let mut flat = flat.into_iter();
            while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                map.insert(text(&name), value);
            }
            map
        }
        Value::Map(pairs) => pairs.into_iter().map(|(name, value)| (text(&name), value)).collect(),
        _ => HashMap::new(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

fn number(map: &HashMap<String, Value>, name: &str) -> u64 {
    match map.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

/// Nil means that Redis cannot tell: entries were deleted in the unread range.
fn lag(map: &HashMap<String, Value>) -> Option<u64> {
    match map.get("lag") {
        Some(Value::Int(lag)) => u64::try_from(*lag).ok(),
        _ => None,
    }
}

/// The lag of a group, or why it is unknown. With everything read there is none, whatever Redis 7.0 makes of deletions
/// and restarts; more than there is cannot wait.
fn known_lag(map: &HashMap<String, Value>, oldest_unread: Option<EntryId>, length: u64) -> Result<u64, LagUnknown> {
    match (oldest_unread, lag(map)) {
        (None, _) => Ok(0),
        (Some(_), None) => Err(LagUnknown::NotCounted),
        (Some(_), Some(lag)) if lag > length => Err(LagUnknown::Miscounted),
        (Some(_), Some(lag)) => Ok(lag),
    }
}
