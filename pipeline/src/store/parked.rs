//! Orders whose message was set aside as a dead letter.

use sqlx::PgConnection;

use super::Error;
use crate::{
    domain::OrderId,
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
    Ok(gone.rows_affected())
}
