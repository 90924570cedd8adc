//! Every order that has not reached its end has a message that will take it there.

use redis::aio::MultiplexedConnection;
use rustc_hash::FxHashMap;

use super::{AuditError, CheckResult};
use crate::{
    domain::{OrderId, OrderStatus, PaymentStatus},
    message::{Entry, Incoming, Message, OrderRef},
    store::{self, OpenOrder, Store},
    streams::Redis,
    topology::StageName,
};

/// The streams to look through, look by look. Messages of the inner stages are short and explain nearly every order;
/// what comes in is looked through only for the rest. Between the looks the system may run: who has no message at the
/// first look is looked for again, in the state that the order has by then.
const LOOKS: [&[StageName]; 3] = [&[StageName::Payment, StageName::Settlement], &StageName::WAY, &StageName::WAY];

/// Looks for a message for every order in `open`. Streams are walked in the order of the stages, so that a message
/// that moves on during a look is met at its next place.
pub(super) async fn check(
    store: &Store,
    redis: &Redis,
    connection: &mut MultiplexedConnection,
    partitions: u16,
    open: Vec<OpenOrder>,
) -> Result<CheckResult, AuditError> {
    let examined = open.len();
    let mut unexplained = Unexplained::new(open);
    for stages in LOOKS {
        for &stage in stages {
            for partition in 0..partitions {
                if !unexplained.is_empty() {
                    unexplained.look_through(redis, connection, partition, stage).await?;
                }
            }
        }
        if unexplained.is_empty() {
            break;
        }
        let mut postgres = store.pool().acquire().await.map_err(store::Error::from)?;
        unexplained = Unexplained::new(store::open_orders(&mut postgres, Some(&unexplained.ids())).await?);
    }
    Ok(CheckResult::new(
        "open_orders_explained",
        "every open order has an unacknowledged message for the stage that its state calls for, or for an earlier one",
        examined,
        "open orders",
        unexplained.descriptions(),
    ))
}

/// Orders for which no message was found yet.
struct Unexplained {
    orders: FxHashMap<OrderId, OpenOrder>,
    /// On its way in, an order is known by its code only.
    codes: FxHashMap<String, OrderId>,
}

impl Unexplained {
    fn new(open: Vec<OpenOrder>) -> Self {
        let orders: FxHashMap<OrderId, OpenOrder> =
            open.into_iter().filter(|order| awaits(order).is_some()).map(|order| (order.id, order)).collect();
        let codes = orders.values().map(|order| (order.code.clone(), order.id)).collect();
        Self { orders, codes }
    }

    fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    fn ids(&self) -> Vec<i64> {
        self.orders.keys().map(|id| id.0).collect()
    }

    /// Walks through the unacknowledged messages of a stage and strikes out the orders that they carry.
    async fn look_through(
        &mut self,
        redis: &Redis,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<(), AuditError> {
        let mut walk = redis.unacknowledged(connection, partition, stage).await?;
        while let Some(page) = walk.next_page(connection).await? {
            for entry in &page {
                if let Some(id) = self.carried(stage, entry) {
                    self.strike(id);
                }
            }
            if self.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The order that a message of this stage carries on, if it is one of ours.
    fn carried(&self, stage: StageName, entry: &Entry) -> Option<OrderId> {
        let order = match stage {
            StageName::Reservation => {
                let incoming = Incoming::decode(entry).ok()?.order;
                let order = self.orders.get(self.codes.get(incoming.code().as_str())?)?;
                // With other content it is a conflict, which carries nothing on.
                (order.content_hash == incoming.content_hash()).then_some(order)?
            }
            StageName::Refund | StageName::Callback => return None,
            StageName::Payment | StageName::Settlement => self.orders.get(&OrderRef::decode(entry).ok()?.order_id)?,
        };
        awaits(order).is_some_and(|called_for| stage <= called_for).then_some(order.id)
    }

    fn strike(&mut self, id: OrderId) {
        if let Some(order) = self.orders.remove(&id) {
            self.codes.remove(&order.code);
        }
    }

    fn descriptions(self) -> Vec<String> {
        let mut orders: Vec<OpenOrder> = self.orders.into_values().collect();
        orders.sort_by_key(|order| order.id);
        orders
            .into_iter()
            .map(|order| {
                let payment = order.payment.map_or("none", PaymentStatus::as_str);
                format!(
                    "order {}: is {} (payment: {payment}), but no stage has a message for it",
                    order.code, order.status
                )
            })
            .collect()
    }
}

/// The stage whose turn it is, or `None` while a gateway owes the answer. A message for an earlier stage will do as
/// well: a stage may have committed and not handed off yet, and passes on what is done already.
fn awaits(order: &OpenOrder) -> Option<StageName> {
    match (order.status, order.payment) {
        (OrderStatus::Paying, Some(PaymentStatus::Pending)) => None,
        (_, None) => Some(StageName::Payment),
        (_, Some(_)) => Some(StageName::Settlement),
    }
}
