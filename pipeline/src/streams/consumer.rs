//! One consumer of one stage's stream: reads, claims, hands off, trims. All its commands go one after the other over a
//! connection of its own, so a blocking read holds up nobody else.

use std::{sync::LazyLock, time::Duration};

use redis::{Script, Value, aio::MultiplexedConnection};

use super::{Error, Redis, inspect, reply};
use crate::{
    message::{Entry, EntryId},
    topology::StageName,
};

static HAND_OFF: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("hand_off.lua")));
static TRIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("trim.lua")));

/// What becomes of one entry in a hand-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOff {
    /// Acknowledged; nothing follows.
    Done,
    /// Acknowledged, and a message is added to the stream of another stage.
    Forward {
        /// Which stage is next.
        to: StageName,
        /// The fields of the message.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// Acknowledged and added to the dead letters, if the entry is still pending for this consumer: only here could a
    /// slow worker contradict a fast one.
    Dead {
        /// The fields of the dead letter.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
    },
}

/// What a hand-off did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HandOffCounts {
    /// Entries acknowledged now, with their messages added.
    pub handed: u64,
    /// Entries that were acknowledged before, or are another's: left alone.
    pub already: u64,
}

/// A round of claiming.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Entries that were idle too long and are ours now.
    pub entries: Vec<Entry>,
    /// Entries that were pending but no longer exist in the stream: deleted by somebody, and lost here.
    pub deleted: Vec<EntryId>,
    /// Where the next round starts.
    pub cursor: String,
}

/// A member of a stage's consumer group.
#[derive(Debug)]
pub struct Consumer {
    connection: MultiplexedConnection,
    stream: String,
    group: &'static str,
    name: String,
    /// The hand-off's KEYS: the source, the dead letters, then the streams of the stage's targets.
    keys: Vec<String>,
    targets: &'static [StageName],
}

