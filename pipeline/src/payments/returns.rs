//! Asking gateways to give back what was granted.

use rustc_hash::FxHashMap;
use tracing::error;

use super::{ASK_MAX, Payments};
use crate::{
    failpoint,
    gateway::{Return, ReturnAnswer},
    store::{self, PendingRefund},
};

impl Payments {
    /// Asks providers to give back what was just granted, and writes down what they say.
    pub(super) async fn give_back(&self, keys: &[String]) -> Result<(), store::Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let refunds = {
            let mut connection = self.store.pool().acquire().await?;
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            store::pending_refunds(&mut connection, &keys).await?
        };
        self.ask(refunds, true).await
    }

    /// Asks gateways about granted refunds whose turn it is, again for those that never arrived there; about how many.
    ///
    /// # Errors
    /// When Postgres cannot be reached. What was taken is due again soon.
    pub async fn ask_about_refunds(&self) -> Result<usize, store::Error> {
        let due = {
            let mut connection = self.store.pool().acquire().await?;
            store::claim_due_refunds(&mut connection, ASK_MAX, self.lease_s()).await?
        };
        let looked_at = due.len();
        self.ask(due, false).await?;
        Ok(looked_at)
    }

    async fn ask(&self, refunds: Vec<PendingRefund>, first: bool) -> Result<(), store::Error> {
        let mut by_gateway: FxHashMap<String, Vec<PendingRefund>> = FxHashMap::default();
        for refund in refunds {
            by_gateway.entry(refund.gateway.clone()).or_default().push(refund);
        }
        for (name, refunds) in by_gateway {
            let returns: Vec<Return> = refunds.iter().map(return_of).collect();
            let answers = match self.gateways.named(&self.store, &name).await? {
                Ok(gateway) if first => gateway.give_back(&returns).await,
                Ok(gateway) => {
                    let mut answers = gateway.find_returns(&returns).await;
                    // As with charges: who does not know what he promised is not asked for the money again.
                    for (refund, answer) in refunds.iter().zip(&mut answers) {
                        if let (Some(id), ReturnAnswer::Absent) = (&refund.provider_id, &answer) {
                            error!(
                                key = refund.key,
                                gateway = name,
                                refund = id,
                                "a provider does not know a refund that it promised to decide: nothing is given back again; ask it"
                            );
                            *answer = ReturnAnswer::Unknown(format!(
                                "it does not know the refund {id} that it promised to decide"
                            ));
                        }
                    }
                    let absent: Vec<usize> =
                        (0..answers.len()).filter(|&at| answers[at] == ReturnAnswer::Absent).collect();
                    let asked: Vec<Return> = absent.iter().map(|&at| returns[at].clone()).collect();
                    if !asked.is_empty() {
                        for (at, answer) in absent.into_iter().zip(gateway.give_back(&asked).await) {
                            answers[at] = answer;
                        }
                    }
                    answers
                }
                Err(why) => {
                    self.gateways.complain("refunds", &name, returns.len(), &why);
                    vec![ReturnAnswer::Unknown(why); returns.len()]
                }
            };
            failpoint::hit::<store::Error>("refund.asked")?;
            let answers: Vec<(&str, ReturnAnswer)> = refunds.iter().map(|refund| &*refund.key).zip(answers).collect();
            let mut transaction = self.store.begin().await?;
            self.end(&mut transaction, &answers, Vec::new()).await?;
            store::commit(transaction).await?;
        }
        Ok(())
    }
}

fn return_of(refund: &PendingRefund) -> Return {
    Return {
        reference: format!("{}{}", refund.reference_prefix, refund.key),
        charge_reference: refund.order_code.clone(),
        charge_id: refund.charge_id.clone(),
        amount: refund.amount,
    }
}
