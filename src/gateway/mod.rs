//! The payment provider over HTTP: the contract is docs/GATEWAY.md.
//!
//! [`HttpGateway`] turns a batch into calls, each of which ends within bounds of its own; `caller` makes a call,
//! `wire` judges what came back. Whatever is not an answer to what was asked is [`ChargeAnswer::Unknown`], never a
//! refusal: the money may have been taken.

mod caller;
mod figures;
mod key;
mod select;
mod told;
mod wire;
mod withheld;

use std::fmt;

use futures::future::{BoxFuture, join_all};
use pipeline::gateway::{Charge, ChargeAnswer, Gateway, HTTP, Return, ReturnAnswer};
use sha2::{Digest, Sha256};

pub use caller::{CallError, Settings};
pub use figures::GatewayFigures;
pub use key::{Key, Keys, of_another, other_account, variable_of};
pub use select::{Begins, described, gateways, load, payment_limits, place, refused, share};
pub(crate) use select::{first_currency, set_deed, set_effect};
pub use told::{is_provider, plain_text, provider_url};

use caller::Caller;
use figures::Operation;
use wire::{ChargeRequest, Expected, RefundRequest};

/// A payment provider that is reached over HTTP. Clones share connections and bounds.
#[derive(Clone)]
pub struct HttpGateway {
    caller: Caller,
    currency: String,
    name: String,
    /// Of charges: a refund brings its whole reference.
    reference_prefix: String,
}

impl fmt::Debug for HttpGateway {
    // Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGateway").field("caller", &self.caller).field("currency", &self.currency).finish()
    }
}

impl HttpGateway {
    /// A client of the provider. Nothing is called yet. [`crate::tls::install`] comes before.
    ///
    /// # Errors
    /// When the key cannot stand in a header, or the system has no way to check certificates.
    pub fn new(settings: Settings, currency: &str) -> Result<Self, CallError> {
        let (name, reference_prefix) = (HTTP.to_owned(), String::new());
        Ok(Self { caller: Caller::new(settings)?, currency: currency.to_owned(), name, reference_prefix })
    }

    /// Its payments are stored under this name, and this stands before our codes in the references of its charges.
    pub fn stored_as(mut self, name: &str, reference_prefix: &str) -> Self {
        name.clone_into(&mut self.name);
        reference_prefix.clone_into(&mut self.reference_prefix);
        self
    }

    fn reference(&self, code: &str) -> String {
        format!("{}{code}", self.reference_prefix)
    }

    /// Has its calls counted there.
    pub fn counted_by(mut self, figures: GatewayFigures) -> Self {
        figures.begin();
        self.caller.figures = figures;
        self
    }

    async fn ask_charge(&self, charge: &Charge) -> Result<ChargeAnswer, CallError> {
        let (amount, reference) = (charge.amount.to_string(), self.reference(&charge.reference));
        let request = ChargeRequest { amount: &amount, currency: &self.currency, reference: &reference };
        let key = idempotency_key("charge", &reference);
        let reply = self.caller.post(Operation::Charge, &key, &request).await?;
        wire::charge_answer(&reply, &Expected::new(&reference, charge.amount, &self.currency))
    }

    /// Asks what became of a charge; why there is no answer is for whoever asks.
    ///
    /// # Errors
    /// When there is no answer that counts.
    pub async fn find_charge(&self, charge: &Charge) -> Result<ChargeAnswer, CallError> {
        let reference = self.reference(&charge.reference);
        let reply = self.caller.get(Operation::FindCharge, &reference).await?;
        wire::found_charge(&reply, &Expected::new(&reference, charge.amount, &self.currency))
    }

    async fn ask_return(&self, back: &Return) -> Result<ReturnAnswer, CallError> {
        let (amount, reference) = (back.amount.to_string(), &back.reference);
        let request = RefundRequest {
            charge: back.charge_id.as_deref(),
            charge_reference: &self.reference(&back.charge_reference),
            amount: &amount,
            currency: &self.currency,
            reference,
        };
        let reply = self.caller.post(Operation::Refund, &idempotency_key("refund", reference), &request).await?;
        wire::return_answer(&reply, &Expected::new(reference, back.amount, &self.currency))
    }

    async fn find_return(&self, back: &Return) -> Result<ReturnAnswer, CallError> {
        let reply = self.caller.get(Operation::FindRefund, &back.reference).await?;
        wire::found_return(&reply, &Expected::new(&back.reference, back.amount, &self.currency))
    }

    /// What failed is not known, and the log says so.
    fn known<T>(&self, to: Operation, answer: Result<T, CallError>, unknown: impl FnOnce(String) -> T) -> T {
        self.caller.figures.judged(to, &answer);
        answer.unwrap_or_else(|error| {
            self.caller.complain(&error);
            unknown(error.to_string())
        })
    }
}

/// What stands before a code or key in a reference, the colon included, where that is the mark of an installation: 12
/// hexadecimal digits.
pub fn installation_prefix(reference: &str) -> Option<&str> {
    let (mark, _) = reference.split_once(':')?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (mark.len() == 12 && mark.bytes().all(is_digit)).then(|| &reference[..=12])
}

/// `charge-` or `refund-`, and 32 hexadecimal digits of the reference's SHA-256: references may hold what no header may.
fn idempotency_key(kind: &str, reference: &str) -> String {
    let digest = Sha256::digest(reference.as_bytes());
    let hex = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{kind}-{hex}")
}

impl Gateway for HttpGateway {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_pure(&self) -> bool {
        false
    }

    /// Payments of an earlier version are where somebody says that they are: should he be wrong, nobody pays twice.
    fn charges_again(&self) -> bool {
        !self.reference_prefix.is_empty()
    }

    fn charge<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>> {
        let ask = async |charge| self.known(Operation::Charge, self.ask_charge(charge).await, ChargeAnswer::Unknown);
        Box::pin(join_all(charges.iter().map(ask)))
    }

    fn find_charges<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>> {
        let find =
            async |charge| self.known(Operation::FindCharge, self.find_charge(charge).await, ChargeAnswer::Unknown);
        Box::pin(join_all(charges.iter().map(find)))
    }

    fn give_back<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>> {
        let ask = async |back| self.known(Operation::Refund, self.ask_return(back).await, ReturnAnswer::Unknown);
        Box::pin(join_all(returns.iter().map(ask)))
    }

    fn find_returns<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>> {
        let find = async |back| self.known(Operation::FindRefund, self.find_return(back).await, ReturnAnswer::Unknown);
        Box::pin(join_all(returns.iter().map(find)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reference_has_the_same_key_and_every_key_can_stand_in_a_header() {
        // Python: hashlib.sha256(b"ORD-1").hexdigest()[:32]
        assert_eq!(idempotency_key("charge", "ORD-1"), "charge-f7f8bfa06d24d43c3bc4baf81eb32346");
        assert_ne!(idempotency_key("charge", "A"), idempotency_key("charge", "B"));
        assert!(idempotency_key("refund", "ключ 😀").is_ascii());
    }
}
