//! The record of imported files.

use rustc_hash::FxHashMap;
use sqlx::PgPool;

use super::Error;

/// Records that a file is being read; the import's number.
///
/// # Errors
/// As any statement.
pub async fn start_import(pool: &PgPool, file_name: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!("INSERT INTO imports (file_name) VALUES ($1) RETURNING id", file_name)
        .fetch_one(pool)
        .await?)
}

/// What is known of an import at some point of its way.
#[derive(Debug, Clone, Default)]
pub struct ImportOutcome {
    /// SHA-256 of the file in hex, once it is read to its end.
    pub sha256: Option<String>,
    /// Data rows.
    pub rows: i64,
    /// Data rows rejected with their order.
    pub rejected: i64,
    /// Orders rejected.
    pub rejected_orders: i64,
    /// Orders published.
    pub orders: i64,
    /// Of those, known before with the same content; `None` while nobody waited to see.
    pub duplicates: Option<i64>,
    /// Of those, known before with other content.
    pub conflicts: Option<i64>,
}

/// Writes down where an import stands. Final statuses (`done`, `published`, `interrupted`, `failed`) set its end.
///
/// # Errors
/// As any statement.
pub async fn note_import_status(pool: &PgPool, id: i64, status: &str, outcome: &ImportOutcome) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE imports
         SET status = $2, sha256 = $3, rows = $4, rejected = $5, rejected_orders = $6, orders = $7, duplicates = $8,
             conflicts = $9,
             finished_at = CASE WHEN $2 IN ('done', 'published', 'interrupted', 'failed') THEN now() END
         WHERE id = $1",
        id,
        status,
        outcome.sha256.as_deref(),
        outcome.rows,
        outcome.rejected,
        outcome.rejected_orders,
        outcome.orders,
        outcome.duplicates,
        outcome.conflicts,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// What Postgres knows of an order that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownOrder {
    /// The import that brought it first.
    pub import_id: Option<i64>,
    /// What it contains.
    pub content_hash: i64,
    /// Whether it has reached its end.
    pub settled: bool,
}

/// Those of the codes that Postgres knows.
///
/// # Errors
/// As any statement.
pub async fn known_orders(pool: &PgPool, codes: &[String]) -> Result<FxHashMap<String, KnownOrder>, Error> {
    let rows = sqlx::query!(
        r#"SELECT code, import_id, content_hash, settled_at IS NOT NULL AS "settled!"
           FROM orders WHERE code = ANY ($1)"#,
        codes
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let order = KnownOrder { import_id: row.import_id, content_hash: row.content_hash, settled: row.settled };
            (row.code, order)
        })
        .collect())
}
