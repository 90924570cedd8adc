//! Refunds: what was asked for, and what came of it.

use rustc_hash::FxHashMap;
use sqlx::PgConnection;

use super::Error;
use crate::{
    domain::{Cents, OrderId, OrderStatus, PaymentStatus, RefundKey, RefundRequest, RefundStatus, Refusal},
    failpoint,
};

/// A refund that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownRefund {
    /// Fingerprint of the request.
    pub request_hash: i64,
    /// Where it stands.
    pub status: RefundStatus,
}

/// Which of the keys are known.
///
/// # Errors
/// As any statement.
pub async fn refunds_by_key(
    connection: &mut PgConnection,
    keys: &[&str],
) -> Result<FxHashMap<String, KnownRefund>, Error> {
    let rows = sqlx::query!("SELECT key, request_hash, status FROM refunds WHERE key = ANY ($1)", keys as &[&str])
        .fetch_all(connection)
        .await?;
    failpoint::hit::<Error>("refunds_by_key")?;
    rows.into_iter()
        .map(|row| Ok((row.key, KnownRefund { request_hash: row.request_hash, status: row.status.parse()? })))
        .collect()
}

/// An order that a refund names, locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundableOrder {
    /// Our number.
    pub id: OrderId,
    /// Where it stands.
    pub status: OrderStatus,
    /// What was paid for it: nothing, unless it is completed.
    pub paid: Cents,
    /// Granted before, whether or not the money is back already.
    pub granted: Cents,
    /// Whether a refund was granted that brings its pieces back, whether or not they are back already.
    pub restock_granted: bool,
    /// Who took the payment.
    pub gateway: Option<String>,
}

/// Locks the orders with these codes in id order, and reads what was paid and granted; unknown codes are absent.
///
/// # Errors
/// As any statement.
pub async fn lock_refundable_orders(
    connection: &mut PgConnection,
    codes: &[&str],
) -> Result<FxHashMap<String, RefundableOrder>, Error> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM orders WHERE code = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
        codes as &[&str]
    )
    .fetch_all(&mut *connection)
    .await?;
    // A statement of its own: who waited for a lock sees the other tables as they were before.
    let rows = sqlx::query!(
        r#"SELECT o.code, o.id, o.status, p.status AS "payment?", p.amount_cents AS "amount_cents?",
                  p.gateway AS "gateway?",
                  (SELECT coalesce(sum(r.amount_cents), 0)::bigint FROM refunds r
                   WHERE r.order_id = o.id AND r.status IN ('pending', 'succeeded')) AS "granted!",
                  EXISTS (SELECT FROM refunds r WHERE r.order_id = o.id AND r.restock
                          AND r.status IN ('pending', 'succeeded')) AS "restock_granted!"
           FROM orders o LEFT JOIN payments p ON p.order_id = o.id AND p.attempt = 1
           WHERE o.id = ANY ($1)"#,
        &ids
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("lock_refundable_orders")?;
    rows.into_iter()
        .map(|row| {
            let status: OrderStatus = row.status.parse()?;
            let approved = row.payment.as_deref() == Some(PaymentStatus::Approved.as_str());
            let paid = match status {
                OrderStatus::Completed if approved => row.amount_cents.unwrap_or_default(),
                _ => 0,
            };
            let order = RefundableOrder {
                id: OrderId(row.id),
                status,
                paid: Cents::new(paid),
                granted: Cents::new(row.granted),
                restock_granted: row.restock_granted,
                gateway: row.gateway,
            };
            Ok((row.code, order))
        })
        .collect()
}

/// A refund as it is stored first, or as it goes on after it has waited.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRefund<'a> {
    /// What was asked for.
    pub request: &'a RefundRequest,
    /// The import that brought it.
    pub import_id: Option<i64>,
    /// Whose, if the order is known.
    pub order_id: Option<OrderId>,
    /// `waiting`, `pending` or `refused`.
    pub status: RefundStatus,
    /// Granted; unknown while it waits.
    pub amount: Option<Cents>,
    /// Why it is refused.
    pub refusal: Option<Refusal>,
    /// Who gives the money back.
    pub gateway: Option<String>,
}

