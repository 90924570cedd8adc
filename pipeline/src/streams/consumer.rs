//! One consumer of one stage's stream: reads, claims, hands off, trims. All its commands go one after the other over a
//! connection of its own, so a blocking read holds up nobody else.

use std::{sync::LazyLock, time::Duration};

use redis::{Script, Value, aio::MultiplexedConnection};

use super::{Error, KeptConnection, Redis, Refusal, books::TRIM, inspect, reply};
use crate::{
    failpoint,
    message::{Entry, EntryId},
    topology::StageName,
};

/// The stream and its books come first in the KEYS of scripts.
const BOOKS_KEYS: usize = 3;

static HAND_OFF: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("hand_off.lua")));
static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forget.lua")));

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
    /// Acknowledged and added to the dead letters.
    Dead {
        /// The fields of the dead letter.
        fields: Vec<(Vec<u8>, Vec<u8>)>,
        /// Only if the entry is still pending for this consumer: only here could a slow worker contradict a fast one.
        owned: bool,
    },
}

/// What a hand-off did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandedOff {
    /// Entries acknowledged now, with their messages added.
    pub handed: u64,
    /// Which of the entries, by index, were acknowledged before, or are another's: left alone.
    pub already: Vec<usize>,
}

/// An entry in a consumer's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What was delivered; without fields if it was deleted from the stream meanwhile.
    pub entry: Entry,
    /// How often it was delivered before, to somebody who fell silent with it in hand.
    pub before: u64,
}

/// Whose entries are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This consumer's own: a lost reply, or a failed hand-off, left them behind.
    Own {
        /// Whether this consumer fell silent with them in hand: it panicked, and started again under its name.
        silenced: bool,
    },
    /// Those of whoever has not touched them for this long.
    Idle(Duration),
}

/// What was taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// The entries, in the order of the stream.
    pub deliveries: Vec<Delivery>,
    /// After which entry to go on; `0-0` when there are no more.
    pub next: EntryId,
}

