//! The gap-free record of what happened, and the figures that follow from it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use super::Error;
use crate::{
    domain::{Cents, EventKind, FailureReason, OrderId},
    failpoint,
};

/// The advisory lock that the one relay of a database holds. Any constant does; this one spells "relay".
const RELAY_LOCK: i64 = 0x72_65_6c_61_79;

/// A fact to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewEvent<'a> {
    /// Whose; `None` for a refused refund of an order that nobody knows.
    pub order_id: Option<OrderId>,
    /// What happened.
    pub kind: EventKind,
    /// How much.
    pub amount: Cents,
    /// Which refund, for those that tell of one.
    pub refund_key: Option<&'a str>,
}

impl NewEvent<'_> {
    /// An order has come to its end, completed or failed.
    pub fn settled(order_id: OrderId, kind: EventKind, total: Cents) -> Self {
        Self { order_id: Some(order_id), kind, amount: total, refund_key: None }
    }
}

/// Appends events in their order. Takes the counter's lock and keeps it until the transaction ends, so this must be the
/// transaction's last statement.
///
/// # Errors
/// As any statement.
pub async fn append_events(connection: &mut PgConnection, events: &[NewEvent<'_>]) -> Result<(), Error> {
    let orders: Vec<Option<i64>> = events.iter().map(|event| event.order_id.map(|id| id.0)).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let amounts: Vec<i64> = events.iter().map(|event| event.amount.get()).collect();
    let refunds: Vec<Option<&str>> = events.iter().map(|event| event.refund_key).collect();
    let appended = sqlx::query!(
        "WITH counter AS (
             UPDATE event_counter SET last_seq = last_seq + cardinality($1::bigint[])
             RETURNING last_seq - cardinality($1::bigint[]) AS before
         )
         INSERT INTO events (seq, order_id, kind, amount_cents, refund_key)
         SELECT counter.before + new.n, new.order_id, new.kind, new.amount_cents, new.refund_key
         FROM counter, unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[]) WITH ORDINALITY
              AS new (order_id, kind, amount_cents, refund_key, n)",
        &orders as &[Option<i64>],
        &kinds as &[&str],
        &amounts,
        &refunds as &[Option<&str>],
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("append_events")?;
    match appended.rows_affected() {
        0 if !events.is_empty() => Err(Error::CounterMissing),
        _ => Ok(()),
    }
}

/// The number of the last event; 0 before the first.
///
/// # Errors
/// As any statement.
pub async fn last_event_seq(connection: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!("SELECT last_seq FROM event_counter").fetch_one(connection).await?)
}

/// How long ago the first event after `seq` happened, in seconds; `None` if there is none.
///
/// # Errors
/// As any statement.
pub async fn event_age_after(connection: &mut PgConnection, seq: i64) -> Result<Option<f64>, Error> {
    let age = sqlx::query_scalar!(
        r#"SELECT greatest(extract(epoch FROM clock_timestamp() - at), 0)::float8 AS "age!"
           FROM events WHERE seq > $1 ORDER BY seq LIMIT 1"#,
        seq
    )
    .fetch_optional(connection)
    .await?;
    Ok(age)
}

/// Tries to take the lock of the one relay; it is kept until this connection ends.
///
/// # Errors
/// As any statement.
pub async fn try_become_relay(connection: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "ours!""#, RELAY_LOCK).fetch_one(connection).await?)
}

/// An event with what the board and its readers need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardEvent {
    /// Its number.
    pub seq: i64,
    /// What happened.
    pub kind: EventKind,
    /// To which order; `None` where no such order is known.
    pub order_id: Option<OrderId>,
    /// Minor units.
    pub amount_cents: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Whose order; `None` where no such order is known.
    pub customer_id: Option<i64>,
    /// Which order.
    pub order_code: String,
    /// Why it failed or was refused, if it did.
    pub reason: Option<String>,
    /// Which refund, if it tells of one.
    pub refund_key: Option<String>,
    /// Whether the refund brought the order's pieces back to the stock.
    pub restocked: bool,
    /// The UTC day on which the order was created; where no such order is known, that of the event.
    pub day: NaiveDate,
}

