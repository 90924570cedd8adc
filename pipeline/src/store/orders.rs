//! Looking at orders.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::{CallbackRow, Error, NotificationRow, callbacks_of, notifications::notifications_of};
use crate::domain::Cents;

/// One order in a list.
#[derive(Debug, Clone, Serialize)]
pub struct OrderSummary {
    /// Our number.
    pub id: i64,
    /// The outside's name.
    pub code: String,
    /// Who ordered.
    pub customer_id: i64,
    /// Where it stands.
    pub status: String,
    /// Why it failed, if it did.
    pub failure_reason: Option<String>,
    /// The sum of its lines.
    pub total: Cents,
    /// In what it is paid; of an order that nobody was asked to pay, in what others are now. `None` where nobody has said it.
    pub currency: Option<String>,
    /// When it was taken in.
    pub created_at: DateTime<Utc>,
    /// When it reached its end.
    pub settled_at: Option<DateTime<Utc>>,
}

/// An order with all that belongs to it.
#[derive(Debug, Clone, Serialize)]
pub struct OrderDetail {
    /// The order.
    #[serde(flatten)]
    pub order: OrderSummary,
    /// Given back so far.
    pub refunded: Cents,
    /// The partition that it came in by.
    pub partition: i16,
    /// The import that brought it.
    pub import_id: Option<i64>,
    /// When its message entered the stream, by the clock of Redis.
    pub received_at: DateTime<Utc>,
    /// Its lines in sequence.
    pub lines: Vec<OrderLine>,
    /// Its payment attempts in sequence.
    pub payments: Vec<PaymentRow>,
    /// Its refunds in sequence.
    pub refunds: Vec<RefundRow>,
    /// What payment providers told about it and its refunds, in sequence.
    pub callbacks: Vec<CallbackRow>,
    /// The events that it caused, in sequence.
    pub events: Vec<EventRow>,
    /// Who was told of them, or is to be, in sequence.
    pub notifications: Vec<NotificationRow>,
}

impl OrderDetail {
    /// Whether stock was ever held for it: it was not refused at once, in the transaction that took it in.
    pub fn was_reserved(&self) -> bool {
        self.order.failure_reason.is_none() || self.order.settled_at != Some(self.order.created_at)
    }
}

/// A line of an order.
#[derive(Debug, Clone, Serialize)]
pub struct OrderLine {
    /// 1, 2, …
    pub line: i16,
    /// Which product.
    pub product_id: i64,
    /// Its name, if the catalogue has it.
    pub product: Option<String>,
    /// How many pieces.
    pub quantity: i32,
    /// Price of one.
    pub unit_price: Cents,
}

/// An attempt to be paid.
#[derive(Debug, Clone, Serialize)]
pub struct PaymentRow {
    /// 1, 2, …
    pub attempt: i16,
    /// The answer.
    pub status: String,
    /// How much was asked.
    pub amount: Cents,
    /// In what; `None` where an earlier version did not record it, and where there was nothing to pay.
    pub currency: Option<String>,
    /// Who was asked.
    pub gateway: String,
    /// When it was stored: before a provider was asked, with the answer of the simulator.
    pub created_at: DateTime<Utc>,
    /// When the provider's answer was stored.
    pub answered_at: Option<DateTime<Utc>>,
    /// The provider's id for the charge.
    pub provider_id: Option<String>,
}

/// Money given back, or meant to be.
#[derive(Debug, Clone, Serialize)]
pub struct RefundRow {
    /// The key by which it was asked for.
    pub key: String,
    /// How much; unknown while a request for the whole rest waits for its order.
    pub amount: Option<Cents>,
    /// Where it stands.
    pub status: String,
    /// Why it was asked for.
    pub reason: Option<String>,
    /// Why it was refused.
    pub refusal: Option<String>,
    /// Whether it brought the order's pieces back to the stock.
    pub restocked: bool,
    /// Whether nobody asked for it: the money came when the order had failed.
    pub automatic: bool,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it came to its end.
    pub settled_at: Option<DateTime<Utc>>,
}

/// Something that happened to an order.
#[derive(Debug, Clone, Serialize)]
pub struct EventRow {
    /// Its number.
    pub seq: i64,
    /// What.
    pub kind: String,
    /// Minor units as money.
    pub amount: Cents,
    /// When.
    pub at: DateTime<Utc>,
}

