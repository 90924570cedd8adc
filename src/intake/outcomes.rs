//! What came of the refunds of a file.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pipeline::{
    domain::{Cents, RefundStatus},
    shutdown::Shutdown,
    store::{self, RefundStanding},
};

use super::{Intake, IntakeError, POLL, chunks::chunks};
use crate::{
    import::{GroupedRefund, GroupedRefunds},
    output::thousands,
    patience::patiently,
    progress::Progress,
};

/// How long a gateway that owes answers may be silent before its refunds are counted as pending: it may take days.
const GATEWAY_SILENCE: Duration = Duration::from_secs(10);

/// The refunds of a file that Postgres knows with the content that the file has, by where they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcomes {
    /// The money is back.
    pub succeeded: u64,
    /// How much.
    pub succeeded_amount: Cents,
    /// Refused, or failed at the gateway, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Granted; the gateway owes its answer.
    pub pending: u64,
    /// Waiting for their order to reach its end.
    pub waiting: u64,
}

impl Outcomes {
    fn count(&mut self, standing: &RefundStanding) {
        match standing.status {
            RefundStatus::Succeeded => {
                self.succeeded += 1;
                let amount = standing.amount.unwrap_or_default();
                self.succeeded_amount = self.succeeded_amount.checked_add(amount).unwrap_or(Cents::new(i64::MAX));
            }
            RefundStatus::Refused | RefundStatus::Failed => {
                *self.refused.entry(standing.refusal.clone().unwrap_or_default()).or_default() += 1;
            }
            RefundStatus::Pending => self.pending += 1,
            RefundStatus::Waiting => self.waiting += 1,
        }
    }
}

impl Intake<GroupedRefunds> {
    /// Looks what came of all refunds, and waits for gateways as long as they go on answering; `None` when the signal came
    /// first. A refund that waits for its order is not waited for: the order may never come.
    ///
    /// # Errors
    /// When Postgres refuses for good, or the temporary files fail.
    pub async fn await_outcomes(
        &self,
        total: u64,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<Option<Outcomes>, IntakeError> {
        progress.phase("Refunding", Some(total));
        let mut outcomes = Outcomes::default();
        let mut seen = 0;
        let mut silent_since = Instant::now();
        let mut refunds = chunks(&self.freight, |refund: GroupedRefund| {
            (refund.request.key.to_string(), refund.request.content_hash())
        });
        while let Some(chunk) = refunds.recv().await {
            let (mut keys, mut hashes): (Vec<String>, Vec<i64>) = chunk?.into_iter().unzip();
            seen += keys.len() as u64;
            while !keys.is_empty() {
                let ask = async || Ok(store::refund_standings(&self.store.pool(), &keys).await?);
                let Some(found) = patiently(shutdown, |text| progress.note(text), ask).await? else { return Ok(None) };
                let before = keys.len();
                let is_patient = silent_since.elapsed() < GATEWAY_SILENCE;
                (keys, hashes) = keys
                    .into_iter()
                    .zip(hashes)
                    .filter(|(key, hash)| match found.get(key).filter(|standing| standing.request_hash == *hash) {
                        Some(standing) if standing.status == RefundStatus::Pending && is_patient => true,
                        Some(standing) => {
                            outcomes.count(standing);
                            false
                        }
                        // In conflict, or refused by the workers: counted when the others were taken in.
                        None => false,
                    })
                    .unzip();
                if keys.len() < before {
                    silent_since = if is_patient { Instant::now() } else { silent_since };
                }
                let owed = keys.len() as u64;
                progress.show(seen - owed, || match owed {
                    0 => format!("{} refunds", thousands(seen)),
                    _ => "waiting for the gateway; Ctrl-C is safe".to_owned(),
                });
                if owed > 0 && !shutdown.sleep(POLL).await {
                    return Ok(None);
                }
            }
        }
        Ok(Some(outcomes))
    }
}
