//! What gateways have been asked for, and still owe.

use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::Error;
use crate::domain::{Cents, OrderId};

/// A charge that a provider should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCharge {
    /// Our number for its order.
    pub order_id: OrderId,
    /// The order's code.
    pub code: String,
    /// How much.
    pub amount: Cents,
    /// The provider's id for it, as far as it is known.
    pub provider_id: Option<String>,
    /// Whether it took the money; else it has only promised an answer.
    pub is_approved: bool,
}

/// The newest charges that the provider of a gateway must know: up to `limit` that it approved, and up to `limit` that it
/// has promised to decide.
///
/// # Errors
/// As any statement.
pub async fn newest_charges(pool: &PgPool, gateway: &str, limit: i64) -> Result<Vec<StoredCharge>, Error> {
    let rows = sqlx::query!(
        r#"WITH approved AS (
             SELECT order_id, amount_cents, provider_id, true AS is_approved FROM payments
             WHERE gateway = $1 AND status IN ('approved', 'late') AND amount_cents > 0
             ORDER BY order_id DESC LIMIT $2
         ), promised AS (
             SELECT order_id, amount_cents, provider_id, false FROM payments
             WHERE gateway = $1 AND status IN ('pending', 'expired') AND provider_id IS NOT NULL
             ORDER BY order_id DESC LIMIT $2
         )
         SELECT o.id, o.code, p.amount_cents AS "amount_cents!", p.provider_id, p.is_approved AS "is_approved!"
         FROM (TABLE approved UNION ALL TABLE promised) p JOIN orders o ON o.id = p.order_id
         ORDER BY o.id DESC"#,
        gateway,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let stored = rows.into_iter().map(|row| StoredCharge {
        order_id: OrderId(row.id),
        code: row.code,
        amount: Cents::new(row.amount_cents),
        provider_id: row.provider_id,
        is_approved: row.is_approved,
    });
    Ok(stored.collect())
}

/// Whether a gateway still has to answer for a payment or a refund.
///
/// # Errors
/// As any statement.
pub async fn owes_answers(pool: &PgPool, gateway: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM payments WHERE due_at IS NOT NULL AND gateway = $1)
               OR EXISTS (SELECT FROM refunds WHERE due_at IS NOT NULL AND gateway = $1) AS "owes!""#,
        gateway
    )
    .fetch_one(pool)
    .await?)
}

/// Whether a gateway has ever confirmed a charge.
///
/// # Errors
/// As any statement.
pub async fn has_confirmed(connection: &mut PgConnection, gateway: &str) -> Result<bool, Error> {
    // One that was never asked needs no search; of one of an earlier version no term says whether it was.
    Ok(sqlx::query_scalar!(
        r#"SELECT (NOT EXISTS (SELECT FROM gateway_terms WHERE gateway = $1)
                   OR EXISTS (SELECT FROM gateway_terms WHERE gateway = $1 AND took_payments))
              AND EXISTS (SELECT FROM payments WHERE gateway = $1 AND provider_id IS NOT NULL) AS "has!""#,
        gateway
    )
    .fetch_one(connection)
    .await?)
}

/// The names of the gateways that ever had a payment or a refund.
///
/// # Errors
/// As any statement.
pub async fn used_gateways(pool: &PgPool) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        "SELECT name FROM gateways
         WHERE EXISTS (SELECT FROM payments WHERE gateway = name) OR EXISTS (SELECT FROM refunds WHERE gateway = name)
         ORDER BY name"
    )
    .fetch_all(pool)
    .await?)
}

/// How many payments of a gateway there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayLoad {
    /// Its name.
    pub gateway: String,
    /// All of them.
    pub payments: i64,
    /// Those that wait for its answer.
    pub pending: i64,
}

/// How many payments each gateway has: reads all of them.
///
/// # Errors
/// As any statement.
pub async fn gateway_loads(pool: &PgPool) -> Result<Vec<GatewayLoad>, Error> {
    Ok(sqlx::query_as!(
        GatewayLoad,
        r#"SELECT gateway, count(*) AS "payments!", count(*) FILTER (WHERE status = 'pending') AS "pending!"
           FROM payments GROUP BY gateway ORDER BY gateway"#
    )
    .fetch_all(pool)
    .await?)
}
