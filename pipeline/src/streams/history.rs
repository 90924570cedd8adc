//! How the pipeline stood over the last day, kept in Redis by one process at a time.

use std::{sync::LazyLock, time::Duration};

use redis::{Script, Value, aio::MultiplexedConnection};

use super::{Error, Redis, reply};
use crate::{
    message::{BODY, EntryId},
    topology::HistoryStep,
};

static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lease.lua")));

impl Redis {
    /// Takes the lease of the one process that writes history and evaluates alerts, or renews it; whether `who` has it.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn lead_monitoring(
        &self,
        connection: &mut MultiplexedConnection,
        who: &str,
        length: Duration,
    ) -> Result<bool, Error> {
        let mut lease = LEASE.key(self.keys().monitor_leader());
        Ok(lease.arg(who).arg(length.as_millis().to_string()).invoke_async(connection).await?)
    }

    /// Adds a point to a history; `false` if there is one of this time or of a later one. Its time is its id, so two
    /// processes that both believe to lead add one point.
    ///
    /// # Errors
    /// When Redis cannot be reached, or is full.
    pub async fn add_history(
        &self,
        connection: &mut MultiplexedConnection,
        step: HistoryStep,
        at_ms: u64,
        point: &str,
    ) -> Result<bool, Error> {
        let mut add = redis::cmd("XADD");
        add.arg(self.keys().history(step)).arg("MAXLEN").arg("~").arg(step.points_kept());
        add.arg(format!("{at_ms}-0")).arg(BODY).arg(point);
        match add.query_async::<Value>(connection).await {
            Ok(_) => Ok(true),
            Err(error) if error.detail().is_some_and(|detail| detail.contains("equal or smaller")) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The points of a history from a time on, oldest first: their times in Unix milliseconds, and what was written.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn history(
        &self,
        connection: &mut MultiplexedConnection,
        step: HistoryStep,
        from_ms: u64,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut range = redis::cmd("XRANGE");
        let from = EntryId { ms: from_ms, seq: 0 };
        range.arg(self.keys().history(step)).arg(from.to_string()).arg("+").arg("COUNT").arg(2 * step.points_kept());
        let entries = reply::entries("XRANGE", range.query_async(connection).await?)?;
        Ok(entries.into_iter().filter_map(|entry| Some((entry.id.ms, entry.field(BODY)?.to_vec()))).collect())
    }
}
