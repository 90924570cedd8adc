//! Orders whose message was set aside as a dead letter.

use sqlx::PgConnection;

use super::{Error, NewEvent, append_events, lock_orders_in_id_order, mark_settled, release_held_stock};
use crate::{
    domain::{EventKind, FailureReason, OrderId, PaymentStatus},
    failpoint,
    message::{DeadReason, OrderRef},
    topology::StageName,
};

/// Marks orders as parked at `stage`, those of them that are open. The reconciler leaves them alone from now on.
///
/// # Errors
/// As any statement.
pub async fn park_orders(
    connection: &mut PgConnection,
    orders: &[OrderRef],
    stage: StageName,
    reason: DeadReason,
) -> Result<(), Error> {
    let ids: Vec<i64> = orders.iter().map(|order| order.order_id.0).collect();
    let codes: Vec<&str> = orders.iter().map(|order| order.order_code.as_str()).collect();
    sqlx::query!(
        "INSERT INTO parked (order_id, stage, reason)
         SELECT o.id, $3, $4
         FROM unnest($1::bigint[], $2::text[]) AS named (id, code)
         JOIN orders o ON o.id = named.id AND o.code = named.code
         WHERE o.status IN ('reserved', 'paying')
         ON CONFLICT (order_id) DO UPDATE SET stage = $3, reason = $4, parked_at = now()",
        &ids,
        &codes as &[&str],
        stage.as_str(),
        reason.as_str(),
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("park_orders")?;
    Ok(())
}

/// Takes the mark away: the orders go on with their next message, which the reconciler emits if nobody else does.
///
/// # Errors
/// As any statement.
pub async fn unpark_orders(connection: &mut PgConnection, orders: &[OrderId]) -> Result<u64, Error> {
    let ids: Vec<i64> = orders.iter().map(|id| id.0).collect();
    let gone = sqlx::query!("DELETE FROM parked WHERE order_id = ANY ($1)", &ids).execute(connection).await?;
    failpoint::hit::<Error>("unpark_orders")?;
    Ok(gone.rows_affected())
}

/// How many orders are parked.
///
/// # Errors
/// As any statement.
pub async fn parked_orders(connection: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM parked"#).fetch_one(connection).await?)
}

/// What giving up an order came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandonment {
    /// No open order of this number and code is parked: there was nothing to give up.
    NotParked,
    /// It has failed as `abandoned`, and holds nothing any more.
    Abandoned,
    /// It was left alone: the customer has paid, or may have.
    Paid,
}

/// Gives up a parked order: it fails as `abandoned`, and what it holds is free again. An order with a payment that is
/// approved, or not yet answered, is left as it is. The event counter is locked last, so this must be the
/// transaction's last statement.
///
/// # Errors
/// As any statement.
pub async fn abandon_parked_order(
    connection: &mut PgConnection,
    id: OrderId,
    code: &str,
) -> Result<Abandonment, Error> {
    let orders = lock_orders_in_id_order(connection, &[id.0]).await?;
    let parked = sqlx::query_scalar!("SELECT order_id FROM parked WHERE order_id = $1 FOR UPDATE", id.0);
    let is_parked = parked.fetch_optional(&mut *connection).await?.is_some();
    // After a restore, Postgres may have given the number to another order.
    let Some(known) = orders.get(&id).filter(|known| is_parked && known.code == code) else {
        return Ok(Abandonment::NotParked);
    };
    if known.status.is_final() {
        unpark_orders(connection, &[id]).await?;
        return Ok(Abandonment::NotParked);
    }
    if matches!(known.payment, Some(PaymentStatus::Approved | PaymentStatus::Pending)) {
        return Ok(Abandonment::Paid);
    }
    mark_settled(connection, &[id.0], &[Some(FailureReason::Abandoned)]).await?;
    release_held_stock(connection, &[id.0], &[false]).await?;
    unpark_orders(connection, &[id]).await?;
    append_events(connection, &[NewEvent::settled(id, EventKind::Failed, known.total)]).await?;
    Ok(Abandonment::Abandoned)
}

/// What [`abandon_parked_order`] would come to; changes and locks nothing.
///
/// # Errors
/// As any statement.
pub async fn foresee_abandonment(connection: &mut PgConnection, id: OrderId, code: &str) -> Result<Abandonment, Error> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM payments WHERE order_id = o.id AND status IN ('approved', 'pending')) AS "paid!"
           FROM parked JOIN orders o ON o.id = parked.order_id
           WHERE o.id = $1 AND o.code = $2 AND o.status IN ('reserved', 'paying')"#,
        id.0,
        code,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match found {
        None => Abandonment::NotParked,
        Some(true) => Abandonment::Paid,
        Some(false) => Abandonment::Abandoned,
    })
}
