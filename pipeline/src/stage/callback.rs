//! Callback: takes in what payment providers tell by message.

use super::{Ending, Stage};
use crate::{
    message::{Callback as Message, DeadReason},
    payments::Payments,
    store::{self, Insertion},
    topology::StageName,
};

/// The stage that reads callbacks.
#[derive(Debug)]
pub struct Callback {
    payments: Payments,
}

impl Callback {
    /// The stage at this desk.
    pub fn new(payments: Payments) -> Self {
        Self { payments }
    }
}

impl Stage for Callback {
    type Message = Message;

    const NAME: StageName = StageName::Callback;

    async fn process(&self, batch: &[Message]) -> Result<Vec<Ending>, store::Error> {
        let insertions = self.payments.store_callbacks(batch).await?;
        Ok(batch.iter().zip(insertions).map(|(message, insertion)| ending(message, insertion)).collect())
    }

    /// A callback that was not taken in holds nothing: the provider is asked.
    async fn park(&self, _: &Message, _: DeadReason) -> Result<(), store::Error> {
        Ok(())
    }

    fn renew_connections(&self) {
        self.payments.store().renew();
    }
}

fn ending(message: &Message, insertion: Insertion) -> Ending {
    match insertion {
        Insertion::Stored | Insertion::Known | Insertion::Replayed => Ending::Done,
        Insertion::IdReused => {
            Ending::Dead(DeadReason::Conflict, format!("callback {} is known with another body", message.event_id))
        }
    }
}
