//! Settlement: completes paid orders and releases the stock of the others.

use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::PgConnection;

use super::{Ending, Stage, park, unknown_order};
use crate::{
    domain::{EventKind, FailureReason, OrderId, OrderStatus, PaymentStatus},
    message::{DeadReason, OrderRef},
    metrics::Ends,
    payments::return_late_money,
    store::{self, NewEvent, SettleableOrder, Store},
    topology::StageName,
};

/// The last stage.
#[derive(Debug)]
pub struct Settlement {
    store: Store,
    ends: Ends,
}

/// An order that came to its end, and why it failed if it did.
type Ended = (OrderId, Option<FailureReason>);

/// What a message calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Completed, or failed for a reason.
    Settle(Option<FailureReason>),
    /// The order has failed, but it is paid: the money goes back.
    ReturnMoney,
    /// The order has reached its end before, or its gateway owes the answer.
    Nothing,
    /// The order is earlier than this message expects (Postgres lost the payment): to payment again.
    Redrive,
    /// Postgres does not have the order.
    Unknown,
}

impl Settlement {
    /// The stage.
    pub fn new(store: Store) -> Self {
        Self { store, ends: Ends::default() }
    }

    /// Has orders that reach their end counted.
    pub fn counted_by(self, ends: Ends) -> Self {
        Self { ends, ..self }
    }
}

impl Stage for Settlement {
    type Message = OrderRef;

    const NAME: StageName = StageName::Settlement;

    async fn process(&self, batch: &[OrderRef]) -> Result<Vec<Ending>, store::Error> {
        let ids: Vec<i64> = batch.iter().map(|message| message.order_id.0).collect();
        let mut transaction = self.store.begin().await?;
        let orders = store::lock_orders_in_id_order(&mut transaction, &ids).await?;
        let decisions: Vec<Decision> =
            batch.iter().map(|message| decide(message, orders.get(&message.order_id))).collect();
        let ended = save(&mut transaction, batch, &decisions, &orders).await?;
        store::commit(transaction).await?;
        let received_ms = |(id, _): &Ended| orders[id].received_at.timestamp_millis();
        let (completed, failed): (Vec<_>, Vec<_>) = ended.iter().partition(|(_, failure)| failure.is_none());
        self.ends.completed(completed.into_iter().map(received_ms));
        self.ends.failed(failed.into_iter().map(received_ms));
        Ok(batch.iter().zip(decisions).map(|(message, decision)| ending(message, decision)).collect())
    }

    async fn park(&self, message: &OrderRef, reason: DeadReason) -> Result<(), store::Error> {
        park(&self.store, Self::NAME, message, reason).await
    }

    fn renew_connections(&self) {
        self.store.renew();
    }
}

fn decide(message: &OrderRef, order: Option<&SettleableOrder>) -> Decision {
    // After a restore, Postgres may have given the number to another order.
    let Some(order) = order.filter(|order| order.code == message.order_code) else { return Decision::Unknown };
    match (order.status, order.payment) {
        (OrderStatus::Failed, Some(PaymentStatus::Approved)) => Decision::ReturnMoney,
        (OrderStatus::Completed | OrderStatus::Failed, _) => Decision::Nothing,
        (OrderStatus::Reserved | OrderStatus::Paying, payment) => match payment {
            Some(PaymentStatus::Approved) => Decision::Settle(None),
            Some(PaymentStatus::Declined) => Decision::Settle(Some(FailureReason::PaymentDeclined)),
            Some(PaymentStatus::Expired) => Decision::Settle(Some(FailureReason::PaymentExpired)),
            Some(PaymentStatus::Pending | PaymentStatus::Late) => Decision::Nothing,
            None => Decision::Redrive,
        },
    }
}

