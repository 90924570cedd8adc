//! Refund: takes in requests for refunds, grants or refuses them, and gives the money back.

use super::{Ending, Stage};
use crate::{
    message::{DeadReason, IncomingRefund},
    payments::{Granting, Payments},
    store,
    topology::StageName,
};

/// The stage that reads requests for refunds.
#[derive(Debug)]
pub struct Refund {
    payments: Payments,
}

impl Refund {
    /// The stage at this desk.
    pub fn new(payments: Payments) -> Self {
        Self { payments }
    }
}

impl Stage for Refund {
    type Message = IncomingRefund;

    const NAME: StageName = StageName::Refund;

    async fn process(&self, batch: &[IncomingRefund]) -> Result<Vec<Ending>, store::Error> {
        let requests: Vec<_> = batch.iter().map(|message| (&message.request, message.import_id)).collect();
        let granting = self.payments.refund(&requests).await?;
        Ok(batch.iter().zip(granting).map(|(message, granting)| ending(message, granting)).collect())
    }

    /// A request that was not taken in holds nothing.
    async fn park(&self, _: &IncomingRefund, _: DeadReason) -> Result<(), store::Error> {
        Ok(())
    }

    fn renew_connections(&self) {
        self.payments.store().renew();
    }
}

/// What was decided stands in Postgres, and its outcome is an event: nothing follows.
fn ending(message: &IncomingRefund, granting: Granting) -> Ending {
    match granting {
        Granting::Granted(_) | Granting::Refused(_) | Granting::Waits | Granting::Repeated => Ending::Done,
        Granting::Conflict => Ending::Dead(
            DeadReason::Conflict,
            format!("refund {} is known with another order, amount, reason or restock", message.request.key),
        ),
    }
}
