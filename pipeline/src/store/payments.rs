//! Payment attempts: what gateways were asked, and what they said.

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
    /// Where its payment stands, if it has one.
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

/// Stores payments with their answers. Where an order has one already, that one stays: the first answer counts.
///
/// # Errors
/// As any statement, and when another gateway takes new payments ([`Error::is_other_gateway`]).
pub async fn insert_payments(
    connection: &mut PgConnection,
    gateway: &str,
    payments: &NewPayments,
) -> Result<(), Error> {
    sqlx::query!(
        "WITH installed AS MATERIALIZED (SELECT demand_gateway($4) AS term, clock_timestamp() AS at)
         INSERT INTO payments (order_id, amount_cents, status, gateway, term, created_at)
         SELECT order_id, amount_cents, status, $4, term, at
         FROM installed, unnest($1::bigint[], $2::bigint[], $3::text[]) AS new (order_id, amount_cents, status)
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

/// Stores an attempt for each of the orders that is still `reserved`, which makes it `paying`. Locks the orders in id
/// order. Who is not among the returned must not be asked for money: it failed meanwhile, or somebody else asks.
/// `check_s` and `expire_s` are seconds from now: when to look after the attempt, and when it has taken too long.
///
/// # Errors
/// As any statement, and when another gateway takes new payments ([`Error::is_other_gateway`]).
pub async fn begin_payments(
    connection: &mut PgConnection,
    gateway: &str,
    ids: &[i64],
    check_s: f64,
    expire_s: f64,
) -> Result<Vec<OrderId>, Error> {
    let begun = sqlx::query_scalar!(
        "WITH installed AS MATERIALIZED (SELECT demand_gateway($2) AS term, clock_timestamp() AS at),
         locked AS MATERIALIZED (
             SELECT id, total_cents FROM orders
             WHERE (SELECT term FROM installed) IS NOT NULL AND id = ANY ($1) AND status = 'reserved'
             ORDER BY id FOR NO KEY UPDATE
         ),
         asked AS (
             INSERT INTO payments (order_id, amount_cents, status, gateway, term, created_at, due_at, expires_at)
             SELECT id, total_cents, 'pending', $2, term, at,
                    now() + least($3::float8, $4::float8) * interval '1 second', now() + $4::float8 * interval '1 second'
             FROM installed, locked
             ON CONFLICT (order_id, attempt) DO NOTHING
             RETURNING order_id
         )
         UPDATE orders SET status = 'paying' FROM asked WHERE orders.id = asked.order_id
         RETURNING orders.id",
        ids,
        gateway,
        check_s,
        expire_s,
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("begin_payments")?;
    Ok(begun.into_iter().map(OrderId).collect())
}

/// A payment whose order is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedPayment {
    /// The order's code: the reference at the gateway.
    pub code: String,
    /// Where the order stands.
    pub order: OrderStatus,
    /// Where it came in.
    pub partition: u16,
    /// Where the payment stands.
    pub status: PaymentStatus,
    /// How much.
    pub amount: Cents,
    /// Who was asked.
    pub gateway: String,
    /// The provider's id for the charge, as far as it is known.
    pub provider_id: Option<String>,
    /// Whether the answer should have been there by now.
    pub is_overdue: bool,
}

/// Locks the orders in id order and reads their payments; orders without one are absent.
///
/// # Errors
/// As any statement.
pub async fn lock_payments_of_orders(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<FxHashMap<OrderId, LockedPayment>, Error> {
    sqlx::query!("SELECT id FROM orders WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE", ids)
        .fetch_all(&mut *connection)
        .await?;
    // A statement of its own: who waited for a lock sees the other tables as they were before.
    let rows = sqlx::query!(
        r#"SELECT o.id, o.code, o.status AS order_status, o.partition, p.status, p.amount_cents, p.gateway,
                  p.provider_id, coalesce(p.expires_at <= now(), false) AS "is_overdue!"
           FROM orders o JOIN payments p ON p.order_id = o.id AND p.attempt = 1
           WHERE o.id = ANY ($1)"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("lock_payments_of_orders")?;
    rows.into_iter()
        .map(|row| {
            let payment = LockedPayment {
                code: row.code,
                order: row.order_status.parse()?,
                partition: row.partition.cast_unsigned(),
                status: row.status.parse()?,
                amount: Cents::new(row.amount_cents),
                gateway: row.gateway,
                provider_id: row.provider_id,
                is_overdue: row.is_overdue,
            };
            Ok((OrderId(row.id), payment))
        })
        .collect()
}

/// What is written to a payment.
#[derive(Debug, Clone, PartialEq)]
pub struct PaymentChange {
    /// Whose.
    pub order_id: OrderId,
    /// Where it stands now.
    pub status: PaymentStatus,
    /// The provider's id for the charge, if it is news.
    pub provider_id: Option<String>,
    /// When to ask again: so many seconds, doubled with each time that the provider was asked, with jitter. `None`: the
    /// answer is final.
    pub again_s: Option<f64>,
    /// The provider's last word, where it was no answer.
    pub note: Option<String>,
}

/// Longest pause between two questions about one payment or refund, in seconds.
const CHECK_PAUSE_MAX_S: f64 = 3_600.0;

/// Writes to payments whose orders this transaction has locked.
///
/// # Errors
/// As any statement.
pub async fn change_payments(connection: &mut PgConnection, changes: &[PaymentChange]) -> Result<(), Error> {
    let orders: Vec<i64> = changes.iter().map(|change| change.order_id.0).collect();
    let statuses: Vec<&str> = changes.iter().map(|change| change.status.as_str()).collect();
    let provider_ids: Vec<Option<&str>> = changes.iter().map(|change| change.provider_id.as_deref()).collect();
    let again: Vec<Option<f64>> = changes.iter().map(|change| change.again_s).collect();
    let notes: Vec<Option<&str>> = changes.iter().map(|change| change.note.as_deref()).collect();
    sqlx::query!(
        "UPDATE payments
         SET status = new.status,
             provider_id = coalesce(new.provider_id, payments.provider_id),
             answered_at = CASE WHEN new.status <> 'pending' AND new.status <> payments.status THEN now()
                                ELSE payments.answered_at END,
             -- Before it has taken too long, and after that in growing steps; never again once the answer is final. `least`
             -- passes over nulls: without the outer case there would always be a next time.
             due_at = CASE WHEN new.again IS NOT NULL THEN
                          least(CASE WHEN new.status = 'pending' AND expires_at > now() THEN expires_at END,
                                now() + least(new.again * power(2, least(checks, 30)), $6)
                                      * (0.5 + random() / 2) * interval '1 second') END,
             note = new.note
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::float8[], $5::text[])
              AS new (order_id, status, provider_id, again, note)
         WHERE payments.order_id = new.order_id AND payments.attempt = 1",
        &orders,
        &statuses as &[&str],
        &provider_ids as &[Option<&str>],
        &again as &[Option<f64>],
        &notes as &[Option<&str>],
        CHECK_PAUSE_MAX_S,
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("change_payments")?;
    Ok(())
}

/// The numbers of the orders with these codes; unknown codes are absent.
///
/// # Errors
/// As any statement.
pub async fn order_ids_by_code(
    connection: &mut PgConnection,
    codes: &[&str],
) -> Result<FxHashMap<String, OrderId>, Error> {
    let rows = sqlx::query!("SELECT code, id FROM orders WHERE code = ANY ($1)", codes as &[&str])
        .fetch_all(connection)
        .await?;
    failpoint::hit::<Error>("order_ids_by_code")?;
    Ok(rows.into_iter().map(|row| (row.code, OrderId(row.id))).collect())
}