/// A member of a stage's consumer group.
#[derive(Debug)]
pub struct Consumer {
    connection: KeptConnection,
    stream: String,
    group: &'static str,
    name: String,
    /// The hand-off's KEYS: the source with its books, the dead letters, then the streams of the stage's targets.
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
        let mut kept = KeptConnection::new(redis);
        let connection = kept.get().await?;
        for each in std::iter::once(&stage).chain(stage.targets()) {
            create_group(connection, &keys.stream(partition, *each), each.as_str()).await?;
        }
        let stream = keys.stream(partition, stage);
        // Known from the start, and not only once it was given something: who is at work can be seen.
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATECONSUMER").arg(&stream).arg(stage.as_str()).arg(name);
        match create.exec_async(connection).await.map_err(Error::from) {
            // A full Redis must be able to drain. Its first read makes it known.
            Err(error) if error.refusal() == Some(Refusal::Full) => {}
            created => created?,
        }
        let mut script_keys = Vec::from(redis.books_keys(partition, stage));
        script_keys.push(keys.dead(partition));
        script_keys.extend(stage.targets().iter().map(|target| keys.stream(partition, *target)));
        Ok(Self {
            connection: kept,
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
    pub async fn read_new(&mut self, count: usize, block: Duration) -> Result<Vec<Delivery>, Error> {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(self.group).arg(&self.name).arg("COUNT").arg(count);
        command.arg("BLOCK").arg(block.as_millis().max(1).to_string());
        let reply = command.arg("STREAMS").arg(&self.stream).arg(">").query_async(self.connection.get().await?).await?;
        let entries = reply::read_group(reply)?;
        Ok(entries.into_iter().map(|entry| Delivery { entry, before: 0 }).collect())
    }

    /// Takes up to `count` entries after `after` that were delivered and never acknowledged. Up to `company` times an
    /// entry is taken as one of a batch; after that it must be processed apart, and [counted](Self::count).
    ///
    /// # Errors
    /// As [`Consumer::read_new`].
    pub async fn take(&mut self, whose: Whose, after: EntryId, count: usize, company: u64) -> Result<Taken, Error> {
        const COMMAND: &str = "take.lua";
        let (idle, counted) = match whose {
            Whose::Own { silenced } => (String::new(), silenced),
            Whose::Idle(idle) => (idle.as_millis().to_string(), true),
        };
        let Some(from) = after.successor() else { return Ok(Taken::default()) };
        let mut command = redis::cmd("EVALSHA");
        command.arg(TAKE.get_hash()).arg(1).arg(&self.stream).arg(self.group).arg(&self.name);
        command.arg(count).arg(from.to_string()).arg(idle).arg(company).arg(u8::from(counted));
        let (next, rows): (Value, Vec<(Value, u64, Value)>) = self.run_script(&TAKE, &command).await?;
        let deliveries = rows.into_iter().map(|(id, before, fields)| {
            Ok(Delivery { entry: reply::entry(COMMAND, Value::Array(vec![id, fields]))?, before })
        });
        Ok(Taken { deliveries: deliveries.collect::<Result<_, Error>>()?, next: reply::id(COMMAND, &next)? })
    }

    /// Counts a delivery of entries that are about to be processed apart from others.
    ///
    /// # Errors
    /// As [`Consumer::read_new`].
    pub async fn count(&mut self, deliveries: &[Delivery]) -> Result<(), Error> {
        let mut pipeline = redis::Pipeline::with_capacity(deliveries.len());
        for delivery in deliveries.iter() {
            let mut command = self.claim_command(Duration::ZERO);
            command.arg(delivery.entry.id.to_string()).arg("RETRYCOUNT").arg(delivery.before + 1).arg("JUSTID");
            pipeline.add_command(command);
        }
        Ok(pipeline.exec_async(self.connection.get().await?).await?)
    }

    /// Gives entries back untouched: whoever looks next takes them over at once, and this delivery does not count.
    ///
    /// # Errors
    /// As [`Consumer::read_new`].
    pub async fn hand_back(&mut self, deliveries: &[Delivery]) -> Result<(), Error> {
        const LONG_AGO: &str = "86400000";
        let mut pipeline = redis::Pipeline::with_capacity(deliveries.len());
        for delivery in deliveries {
            let mut command = self.claim_command(Duration::ZERO);
            command.arg(delivery.entry.id.to_string()).arg("IDLE").arg(LONG_AGO);
            command.arg("RETRYCOUNT").arg(delivery.before).arg("JUSTID");
            pipeline.add_command(command);
        }
        Ok(pipeline.exec_async(self.connection.get().await?).await?)
    }

    fn claim_command(&self, idle: Duration) -> redis::Cmd {
        let mut command = redis::cmd("XCLAIM");
        command.arg(&self.stream).arg(self.group).arg(&self.name).arg(idle.as_millis().to_string());
        command
    }

    /// Marks entries as still being worked on, so that nobody claims them. Does not count as a delivery.
    ///
    /// # Errors
    /// As [`Consumer::read_new`].
    pub async fn keep_fresh(&mut self, deliveries: &[Delivery]) -> Result<(), Error> {
        // Redis would forget a deleted entry that is claimed, and nobody would report it.
        let there = |delivery: &&Delivery| !delivery.entry.fields.is_empty();
        let ids: Vec<String> = deliveries.iter().filter(there).map(|delivery| delivery.entry.id.to_string()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut command = self.claim_command(Duration::ZERO);
        command.arg(ids);
        command.arg("JUSTID").exec_async(self.connection.get().await?).await?;
        Ok(())
    }

    /// Ends a batch: acknowledges every entry and adds what follows from it, in one atomic script.
    ///
    /// # Errors
    /// When Redis cannot be reached, no longer knows the group, or a target is no stream. After an unreadable reply
    /// the script may have run; running it again is harmless.
    pub async fn hand_off(&mut self, endings: Vec<(EntryId, HandOff)>) -> Result<HandedOff, Error> {
        const DEAD: usize = BOOKS_KEYS + 1;
        const FIRST_TARGET: usize = BOOKS_KEYS + 2;
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
                HandOff::Dead { fields, owned } => (DEAD, u8::from(owned), fields),
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
        failpoint::hit::<Error>(&format!("{}.before_script", self.group))?;
        let (handed, already) = self.run_script(&HAND_OFF, &command).await?;
        failpoint::hit::<Error>(&format!("{}.script_run", self.group))?;
        Ok(HandedOff { handed, already })
    }

    /// Removes what every group has acknowledged from the stream; how many entries. `None` while the books do not
    /// balance, unless they are `checked`: what was delivered to nobody must be found first ([`Redis::recover`]).
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn trim(&mut self, checked: bool) -> Result<Option<u64>, Error> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(TRIM.get_hash()).arg(BOOKS_KEYS).arg(&self.keys[..BOOKS_KEYS]);
        command.arg(self.group).arg(u8::from(checked));
        failpoint::hit::<Error>(&format!("{}.before_trim", self.group))?;
        let (removed, is_doubtful): (u64, bool) = self.run_script(&TRIM, &command).await?;
        failpoint::hit::<Error>(&format!("{}.trimmed", self.group))?;
        Ok((!is_doubtful).then_some(removed))
    }

    async fn run_script<T: redis::FromRedisValue>(
        &mut self,
        script: &Script,
        command: &redis::Cmd,
    ) -> Result<T, Error> {
        let connection = self.connection.get().await?;
        match command.query_async(connection).await {
            // A restarted Redis has forgotten its scripts.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                script.load_async(connection).await?;
                Ok(command.query_async(connection).await?)
            }
            reply => Ok(reply?),
        }
    }

    /// Leaves the group, if nothing is pending for this consumer.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn leave(&mut self) -> Result<(), Error> {
        let name = self.name.clone();
        self.forget(Duration::ZERO, &name).await.map(drop)
    }

    /// Removes the consumers that hold nothing and have been silent for `idle`: those of killed processes. How many.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn forget_silent(&mut self, idle: Duration) -> Result<u64, Error> {
        self.forget(idle, "").await
    }

    async fn forget(&mut self, idle: Duration, only: &str) -> Result<u64, Error> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(FORGET.get_hash()).arg(1).arg(&self.stream).arg(self.group);
        command.arg(idle.as_millis().to_string()).arg(only);
        self.run_script(&FORGET, &command).await
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
