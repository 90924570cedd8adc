//! Bringing orders to their end.

use chrono::{DateTime, Utc};
use rustc_hash::FxHashMap;
use sqlx::PgConnection;

use super::Error;
use crate::{
    domain::{Cents, FailureReason, OrderId, OrderStatus, PaymentStatus},
    failpoint,
};

/// An order that a settlement message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettleableOrder {
    /// Its code.
    pub code: String,
    /// Where it stands.
    pub status: OrderStatus,
    /// What it costs.
    pub total: Cents,
    /// When it entered the stream.
    pub received_at: DateTime<Utc>,
    /// The answer of its last payment attempt, if it has one.
    pub payment: Option<PaymentStatus>,
}

/// Locks the orders in id order; unknown ids are absent.
///
/// # Errors
/// As any statement.
pub async fn lock_orders_in_id_order(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<FxHashMap<OrderId, SettleableOrder>, Error> {
    let rows = sqlx::query!(
        r#"SELECT o.id, o.code, o.status, o.total_cents, o.received_at, p.status AS "payment?"
           FROM orders o LEFT JOIN payments p ON p.order_id = o.id AND p.attempt = 1
           WHERE o.id = ANY ($1)
           ORDER BY o.id FOR NO KEY UPDATE OF o"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("lock_orders_in_id_order")?;
    rows.into_iter()
        .map(|row| {
            let order = SettleableOrder {
                code: row.code,
                status: row.status.parse()?,
                total: Cents::new(row.total_cents),
                received_at: row.received_at,
                payment: row.payment.map(|word| word.parse()).transpose()?,
            };
            Ok((OrderId(row.id), order))
        })
        .collect()
}

/// Gives each order that this transaction has locked its end: completed, or failed for a reason. Orders that have
/// reached their end before are left as they are.
///
/// # Errors
/// As any statement.
pub async fn mark_settled(
    connection: &mut PgConnection,
    ids: &[i64],
    failures: &[Option<FailureReason>],
) -> Result<(), Error> {
    let reasons: Vec<Option<&str>> = failures.iter().map(|reason| reason.map(FailureReason::as_str)).collect();
    sqlx::query!(
        "UPDATE orders
         SET status = CASE WHEN ended.reason IS NULL THEN 'completed' ELSE 'failed' END,
             failure_reason = ended.reason,
             settled_at = now()
         FROM unnest($1::bigint[], $2::text[]) AS ended (id, reason)
         WHERE orders.id = ended.id AND orders.status IN ('reserved', 'paying')",
        ids,
        &reasons as &[Option<&str>],
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("mark_settled")?;
    Ok(())
}

/// Ends what the orders hold: the pieces of completed ones leave the stock, those of failed ones are free again.
/// Locks the products in id order.
///
/// # Errors
/// As any statement.
pub async fn release_held_stock(connection: &mut PgConnection, ids: &[i64], completed: &[bool]) -> Result<(), Error> {
    sqlx::query!(
        "WITH moved AS MATERIALIZED (
             SELECT l.product_id,
                    sum(l.quantity)::bigint AS held,
                    coalesce(sum(l.quantity) FILTER (WHERE ended.completed), 0)::bigint AS sold
             FROM unnest($1::bigint[], $2::boolean[]) AS ended (id, completed)
             JOIN order_lines l ON l.order_id = ended.id
             GROUP BY l.product_id
         ),
         locked AS MATERIALIZED (
             SELECT p.id, moved.held, moved.sold
             FROM moved JOIN products p ON p.id = moved.product_id
             ORDER BY p.id FOR NO KEY UPDATE OF p
         )
         UPDATE products p SET reserved = p.reserved - locked.held, stock = p.stock - locked.sold
         FROM locked WHERE p.id = locked.id",
        ids,
        completed,
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("release_held_stock")?;
    Ok(())
}
