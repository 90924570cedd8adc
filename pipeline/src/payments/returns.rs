//! Asking gateways to give back what was granted.

use rustc_hash::FxHashMap;
use tracing::warn;

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
        let mut by_gateway: FxHashMap<String, Vec<Return>> = FxHashMap::default();
        for refund in refunds {
            let PendingRefund { key, order_code, charge_id, amount, gateway } = refund;
            by_gateway.entry(gateway).or_default().push(Return {
                key,
                charge_reference: order_code,
                charge_id,
                amount,
            });
        }
        for (name, returns) in by_gateway {
            let answers = match self.gateways.named(&name) {
                Some(gateway) if first => gateway.give_back(&returns).await,
                Some(gateway) => {
                    let mut answers = gateway.find_returns(&returns).await;
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
                None => {
                    warn!(
                        gateway = name,
                        refunds = returns.len(),
                        "refunds wait for a gateway that this process is not configured for"
                    );
                    vec![
                        ReturnAnswer::Unknown(format!("no process is configured for the gateway {name}"));
                        returns.len()
                    ]
                }
            };
            failpoint::hit::<store::Error>("refund.asked")?;
            let answers: Vec<(&str, ReturnAnswer)> =
                returns.iter().map(|refund| refund.key.as_str()).zip(answers).collect();
            let mut transaction = self.store.begin().await?;
            self.end(&mut transaction, &answers, Vec::new()).await?;
            store::commit(transaction).await?;
        }
        Ok(())
    }
}
