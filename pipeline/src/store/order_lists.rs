//! Lists of orders, newest first: by the time at which they were taken in. Ids come in blocks, one a worker, and say
//! little about it.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use super::{Error, OrderSummary};
use crate::domain::{Cents, FailureReason, OrderStatus};

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
    /// Only those that stand after this order in the list: the id of the last one of the page before.
    pub after_id: Option<i64>,
}

impl OrderFilter {
    /// Whether the index of times knows all that is asked for.
    fn is_by_time_alone(&self) -> bool {
        self.status.is_none() && self.reason.is_none() && self.customer_id.is_none() && self.import_id.is_none()
    }
}

/// What no index knows is looked for in parts of so many orders.
const PART_ORDERS: i64 = 50_000;

/// What a search for orders came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FoundOrders {
    /// The orders, newest first.
    pub orders: Vec<OrderSummary>,
    /// Where to go on: [`OrderFilter::after_id`] of the next page. `None` where there are no more.
    pub next: Option<i64>,
    /// Whether time ran out: the page is not full, but older orders were not looked at.
    pub cut_short: bool,
}

/// Where an order stands in the list.
#[derive(Debug, Clone, Copy)]
struct Place {
    created_at: DateTime<Utc>,
    id: i64,
}

/// A page of orders, newest first; `None` where [`OrderFilter::after_id`] names no order.
///
/// No index knows status, reason, customer and import: orders are looked through in parts, from the newest back. Once
/// `patience` is over, the rest is left to the next page, so that a page takes no longer however large the table is.
///
/// # Errors
/// As any statement.
pub async fn search_orders(
    pool: &PgPool,
    filter: OrderFilter,
    limit: usize,
    patience: Option<Duration>,
) -> Result<Option<FoundOrders>, Error> {
    let begun = Instant::now();
    let mut before = match filter.after_id {
        None => None,
        Some(id) => match place_of(pool, id).await? {
            Some(place) => Some(place),
            None => return Ok(None),
        },
    };
    let mut found = FoundOrders::default();
    loop {
        let last = match filter.is_by_time_alone() {
            true => None,
            false => end_of_part(pool, &filter, before).await?,
        };
        // One more than is shown tells whether there is another page.
        let wanted = limit.saturating_sub(found.orders.len()).saturating_add(1);
        found.orders.extend(orders_between(pool, &filter, before, last, wanted).await?);
        if found.orders.len() > limit {
            found.orders.truncate(limit);
            found.next = found.orders.last().map(|order| order.id);
            return Ok(Some(found));
        }
        let Some(place) = last else { return Ok(Some(found)) };
        if patience.is_some_and(|patience| begun.elapsed() >= patience) {
            (found.next, found.cut_short) = (Some(place.id), true);
            return Ok(Some(found));
        }
        before = Some(place);
    }
}

async fn place_of(pool: &PgPool, id: i64) -> Result<Option<Place>, Error> {
    let place = sqlx::query_as!(Place, "SELECT created_at, id FROM orders WHERE id = $1", id);
    Ok(place.fetch_optional(pool).await?)
}

/// The last order of a part; `None` where the part has all that are left.
async fn end_of_part(pool: &PgPool, filter: &OrderFilter, before: Option<Place>) -> Result<Option<Place>, Error> {
    let place = sqlx::query_as!(
        Place,
        "SELECT created_at, id FROM orders
         WHERE (created_at, id) < (coalesce($1::timestamptz, 'infinity'), $2)
           AND created_at < coalesce($3::timestamptz, 'infinity') AND created_at >= coalesce($4::timestamptz, '-infinity')
         ORDER BY created_at DESC, id DESC OFFSET $5 LIMIT 1",
        before.map(|place| place.created_at),
        before.map_or(i64::MAX, |place| place.id),
        filter.until,
        filter.since,
        PART_ORDERS - 1,
    );
    Ok(place.fetch_optional(pool).await?)
}

/// Orders after one place, up to and including another, newest first.
async fn orders_between(
    pool: &PgPool,
    filter: &OrderFilter,
    before: Option<Place>,
    last: Option<Place>,
    limit: usize,
) -> Result<Vec<OrderSummary>, Error> {
    let orders = sqlx::query!(
        "SELECT id, code, customer_id, status, failure_reason, total_cents, order_currency(id) AS currency, created_at,
                settled_at
         FROM orders
         WHERE (created_at, id) < (coalesce($1::timestamptz, 'infinity'), $2) AND (created_at, id) >= (coalesce($3::timestamptz, '-infinity'), $4)
           AND created_at < coalesce($5::timestamptz, 'infinity') AND created_at >= coalesce($6::timestamptz, '-infinity')
           AND ($7::text IS NULL OR status = $7)
           AND ($8::text IS NULL OR failure_reason = $8)
           AND ($9::bigint IS NULL OR customer_id = $9)
           AND ($10::bigint IS NULL OR import_id = $10)
         ORDER BY created_at DESC, id DESC LIMIT $11",
        before.map(|place| place.created_at),
        before.map_or(i64::MAX, |place| place.id),
        last.map(|place| place.created_at),
        last.map_or(i64::MIN, |place| place.id),
        filter.until,
        filter.since,
        filter.status.map(OrderStatus::as_str),
        filter.reason.map(FailureReason::as_str),
        filter.customer_id,
        filter.import_id,
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .map(|row| OrderSummary {
        id: row.id,
        code: row.code,
        customer_id: row.customer_id,
        status: row.status,
        failure_reason: row.failure_reason,
        total: Cents::new(row.total_cents),
        currency: row.currency,
        created_at: row.created_at,
        settled_at: row.settled_at,
    });
    Ok(orders.fetch_all(pool).await?)
}
