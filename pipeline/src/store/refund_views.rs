//! Looking at refunds.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::Error;
use crate::domain::{Cents, RefundStatus};

/// A refund as whoever asked for it sees it.
#[derive(Debug, Clone, Serialize)]
pub struct RefundView {
    /// The key by which it was asked for.
    pub key: String,
    /// Of which order; there may be none of this code.
    pub order_code: String,
    /// How much; null while a request for the whole rest waits for its order.
    pub amount: Option<Cents>,
    /// In what: the currency of its order.
    pub currency: Option<String>,
    /// Where it stands.
    pub status: String,
    /// Why it was refused or failed.
    pub refusal: Option<String>,
    /// Why it was asked for.
    pub reason: Option<String>,
    /// Whether the pieces were to come back.
    pub restock: bool,
    /// Whether it brought them back.
    pub restocked: bool,
    /// Whether nobody asked for it: the money came when the order had failed.
    pub automatic: bool,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it came to its end.
    pub settled_at: Option<DateTime<Utc>>,
    /// Fingerprint of the request.
    #[serde(skip)]
    pub request_hash: i64,
}

/// The refund with this key.
///
/// # Errors
/// As any statement.
pub async fn find_refund(pool: &PgPool, key: &str) -> Result<Option<RefundView>, Error> {
    let row = sqlx::query!(
        "SELECT key, order_code, coalesce(amount_cents, asked_cents) AS amount_cents,
                order_currency((SELECT id FROM orders WHERE code = order_code)) AS currency, status, refusal, reason, restock,
                restocked, automatic, created_at, settled_at, request_hash
         FROM refunds WHERE key = $1",
        key
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| RefundView {
        key: row.key,
        order_code: row.order_code,
        amount: row.amount_cents.map(Cents::new),
        currency: row.currency,
        status: row.status,
        refusal: row.refusal,
        reason: row.reason,
        restock: row.restock,
        restocked: row.restocked,
        automatic: row.automatic,
        created_at: row.created_at,
        settled_at: row.settled_at,
        request_hash: row.request_hash,
    }))
}

/// Which refunds to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct RefundFilter<'a> {
    /// Only those of this order.
    pub order_code: Option<&'a str>,
    /// Only those that stand here.
    pub status: Option<RefundStatus>,
    /// Only those that this import brought.
    pub import_id: Option<i64>,
    /// Only those that stand after this one in the list: time and key of the last one of the page before.
    pub after: Option<(DateTime<Utc>, &'a str)>,
}

/// Refunds, newest first.
///
/// # Errors
/// As any statement.
pub async fn list_refunds(pool: &PgPool, filter: RefundFilter<'_>, limit: i64) -> Result<Vec<RefundView>, Error> {
    let refunds = sqlx::query!(
        "SELECT key, order_code, coalesce(amount_cents, asked_cents) AS amount_cents,
                order_currency((SELECT id FROM orders WHERE code = order_code)) AS currency, status, refusal, reason, restock,
                restocked, automatic, created_at, settled_at, request_hash
         FROM refunds
         WHERE ($1::text IS NULL OR order_code = $1) AND ($2::text IS NULL OR status = $2)
           AND ($3::timestamptz IS NULL OR (created_at <= $3 AND (created_at < $3 OR key > $4)))
           AND ($5::bigint IS NULL OR import_id = $5)
         ORDER BY created_at DESC, key LIMIT $6",
        filter.order_code,
        filter.status.map(RefundStatus::as_str),
        filter.after.map(|(at, _)| at),
        filter.after.map(|(_, key)| key),
        filter.import_id,
        limit,
    )
    .map(|row| RefundView {
        key: row.key,
        order_code: row.order_code,
        amount: row.amount_cents.map(Cents::new),
        currency: row.currency,
        status: row.status,
        refusal: row.refusal,
        reason: row.reason,
        restock: row.restock,
        restocked: row.restocked,
        automatic: row.automatic,
        created_at: row.created_at,
        settled_at: row.settled_at,
        request_hash: row.request_hash,
    })
    .fetch_all(pool)
    .await?;
    Ok(refunds)
}
