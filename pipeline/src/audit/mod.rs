//! The audit: proves from Postgres and Redis that the books balance.
//!
//! It is exact while the system runs. The board is read first; all SQL is then asked in one snapshot, which therefore
//! has every event that the board shows, and the board is compared with what follows from those. Only the streams
//! cannot be read at the same instant: an order without a message is looked for again before it is reported.

mod board;
mod open_orders;
mod report;

pub use report::{CheckResult, Figure, Report};

use crate::{
    relay::Board,
    store::{self, Store},
    streams::{self, Redis},
};

/// Why the audit could not be carried through. A difference is no error: it stands in the report.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Postgres could not be asked.
    #[error("Postgres cannot be asked")]
    Store(#[from] store::Error),
    /// Redis could not be asked.
    #[error("Redis cannot be asked")]
    Streams(#[from] streams::Error),
}

impl From<sqlx::Error> for AuditError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Runs every check. `store` should have [`WorkerSettings::Report`](store::WorkerSettings::Report): whole tables are
/// read. Nothing is changed, and nobody is held up.
///
/// # Errors
/// When Postgres or Redis cannot be reached, or the schema is missing.
pub async fn run(store: &Store, redis: &Redis) -> Result<Report, AuditError> {
    let partitions = store.partitions().await?;
    let mut connection = redis.connect().await?;
    let shown = Board::new(redis.keys().clone()).snapshot(&mut connection).await?;
    let now_ms = redis.now_ms(&mut connection).await?;

    let mut snapshot = store::begin_snapshot(store).await?;
    let mut checks = Vec::new();
    for check in store::sql_checks() {
        checks.push(CheckResult::from_sql(check, check.run(&mut snapshot).await?));
    }
    checks.extend(board::check(&mut snapshot, redis.keys(), &shown, now_ms).await?);
    let open = store::open_orders(&mut snapshot, None).await?;
    snapshot.rollback().await?;

    checks.push(open_orders::check(store, redis, &mut connection, partitions, open).await?);
    Ok(Report { checks })
}
