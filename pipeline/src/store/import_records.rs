//! The record of imported files: who imports, how far that is, and what became of imports whose process vanished.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{Error, ImportKind};

/// An import that is to begin.
#[derive(Debug, Clone, Copy)]
pub struct NewImport<'a> {
    /// What the file holds.
    pub kind: ImportKind,
    /// Its name, for people.
    pub file_name: &'a str,
    /// The process that imports it: a name that no other process has.
    pub holder: &'a str,
    /// The name under which an upload is kept; `None` for a file of the command line.
    pub upload: Option<&'a str>,
    /// Whether orders whose rows name several customers are rejected.
    pub strict: bool,
}

/// Records that a file is being read; the import's number.
///
/// # Errors
/// As any statement.
pub async fn start_import(pool: &PgPool, import: NewImport<'_>) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO imports (kind, file_name, holder, upload, strict, noted_at) VALUES ($1, $2, $3, $4, $5, now())
         RETURNING id",
        import.kind.as_str(),
        import.file_name,
        import.holder,
        import.upload,
        import.strict
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
    /// Whether somebody may go on with it: it is interrupted, and its file is kept.
    pub is_abandoned: bool,
}

/// Writes down where an import of this holder stands. Final statuses (`done`, `published`, `interrupted`, `failed`) set
/// its end. Changes nothing where another process has taken it over.
///
/// # Errors
/// As any statement.
pub async fn note_import_status(
    pool: &PgPool,
    id: i64,
    holder: &str,
    status: &str,
    outcome: &ImportOutcome,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE imports
         SET status = $2, sha256 = $3, rows = $4, rejected = $5, rejected_orders = $6, orders = $7, duplicates = $8,
             conflicts = $9, position = NULL, length = NULL, noted_at = now(),
             finished_at = CASE WHEN $2 IN ('done', 'published', 'interrupted', 'failed') THEN now() END,
             abandoned_as = CASE WHEN $10 AND $2 = 'interrupted' THEN coalesce(abandoned_as, status) END
         WHERE id = $1 AND holder = $11",
        id,
        status,
        outcome.sha256.as_deref(),
        outcome.rows,
        outcome.rejected,
        outcome.rejected_orders,
        outcome.orders,
        outcome.duplicates,
        outcome.conflicts,
        outcome.is_abandoned,
        holder,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Writes down how far an import is within its status, and that its importer lives; one that was given up for vanished
/// goes on. `false` where the import is not this holder's any more, or has ended.
///
/// # Errors
/// As any statement.
pub async fn note_import_progress(
    pool: &PgPool,
    id: i64,
    holder: &str,
    position: i64,
    length: Option<i64>,
) -> Result<bool, Error> {
    let noted = sqlx::query!(
        "UPDATE imports
         SET position = $3, length = $4, noted_at = now(), status = coalesce(abandoned_as, status), abandoned_as = NULL,
             finished_at = NULL
         WHERE id = $1 AND holder = $2 AND (finished_at IS NULL OR abandoned_as IS NOT NULL)",
        id,
        holder,
        position,
        length,
    )
    .execute(pool)
    .await?;
    Ok(noted.rows_affected() > 0)
}

/// An import that has not ended, with its importer's last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenImport {
    /// Its number.
    pub id: i64,
    /// When the importer last said anything; an importer that lives does every few seconds.
    pub noted_at: Option<DateTime<Utc>>,
}

/// All imports that have not ended.
///
/// # Errors
/// As any statement.
pub async fn open_imports(pool: &PgPool) -> Result<Vec<OpenImport>, Error> {
    let imports = sqlx::query_as!(OpenImport, "SELECT id, noted_at FROM imports WHERE finished_at IS NULL ORDER BY id");
    Ok(imports.fetch_all(pool).await?)
}

/// Ends an import whose importer has said nothing since `noted_at`; `false` where it has.
///
/// # Errors
/// As any statement.
pub async fn abandon_import(pool: &PgPool, import: &OpenImport) -> Result<bool, Error> {
    let ended = sqlx::query!(
        "UPDATE imports
         SET abandoned_as = status, status = 'interrupted', finished_at = now(), position = NULL, length = NULL
         WHERE id = $1 AND finished_at IS NULL AND noted_at IS NOT DISTINCT FROM $2",
        import.id,
        import.noted_at,
    )
    .execute(pool)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// An upload that is kept somewhere.
#[derive(Debug, Clone)]
pub struct KeptUpload {
    /// The import's number.
    pub id: i64,
    /// The name under which the file is kept.
    pub upload: String,
    /// The file's name, for people.
    pub file_name: String,
    /// See [`NewImport::strict`].
    pub strict: bool,
    /// Nothing more is done with it.
    pub is_over: bool,
}

/// The imports of these uploads.
///
/// # Errors
/// As any statement.
pub async fn kept_uploads(pool: &PgPool, uploads: &[String]) -> Result<Vec<KeptUpload>, Error> {
    let uploads = sqlx::query_as!(
        KeptUpload,
        r#"SELECT id, upload AS "upload!", file_name, strict,
                  finished_at IS NOT NULL AND abandoned_as IS NULL AS "is_over!"
           FROM imports WHERE upload = ANY ($1) ORDER BY id"#,
        uploads
    );
    Ok(uploads.fetch_all(pool).await?)
}

/// Takes over an import from a process that left it, or has said nothing for ten seconds, to begin it anew; `false`
/// where it has not.
///
/// # Errors
/// As any statement.
pub async fn take_import(pool: &PgPool, id: i64, holder: &str) -> Result<bool, Error> {
    let taken = sqlx::query!(
        "UPDATE imports
         SET holder = $2, status = 'reading', abandoned_as = NULL, finished_at = NULL, noted_at = now(),
             position = NULL, length = NULL
         WHERE id = $1
           AND (abandoned_as IS NOT NULL
                OR (finished_at IS NULL AND coalesce(noted_at, started_at) < now() - interval '10 s'))",
        id,
        holder,
    )
    .execute(pool)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Imports that nobody goes on with.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct AbandonedImports {
    /// How many there are.
    pub count: i64,
    /// The newest one; 0 without any.
    pub newest: i64,
    /// Its file.
    pub file: String,
}

/// Imports of the last day that were abandoned, unless the same file was brought to its end since.
///
/// # Errors
/// As any statement.
pub async fn abandoned_imports(pool: &PgPool) -> Result<AbandonedImports, Error> {
    let newest = sqlx::query!(
        r#"SELECT id, file_name, count(*) OVER () AS "count!"
           FROM imports AS left_behind
           WHERE abandoned_as IS NOT NULL AND finished_at > now() - interval '1 day'
             AND NOT EXISTS (
                 SELECT FROM imports AS later
                 WHERE later.id > left_behind.id AND later.kind = left_behind.kind
                   AND later.status IN ('done', 'published')
                   AND coalesce(later.sha256 = left_behind.sha256, later.file_name = left_behind.file_name))
           ORDER BY id DESC LIMIT 1"#
    )
    .fetch_optional(pool)
    .await?;
    Ok(newest.map_or_else(AbandonedImports::default, |row| AbandonedImports {
        count: row.count,
        newest: row.id,
        file: row.file_name,
    }))
}
