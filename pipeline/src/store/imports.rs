//! The record of imported files.

use rustc_hash::FxHashMap;
use sqlx::PgPool;

use super::Error;
use crate::domain::{Cents, RefundStatus};

/// What an imported file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportKind {
    /// Orders, several rows each.
    Orders,
    /// Requests for refunds, one row each.
    Refunds,
}

impl ImportKind {
    /// The word in `imports.kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Refunds => "refunds",
        }
    }
}

/// Records that a file is being read; the import's number.
///
/// # Errors
/// As any statement.
pub async fn start_import(pool: &PgPool, kind: ImportKind, file_name: &str) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO imports (kind, file_name) VALUES ($1, $2) RETURNING id",
        kind.as_str(),
        file_name
    )
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
    /// Orders published, or refunds.
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
             conflicts = $9, position = NULL, length = NULL, noted_at = now(),
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

/// Writes down how far an import is within its status, and that its importer lives.
///
/// # Errors
/// As any statement.
pub async fn note_import_progress(pool: &PgPool, id: i64, position: i64, length: Option<i64>) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE imports SET position = $2, length = $3, noted_at = now() WHERE id = $1 AND finished_at IS NULL",
        id,
        position,
        length,
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

/// What Postgres knows of a refund that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundStanding {
    /// The import that brought it first.
    pub import_id: Option<i64>,
    /// Fingerprint of the request.
    pub request_hash: i64,
    /// Where it stands.
    pub status: RefundStatus,
    /// Why it was refused or failed.
    pub refusal: Option<String>,
    /// Granted; unknown while it waits, and what was asked for where it is refused.
    pub amount: Option<Cents>,
}

/// Those of the keys that Postgres knows.
///
/// # Errors
/// As any statement.
pub async fn refund_standings(pool: &PgPool, keys: &[String]) -> Result<FxHashMap<String, RefundStanding>, Error> {
    let rows = sqlx::query!(
        "SELECT key, import_id, request_hash, status, refusal, amount_cents FROM refunds WHERE key = ANY ($1)",
        keys
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let standing = RefundStanding {
                import_id: row.import_id,
                request_hash: row.request_hash,
                status: row.status.parse()?,
                refusal: row.refusal,
                amount: row.amount_cents.map(Cents::new),
            };
            Ok((row.key, standing))
        })
        .collect()
}
