//! What imported files hold, and what Postgres knows of it.

use rustc_hash::FxHashMap;
use sqlx::{PgConnection, PgPool};

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

/// Whether an order or refund that this import brought has not come to its end.
///
/// # Errors
/// As any statement.
pub async fn is_import_open(connection: &mut PgConnection, import_id: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        // Few payments are open, and all orders are many: those are looked at when nothing else is left.
        r#"SELECT EXISTS (SELECT FROM payments p JOIN orders o ON o.id = p.order_id
                          WHERE p.due_at IS NOT NULL AND p.status = 'pending' AND o.import_id = $1)
               OR EXISTS (SELECT FROM orders
                          WHERE import_id = $1 AND status IN ('reserved', 'paying')
                            AND created_at >= (SELECT started_at FROM imports WHERE id = $1))
               OR EXISTS (SELECT FROM refunds WHERE import_id = $1 AND due_at IS NOT NULL) AS "open!""#,
        import_id
    )
    .fetch_one(connection)
    .await?)
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
