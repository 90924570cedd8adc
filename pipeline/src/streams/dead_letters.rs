//! The dead letters of a partition: walks through them, one by its id, replay, discard, import, and the bound.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use chrono::{SecondsFormat, Utc};
use redis::{Script, Value, aio::MultiplexedConnection};
use serde::Serialize;

use super::{
    Error, Redis,
    letter::{DeadLetter, Fields, LetterId, ReplayMark},
    reply,
};
use crate::{
    message::{DeadReason, Entry, EntryId},
    topology::StageName,
};

static REPLAY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("replay.lua")));

/// Most dead letters that a partition keeps: beyond it the oldest ones go.
pub const DEAD_LETTERS_MAX: u64 = 1_000_000;

/// What a page of letters should have in bytes, and never much more unless a single letter has.
const PAGE_BYTES: usize = 8 << 20;

/// Most letters in a page.
const PAGE_LETTERS_MAX: usize = 1_000;

/// Letters in a first page, when their size is not known yet: all of them may have a body at its bound.
const FIRST_PAGE_LETTERS: usize = 30;

/// Letters whose reasons `status` looks at.
const LOOK_LETTERS_MAX: u64 = 10_000;

/// Bytes of letters that `status` looks at.
const LOOK_BYTES_MAX: usize = 32 << 20;

/// What lies there until somebody decides, and why: a letter that was replayed is decided about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetterReasons {
    /// How many letters nobody has replayed. Of those beyond `of` the marks of replays are counted, without a look at
    /// whether each still has its letter.
    pub undecided: u64,
    /// Of the letters that were looked at, those that nobody has replayed, by the word of their reason; `other` for
    /// entries that name none.
    pub reasons: BTreeMap<&'static str, u64>,
    /// How many letters were looked at, from the newest on.
    pub of: u64,
    /// The newest of them that nobody has replayed.
    #[serde(skip)]
    pub newest: Option<EntryId>,
    /// The oldest of them that nobody has replayed.
    #[serde(skip)]
    pub oldest: Option<EntryId>,
    /// How many letters and how many marks of replays there were.
    #[serde(skip)]
    pub size: (u64, u64),
}

/// Which way a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the oldest letter to the one that was the newest when the walk began: what dies meanwhile is not seen.
    OldestFirst,
    /// From the newest letter to the oldest.
    NewestFirst,
}

/// A walk through the dead letters of a partition, in pages bounded by letters and bytes.
#[derive(Debug, Clone)]
pub struct LetterWalk {
    partition: u16,
    direction: Direction,
    /// The oldest and the newest letter yet to be looked at; `None` when the walk is over.
    rest: Option<(EntryId, EntryId)>,
    page: usize,
}

/// What became of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// It is on its way, as this entry in the stream of its stage.
    As(EntryId),
    /// It was replayed before, and left alone now.
    Already(ReplayMark),
    /// Somebody removed the letter.
    Gone,
}

