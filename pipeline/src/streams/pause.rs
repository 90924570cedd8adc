//! Pausing a stage: a key that its workers look for before they take work.
//!
//! It lives beside the streams and not in Postgres: a pause must work while Postgres is what is being repaired, and may
//! end by itself. A Redis that lost everything has lost the pauses, too.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use redis::{AsyncCommands, aio::MultiplexedConnection};
use serde::Serialize;

use super::{Error, Redis};
use crate::topology::StageName;

/// Why and for how long a stage is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Which stage.
    pub stage: StageName,
    /// What was said when it was paused; may be empty.
    pub why: String,
    /// When, by the clock of whoever paused it, as RFC 3339.
    pub since: String,
    /// Seconds until it ends by itself; `None` if it does not.
    pub seconds_left: Option<u64>,
}

impl Redis {
    /// Pauses a stage in a partition, for a while or until it is resumed. Batches in hand come to their end.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn pause(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
        length: Option<Duration>,
        why: &str,
    ) -> Result<(), Error> {
        let key = self.keys().paused(partition, stage);
        let since = DateTime::<Utc>::from(std::time::SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut both = redis::pipe();
        both.atomic().cmd("HSET").arg(&key).arg("why").arg(why).arg("since").arg(since).ignore();
        match length {
            Some(length) => both.cmd("PEXPIRE").arg(&key).arg(length.as_millis().max(1).to_string()).ignore(),
            None => both.cmd("PERSIST").arg(&key).ignore(),
        };
        Ok(both.exec_async(connection).await?)
    }

    /// Lets a stage go on; whether it was paused.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn resume(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<bool, Error> {
        Ok(connection.del(self.keys().paused(partition, stage)).await?)
    }

    /// How many partitions Redis has streams of, without a gap, and one at least: for a pause while Postgres, which knows
    /// how many there are, is away.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn partitions_seen(&self, connection: &mut MultiplexedConnection) -> Result<u16, Error> {
        for partition in 0..u16::MAX {
            let keys = StageName::ALL.map(|stage| self.keys().stream(partition, stage));
            let found: u64 = redis::cmd("EXISTS").arg(&keys).query_async(connection).await?;
            if found == 0 {
                return Ok(partition.max(1));
            }
        }
        Ok(u16::MAX)
    }

    /// Whether a stage is paused: asked before every read.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn is_paused(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<bool, Error> {
        Ok(connection.exists(self.keys().paused(partition, stage)).await?)
    }

    /// The pause of a stage, if there is one.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn pause_of(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<Option<Pause>, Error> {
        let key = self.keys().paused(partition, stage);
        let (why, since): (Option<String>, Option<String>) =
            redis::cmd("HMGET").arg(&key).arg("why").arg("since").query_async(connection).await?;
        let left: i64 = connection.pttl(&key).await?;
        let Some(since) = since else { return Ok(None) };
        let seconds_left = u64::try_from(left).ok().map(|ms| ms.div_ceil(1_000));
        Ok(Some(Pause { stage, why: why.unwrap_or_default(), since, seconds_left }))
    }
}
