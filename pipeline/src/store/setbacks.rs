//! What is known of Redis' state where it outlives Redis.

use chrono::DateTime;
use sqlx::PgConnection;

use super::{Error, Reconciliation};

/// The advisory lock of the one that watches over Redis' state. Any constant does; this one spells "setba".
const WATCHER_LOCK: i64 = 0x73_65_74_62_61;

/// For how long a finding is news.
const NEWS_MINUTES: i32 = 15;

/// Most findings that are looked at for news.
const NEWS_MAX: i64 = 20;

/// Tries to take the lock of the one watcher; it is kept until this connection ends.
///
/// # Errors
/// As any statement.
pub async fn try_become_watcher(connection: &mut PgConnection) -> Result<bool, Error> {
    let lock = WATCHER_LOCK;
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "ours!""#, lock).fetch_one(connection).await?)
}

/// The greatest mark that Redis is known to have had, and when, in Unix milliseconds; `None` where none is known.
///
/// # Errors
/// As any statement.
pub async fn redis_mark(connection: &mut PgConnection, namespace: &str) -> Result<Option<(i64, i64)>, Error> {
    let row = sqlx::query!("SELECT mark, marked_at FROM redis_marks WHERE namespace = $1", namespace)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| (row.mark, row.marked_at.timestamp_millis())))
}

/// Keeps a mark with its time in Unix milliseconds, unless a greater one is known.
///
/// # Errors
/// As any statement.
pub async fn keep_redis_mark(
    connection: &mut PgConnection,
    namespace: &str,
    (mark, at_ms): (i64, i64),
) -> Result<(), Error> {
    let at = DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
    sqlx::query!(
        "INSERT INTO redis_marks (namespace, mark, marked_at) VALUES ($1, $2, $3)
         ON CONFLICT (namespace) DO UPDATE SET mark = excluded.mark, marked_at = excluded.marked_at
         WHERE redis_marks.mark < excluded.mark",
        namespace,
        mark,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Findings of the last minutes that somebody should hear of, newest first: a server that went back, deliveries that were
/// lost.
///
/// # Errors
/// As any statement.
pub async fn recent_setbacks(connection: &mut PgConnection) -> Result<Vec<Reconciliation>, Error> {
    Ok(sqlx::query_as!(
        Reconciliation,
        "SELECT started_at, finished_at, cause, to_payment, to_settlement, detail
         FROM (SELECT * FROM reconciliations ORDER BY id DESC LIMIT $1) latest
         WHERE cause IN ('redis_went_back', 'redis_emptied', 'postgres_restored', 'deliveries_lost')
           AND finished_at > clock_timestamp() - make_interval(mins => $2)
         ORDER BY id DESC",
        NEWS_MAX,
        NEWS_MINUTES,
    )
    .fetch_all(connection)
    .await?)
}