/// When to look after refunds, in seconds from now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RefundTimes {
    /// After those that wait for their order, first; later in growing steps.
    pub look_s: f64,
    /// After those whose provider is about to be asked.
    pub answer_s: f64,
    /// How long one may wait for its order to reach its end.
    pub wait_s: f64,
    /// How long one may wait for an order that nobody knows.
    pub unknown_s: f64,
}

/// Stores refunds under keys that are new, and moves on those that have waited. Rows under other keys stay as they are:
/// the first request counts.
///
/// # Errors
/// As any statement. [`Error::Raced`] when a key has become known meanwhile: nothing must be saved, and the batch is
/// processed again.
pub async fn write_refunds(
    connection: &mut PgConnection,
    refunds: &[NewRefund<'_>],
    times: RefundTimes,
) -> Result<(), Error> {
    let keys: Vec<&str> = refunds.iter().map(|refund| refund.request.key.as_str()).collect();
    let codes: Vec<&str> = refunds.iter().map(|refund| refund.request.order_code.as_str()).collect();
    let asked: Vec<Option<i64>> = refunds.iter().map(|refund| refund.request.amount.map(Cents::get)).collect();
    let reasons: Vec<Option<&str>> = refunds.iter().map(|refund| refund.request.reason.as_deref()).collect();
    let restock: Vec<bool> = refunds.iter().map(|refund| refund.request.restock).collect();
    let hashes: Vec<i64> = refunds.iter().map(|refund| refund.request.content_hash()).collect();
    let imports: Vec<Option<i64>> = refunds.iter().map(|refund| refund.import_id).collect();
    let orders: Vec<Option<i64>> = refunds.iter().map(|refund| refund.order_id.map(|id| id.0)).collect();
    let statuses: Vec<&str> = refunds.iter().map(|refund| refund.status.as_str()).collect();
    let amounts: Vec<Option<i64>> = refunds.iter().map(|refund| refund.amount.map(Cents::get)).collect();
    let refusals: Vec<Option<&str>> = refunds.iter().map(|refund| refund.refusal.map(Refusal::as_str)).collect();
    let gateways: Vec<Option<&str>> = refunds.iter().map(|refund| refund.gateway.as_deref()).collect();
    let written = sqlx::query!(
        "INSERT INTO refunds AS known (key, order_code, asked_cents, reason, restock, request_hash, import_id, order_id,
                              status, amount_cents, refusal, gateway, reference_prefix, due_at, settled_at, waits_until)
         SELECT key, order_code, asked, reason, restock, hash, import_id, order_id, status, amount, refusal, gateway,
                (SELECT reference_mark()),
                now() + CASE status WHEN 'waiting' THEN $13::float8 WHEN 'pending' THEN $16::float8 END * interval '1 second',
                CASE WHEN status = 'refused' THEN now() END,
                CASE WHEN status = 'waiting' THEN now()
                     + CASE WHEN order_id IS NULL THEN $15::float8 ELSE $14::float8 END * interval '1 second' END
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::boolean[], $6::bigint[], $7::bigint[],
                     $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[])
              AS new (key, order_code, asked, reason, restock, hash, import_id, order_id, status, amount, refusal, gateway)
         ORDER BY key
         ON CONFLICT (key) DO UPDATE
         SET order_id = excluded.order_id, status = excluded.status, amount_cents = excluded.amount_cents,
             refusal = excluded.refusal, gateway = excluded.gateway, settled_at = excluded.settled_at,
             -- Nobody was asked while it waited.
             reference_prefix = excluded.reference_prefix,
             due_at = CASE excluded.status
                            WHEN 'waiting' THEN now() + least($13 * power(2, least(known.checks, 10)), 5) * interval '1 second'
                            ELSE excluded.due_at END,
             checks = CASE excluded.status WHEN 'waiting' THEN known.checks ELSE 0 END,
             -- An order that has come in meanwhile gives its refund the time to wait for its end.
             waits_until = CASE WHEN known.order_id IS NULL AND excluded.order_id IS NOT NULL
                                THEN excluded.waits_until ELSE known.waits_until END
         WHERE known.status = 'waiting' AND known.request_hash = excluded.request_hash",
        &keys as &[&str],
        &codes as &[&str],
        &asked as &[Option<i64>],
        &reasons as &[Option<&str>],
        &restock,
        &hashes,
        &imports as &[Option<i64>],
        &orders as &[Option<i64>],
        &statuses as &[&str],
        &amounts as &[Option<i64>],
        &refusals as &[Option<&str>],
        &gateways as &[Option<&str>],
        times.look_s,
        times.wait_s,
        times.unknown_s,
        times.answer_s,
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("write_refunds")?;
    match written.rows_affected() == refunds.len() as u64 {
        true => Ok(()),
        false => Err(Error::Raced),
    }
}

