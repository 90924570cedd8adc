//! The stages. Each is one file: what it loads, what it decides (pure, tested by tables), what it saves.
//!
//! A stage never talks to Redis, and the runner that drives it never talks to Postgres. Applying a batch again changes
//! nothing and returns the same endings: after a lost reply the hand-off that the order's state calls for still happens.

mod payment;
mod reservation;
mod settlement;

pub use payment::Payment;
pub use reservation::Reservation;
pub use settlement::Settlement;

use crate::{
    message::{DeadReason, Message, OrderRef},
    store,
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
}

/// The ending of a message whose order Postgres does not have, or has under another code.
fn unknown_order(message: &OrderRef) -> Ending {
    let OrderRef { order_id, order_code } = message;
    let error = format!("Postgres has no order {order_id} ({order_code}): was it restored to an older state?");
    Ending::Dead(DeadReason::UnknownOrder, error)
}