impl Consumer {
    /// Joins the group of `stage` in `partition`, creating streams and group where Redis does not know them. Groups
    /// start at the beginning of their stream: work that is already there is work to do.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub async fn join(redis: &Redis, stage: StageName, partition: u16, name: &str) -> Result<Self, Error> {
        let keys = redis.keys();
        let mut connection = redis.connect().await?;
        for each in std::iter::once(&stage).chain(stage.targets()) {
            create_group(&mut connection, &keys.stream(partition, *each), each.as_str()).await?;
        }
        let stream = keys.stream(partition, stage);
        let mut script_keys = vec![stream.clone(), keys.dead(partition)];
        script_keys.extend(stage.targets().iter().map(|target| keys.stream(partition, *target)));
        Ok(Self {
            connection,
            stream,
            group: stage.as_str(),
            name: name.to_owned(),
            keys: script_keys,
            targets: stage.targets(),
        })
    }

    /// Reads up to `count` entries that nobody has read, waiting up to `block` for the first.
    ///
    /// # Errors
    /// When Redis cannot be reached, or no longer knows the group.
    pub async fn read_new(&mut self, count: usize, block: Duration) -> Result<Vec<Entry>, Error> {
        let mut command = self.read_command(count);
        command.arg("BLOCK").arg(block.as_millis().max(1).to_string());
        let reply = command.arg("STREAMS").arg(&self.stream).arg(">").query_async(&mut self.connection).await?;
        reply::read_group(reply)
    }

    /// Reads up to `count` entries after `after` that were delivered to this consumer and never acknowledged: what a
    /// lost reply or a failed hand-off left behind.
    ///
    /// # Errors
    /// As [`Consumer::read_new`].
    pub async fn read_own(&mut self, after: EntryId, count: usize) -> Result<Vec<Entry>, Error> {
        let mut command = self.read_command(count);
        command.arg("STREAMS").arg(&self.stream).arg(after.to_string());
        reply::read_group(command.query_async(&mut self.connection).await?)
    }

    fn read_command(&self, count: usize) -> redis::Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(self.group).arg(&self.name).arg("COUNT").arg(count);
        command
    }

    /// Takes over up to `count` entries that no consumer has touched for `idle`, from `cursor` on (`0-0` at first).
    ///
    /// # Errors
    /// As [`Consumer::read_new`].
    pub async fn claim(&mut self, idle: Duration, cursor: &str, count: usize) -> Result<Claimed, Error> {
        const COMMAND: &str = "XAUTOCLAIM";
        let reply: Value = redis::cmd(COMMAND)
            .arg(&self.stream)
            .arg(self.group)
            .arg(&self.name)
            .arg(idle.as_millis().to_string())
            .arg(cursor)
            .arg("COUNT")
            .arg(count)
            .query_async(&mut self.connection)
            .await?;
        let Value::Array(parts) = reply else { return Err(reply::unexpected(COMMAND, &reply)) };
        let mut parts = parts.into_iter();
        let cursor = reply::id(COMMAND, &parts.next().unwrap_or_default())?.to_string();
        let entries = reply::entries(COMMAND, parts.next().unwrap_or_default())?;
        // Redis 6.2 has no third part; it returns deleted entries without fields.
        let deleted = match parts.next() {
            Some(Value::Array(ids)) => ids.iter().map(|id| reply::id(COMMAND, id)).collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        Ok(Claimed { entries, deleted, cursor })
    }

    /// Marks entries as still being worked on, so that nobody claims them. Does not count as a delivery.
    ///
    /// # Errors
    /// As [`Consumer::read_new`].
    pub async fn keep_fresh(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut command = redis::cmd("XCLAIM");
        command.arg(&self.stream).arg(self.group).arg(&self.name).arg(0);
        for entry in entries {
            command.arg(entry.id.to_string());
        }
        command.arg("JUSTID").exec_async(&mut self.connection).await?;
        Ok(())
    }

    /// Ends a batch: acknowledges every entry and adds what follows from it, in one atomic script.
    ///
    /// # Errors
    /// When Redis cannot be reached, no longer knows the group, or a target is no stream. After an unreadable reply
    /// the script may have run; running it again is harmless.
    pub async fn hand_off(&mut self, endings: Vec<(EntryId, HandOff)>) -> Result<HandOffCounts, Error> {
        const DEAD: usize = 2;
        const FIRST_TARGET: usize = 3;
        let mut command = redis::cmd("EVALSHA");
        command.arg(HAND_OFF.get_hash()).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        command.arg(self.group).arg(&self.name);
        for (id, ending) in endings {
            command.arg(id.to_string());
            let (target, owned, fields) = match ending {
                HandOff::Done => (0, 0, Vec::new()),
                HandOff::Dead { fields } => (DEAD, 1, fields),
                HandOff::Forward { to, fields } => {
                    let index = self.targets.iter().position(|target| *target == to);
                    (FIRST_TARGET + index.expect("a stage forwards to its declared targets only"), 0, fields)
                }
            };
            command.arg(target).arg(owned).arg(fields.len() * 2);
            for (name, value) in fields {
                command.arg(name).arg(value);
            }
        }
        let (handed, already) = self.run_script(&HAND_OFF, &command).await?;
        Ok(HandOffCounts { handed, already })
    }

    /// Removes what every group has acknowledged from the stream.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn trim(&mut self) -> Result<u64, Error> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(TRIM.get_hash()).arg(1).arg(&self.stream);
        self.run_script(&TRIM, &command).await
    }

    async fn run_script<T: redis::FromRedisValue>(
        &mut self,
        script: &Script,
        command: &redis::Cmd,
    ) -> Result<T, Error> {
        match command.query_async(&mut self.connection).await {
            // A restarted Redis has forgotten its scripts.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                script.load_async(&mut self.connection).await?;
                Ok(command.query_async(&mut self.connection).await?)
            }
            reply => Ok(reply?),
        }
    }

    /// Leaves the group, if nothing is pending for this consumer: deleting a consumer deletes what it holds.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn leave(&mut self) -> Result<(), Error> {
        static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("leave.lua")));
        let mut command = redis::cmd("EVALSHA");
        command.arg(LEAVE.get_hash()).arg(1).arg(&self.stream).arg(self.group).arg(&self.name);
        self.run_script::<u64>(&LEAVE, &command).await.map(drop)
    }
}

/// Creates the group where it is missing, and only there: a full Redis refuses to create, but what is in it must drain.
async fn create_group(connection: &mut MultiplexedConnection, stream: &str, group: &str) -> Result<(), Error> {
    if inspect::has_group(connection, stream, group).await? {
        return Ok(());
    }
    let created =
        redis::cmd("XGROUP").arg("CREATE").arg(stream).arg(group).arg("0").arg("MKSTREAM").exec_async(connection).await;
    match created {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        other => Ok(other?),
    }
}
