//! What is owed: payments, refunds and callbacks that somebody has to look after, taken in hand with a lease.

use sqlx::PgConnection;

use super::Error;
use crate::{
    domain::{Cents, OrderCode, OrderId, RefundKey, RefundRequest},
    failpoint,
};

/// A payment whose turn it is to be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePayment {
    /// Whose.
    pub order_id: OrderId,
    /// The order's code: the reference at the gateway.
    pub code: String,
    /// How much.
    pub amount: Cents,
    /// Who was asked.
    pub gateway: String,
    /// The provider's id for the charge, once it has given one.
    pub provider_id: Option<String>,
    /// Whether the answer may still come in time.
    pub is_pending: bool,
    /// Whether it has taken too long.
    pub is_overdue: bool,
    /// For how long it has been overdue, in seconds.
    pub overdue_s: i64,
}

/// Takes up to `limit` payments that should be looked after now. They are due again after `lease_s` seconds, so that
/// whoever dies with them in hand leaves them to others.
///
/// # Errors
/// As any statement.
pub async fn claim_due_payments(
    connection: &mut PgConnection,
    limit: i64,
    lease_s: f64,
) -> Result<Vec<DuePayment>, Error> {
    let rows = sqlx::query!(
        r#"WITH due AS MATERIALIZED (
               SELECT order_id, attempt FROM payments WHERE due_at <= now()
               ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
           )
           UPDATE payments p SET due_at = now() + $2::float8 * interval '1 second', checks = p.checks + 1
           FROM due, orders o
           WHERE p.order_id = due.order_id AND p.attempt = due.attempt AND o.id = due.order_id
           RETURNING p.order_id, o.code, p.amount_cents, p.gateway, p.provider_id, p.status = 'pending' AS "is_pending!",
                     coalesce(p.expires_at <= now(), false) AS "is_overdue!",
                     coalesce(extract(epoch FROM now() - p.expires_at), 0)::bigint AS "overdue_s!""#,
        limit,
        lease_s,
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("claim_due_payments")?;
    Ok(rows
        .into_iter()
        .map(|row| DuePayment {
            order_id: OrderId(row.order_id),
            code: row.code,
            amount: Cents::new(row.amount_cents),
            gateway: row.gateway,
            provider_id: row.provider_id,
            is_pending: row.is_pending,
            is_overdue: row.is_overdue,
            overdue_s: row.overdue_s,
        })
        .collect())
}

/// A refund that waits for its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingRefund {
    /// What was asked for.
    pub request: RefundRequest,
    /// The import that brought it.
    pub import_id: Option<i64>,
    /// Whether it has waited long enough.
    pub is_overdue: bool,
}

/// Up to `limit` refunds that wait for their order, and should be looked at now. They are due again after `lease_s`
/// seconds.
///
/// # Errors
/// As any statement.
pub async fn claim_waiting_refunds(
    connection: &mut PgConnection,
    limit: i64,
    lease_s: f64,
) -> Result<Vec<WaitingRefund>, Error> {
    let rows = sqlx::query!(
        r#"WITH due AS MATERIALIZED (
               SELECT key FROM refunds WHERE due_at <= now() AND status = 'waiting'
               ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
           )
           UPDATE refunds r SET due_at = now() + $2::float8 * interval '1 second', checks = r.checks + 1
           FROM due WHERE r.key = due.key
           RETURNING r.key, r.order_code, r.asked_cents, r.reason, r.restock, r.import_id,
                     r.waits_until <= now() AS "is_overdue!""#,
        limit,
        lease_s,
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("claim_waiting_refunds")?;
    rows.into_iter()
        .map(|row| {
            let request = RefundRequest {
                key: RefundKey::known(row.key.clone())
                    .map_err(|_| Error::Unreadable { what: "a refund key", value: row.key })?,
                order_code: OrderCode::known(row.order_code.clone())
                    .map_err(|_| Error::Unreadable { what: "an order code", value: row.order_code })?,
                amount: row.asked_cents.map(Cents::new),
                reason: row.reason,
                restock: row.restock,
            };
            Ok(WaitingRefund { request, import_id: row.import_id, is_overdue: row.is_overdue })
        })
        .collect()
}

/// A refund that is granted, and whose money is not back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRefund {
    /// Its key.
    pub key: String,
    /// What stands before its key in its reference at the gateway.
    pub reference_prefix: String,
    /// The order's code: the reference of the charge.
    pub order_code: String,
    /// The provider's id of the charge, if it is known.
    pub charge_id: Option<String>,
    /// The provider's id of the refund, once it has given one.
    pub provider_id: Option<String>,
    /// How much.
    pub amount: Cents,
    /// Who took the payment.
    pub gateway: String,
}

/// The granted refunds with these keys whose money is not back; others are absent.
///
/// # Errors
/// As any statement.
pub async fn pending_refunds(connection: &mut PgConnection, keys: &[&str]) -> Result<Vec<PendingRefund>, Error> {
    let refunds = sqlx::query!(
        r#"SELECT r.key, r.reference_prefix, r.order_code, p.provider_id AS charge_id, r.provider_id,
                  r.amount_cents AS "amount_cents!", r.gateway AS "gateway!"
           FROM refunds r JOIN payments p ON p.order_id = r.order_id AND p.attempt = 1
           WHERE r.key = ANY ($1) AND r.status = 'pending'"#,
        keys as &[&str]
    )
    .map(|row| PendingRefund {
        key: row.key,
        reference_prefix: row.reference_prefix,
        order_code: row.order_code,
        charge_id: row.charge_id,
        provider_id: row.provider_id,
        amount: Cents::new(row.amount_cents),
        gateway: row.gateway,
    })
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("pending_refunds")?;
    Ok(refunds)
}

/// Takes up to `limit` granted refunds that should be looked after now. They are due again after `lease_s` seconds.
///
/// # Errors
/// As any statement.
pub async fn claim_due_refunds(
    connection: &mut PgConnection,
    limit: i64,
    lease_s: f64,
) -> Result<Vec<PendingRefund>, Error> {
    let rows = sqlx::query!(
        r#"WITH due AS MATERIALIZED (
               SELECT key FROM refunds WHERE due_at <= now() AND status = 'pending'
               ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
           )
           UPDATE refunds r SET due_at = now() + $2::float8 * interval '1 second', checks = r.checks + 1
           FROM due, payments p
           WHERE r.key = due.key AND p.order_id = r.order_id AND p.attempt = 1
           RETURNING r.key, r.reference_prefix, r.order_code, p.provider_id AS charge_id, r.provider_id,
                     r.amount_cents AS "amount_cents!", r.gateway AS "gateway!""#,
        limit,
        lease_s,
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("claim_due_refunds")?;
    Ok(rows
        .into_iter()
        .map(|row| PendingRefund {
            key: row.key,
            reference_prefix: row.reference_prefix,
            order_code: row.order_code,
            charge_id: row.charge_id,
            provider_id: row.provider_id,
            amount: Cents::new(row.amount_cents),
            gateway: row.gateway,
        })
        .collect())
}

/// Whether somebody owes an answer or a look: a provider for a payment or refund, the collector for a callback, an order
/// that has not settled for a refund.
///
/// # Errors
/// As any statement.
pub async fn is_money_owed(connection: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM payments WHERE due_at IS NOT NULL AND status = 'pending')
               OR EXISTS (SELECT FROM refunds WHERE due_at IS NOT NULL)
               OR EXISTS (SELECT FROM payment_callbacks WHERE outcome = 'waiting' AND look_at <= now()) AS "owed!""#
    )
    .fetch_one(connection)
    .await?)
}
