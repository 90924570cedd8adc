//! Payment: asks the gateway for the money of reserved orders. Who gets no answer waits for the collector.

use rustc_hash::FxHashSet;

use super::{Ending, Stage, park, unknown_order};
use crate::{
    domain::{OrderId, OrderStatus, PaymentStatus},
    gateway::Charge,
    message::{DeadReason, OrderRef},
    payments::Payments,
    store::{self, PayableOrder},
    topology::StageName,
};

/// The second stage.
#[derive(Debug)]
pub struct Payment {
    payments: Payments,
}

/// What a message calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Ask the gateway; settle if it answers.
    Charge,
    /// Asked before; settle.
    Settle,
    /// The order has reached its end, or its gateway owes the answer.
    Nothing,
    /// Postgres does not have the order.
    Unknown,
}

impl Payment {
    /// The stage at this desk.
    pub fn new(payments: Payments) -> Self {
        Self { payments }
    }
}

impl Stage for Payment {
    type Message = OrderRef;

    const NAME: StageName = StageName::Payment;

    async fn process(&self, batch: &[OrderRef]) -> Result<Vec<Ending>, store::Error> {
        let ids: Vec<i64> = batch.iter().map(|message| message.order_id.0).collect();
        let orders = {
            let mut connection = self.payments.store().pool().acquire().await?;
            store::payable_orders(&mut connection, &ids).await?
        };
        let decisions: Vec<Decision> =
            batch.iter().map(|message| decide(message, orders.get(&message.order_id))).collect();
        let mut asked = FxHashSet::default();
        let charges = batch
            .iter()
            .zip(&decisions)
            .filter(|(message, decision)| **decision == Decision::Charge && asked.insert(message.order_id))
            .map(|(message, _)| {
                let order = &orders[&message.order_id];
                Charge { order_id: message.order_id, reference: order.code.clone(), amount: order.total }
            })
            .collect();
        let settled = self.payments.charge(charges).await?;
        Ok(batch.iter().zip(decisions).map(|(message, decision)| ending(message, decision, &settled)).collect())
    }

    async fn park(&self, message: &OrderRef, reason: DeadReason) -> Result<(), store::Error> {
        park(self.payments.store(), Self::NAME, message, reason).await
    }

    fn renew_connections(&self) {
        self.payments.store().renew();
    }
}

fn decide(message: &OrderRef, order: Option<&PayableOrder>) -> Decision {
    // After a restore, Postgres may have given the number to another order.
    let order = order.filter(|order| order.code == message.order_code);
    let Some(order) = order else { return Decision::Unknown };
    match (order.status, order.payment) {
        (OrderStatus::Reserved, None) => Decision::Charge,
        // The collector sees to it.
        (OrderStatus::Reserved | OrderStatus::Paying, None | Some(PaymentStatus::Pending)) => Decision::Nothing,
        (OrderStatus::Reserved | OrderStatus::Paying, Some(_)) => Decision::Settle,
        // It was given up while its money was taken: settlement gives that back.
        (OrderStatus::Failed, Some(PaymentStatus::Approved)) => Decision::Settle,
        (OrderStatus::Completed | OrderStatus::Failed, _) => Decision::Nothing,
    }
}

/// `settled` are the orders that were asked for money and have their answer.
fn ending(message: &OrderRef, decision: Decision, settled: &FxHashSet<OrderId>) -> Ending {
    match decision {
        Decision::Settle => Ending::Forward(StageName::Settlement, message.clone()),
        Decision::Charge if settled.contains(&message.order_id) => {
            Ending::Forward(StageName::Settlement, message.clone())
        }
        Decision::Charge | Decision::Nothing => Ending::Done,
        Decision::Unknown => unknown_order(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Cents;

    #[test]
    fn an_order_is_charged_only_while_it_is_reserved_and_unpaid() {
        let table = [
            (OrderStatus::Reserved, None, Decision::Charge),
            (OrderStatus::Reserved, Some(PaymentStatus::Approved), Decision::Settle),
            (OrderStatus::Reserved, Some(PaymentStatus::Declined), Decision::Settle),
            (OrderStatus::Reserved, Some(PaymentStatus::Expired), Decision::Settle),
            (OrderStatus::Reserved, Some(PaymentStatus::Pending), Decision::Nothing),
            (OrderStatus::Paying, Some(PaymentStatus::Pending), Decision::Nothing),
            (OrderStatus::Paying, Some(PaymentStatus::Approved), Decision::Settle),
            (OrderStatus::Paying, Some(PaymentStatus::Expired), Decision::Settle),
            (OrderStatus::Completed, Some(PaymentStatus::Approved), Decision::Nothing),
            (OrderStatus::Failed, None, Decision::Nothing),
            (OrderStatus::Failed, Some(PaymentStatus::Declined), Decision::Nothing),
            (OrderStatus::Failed, Some(PaymentStatus::Late), Decision::Nothing),
            (OrderStatus::Failed, Some(PaymentStatus::Approved), Decision::Settle),
        ];
        for (status, payment, expected) in table {
            let order = PayableOrder { code: "A".to_owned(), total: Cents::new(1), status, payment };
            assert_eq!(decide(&message("A"), Some(&order)), expected, "{status} {payment:?}");
            assert_eq!(decide(&message("B"), Some(&order)), Decision::Unknown);
        }
    }

    #[test]
    fn a_message_for_an_order_that_postgres_lost_is_reported_not_dropped() {
        let decision = decide(&message("A"), None);
        let ending = ending(&message("A"), decision, &FxHashSet::default());
        assert!(matches!(ending, Ending::Dead(DeadReason::UnknownOrder, _)));
    }

    #[test]
    fn an_order_goes_on_when_its_answer_is_there() {
        let settled = FxHashSet::from_iter([OrderId(1)]);
        let forward = Ending::Forward(StageName::Settlement, message("A"));
        assert_eq!(ending(&message("A"), Decision::Charge, &settled), forward);
        assert_eq!(ending(&message("A"), Decision::Charge, &FxHashSet::default()), Ending::Done);
    }

    fn message(code: &str) -> OrderRef {
        OrderRef { order_id: OrderId(1), order_code: code.to_owned() }
    }
}
