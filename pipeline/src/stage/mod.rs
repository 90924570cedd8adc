//! The stages. Each is one file: what it loads, what it decides (pure, tested by tables), what it saves.
//!
//! A stage never talks to Redis, and the runner that drives it never talks to Postgres. Applying a batch again changes
//! nothing and returns the same endings: after a lost reply the hand-off that the order's state calls for still happens.

mod callback;
mod payment;
mod refund;
mod reservation;
mod settlement;

pub use callback::Callback;
pub use payment::Payment;
pub use refund::Refund;
pub use reservation::Reservation;
pub use settlement::Settlement;

use crate::{
    message::{DeadReason, Message, OrderRef},
    store::{self, Store},
    topology::StageName,
};

/// How a message ended. There is no ending "failed": a batch that could not be processed has no endings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Nothing follows.
    Done,
    /// The order goes on to (or, when Postgres has forgotten something, back to) a stage.
    Forward(StageName, OrderRef),
    /// This message can never succeed.
    Dead(DeadReason, String),
}

/// A step on the way of an order, working on batches.
pub trait Stage: Send + Sync {
    /// What it reads.
    type Message: Message;

    /// Its name, group and stream.
    const NAME: StageName;

    /// Processes a batch in one transaction; one ending per message, in the same order. Must run to its end.
    ///
    /// # Errors
    /// When nothing was saved, or it is unknown whether everything was. The same batch may be processed again.
    fn process(&self, batch: &[Self::Message]) -> impl Future<Output = Result<Vec<Ending>, store::Error>> + Send;

    /// Marks the order of a message that is about to be set aside as a dead letter, if it has one that is open: its
    /// stock stays held, and nobody gives it a new message, until the letter is replayed or discarded.
    ///
    /// # Errors
    /// When nothing was saved, or it is unknown whether it was. Doing it again is harmless.
    fn park(
        &self,
        message: &Self::Message,
        reason: DeadReason,
    ) -> impl Future<Output = Result<(), store::Error>> + Send;

    /// Leaves connections that give no answer to whoever still waits on them; what comes next is asked on new ones.
    fn renew_connections(&self);
}

/// Parks the order that a message names.
async fn park(store: &Store, stage: StageName, order: &OrderRef, reason: DeadReason) -> Result<(), store::Error> {
    let mut connection = store.pool().acquire().await?;
    store::park_orders(&mut connection, std::slice::from_ref(order), stage, reason).await
}

/// The ending of a message whose order Postgres does not have, or has under another code.
fn unknown_order(message: &OrderRef) -> Ending {
    let OrderRef { order_id, order_code } = message;
    let error = format!("Postgres has no order {order_id} ({order_code}): was it restored to an older state?");
    Ending::Dead(DeadReason::UnknownOrder, error)
}
