//! Whether a group has dealt with all that was added to its stream: `books.lua` says how that is known. What was delivered
//! to nobody is given out again, or counted as lost.

use std::sync::LazyLock;

use redis::{Script, aio::MultiplexedConnection};
use serde::Serialize;

use super::{Error, Redis, processes::REPORT};
use crate::topology::StageName;

/// Most entries that are looked at to put books right.
const RECOVER_MAX: u64 = 50_000;

/// Most entries that a look counts.
const LOOK_MAX: u64 = 2_000;

/// How long books are closed that nobody closes again, in milliseconds.
pub const BOOKS_CLOSED_MS: u64 = 15_000;

/// How silent the holder of a recovered entry looks: longer than any worker waits before it takes over.
const LONG_AGO_MS: &str = "86400000";

macro_rules! on_books {
    ($flags:literal, $script:literal) => {
        LazyLock::new(|| {
            Script::new(concat!("#!lua flags=", $flags, "\n", include_str!("books.lua"), include_str!($script)))
        })
    };
}

pub(super) static TRIM: LazyLock<Script> = on_books!("allow-oom", "trim.lua");
static RECOVER: LazyLock<Script> = on_books!("allow-oom", "recover.lua");
static NOTE_ADDED: LazyLock<Script> = on_books!("allow-oom", "note_added.lua");
static INSPECT: LazyLock<Script> = on_books!("no-writes", "inspect_books.lua");

/// What was found to be missing, and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whether it could be told. A stream with very much before and after its group's place is asked again later.
    pub is_certain: bool,
    /// Entries that were delivered to nobody and are given out again.
    pub redriven: u64,
    /// Entries that are gone from the stream without having been processed.
    pub gone: u64,
}

/// How the books of a group stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Entries that were neither acknowledged nor are pending or unread; `None` where that cannot be told.
    pub missing: Option<u64>,
    /// Entries that were found to be gone without having been processed, ever.
    pub lost: u64,
    /// Entries that were delivered to nobody and given out again, ever.
    pub redriven: u64,
}

impl Redis {
    /// The keys of scripts on the books of a stage.
    pub(super) fn books_keys(&self, partition: u16, stage: StageName) -> [String; 3] {
        let keys = self.keys();
        [keys.stream(partition, stage), keys.books(partition, stage), keys.acknowledged(partition, stage)]
    }

    /// How the books of a stage stand.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn books(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<Books, Error> {
        let keys = self.books_keys(partition, stage);
        let mut look = INSPECT.key(&keys[..]);
        let (missing, lost, redriven): (i64, u64, u64) =
            look.arg(stage.as_str()).arg(LOOK_MAX).invoke_async(connection).await?;
        Ok(Books { missing: u64::try_from(missing).ok(), lost, redriven })
    }

    /// Notes how much was added to the stream of a stage by now. Workers do so as they go; while none works, somebody has to,
    /// or a stream that is deleted then is not missed.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn note_added(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<(), Error> {
        let keys = self.books_keys(partition, stage);
        Ok(NOTE_ADDED.key(&keys[..]).arg(stage.as_str()).invoke_async(connection).await?)
    }

    /// Puts the books of a stage right, beginning them where there are none. What is found belongs to `consumer`.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn recover(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        consumer: &str,
    ) -> Result<Recovered, Error> {
        let keys = self.books_keys(partition, stage);
        let mut recover = RECOVER.key(&keys[..]);
        recover.arg(stage.as_str()).arg(consumer).arg(RECOVER_MAX).arg(LONG_AGO_MS);
        let (is_certain, redriven, gone) = recover.invoke_async(connection).await?;
        Ok(Recovered { is_certain, redriven, gone })
    }

    /// Closes the books of a stage for a while: somebody acknowledges without counting. They begin anew afterwards.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn close_books(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        until_ms: u64,
    ) -> Result<(), Error> {
        let key = self.keys().books(partition, stage);
        let mut close = redis::pipe();
        close.atomic().hset(&key, "closed", until_ms).ignore().hdel(&key, "base").ignore();
        Ok(close.exec_async(connection).await?)
    }

    /// Of the books of a stage, what has been written down elsewhere: lost, and given out again.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn noted_losses(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<(u64, u64), Error> {
        let key = self.keys().books(partition, stage);
        let mut get = redis::cmd("HMGET");
        let noted: (Option<u64>, Option<u64>) =
            get.arg(key).arg("noted_lost").arg("noted_redriven").query_async(connection).await?;
        Ok((noted.0.unwrap_or_default(), noted.1.unwrap_or_default()))
    }

    /// Says that these have been written down elsewhere.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn note_losses(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        books: &Books,
    ) -> Result<(), Error> {
        let key = self.keys().books(partition, stage);
        let mut note = REPORT.key(key);
        note.arg("noted_lost").arg(books.lost).arg("noted_redriven").arg(books.redriven);
        Ok(note.invoke_async(connection).await?)
    }
}