impl Redis {
    /// Starts a walk through the letters that there are now; before or after `beyond`, if that is given, in the walk's
    /// direction.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn walk_dead_letters(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        direction: Direction,
        beyond: Option<EntryId>,
    ) -> Result<LetterWalk, Error> {
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(self.keys().dead(partition)).arg("+").arg("-").arg("COUNT").arg(1);
        let newest = reply::entries("XREVRANGE", newest.query_async(connection).await?)?;
        let all = newest.first().map(|entry| (EntryId::default(), entry.id));
        let rest = match (all, beyond) {
            (Some((oldest, newest)), Some(beyond)) => match direction {
                Direction::OldestFirst => beyond.successor().map(|from| (from.max(oldest), newest)),
                Direction::NewestFirst => beyond.predecessor().map(|to| (oldest, newest.min(to))),
            },
            (all, _) => all,
        };
        Ok(LetterWalk { partition, direction, rest, page: FIRST_PAGE_LETTERS })
    }

    /// How many letters of a partition have the mark of a replay; marks may outlive their letters for a while.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn replayed_letters(&self, connection: &mut MultiplexedConnection, partition: u16) -> Result<u64, Error> {
        Ok(redis::cmd("HLEN").arg(self.keys().dead_replays(partition)).query_async(connection).await?)
    }

    /// What is undecided among the letters of a partition, and the reasons of the newest ones, as many as there are up
    /// to a bound of letters and bytes: a look, not an account.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn dead_letter_reasons(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
    ) -> Result<DeadLetterReasons, Error> {
        let mut walk = self.walk_dead_letters(connection, partition, Direction::NewestFirst, None).await?;
        let size =
            (self.dead_letters(connection, partition).await?, self.replayed_letters(connection, partition).await?);
        let mut found = DeadLetterReasons { size, ..DeadLetterReasons::default() };
        let (mut bytes, mut replayed) = (0, 0);
        while found.of < LOOK_LETTERS_MAX
            && bytes < LOOK_BYTES_MAX
            && let Some(page) = walk.next_page(self, connection).await?
        {
            for letter in page {
                bytes += letter.bytes();
                found.of += 1;
                if letter.replayed.is_some() {
                    replayed += 1;
                    continue;
                }
                found.undecided += 1;
                found.newest.get_or_insert(letter.id.entry);
                found.oldest = Some(letter.id.entry);
                // Words from anybody do not become names of ours.
                let reason = letter.reason().and_then(|reason| reason.parse().ok()).map_or("other", DeadReason::as_str);
                *found.reasons.entry(reason).or_default() += 1;
            }
        }
        let (letters, marks) = size;
        let older = letters.saturating_sub(found.of);
        found.undecided += older - marks.saturating_sub(replayed).min(older);
        Ok(found)
    }

    /// One letter, if it is there.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn dead_letter(
        &self,
        connection: &mut MultiplexedConnection,
        id: LetterId,
    ) -> Result<Option<DeadLetter>, Error> {
        let mut range = redis::cmd("XRANGE");
        range.arg(self.keys().dead(id.partition)).arg(id.entry.to_string()).arg(id.entry.to_string());
        let entries = reply::entries("XRANGE", range.query_async(connection).await?)?;
        Ok(self.with_marks(connection, id.partition, entries).await?.pop())
    }

    async fn with_marks(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        entries: Vec<Entry>,
    ) -> Result<Vec<DeadLetter>, Error> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys().dead_replays(partition));
        for entry in &entries {
            command.arg(entry.id.to_string());
        }
        let marks: Vec<Option<Vec<u8>>> = command.query_async(connection).await?;
        let letters = entries.into_iter().zip(marks);
        Ok(letters
            .map(|(entry, mark)| DeadLetter::new(partition, entry, mark.map(|mark| ReplayMark::parse(&mark))))
            .collect())
    }

    /// Adds `message` to the stream of `stage` and notes at the letter that it was replayed, in one script. A letter that
    /// was replayed before is left alone unless `again`.
    ///
    /// # Errors
    /// When Redis cannot be reached or is full. After a lost reply the letter may have been replayed.
    pub async fn replay_dead_letter(
        &self,
        connection: &mut MultiplexedConnection,
        id: LetterId,
        replay: &Replay,
    ) -> Result<Replayed, Error> {
        const COMMAND: &str = "replay.lua";
        let keys = self.keys();
        let flag = |flag: bool| if flag { "1" } else { "0" };
        let mut command = redis::cmd("EVALSHA");
        command.arg(REPLAY.get_hash()).arg(3);
        command.arg(keys.dead(id.partition)).arg(keys.dead_replays(id.partition));
        command.arg(keys.stream(id.partition, replay.stage));
        command.arg(id.entry.to_string()).arg(flag(replay.again));
        command.arg(Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)).arg(flag(replay.edited));
        for (name, value) in &replay.message {
            command.arg(name).arg(value);
        }
        let reply: Vec<Value> = match command.query_async(connection).await {
            // A restarted Redis has forgotten its scripts.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                REPLAY.load_async(connection).await?;
                command.query_async(connection).await?
            }
            reply => reply?,
        };
        match reply.as_slice() {
            [Value::BulkString(word), id] if word == b"replayed" => Ok(Replayed::As(reply::id(COMMAND, id)?)),
            [Value::BulkString(word), Value::BulkString(mark)] if word == b"already" => {
                Ok(Replayed::Already(ReplayMark::parse(mark)))
            }
            [Value::BulkString(word)] if word == b"gone" => Ok(Replayed::Gone),
            _ => Err(reply::unexpected(COMMAND, &Value::Array(reply))),
        }
    }

    /// Removes a letter with its mark; whether it was there.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn discard_dead_letter(
        &self,
        connection: &mut MultiplexedConnection,
        id: LetterId,
    ) -> Result<bool, Error> {
        // Not MULTI: a full Redis refuses to queue, and this makes room. What is lost half-way is a mark without a letter.
        let mut both = redis::pipe();
        both.cmd("XDEL").arg(self.keys().dead(id.partition)).arg(id.entry.to_string());
        both.cmd("HDEL").arg(self.keys().dead_replays(id.partition)).arg(id.entry.to_string()).ignore();
        let (gone,): (u64,) = both.query_async(connection).await?;
        Ok(gone > 0)
    }

    /// Puts an exported letter back among the dead letters of its partition, as the newest one, with its mark; its new
    /// place.
    ///
    /// # Errors
    /// When Redis cannot be reached or is full.
    pub async fn import_dead_letter(
        &self,
        connection: &mut MultiplexedConnection,
        letter: DeadLetter,
    ) -> Result<LetterId, Error> {
        let partition = letter.id.partition;
        let mark = letter.replayed.as_ref().map(ReplayMark::write);
        let mut command = redis::cmd("XADD");
        command.arg(self.keys().dead(partition)).arg("*");
        for (name, value) in letter.into_imported() {
            command.arg(name).arg(value);
        }
        let id: Value = command.query_async(connection).await?;
        let entry = reply::id("XADD", &id)?;
        if let Some(mark) = mark {
            let mut note = redis::cmd("HSET");
            note.arg(self.keys().dead_replays(partition)).arg(entry.to_string()).arg(mark);
            note.exec_async(connection).await?;
        }
        Ok(LetterId { partition, entry })
    }

    /// Drops the oldest letters beyond `keep` ([`DEAD_LETTERS_MAX`]), and the marks of letters that are gone; how many
    /// letters were dropped. Approximately, as Redis removes whole nodes: some hundred more may stay, never fewer; and at
    /// most some ten thousand a call.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn trim_dead(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        keep: u64,
    ) -> Result<u64, Error> {
        let (dead, marks) = (self.keys().dead(partition), self.keys().dead_replays(partition));
        let dropped: u64 =
            redis::cmd("XTRIM").arg(&dead).arg("MAXLEN").arg("~").arg(keep).query_async(connection).await?;
        if dropped == 0 {
            return Ok(0);
        }
        let mut oldest = redis::cmd("XRANGE");
        oldest.arg(&dead).arg("-").arg("+").arg("COUNT").arg(1);
        let oldest = reply::entries("XRANGE", oldest.query_async(connection).await?)?;
        let Some(oldest) = oldest.first().map(|entry| entry.id) else { return Ok(dropped) };
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(&marks).arg(&cursor).arg("COUNT").arg(PAGE_LETTERS_MAX);
            let (next, page): (String, HashMap<String, Vec<u8>>) = scan.query_async(connection).await?;
            // Ids only grow: below the oldest letter there is none, and never will be.
            let gone: Vec<&String> =
                page.keys().filter(|id| id.parse::<EntryId>().is_ok_and(|id| id < oldest)).collect();
            if !gone.is_empty() {
                redis::cmd("HDEL").arg(&marks).arg(gone).exec_async(connection).await?;
            }
            if next == "0" {
                return Ok(dropped);
            }
            cursor = next;
        }
    }
}