/// Up to `limit` events after `seq`, in sequence.
///
/// # Errors
/// As any statement.
pub async fn board_events_after(connection: &mut PgConnection, seq: i64, limit: i64) -> Result<Vec<BoardEvent>, Error> {
    let rows = sqlx::query!(
        r#"SELECT e.seq, e.kind, e.order_id, e.amount_cents, e.at, o.customer_id AS "customer_id?",
                  coalesce(o.code, r.order_code) AS "order_code!",
                  CASE WHEN e.refund_key IS NULL THEN o.failure_reason ELSE r.refusal END AS reason,
                  e.refund_key, coalesce(r.restocked, false) AS "restocked!",
                  (coalesce(o.created_at, e.at) AT TIME ZONE 'UTC')::date AS "day!"
           FROM events e LEFT JOIN orders o ON o.id = e.order_id LEFT JOIN refunds r ON r.key = e.refund_key
           WHERE e.seq > $1 AND e.seq <= $1 + $2 AND coalesce(o.code, r.order_code) IS NOT NULL
           ORDER BY e.seq"#,
        seq,
        limit
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("board_events_after")?;
    rows.into_iter()
        .map(|row| {
            Ok(BoardEvent {
                seq: row.seq,
                kind: row.kind.parse()?,
                order_id: row.order_id.map(OrderId),
                amount_cents: row.amount_cents,
                at: row.at,
                customer_id: row.customer_id,
                order_code: row.order_code,
                reason: row.reason,
                refund_key: row.refund_key,
                restocked: row.restocked,
                day: row.day,
            })
        })
        .collect()
}

/// Pieces of a product in orders that completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PiecesSold {
    /// The UTC day on which the orders were created.
    pub day: NaiveDate,
    /// Which product.
    pub product_id: i64,
    /// How many.
    pub pieces: i64,
}

/// What these events sold, less what they brought back, by day and product.
///
/// # Errors
/// As any statement.
pub async fn pieces_sold_in(connection: &mut PgConnection, events: &[BoardEvent]) -> Result<Vec<PiecesSold>, Error> {
    let (mut orders, mut days, mut signs) = (Vec::new(), Vec::new(), Vec::new());
    for event in events {
        let (order, sign) = match (event.kind, event.order_id) {
            (EventKind::Completed, Some(order)) => (order, 1),
            (EventKind::Refunded, Some(order)) if event.restocked => (order, -1),
            _ => continue,
        };
        orders.push(order.0);
        days.push(event.day);
        signs.push(sign);
    }
    // The days are known: to join with the orders for them would cost more than to find the lines.
    let pieces = sqlx::query_as!(
        PiecesSold,
        r#"SELECT e.day AS "day!", l.product_id, sum(e.sign * l.quantity) AS "pieces!"
           FROM unnest($1::bigint[], $2::date[], $3::integer[]) AS e (order_id, day, sign)
           JOIN order_lines l ON l.order_id = e.order_id
           GROUP BY e.day, l.product_id"#,
        &orders,
        &days,
        &signs
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("pieces_sold_in")?;
    Ok(pieces)
}

/// What all orders sold up to an event, less what came back, by day and product.
///
/// # Errors
/// As any statement.
pub async fn pieces_sold(connection: &mut PgConnection, up_to: i64) -> Result<Vec<PiecesSold>, Error> {
    let pieces = sqlx::query_as!(
        PiecesSold,
        r#"SELECT (o.created_at AT TIME ZONE 'UTC')::date AS "day!", l.product_id,
                  sum(CASE e.kind WHEN 'completed' THEN l.quantity ELSE -l.quantity END)::bigint AS "pieces!"
           FROM events e
           JOIN orders o ON o.id = e.order_id
           JOIN order_lines l ON l.order_id = e.order_id
           LEFT JOIN refunds r ON r.key = e.refund_key
           WHERE e.seq <= $1 AND (e.kind = 'completed' OR (e.kind = 'refunded' AND r.restocked))
           GROUP BY 1, 2"#,
        up_to
    )
    .fetch_all(connection)
    .await?;
    Ok(pieces)
}

/// The figures of one UTC day.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct DayFigures {
    /// Orders of the day that completed.
    pub completed: i64,
    /// Orders of the day that failed.
    pub failed: i64,
    /// Those by the reason; reasons that did not occur are absent.
    pub failed_by: BTreeMap<FailureReason, i64>,
    /// Totals of the completed ones, in minor units.
    pub revenue_cents: i64,
    /// Given back of those, on whatever day, in minor units.
    pub refunded_cents: i64,
    /// Given back on this day, of orders of whatever day, in minor units.
    pub paid_back_cents: i64,
}

