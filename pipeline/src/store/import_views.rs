//! Looking at imports.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::Error;

/// An import as it was noted last.
#[derive(Debug, Clone, Serialize)]
pub struct ImportView {
    /// Its number.
    pub id: i64,
    /// What it holds: `orders` or `refunds`. Of a file of refunds, what is said of orders below is said of refunds.
    pub kind: String,
    /// The file's name.
    pub file: String,
    /// SHA-256 of the file, once it is read.
    pub sha256: Option<String>,
    /// Where it stands.
    pub status: String,
    /// Data rows.
    pub rows: i64,
    /// Of those, rejected with their order.
    pub rejected_rows: i64,
    /// Orders rejected.
    pub rejected_orders: i64,
    /// Orders published.
    pub published_orders: i64,
    /// Of those, known before with the same content; null until somebody looked.
    pub duplicate_orders: Option<i64>,
    /// Of those, known before with other content.
    pub conflicting_orders: Option<i64>,
    /// How far it is within its status, as its importer noted last: bytes of the file while it is read, then orders.
    pub position: Option<i64>,
    /// Where the position ends.
    pub length: Option<i64>,
    /// When the importer last said anything.
    pub noted_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Whether it is interrupted because its process vanished, or ended and left an upload behind.
    pub abandoned: bool,
    /// Whether it is an upload, which is kept until it is imported: a process that has it goes on.
    pub uploaded: bool,
}

/// A page of imports, newest first: those with a number below `before`, or those with exactly this one.
///
/// # Errors
/// As any statement.
pub async fn list_imports(
    pool: &PgPool,
    id: Option<i64>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<ImportView>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, kind, file_name, sha256, status, rows, rejected, rejected_orders, orders, duplicates, conflicts,
                  position, length, noted_at, started_at, finished_at, abandoned_as IS NOT NULL AS "abandoned!",
                  upload IS NOT NULL AS "uploaded!"
           FROM imports
           WHERE ($1::bigint IS NULL OR id = $1) AND id < coalesce($2, 9223372036854775807)
           ORDER BY id DESC LIMIT $3"#,
        id,
        before,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ImportView {
            id: row.id,
            kind: row.kind,
            file: row.file_name,
            sha256: row.sha256,
            status: row.status,
            rows: row.rows,
            rejected_rows: row.rejected,
            rejected_orders: row.rejected_orders,
            published_orders: row.orders,
            duplicate_orders: row.duplicates,
            conflicting_orders: row.conflicts,
            position: row.position,
            length: row.length,
            noted_at: row.noted_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            abandoned: row.abandoned,
            uploaded: row.uploaded,
        })
        .collect())
}