/// How a letter goes on its way again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Whose stream it goes to.
    pub stage: StageName,
    /// The fields of the message.
    pub message: Fields,
    /// Whether one that was replayed before goes again.
    pub again: bool,
    /// Whether the body is another than the letter's.
    pub edited: bool,
}

impl LetterWalk {
    /// The newest letter yet to be looked at.
    pub fn newest(&self) -> Option<EntryId> {
        self.rest.map(|(_, newest)| newest)
    }

    /// Ends the walk at this letter, or begins it there, whichever way it goes.
    pub fn leave_out_after(&mut self, last: EntryId) {
        self.rest = self.rest.map(|(oldest, newest)| (oldest, newest.min(last))).filter(|(from, to)| from <= to);
    }

    /// The next letters, or `None` when there are no more.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn next_page(
        &mut self,
        redis: &Redis,
        connection: &mut MultiplexedConnection,
    ) -> Result<Option<Vec<DeadLetter>>, Error> {
        let Some((oldest, newest)) = self.rest else { return Ok(None) };
        let (name, from, to) = match self.direction {
            Direction::OldestFirst => ("XRANGE", oldest, newest),
            Direction::NewestFirst => ("XREVRANGE", newest, oldest),
        };
        let mut command = redis::cmd(name);
        command.arg(redis.keys().dead(self.partition)).arg(from.to_string()).arg(to.to_string());
        command.arg("COUNT").arg(self.page);
        let entries = reply::entries(name, command.query_async(connection).await?)?;
        let Some(last) = entries.last().map(|entry| entry.id) else {
            self.rest = None;
            return Ok(None);
        };
        self.rest = match self.direction {
            Direction::OldestFirst => last.successor().map(|next| (next, newest)).filter(|(from, to)| from <= to),
            Direction::NewestFirst => {
                last.predecessor().map(|previous| (oldest, previous)).filter(|(from, to)| from <= to)
            }
        };
        let bytes: usize = entries.iter().map(Entry::bytes).sum();
        let fitting = PAGE_BYTES / (bytes / entries.len()).max(1);
        self.page = fitting.clamp(1, PAGE_LETTERS_MAX).min(self.page * 4);
        redis.with_marks(connection, self.partition, entries).await.map(Some)
    }
}
