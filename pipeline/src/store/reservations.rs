//! Taking orders in.

use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::PgConnection;

use super::Error;
use crate::{
    domain::{FailureReason, Order, OrderId, OrderStatus},
    failpoint,
};

/// An order that is already known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExistingOrder {
    /// Our number.
    pub id: OrderId,
    /// Where it stands.
    pub status: OrderStatus,
    /// What it contains.
    pub content_hash: i64,
}

/// Which of the codes are known already.
///
/// # Errors
/// As any statement.
pub async fn orders_by_code(
    connection: &mut PgConnection,
    codes: &[&str],
) -> Result<FxHashMap<String, ExistingOrder>, Error> {
    let rows =
        sqlx::query!("SELECT code, id, status, content_hash FROM orders WHERE code = ANY ($1)", codes as &[&str])
            .fetch_all(connection)
            .await?;
    failpoint::hit::<Error>("orders_by_code")?;
    rows.into_iter()
        .map(|row| {
            let order =
                ExistingOrder { id: OrderId(row.id), status: row.status.parse()?, content_hash: row.content_hash };
            Ok((row.code, order))
        })
        .collect()
}

/// Which of the customers exist.
///
/// # Errors
/// As any statement.
pub async fn known_customers(connection: &mut PgConnection, ids: &[i64]) -> Result<FxHashSet<i64>, Error> {
    let rows = sqlx::query_scalar!("SELECT id FROM customers WHERE id = ANY ($1)", ids).fetch_all(connection).await?;
    failpoint::hit::<Error>("known_customers")?;
    Ok(rows.into_iter().collect())
}

/// New orders with their lines, as columns: one statement inserts them all.
#[derive(Debug, Default)]
pub struct NewOrders<'a> {
    ids: Vec<i64>,
    codes: Vec<&'a str>,
    customers: Vec<i64>,
    totals: Vec<i64>,
    hashes: Vec<i64>,
    imports: Vec<Option<i64>>,
    received_ms: Vec<i64>,
    reasons: Vec<Option<&'static str>>,
    line_orders: Vec<i64>,
    line_products: Vec<i64>,
    line_prices: Vec<i64>,
    line_quantities: Vec<i32>,
    line_numbers: Vec<i16>,
}

impl<'a> NewOrders<'a> {
    /// Adds one: `reserved`, or `failed` for a reason.
    pub fn push(
        &mut self,
        id: OrderId,
        order: &'a Order,
        import_id: Option<i64>,
        received_ms: u64,
        failure: Option<FailureReason>,
    ) {
        self.ids.push(id.0);
        self.codes.push(order.code().as_str());
        self.customers.push(order.customer_id().0);
        self.totals.push(order.total().get());
        self.hashes.push(order.content_hash());
        self.imports.push(import_id);
        // Postgres' timestamps end in the year 294276; an entry id may name any 64-bit instant.
        self.received_ms.push(received_ms.min(9_000_000_000_000_000 / 1_000).cast_signed());
        self.reasons.push(failure.map(FailureReason::as_str));
        for (number, line) in (1..).zip(order.lines()) {
            self.line_orders.push(id.0);
            self.line_products.push(line.product_id.0);
            self.line_prices.push(line.unit_price.get());
            self.line_quantities.push(line.quantity);
            self.line_numbers.push(number);
        }
    }

    /// How many orders.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Inserts orders and their lines. They should come sorted by code: two workers that insert the same codes then wait
/// for each other in one order only.
///
/// # Errors
/// [`Error::Raced`] when another worker inserted one of the codes meanwhile, or ids are taken because Postgres lost the
/// commits after they were drawn: decide again, with new ids.
pub async fn insert_orders(connection: &mut PgConnection, partition: u16, orders: &NewOrders<'_>) -> Result<(), Error> {
    let inserted = sqlx::query!(
        "INSERT INTO orders (id, customer_id, total_cents, content_hash, import_id, received_at, settled_at, partition,
                             code, status, failure_reason)
         SELECT id, customer_id, total_cents, content_hash, import_id,
                least(timestamptz 'epoch' + received_ms * interval '1 ms', now()),
                CASE WHEN reason IS NOT NULL THEN now() END, $9,
                code, CASE WHEN reason IS NULL THEN 'reserved' ELSE 'failed' END, reason
         FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::text[])
              AS new (id, code, customer_id, total_cents, content_hash, import_id, received_ms, reason)
         ON CONFLICT DO NOTHING",
        &orders.ids,
        &orders.codes as &[&str],
        &orders.customers,
        &orders.totals,
        &orders.hashes,
        &orders.imports as &[Option<i64>],
        &orders.received_ms,
        &orders.reasons as &[Option<&str>],
        partition.cast_signed(),
    )
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() < orders.len() as u64 {
        return Err(Error::Raced);
    }
    failpoint::hit::<Error>("insert_orders")?;
    sqlx::query!(
        "INSERT INTO order_lines (order_id, product_id, unit_price_cents, quantity, line)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::smallint[])",
        &orders.line_orders,
        &orders.line_products,
        &orders.line_prices,
        &orders.line_quantities,
        &orders.line_numbers,
    )
    .execute(&mut *connection)
    .await?;
    failpoint::hit::<Error>("insert_order_lines")
}

/// Draws a block of order ids: the value and the 999 below it are the caller's.
///
/// # Errors
/// As any statement.
pub async fn draw_order_ids(connection: &mut PgConnection) -> Result<std::ops::RangeInclusive<i64>, Error> {
    let last = sqlx::query_scalar!(r#"SELECT nextval('order_id_blocks') AS "last!""#).fetch_one(connection).await?;
    failpoint::hit::<Error>("draw_order_ids")?;
    Ok(last - 999..=last)
}
