//! Orders whose message is gone, and what was done about it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::Error;
use crate::{
    domain::{OrderId, PaymentStatus},
    failpoint,
    message::OrderRef,
    topology::StageName,
};

/// The advisory lock that the one reconciler of a database holds. Any constant does; this one spells "recon".
const RECONCILER_LOCK: i64 = 0x72_65_63_6f_6e;

/// Tries to take the lock of the one reconciler; it is kept until this connection ends.
///
/// # Errors
/// As any statement.
pub async fn try_become_reconciler(connection: &mut PgConnection) -> Result<bool, Error> {
    let lock = RECONCILER_LOCK;
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "ours!""#, lock).fetch_one(connection).await?)
}

/// The clock by which orders are created.
///
/// # Errors
/// As any statement.
pub async fn now(connection: &mut PgConnection) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(connection).await?)
}

/// An open order, and whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrandedOrder {
    /// The message that it needs.
    pub order: OrderRef,
    /// Where it came in.
    pub partition: u16,
    /// The stage that its state calls for.
    pub stage: StageName,
}

/// Up to `limit` open orders with an id above `after`, created between the two instants, whose turn it is and that are
/// not parked. Orders for which a gateway owes an answer wait for that, not for a message.
///
/// # Errors
/// As any statement.
pub async fn orders_in_turn(
    connection: &mut PgConnection,
    created: (DateTime<Utc>, DateTime<Utc>),
    after: OrderId,
    limit: i64,
) -> Result<Vec<StrandedOrder>, Error> {
    let rows = sqlx::query!(
        r#"SELECT o.id, o.code, o.partition, p.status AS "payment?"
           FROM orders o
           LEFT JOIN LATERAL (
               SELECT status FROM payments WHERE order_id = o.id ORDER BY attempt DESC LIMIT 1
           ) p ON true
           WHERE o.status IN ('reserved', 'paying') AND o.created_at BETWEEN $1 AND $2 AND o.id > $3
             AND p.status IS DISTINCT FROM 'pending' AND (o.status = 'reserved' OR p.status IS NOT NULL)
             AND NOT EXISTS (SELECT 1 FROM parked WHERE parked.order_id = o.id)
           ORDER BY o.id LIMIT $4"#,
        created.0,
        created.1,
        after.0,
        limit,
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("orders_in_turn")?;
    rows.into_iter()
        .map(|row| {
            let payment: Option<PaymentStatus> = row.payment.map(|word| word.parse()).transpose()?;
            Ok(StrandedOrder {
                order: OrderRef { order_id: OrderId(row.id), order_code: row.code },
                partition: row.partition.cast_unsigned(),
                stage: if payment.is_some() { StageName::Settlement } else { StageName::Payment },
            })
        })
        .collect()
}

/// When the oldest open order was created, of those that were created at or after an instant.
///
/// # Errors
/// As any statement.
pub async fn oldest_open_order(
    connection: &mut PgConnection,
    from: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let oldest = sqlx::query_scalar!(
        "SELECT min(created_at) FROM orders WHERE status IN ('reserved', 'paying') AND created_at >= $1",
        from
    )
    .fetch_one(connection)
    .await?;
    failpoint::hit::<Error>("oldest_open_order")?;
    Ok(oldest)
}

/// The open orders that were parked before an instant.
///
/// # Errors
/// As any statement.
pub async fn parked_before(connection: &mut PgConnection, instant: DateTime<Utc>) -> Result<Vec<OrderId>, Error> {
    let ids = sqlx::query_scalar!("SELECT order_id FROM parked WHERE parked_at < $1 ORDER BY order_id", instant)
        .fetch_all(connection)
        .await?;
    failpoint::hit::<Error>("parked_before")?;
    Ok(ids.into_iter().map(OrderId).collect())
}

/// What was found wrong between Postgres and Redis, and put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// `messages_lost`, `letters_lost`, `postgres_restored`, `redis_went_back`, `redis_emptied` or `deliveries_lost`.
    pub cause: String,
    /// Orders that were given a new message for payment.
    pub to_payment: i64,
    /// Orders that were given a new message for settlement.
    pub to_settlement: i64,
    /// The first few order codes, or what else was found.
    pub detail: String,
}

impl Reconciliation {
    /// Postgres has another history than the board shows.
    pub fn postgres_restored(found: String) -> Self {
        Self::now("postgres_restored", found)
    }

    /// Something that was found just now, and gave nobody a message.
    pub fn now(cause: &str, detail: String) -> Self {
        let now = Utc::now();
        Self { started_at: now, finished_at: now, cause: cause.to_owned(), to_payment: 0, to_settlement: 0, detail }
    }
}

/// Writes down what was found.
///
/// # Errors
/// As any statement.
pub async fn note_reconciliation(connection: &mut PgConnection, found: &Reconciliation) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO reconciliations (started_at, finished_at, cause, to_payment, to_settlement, detail)
         VALUES ($1, $2, $3, $4, $5, $6)",
        found.started_at,
        found.finished_at,
        found.cause,
        found.to_payment,
        found.to_settlement,
        found.detail,
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("note_reconciliation")
}

/// The latest findings, newest first.
///
/// # Errors
/// As any statement.
pub async fn reconciliations(connection: &mut PgConnection, limit: i64) -> Result<Vec<Reconciliation>, Error> {
    Ok(sqlx::query_as!(
        Reconciliation,
        "SELECT started_at, finished_at, cause, to_payment, to_settlement, detail
         FROM reconciliations ORDER BY id DESC LIMIT $1",
        limit
    )
    .fetch_all(connection)
    .await?)
}
