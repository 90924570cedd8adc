//! Looking at orders.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::{CallbackRow, Error, NotificationRow, callbacks_of, notifications::notifications_of};
use crate::domain::{Cents, FailureReason, OrderStatus};

/// One order in a list.
#[derive(Debug, Clone, Serialize)]
pub struct OrderSummary {
    /// Our number; the list is sorted by it, newest first.
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
    /// When it was taken in.
    pub created_at: DateTime<Utc>,
    /// When it reached its end.
    pub settled_at: Option<DateTime<Utc>>,
}

/// Which orders to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct OrderFilter {
    /// Only those that stand here.
    pub status: Option<OrderStatus>,
    /// Only those that failed for this reason.
    pub reason: Option<FailureReason>,
    /// Only those taken in at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Only those taken in before this instant.
    pub until: Option<DateTime<Utc>>,
    /// Only those of this customer.
    pub customer_id: Option<i64>,
    /// Only those that this import brought.
    pub import_id: Option<i64>,
    /// Only those with a smaller number: the last one of the page before.
    pub before_id: Option<i64>,
}

/// Orders are looked through in parts of so many ids.
const PART_IDS: i64 = 50_000;

/// After this time, a search for orders gives what it has.
const SEARCH_TIME: Duration = Duration::from_millis(400);

/// What a search for orders came to.
#[derive(Debug, Clone, Serialize)]
pub struct FoundOrders {
    /// The orders, newest first.
    pub orders: Vec<OrderSummary>,
    /// Where to go on: [`OrderFilter::before_id`] of the next page. `None` where there are no more.
    pub next: Option<i64>,
    /// Whether time ran out: the page is not full, but older orders were not looked at.
    pub cut_short: bool,
}

/// A page of orders, newest first, in a time that does not grow with the table: no index knows what the filters ask
/// for, so orders are looked through in parts, from the newest back, and after 0.4 s the rest is left to the next page.
/// To be asked over [`WorkerSettings::Page`](super::WorkerSettings::Page), where a filter that is not given costs nothing.
///
/// # Errors
/// As any statement.
pub async fn search_orders(pool: &PgPool, filter: OrderFilter, limit: i64) -> Result<FoundOrders, Error> {
    let begun = Instant::now();
    let bounds = match (filter.since, filter.until) {
        // The block-range index knows where a time stands; the orders of the time then need not be searched for.
        (None, None) => {
            sqlx::query!("SELECT min(id) AS first, max(id) AS last FROM orders")
                .map(|row| row.first.zip(row.last))
                .fetch_one(pool)
                .await?
        }
        (since, until) => {
            sqlx::query!(
                "SELECT min(id + 0) AS first, max(id + 0) AS last FROM orders
             WHERE ($1::timestamptz IS NULL OR created_at >= $1) AND ($2::timestamptz IS NULL OR created_at < $2)",
                since,
                until,
            )
            .map(|row| row.first.zip(row.last))
            .fetch_one(pool)
            .await?
        }
    };
    let mut found = FoundOrders { orders: Vec::new(), next: None, cut_short: false };
    let Some((first, last)) = bounds else { return Ok(found) };
    let mut before = filter.before_id.map_or(last + 1, |before| before.min(last + 1));
    while before > first {
        let wanted = limit - i64::try_from(found.orders.len()).unwrap_or(limit);
        let part = OrderFilter { before_id: Some(before), ..filter };
        let from = before.saturating_sub(PART_IDS).max(first);
        let orders = orders_between(pool, part, from, wanted).await?;
        let is_full = i64::try_from(orders.len()) == Ok(wanted);
        found.orders.extend(orders);
        before = match found.orders.last() {
            Some(order) if is_full => order.id,
            _ => from,
        };
        found.cut_short = !is_full && begun.elapsed() >= SEARCH_TIME && before > first;
        if is_full || found.cut_short {
            found.next = (before > first).then_some(before);
            break;
        }
    }
    Ok(found)
}

/// A page of orders, newest first.
///
/// # Errors
/// As any statement.
pub async fn list_orders(pool: &PgPool, filter: OrderFilter, limit: i64) -> Result<Vec<OrderSummary>, Error> {
    orders_between(pool, filter, i64::MIN, limit).await
}

/// Orders with an id from `from`, newest first.
async fn orders_between(pool: &PgPool, filter: OrderFilter, from: i64, limit: i64) -> Result<Vec<OrderSummary>, Error> {
    let rows = sqlx::query!(
        "SELECT id, code, customer_id, status, failure_reason, total_cents, created_at, settled_at
         FROM orders
         WHERE id >= $1 AND id < $2
           AND ($3::text IS NULL OR status = $3)
           AND ($4::text IS NULL OR failure_reason = $4)
           AND ($5::timestamptz IS NULL OR created_at >= $5)
           AND ($6::timestamptz IS NULL OR created_at < $6)
           AND ($7::bigint IS NULL OR customer_id = $7)
           AND ($8::bigint IS NULL OR import_id = $8)
         ORDER BY id DESC LIMIT $9",
        from,
        filter.before_id.unwrap_or(i64::MAX),
        filter.status.map(OrderStatus::as_str),
        filter.reason.map(FailureReason::as_str),
        filter.since,
        filter.until,
        filter.customer_id,
        filter.import_id,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| OrderSummary {
            id: row.id,
            code: row.code,
            customer_id: row.customer_id,
            status: row.status,
            failure_reason: row.failure_reason,
            total: Cents::new(row.total_cents),
            created_at: row.created_at,
            settled_at: row.settled_at,
        })
        .collect())
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
        "SELECT id, code, customer_id, status, failure_reason, total_cents, refunded_cents, partition, import_id,
                received_at, created_at, settled_at
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
        "SELECT attempt, status, amount_cents, gateway, created_at, answered_at, provider_id
         FROM payments WHERE order_id = $1 ORDER BY attempt",
        row.id
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(|payment| PaymentRow {
        attempt: payment.attempt,
        status: payment.status,
        amount: Cents::new(payment.amount_cents),
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