/// The order with this code.
///
/// # Errors
/// As any statement.
pub async fn find_order(pool: &PgPool, code: &str) -> Result<Option<OrderDetail>, Error> {
    let Some(row) = sqlx::query!(
        "SELECT id, code, customer_id, status, failure_reason, total_cents, order_currency(id) AS currency, refunded_cents,
                partition, import_id, received_at, created_at, settled_at
         FROM orders WHERE code = $1",
        code
    )
    .fetch_optional(pool)
    .await?
    else {
        return Ok(None);
    };
    let lines = sqlx::query!(
        r#"SELECT l.line, l.product_id, p.name AS "product?", l.quantity, l.unit_price_cents
           FROM order_lines l LEFT JOIN products p ON p.id = l.product_id
           WHERE l.order_id = $1 ORDER BY l.line"#,
        row.id
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(|line| OrderLine {
        line: line.line,
        product_id: line.product_id,
        product: line.product,
        quantity: line.quantity,
        unit_price: Cents::new(line.unit_price_cents),
    })
    .collect();
    let payments = sqlx::query!(
        r#"SELECT attempt, status, amount_cents, currency AS "currency?", gateway, created_at, answered_at, provider_id
           FROM payments LEFT JOIN gateways ON name = gateway WHERE order_id = $1 ORDER BY attempt"#,
        row.id
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(|payment| PaymentRow {
        attempt: payment.attempt,
        status: payment.status,
        amount: Cents::new(payment.amount_cents),
        currency: payment.currency,
        gateway: payment.gateway,
        created_at: payment.created_at,
        answered_at: payment.answered_at,
        provider_id: payment.provider_id,
    })
    .collect();
    let refunds: Vec<RefundRow> = sqlx::query!(
        "SELECT key, amount_cents, status, reason, refusal, restocked, automatic, created_at, settled_at
         FROM refunds WHERE order_code = $1 ORDER BY created_at, key",
        code
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(|refund| RefundRow {
        key: refund.key,
        amount: refund.amount_cents.map(Cents::new),
        status: refund.status,
        reason: refund.reason,
        refusal: refund.refusal,
        restocked: refund.restocked,
        automatic: refund.automatic,
        created_at: refund.created_at,
        settled_at: refund.settled_at,
    })
    .collect();
    let references: Vec<&str> = std::iter::once(code).chain(refunds.iter().map(|refund| refund.key.as_str())).collect();
    let callbacks = callbacks_of(&mut *pool.acquire().await?, &references).await?;
    let events =
        sqlx::query!("SELECT seq, kind, amount_cents, at FROM events WHERE order_id = $1 ORDER BY seq", row.id)
            .fetch_all(pool)
            .await?
            .into_iter()
            .map(|event| EventRow {
                seq: event.seq,
                kind: event.kind,
                amount: Cents::new(event.amount_cents),
                at: event.at,
            })
            .collect();
    let notifications = notifications_of(pool, row.id).await?;
    Ok(Some(OrderDetail {
        order: OrderSummary {
            id: row.id,
            code: row.code,
            customer_id: row.customer_id,
            status: row.status,
            failure_reason: row.failure_reason,
            total: Cents::new(row.total_cents),
            currency: row.currency,
            created_at: row.created_at,
            settled_at: row.settled_at,
        },
        refunded: Cents::new(row.refunded_cents),
        partition: row.partition,
        import_id: row.import_id,
        received_at: row.received_at,
        lines,
        payments,
        refunds,
        callbacks,
        events,
        notifications,
    }))
}

/// How many orders stand somewhere, and why.
#[derive(Debug, Clone, Serialize)]
pub struct StateCount {
    /// Where.
    pub status: String,
    /// Why, for failed ones.
    pub failure_reason: Option<String>,
    /// How many.
    pub orders: i64,
    /// The sum of their totals.
    pub total: Cents,
}

/// Orders by state and reason; those of one import, or all.
///
/// # Errors
/// As any statement.
pub async fn state_counts(pool: &PgPool, import_id: Option<i64>) -> Result<Vec<StateCount>, Error> {
    let rows = sqlx::query!(
        r#"SELECT status, failure_reason, count(*) AS "orders!", sum(total_cents)::bigint AS "total_cents!"
           FROM orders WHERE $1::bigint IS NULL OR import_id = $1
           GROUP BY 1, 2 ORDER BY 1, 3 DESC"#,
        import_id
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StateCount {
            status: row.status,
            failure_reason: row.failure_reason,
            orders: row.orders,
            total: Cents::new(row.total_cents),
        })
        .collect())
}

/// Time from an order's entry into the stream to its end, over many orders, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Half of the orders were faster.
    pub p50_ms: f64,
    /// 99 of 100 were faster.
    pub p99_ms: f64,
    /// 999 of 1,000 were faster.
    pub p999_ms: f64,
}

/// The latency of the orders of an import that have reached their end; `None` without any. Compares the clock of Redis
/// with that of Postgres.
///
/// # Errors
/// As any statement.
pub async fn import_latency(pool: &PgPool, import_id: i64) -> Result<Option<Latency>, Error> {
    let row = sqlx::query!(
        "SELECT percentile_cont(ARRAY[0.5, 0.99, 0.999])
                WITHIN GROUP (ORDER BY extract(epoch FROM settled_at - received_at)::float8 * 1000) AS ms
         FROM orders WHERE import_id = $1 AND settled_at IS NOT NULL",
        import_id
    )
    .fetch_one(pool)
    .await?;
    Ok(row.ms.and_then(|ms| match ms[..] {
        [p50_ms, p99_ms, p999_ms] => Some(Latency { p50_ms, p99_ms, p999_ms }),
        _ => None,
    }))
}
