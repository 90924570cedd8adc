//! Reading the board.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use redis::aio::MultiplexedConnection;

use crate::{
    domain::FailureReason,
    store::DayFigures,
    streams::Error,
    topology::{Keyspace, Leaderboard, failed_field},
};

/// How the names of hashes begin; all other tables are sorted sets.
const KPI: &str = "kpi:";

/// KPIs and leaderboards as the relay has left them in Redis.
#[derive(Debug, Clone)]
pub struct Board {
    keys: Keyspace,
}

/// Everything on the board at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoardSnapshot {
    /// The last event that it shows.
    pub cursor: i64,
    /// Hashes and sorted sets by the part of their key after the board's prefix; fields and members with their values.
    pub values: BTreeMap<String, BTreeMap<String, i64>>,
    /// When each of them ends, in Unix seconds; those that stay have no entry.
    pub ends: BTreeMap<String, i64>,
}

impl Board {
    /// The board under these keys.
    pub fn new(keys: Keyspace) -> Self {
        Self { keys }
    }

    /// The number of the last event that the board shows; `None` when there is no cursor.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn cursor(&self, redis: &mut MultiplexedConnection) -> Result<Option<i64>, Error> {
        Ok(redis::cmd("GET").arg(self.keys.cursor()).query_async(redis).await?)
    }

    /// What the event at the cursor was when it was applied.
    pub(super) async fn cursor_event(&self, redis: &mut MultiplexedConnection) -> Result<Option<String>, Error> {
        Ok(redis::cmd("GET").arg(self.keys.cursor_event()).query_async(redis).await?)
    }

    /// What the board says of its layout.
    pub(super) async fn layout(&self, redis: &mut MultiplexedConnection) -> Result<Option<String>, Error> {
        Ok(redis::cmd("GET").arg(self.keys.layout()).query_async(redis).await?)
    }

    /// The figures of one UTC day.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn day(&self, redis: &mut MultiplexedConnection, day: NaiveDate) -> Result<DayFigures, Error> {
        Ok(figures(&redis::cmd("HGETALL").arg(self.keys.kpi(day)).query_async(redis).await?))
    }

    /// The figures of these UTC days, in their order, read at one moment.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn days(&self, redis: &mut MultiplexedConnection, days: &[NaiveDate]) -> Result<Vec<DayFigures>, Error> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for day in days {
            pipeline.cmd("HGETALL").arg(self.keys.kpi(*day));
        }
        let tables: Vec<BTreeMap<String, i64>> = pipeline.query_async(redis).await?;
        Ok(tables.iter().map(figures).collect())
    }

    /// The first `top` of a leaderboard, best first: id and score.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn top(
        &self,
        redis: &mut MultiplexedConnection,
        board: Leaderboard,
        day: Option<NaiveDate>,
        top: u32,
    ) -> Result<Vec<(i64, i64)>, Error> {
        let key = self.keys.leaderboard(board, day);
        let scores: Vec<(i64, f64)> = redis::cmd("ZREVRANGE")
            .arg(key)
            .arg(0)
            .arg(i64::from(top) - 1)
            .arg("WITHSCORES")
            .query_async(redis)
            .await?;
        Ok(scores.into_iter().map(|(member, score)| (member, exact(score))).collect())
    }

    /// Everything on the board, read in one transaction.
    ///
    /// # Errors
    /// When Redis cannot be reached, or a key is neither hash nor sorted set.
    pub async fn snapshot(&self, redis: &mut MultiplexedConnection) -> Result<BoardSnapshot, Error> {
        let mut names = self.table_names(redis).await?;
        loop {
            let snapshot = self.read_tables(redis, &names).await?;
            // A table that the relay created between our look and our read would be missing under its cursor.
            let now = self.table_names(redis).await?;
            if now.iter().all(|name| names.contains(name)) {
                return Ok(snapshot);
            }
            names = now;
        }
    }

    async fn read_tables(&self, redis: &mut MultiplexedConnection, names: &[String]) -> Result<BoardSnapshot, Error> {
        let prefix = self.keys.board_prefix();
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("GET").arg(self.keys.cursor());
        for name in names {
            let key = format!("{prefix}{name}");
            match name.starts_with(KPI) {
                true => pipeline.cmd("HGETALL").arg(&key),
                false => pipeline.cmd("ZRANGE").arg(&key).arg(0).arg(-1).arg("WITHSCORES"),
            };
            pipeline.cmd("EXPIRETIME").arg(&key);
        }
        let mut replies: Vec<redis::Value> = pipeline.query_async(redis).await?;
        let tables = replies.split_off(1);
        let cursor: Option<i64> = redis::from_redis_value(replies.swap_remove(0)).map_err(redis::RedisError::from)?;
        let mut snapshot = BoardSnapshot { cursor: cursor.unwrap_or(0), ..BoardSnapshot::default() };
        let mut replies = tables.into_iter();
        for name in names {
            let (Some(table), Some(end)) = (replies.next(), replies.next()) else { break };
            let table = match name.starts_with(KPI) {
                true => redis::from_redis_value(table).map_err(redis::RedisError::from)?,
                false => scores(table)?,
            };
            // Negative: no end, or no such key any more.
            let end: i64 = redis::from_redis_value(end).map_err(redis::RedisError::from)?;
            if end >= 0 {
                snapshot.ends.insert(name.clone(), end);
            }
            snapshot.values.insert(name.clone(), table);
        }
        Ok(snapshot)
    }

    /// The tables that there are, by the part of their key after the board's prefix, sorted.
    async fn table_names(&self, redis: &mut MultiplexedConnection) -> Result<Vec<String>, Error> {
        let prefix = self.keys.board_prefix();
        let keys = self.all_keys(redis).await?;
        let names = keys.iter().filter_map(|key| key.strip_prefix(&prefix));
        Ok(names.filter(|name| name.starts_with(KPI) || name.starts_with("leaderboard:")).map(str::to_owned).collect())
    }

    /// Deletes everything that can be rebuilt; how many keys. The events stream stays with the groups of its readers,
    /// who will see the same numbers again.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn clear(&self, redis: &mut MultiplexedConnection) -> Result<usize, Error> {
        let cursor = self.keys.cursor();
        let mut keys = self.all_keys(redis).await?;
        keys.retain(|key| *key != self.keys.events() && *key != cursor);
        // The cursor goes last: an interrupted deletion is begun again.
        keys.push(cursor);
        for chunk in keys.chunks(500) {
            redis::cmd("UNLINK").arg(chunk).exec_async(redis).await?;
        }
        Ok(keys.len() - 1)
    }

    async fn all_keys(&self, redis: &mut MultiplexedConnection) -> Result<Vec<String>, Error> {
        let pattern = format!("{}*", self.keys.board_prefix());
        let mut keys = Vec::new();
        let mut cursor: u64 = 0;
        loop {
            let (next, page): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(1_000)
                .query_async(redis)
                .await?;
            keys.extend(page);
            if next == 0 {
                keys.sort();
                keys.dedup();
                return Ok(keys);
            }
            cursor = next;
        }
    }
}

/// What a sorted set has.
fn scores(table: redis::Value) -> Result<BTreeMap<String, i64>, redis::RedisError> {
    let scores: BTreeMap<String, f64> = redis::from_redis_value(table)?;
    Ok(scores.into_iter().map(|(member, score)| (member, exact(score))).collect())
}

/// The figures in the hash of a day; absent fields are 0.
fn figures(values: &BTreeMap<String, i64>) -> DayFigures {
    let value = |field: &str| values.get(field).copied().unwrap_or(0);
    let failed = |reason: &FailureReason| (*reason, value(failed_field(*reason)));
    DayFigures {
        completed: value("completed"),
        failed: value("failed"),
        failed_by: FailureReason::ALL.iter().map(failed).filter(|(_, orders)| *orders != 0).collect(),
        revenue_cents: value("revenue_cents"),
        refunded_cents: value("refunded_cents"),
        paid_back_cents: value("paid_back_cents"),
    }
}

/// Scores are whole numbers below 2^53, which a double holds exactly; see [`crate::domain::TOTAL_CENTS_MAX`].
#[expect(clippy::cast_possible_truncation, reason = "whole numbers below 2^53")]
fn exact(score: f64) -> i64 {
    score as i64
}