/// A refund whose order is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedRefund {
    /// Whose.
    pub order_id: OrderId,
    /// Where it stands.
    pub status: RefundStatus,
    /// How much.
    pub amount: Cents,
    /// Who gives the money back.
    pub gateway: String,
    /// What stands before its key in its reference there.
    pub reference_prefix: String,
    /// Whether the pieces should come back.
    pub restock: bool,
    /// Whether nobody asked for it.
    pub automatic: bool,
    /// Whether the order's pieces have come back with another refund.
    pub order_restocked: bool,
}

/// Locks the orders of granted refunds in id order and reads the refunds; unknown keys, and those that were not granted,
/// are absent.
///
/// # Errors
/// As any statement.
pub async fn lock_refunds_with_orders(
    connection: &mut PgConnection,
    keys: &[&str],
) -> Result<FxHashMap<String, LockedRefund>, Error> {
    sqlx::query!(
        "SELECT o.id FROM orders o
         WHERE o.id IN (SELECT order_id FROM refunds WHERE key = ANY ($1)) ORDER BY o.id FOR NO KEY UPDATE OF o",
        keys as &[&str]
    )
    .fetch_all(&mut *connection)
    .await?;
    // A statement of its own: who waited for a lock sees the other tables as they were before.
    let rows = sqlx::query!(
        r#"SELECT r.key, r.order_id AS "order_id!", r.status, r.amount_cents AS "amount_cents!",
                  r.gateway AS "gateway!", r.reference_prefix, r.restock, r.automatic,
                  EXISTS (SELECT FROM refunds other WHERE other.order_id = r.order_id AND other.restocked)
                      AS "order_restocked!"
           FROM refunds r
           WHERE r.key = ANY ($1) AND r.order_id IS NOT NULL AND r.amount_cents IS NOT NULL AND r.gateway IS NOT NULL"#,
        keys as &[&str]
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("lock_refunds_with_orders")?;
    rows.into_iter()
        .map(|row| {
            let refund = LockedRefund {
                order_id: OrderId(row.order_id),
                status: row.status.parse()?,
                amount: Cents::new(row.amount_cents),
                gateway: row.gateway,
                reference_prefix: row.reference_prefix,
                restock: row.restock,
                automatic: row.automatic,
                order_restocked: row.order_restocked,
            };
            Ok((row.key, refund))
        })
        .collect()
}

/// How a granted refund came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundEnd {
    /// Which.
    pub key: String,
    /// `succeeded` or `failed`.
    pub status: RefundStatus,
    /// Whether the order's pieces come back with it.
    pub restocked: bool,
    /// The provider's id for it, if it is known.
    pub provider_id: Option<String>,
    /// The provider's words on a failure.
    pub note: Option<String>,
}

/// Gives granted refunds, whose orders this transaction has locked, their end.
///
/// # Errors
/// As any statement.
pub async fn end_refunds(connection: &mut PgConnection, ends: &[RefundEnd]) -> Result<(), Error> {
    let keys: Vec<&str> = ends.iter().map(|end| end.key.as_str()).collect();
    let statuses: Vec<&str> = ends.iter().map(|end| end.status.as_str()).collect();
    let restocked: Vec<bool> = ends.iter().map(|end| end.restocked).collect();
    let provider_ids: Vec<Option<&str>> = ends.iter().map(|end| end.provider_id.as_deref()).collect();
    let notes: Vec<Option<&str>> = ends.iter().map(|end| end.note.as_deref()).collect();
    sqlx::query!(
        "UPDATE refunds
         SET status = ended.status, restocked = ended.restocked, settled_at = now(), due_at = NULL,
             provider_id = coalesce(ended.provider_id, refunds.provider_id), note = ended.note,
             refusal = CASE WHEN ended.status = 'failed' THEN 'gateway_refused' END
         FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::text[])
              AS ended (key, status, restocked, provider_id, note)
         WHERE refunds.key = ended.key AND refunds.status = 'pending'",
        &keys as &[&str],
        &statuses as &[&str],
        &restocked,
        &provider_ids as &[Option<&str>],
        &notes as &[Option<&str>],
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("end_refunds")?;
    Ok(())
}