/// Which orders came to their end.
async fn save(
    connection: &mut PgConnection,
    batch: &[OrderRef],
    decisions: &[Decision],
    orders: &FxHashMap<OrderId, SettleableOrder>,
) -> Result<Vec<Ended>, store::Error> {
    // The same order may stand in a batch twice; its stock moves once.
    let mut seen = FxHashSet::default();
    let (mut ended, mut late) = (Vec::new(), Vec::new());
    for (message, decision) in batch.iter().zip(decisions) {
        match decision {
            Decision::Settle(failure) if seen.insert(message.order_id) => ended.push((message.order_id, *failure)),
            Decision::ReturnMoney if seen.insert(message.order_id) => late.push(message.order_id),
            _ => {}
        }
    }
    if !late.is_empty() {
        return_late_money(connection, &late).await?;
    }
    if ended.is_empty() {
        return Ok(ended);
    }
    let ids: Vec<i64> = ended.iter().map(|(id, _)| id.0).collect();
    let failures: Vec<Option<FailureReason>> = ended.iter().map(|(_, failure)| *failure).collect();
    let completed: Vec<bool> = failures.iter().map(Option::is_none).collect();
    store::mark_settled(connection, &ids, &failures).await?;
    store::release_held_stock(connection, &ids, &completed).await?;

    let event = |(id, failure): &Ended| {
        let kind = if failure.is_none() { EventKind::Completed } else { EventKind::Failed };
        NewEvent::settled(*id, kind, orders[id].total)
    };
    store::append_events(connection, &ended.iter().map(event).collect::<Vec<_>>()).await?;
    Ok(ended)
}

fn ending(message: &OrderRef, decision: Decision) -> Ending {
    match decision {
        Decision::Settle(_) | Decision::ReturnMoney | Decision::Nothing => Ending::Done,
        Decision::Redrive => Ending::Forward(StageName::Payment, message.clone()),
        Decision::Unknown => unknown_order(message),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::Cents;

    fn message(code: &str) -> OrderRef {
        OrderRef { order_id: OrderId(1), order_code: code.to_owned() }
    }

    fn order(code: &str, status: OrderStatus, payment: Option<PaymentStatus>) -> SettleableOrder {
        SettleableOrder {
            code: code.to_owned(),
            status,
            total: Cents::new(1),
            received_at: DateTime::UNIX_EPOCH,
            payment,
        }
    }

    #[test]
    fn an_order_ends_as_its_payment_says_and_only_once() {
        let declined = Decision::Settle(Some(FailureReason::PaymentDeclined));
        let expired = Decision::Settle(Some(FailureReason::PaymentExpired));
        let table = [
            (OrderStatus::Reserved, Some(PaymentStatus::Approved), Decision::Settle(None)),
            (OrderStatus::Reserved, Some(PaymentStatus::Declined), declined),
            (OrderStatus::Paying, Some(PaymentStatus::Approved), Decision::Settle(None)),
            (OrderStatus::Paying, Some(PaymentStatus::Expired), expired),
            (OrderStatus::Paying, Some(PaymentStatus::Pending), Decision::Nothing),
            (OrderStatus::Completed, Some(PaymentStatus::Approved), Decision::Nothing),
            (OrderStatus::Failed, Some(PaymentStatus::Declined), Decision::Nothing),
            (OrderStatus::Failed, Some(PaymentStatus::Approved), Decision::ReturnMoney),
            (OrderStatus::Failed, Some(PaymentStatus::Late), Decision::Nothing),
        ];
        for (status, payment, expected) in table {
            let order = order("A", status, payment);
            assert_eq!(decide(&message("A"), Some(&order)), expected, "{status} {payment:?}");
        }
    }

    #[test]
    fn an_order_that_is_gone_or_another_now_is_reported() {
        let other = order("B", OrderStatus::Reserved, Some(PaymentStatus::Approved));
        for found in [None, Some(&other)] {
            let decision = decide(&message("A"), found);
            assert_eq!(decision, Decision::Unknown);
            assert!(matches!(ending(&message("A"), decision), Ending::Dead(DeadReason::UnknownOrder, _)));
        }
    }

    #[test]
    fn a_message_for_an_unpaid_order_goes_back_to_payment() {
        let order = order("A", OrderStatus::Reserved, None);
        let message = message("A");
        assert_eq!(
            ending(&message, decide(&message, Some(&order))),
            Ending::Forward(StageName::Payment, message.clone())
        );
    }
}
