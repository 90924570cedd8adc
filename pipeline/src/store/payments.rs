//! What the gateway said.

use rustc_hash::FxHashMap;
use sqlx::PgConnection;

use super::Error;
use crate::{
    domain::{Cents, OrderId, OrderStatus, PaymentStatus},
    failpoint,
};

/// An order that a payment message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayableOrder {
    /// Its code: the reference at the gateway.
    pub code: String,
    /// What is to be paid.
    pub total: Cents,
    /// Where it stands.
    pub status: OrderStatus,
    /// The answer of its last attempt, if it has one.
    pub payment: Option<PaymentStatus>,
}

/// The orders by id; unknown ids are absent.
///
/// # Errors
/// As any statement.
pub async fn payable_orders(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<FxHashMap<OrderId, PayableOrder>, Error> {
    let rows = sqlx::query!(
        r#"SELECT o.id, o.code, o.total_cents, o.status, p.status AS "payment?"
           FROM orders o LEFT JOIN payments p ON p.order_id = o.id AND p.attempt = 1
           WHERE o.id = ANY ($1)"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("payable_orders")?;
    rows.into_iter()
        .map(|row| {
            let order = PayableOrder {
                code: row.code,
                total: Cents::new(row.total_cents),
                status: row.status.parse()?,
                payment: row.payment.map(|word| word.parse()).transpose()?,
            };
            Ok((OrderId(row.id), order))
        })
        .collect()
}

/// New payments, as columns.
#[derive(Debug, Default)]
pub struct NewPayments {
    orders: Vec<i64>,
    amounts: Vec<i64>,
    statuses: Vec<&'static str>,
}

impl NewPayments {
    /// Adds the answer to one charge.
    pub fn push(&mut self, order_id: OrderId, amount: Cents, status: PaymentStatus) {
        self.orders.push(order_id.0);
        self.amounts.push(amount.get());
        self.statuses.push(status.as_str());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }
}

/// Stores the answers. Where an order has one already, that one stays: the first answer counts.
///
/// # Errors
/// As any statement.
pub async fn insert_payments(
    connection: &mut PgConnection,
    gateway: &str,
    payments: &NewPayments,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO payments (order_id, amount_cents, status, gateway)
         SELECT order_id, amount_cents, status, $4
         FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS new (order_id, amount_cents, status)
         ON CONFLICT (order_id, attempt) DO NOTHING",
        &payments.orders,
        &payments.amounts,
        &payments.statuses as &[&str],
        gateway,
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("insert_payments")?;
    Ok(())
}