/// Writes down that a provider owes the answer still, and when to ask again: after `again_s` seconds, doubled with each
/// time, with jitter.
///
/// # Errors
/// As any statement.
pub async fn postpone_refunds(
    connection: &mut PgConnection,
    open: &[(&str, Option<&str>, Option<&str>)],
    again_s: f64,
) -> Result<(), Error> {
    let (mut keys, mut notes, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for &(key, note, id) in open {
        keys.push(key);
        notes.push(note);
        ids.push(id);
    }
    sqlx::query!(
        "UPDATE refunds
         SET note = open.note,
             provider_id = coalesce(open.provider_id, refunds.provider_id),
             due_at = now() + least($3 * power(2, least(checks, 30)), 3600) * (0.5 + random() / 2) * interval '1 second'
         FROM unnest($1::text[], $2::text[], $4::text[]) AS open (key, note, provider_id)
         WHERE refunds.key = open.key AND refunds.status = 'pending'",
        &keys as &[&str],
        &notes as &[Option<&str>],
        again_s,
        &ids as &[Option<&str>],
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("postpone_refunds")?;
    Ok(())
}

/// Adds what went back to orders that this transaction has locked; an order may be named several times.
///
/// # Errors
/// As any statement.
pub async fn add_refunded(connection: &mut PgConnection, ids: &[i64], amounts: &[i64]) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE orders SET refunded_cents = refunded_cents + refunded.cents
         FROM (SELECT id, sum(cents)::bigint AS cents
               FROM unnest($1::bigint[], $2::bigint[]) AS each (id, cents) GROUP BY id) refunded
         WHERE orders.id = refunded.id",
        ids,
        amounts,
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("add_refunded")?;
    Ok(())
}

/// Puts the pieces of orders back on the shelf. Locks the products in id order.
///
/// # Errors
/// As any statement.
pub async fn return_stock(connection: &mut PgConnection, ids: &[i64]) -> Result<(), Error> {
    sqlx::query!(
        "WITH returned AS MATERIALIZED (
             SELECT l.product_id, sum(l.quantity)::bigint AS pieces
             FROM order_lines l WHERE l.order_id = ANY ($1) GROUP BY l.product_id
         ),
         locked AS MATERIALIZED (
             SELECT p.id, returned.pieces
             FROM returned JOIN products p ON p.id = returned.product_id
             ORDER BY p.id FOR NO KEY UPDATE OF p
         )
         UPDATE products p SET stock = p.stock + locked.pieces FROM locked WHERE p.id = locked.id",
        ids,
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("return_stock")?;
    Ok(())
}

/// Late money goes back: stores a granted refund of the whole payment for each of these orders, which this transaction
/// has locked. It is due at once.
///
/// # Errors
/// As any statement.
pub async fn insert_automatic_refunds(connection: &mut PgConnection, ids: &[i64]) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO refunds (key, order_id, order_code, asked_cents, amount_cents, status, reason, request_hash,
                              automatic, gateway, reference_prefix, due_at)
         SELECT $2 || o.code, o.id, o.code, p.amount_cents, p.amount_cents, 'pending',
                'paid after the order had failed', 0, true, p.gateway, (SELECT reference_mark()), now()
         FROM orders o JOIN payments p ON p.order_id = o.id AND p.attempt = 1
         -- Nothing was taken where nothing was to be paid.
         WHERE o.id = ANY ($1) AND p.amount_cents > 0
         ON CONFLICT (key) DO NOTHING",
        ids,
        RefundKey::AUTOMATIC,
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("insert_automatic_refunds")?;
    Ok(())
}
