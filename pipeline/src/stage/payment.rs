//! Payment: asks the gateway for the money of reserved orders and stores its answer.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Ending, Stage, park, unknown_order};
use crate::{
    domain::{OrderId, OrderStatus, PaymentStatus},
    failpoint,
    gateway::{Charge, ChargeAnswer, Gateway},
    message::{DeadReason, OrderRef},
    store::{self, NewPayments, PayableOrder, Store},
    topology::StageName,
};

/// The second stage, with a gateway.
#[derive(Debug)]
pub struct Payment {
    store: Store,
    gateway: Arc<dyn Gateway>,
}

/// What a message calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Ask the gateway, then settle.
    Charge,
    /// Asked before; settle.
    Settle,
    /// The order has reached its end, or waits for a callback.
    Nothing,
    /// Postgres does not have the order.
    Unknown,
}

impl Payment {
    /// The stage with its gateway.
    pub fn new(store: Store, gateway: Arc<dyn Gateway>) -> Self {
        Self { store, gateway }
    }

    /// Asks for the money of every order that needs it, outside any transaction, and stores the answers.
    async fn charge(
        &self,
        decisions: &[(OrderId, Decision)],
        orders: &FxHashMap<OrderId, PayableOrder>,
    ) -> Result<(), store::Error> {
        let mut asked = FxHashSet::default();
        let charges: Vec<Charge> = decisions
            .iter()
            .filter(|(id, decision)| *decision == Decision::Charge && asked.insert(*id))
            .map(|(id, _)| Charge { order_id: *id, reference: orders[id].code.clone(), amount: orders[id].total })
            .collect();
        if charges.is_empty() {
            return Ok(());
        }
        let mut payments = NewPayments::default();
        for (charge, answer) in charges.iter().zip(self.gateway.charge(&charges).await) {
            let status = match answer {
                ChargeAnswer::Approved(_) => PaymentStatus::Approved,
                _ => PaymentStatus::Declined,
            };
            payments.push(charge.order_id, charge.amount, status);
        }
        failpoint::hit::<store::Error>("payment.charged")?;
        // One statement is a transaction.
        let mut connection = self.store.pool().acquire().await?;
        store::insert_payments(&mut connection, self.gateway.name(), &payments).await
    }
}

impl Stage for Payment {
    type Message = OrderRef;

    const NAME: StageName = StageName::Payment;

    async fn process(&self, batch: &[OrderRef]) -> Result<Vec<Ending>, store::Error> {
        let ids: Vec<i64> = batch.iter().map(|message| message.order_id.0).collect();
        let orders = {
            let mut connection = self.store.pool().acquire().await?;
            store::payable_orders(&mut connection, &ids).await?
        };
        let decisions: Vec<(OrderId, Decision)> =
            batch.iter().map(|message| (message.order_id, decide(message, orders.get(&message.order_id)))).collect();
        self.charge(&decisions, &orders).await?;
        Ok(batch.iter().zip(decisions).map(|(message, (_, decision))| ending(message, decision)).collect())
    }

    async fn park(&self, message: &OrderRef, reason: DeadReason) -> Result<(), store::Error> {
        park(&self.store, Self::NAME, message, reason).await
    }

    fn renew_connections(&self) {
        self.store.renew();
    }
}

fn decide(message: &OrderRef, order: Option<&PayableOrder>) -> Decision {
    // After a restore, Postgres may have given the number to another order.
    let order = order.filter(|order| order.code == message.order_code);
    match order.map(|order| (order.status, order.payment)) {
        None => Decision::Unknown,
        Some((OrderStatus::Reserved, None)) => Decision::Charge,
        Some((OrderStatus::Reserved, Some(PaymentStatus::Pending))) => Decision::Nothing,
        Some((OrderStatus::Reserved, Some(_))) => Decision::Settle,
        Some((OrderStatus::Paying | OrderStatus::Completed | OrderStatus::Failed, _)) => Decision::Nothing,
    }
}

fn ending(message: &OrderRef, decision: Decision) -> Ending {
    match decision {
        Decision::Charge | Decision::Settle => Ending::Forward(StageName::Settlement, message.clone()),
        Decision::Nothing => Ending::Done,
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
            (OrderStatus::Completed, Some(PaymentStatus::Approved), Decision::Nothing),
            (OrderStatus::Failed, None, Decision::Nothing),
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
        assert!(matches!(ending(&message("A"), decision), Ending::Dead(DeadReason::UnknownOrder, _)));
    }

    fn message(code: &str) -> OrderRef {
        OrderRef { order_id: OrderId(1), order_code: code.to_owned() }
    }
}