impl DayFigures {
    /// Adds another day's figures to these.
    pub fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.failed += other.failed;
        for (reason, orders) in &other.failed_by {
            *self.failed_by.entry(*reason).or_default() += orders;
        }
        self.revenue_cents += other.revenue_cents;
        self.refunded_cents += other.refunded_cents;
        self.paid_back_cents += other.paid_back_cents;
    }
}

/// The figures of every day, recomputed from the events up to a number.
///
/// # Errors
/// As any statement.
pub async fn day_figures(connection: &mut PgConnection, up_to: i64) -> Result<Vec<(NaiveDate, DayFigures)>, Error> {
    let rows = sqlx::query!(
        r#"SELECT (o.created_at AT TIME ZONE 'UTC')::date AS "day!", o.failure_reason,
                  count(*) FILTER (WHERE e.kind = 'completed') AS "completed!",
                  count(*) FILTER (WHERE e.kind = 'failed') AS "failed!",
                  coalesce(sum(e.amount_cents) FILTER (WHERE e.kind = 'completed'), 0)::bigint AS "revenue_cents!",
                  coalesce(sum(e.amount_cents) FILTER (WHERE e.kind = 'refunded'), 0)::bigint AS "refunded_cents!"
           FROM events e JOIN orders o ON o.id = e.order_id
           WHERE e.seq <= $1
           GROUP BY 1, 2"#,
        up_to
    )
    .fetch_all(&mut *connection)
    .await?;
    let paid_back = sqlx::query!(
        r#"SELECT (at AT TIME ZONE 'UTC')::date AS "day!", sum(amount_cents)::bigint AS "cents!"
           FROM events WHERE seq <= $1 AND kind = 'refunded' GROUP BY 1"#,
        up_to
    )
    .fetch_all(connection)
    .await?;
    let mut days: BTreeMap<NaiveDate, DayFigures> = BTreeMap::new();
    for row in paid_back {
        days.entry(row.day).or_default().paid_back_cents = row.cents;
    }
    for row in rows {
        let reason: Option<FailureReason> = row.failure_reason.map(|word| word.parse()).transpose()?;
        days.entry(row.day).or_default().add(&DayFigures {
            completed: row.completed,
            failed: row.failed,
            failed_by: reason.filter(|_| row.failed > 0).map(|reason| (reason, row.failed)).into_iter().collect(),
            revenue_cents: row.revenue_cents,
            refunded_cents: row.refunded_cents,
            paid_back_cents: 0,
        });
    }
    Ok(days.into_iter().collect())
}

/// What a customer's orders of one day brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerRevenue {
    /// The UTC day on which the orders were created.
    pub day: NaiveDate,
    /// Who.
    pub customer_id: i64,
    /// Minor units, net of refunds.
    pub cents: i64,
}

/// Revenue by day and customer, recomputed from the events up to a number.
///
/// # Errors
/// As any statement.
pub async fn customer_revenue(connection: &mut PgConnection, up_to: i64) -> Result<Vec<CustomerRevenue>, Error> {
    Ok(sqlx::query_as!(
        CustomerRevenue,
        r#"SELECT (o.created_at AT TIME ZONE 'UTC')::date AS "day!", o.customer_id,
                  sum(CASE e.kind WHEN 'completed' THEN e.amount_cents ELSE -e.amount_cents END)::bigint AS "cents!"
           FROM events e JOIN orders o ON o.id = e.order_id
           WHERE e.seq <= $1 AND e.kind IN ('completed', 'refunded')
           GROUP BY 1, 2"#,
        up_to
    )
    .fetch_all(connection)
    .await?)
}
