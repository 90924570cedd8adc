//! Who takes the money, and gives it back.
//!
//! Two implementations: the [`Simulator`] below, a pure function, and the program's `http`, which speaks to a provider.
//! All calls are made outside any transaction, and may be made twice: the order's code (of a refund: its key) is the
//! idempotency key. Which of them an installation has stands in Postgres ([`crate::payments::Gateways`]). What is not known is [`ChargeAnswer::Unknown`] and never a refusal: the collector asks again.

use std::{fmt, time::Duration};

use futures::future::BoxFuture;

use crate::domain::{Cents, OrderId};

/// What callbacks are stored under: a provider told them over HTTP.
pub const HTTP: &str = "http";

/// What stands in place of a gateway where nothing is to be paid or given back: nobody is asked.
pub const NONE: &str = "none";

/// One amount to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Our number for the order.
    pub order_id: OrderId,
    /// The order's code: the reference under which the provider knows the charge.
    pub reference: String,
    /// How much.
    pub amount: Cents,
}

/// What a provider says of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeAnswer {
    /// The money is ours; the provider's id for the charge.
    Approved(String),
    /// The provider said no.
    Declined(String),
    /// The provider has it, and will say later.
    Pending(String),
    /// The provider has no charge of this reference. An answer to a question only.
    Absent,
    /// No answer, or none that can be understood: why. The money may be ours or not.
    Unknown(String),
}

/// One amount to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// The reference under which the provider knows it: the refund's key, and what stands before it.
    pub reference: String,
    /// The order's code, by which [`Charge::reference`] names the charge.
    pub charge_reference: String,
    /// The provider's id of the charge, if it is known.
    pub charge_id: Option<String>,
    /// How much.
    pub amount: Cents,
}

/// What a provider says of a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReturnAnswer {
    /// The money went back; the provider's id for the refund.
    Succeeded(String),
    /// The provider will not give it back.
    Failed(String),
    /// The provider has it, and will say later.
    Pending(String),
    /// The provider has no refund of this reference. An answer to a question only.
    Absent,
    /// No answer, or none that can be understood: why.
    Unknown(String),
}

/// A payment provider. Every method takes a batch and answers each part, in the same order. It bounds its calls and their
/// time itself and comes back in bounded time.
pub trait Gateway: fmt::Debug + Send + Sync {
    /// The name that payments are stored under.
    fn name(&self) -> &str;

    /// Whether every answer is final and the same again: then nothing needs to be stored before the call.
    fn is_pure(&self) -> bool;

    /// Whether a charge that the provider does not have may be asked for again.
    fn charges_again(&self) -> bool {
        true
    }

    /// Asks for the money.
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>>;

    /// Asks what became of charges.
    fn find_charges<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>>;

    /// Gives money back.
    fn give_back<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>>;

    /// Asks what became of refunds.
    fn find_returns<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>>;
}

/// The simulated provider: a pure function of the order code, so that anyone can predict it.
#[derive(Debug, Clone)]
pub struct Simulator {
    name: String,
    approved_of_10_000: u32,
    latency: Duration,
}

impl Simulator {
    /// Approves the share `success_rate` (0 to 1) of all codes, each batch after `latency`.
    ///
    /// # Errors
    /// When the rate is no number from 0 to 1.
    pub fn new(success_rate: f64, latency: Duration) -> Result<Self, String> {
        Ok(Self::of_10_000(Self::share(success_rate)?, "simulator", latency))
    }

    /// Approves this many of 10,000 codes, each batch after `latency`; payments are stored under `name`.
    pub fn of_10_000(approved_of_10_000: u32, name: &str, latency: Duration) -> Self {
        Self { name: name.to_owned(), approved_of_10_000, latency }
    }

    /// How many of 10,000 codes a rate from 0 to 1 approves.
    ///
    /// # Errors
    /// When the rate is no number from 0 to 1.
    pub fn share(success_rate: f64) -> Result<u32, String> {
        if !(0.0..=1.0).contains(&success_rate) {
            return Err(format!("{success_rate} is not a rate from 0 to 1"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10,000")]
        let share = (success_rate * 10_000.0).ceil() as u32;
        Ok(share)
    }

    /// Approved unless `crc32_ieee(order_code) % 10000 >= success_rate × 10000`.
    pub fn approves(&self, order_code: &str) -> bool {
        crc32fast::hash(order_code.as_bytes()) % 10_000 < self.approved_of_10_000
    }

    async fn wait(&self) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
    }
}

impl Gateway for Simulator {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_pure(&self) -> bool {
        true
    }

    fn charge<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>> {
        Box::pin(async move {
            self.wait().await;
            let answer = |charge: &Charge| match self.approves(&charge.reference) {
                true => ChargeAnswer::Approved(String::new()),
                false => ChargeAnswer::Declined(String::new()),
            };
            charges.iter().map(answer).collect()
        })
    }

    fn find_charges<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Vec<ChargeAnswer>> {
        self.charge(charges)
    }

    fn give_back<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>> {
        Box::pin(async move {
            self.wait().await;
            vec![ReturnAnswer::Succeeded(String::new()); returns.len()]
        })
    }

    fn find_returns<'a>(&'a self, returns: &'a [Return]) -> BoxFuture<'a, Vec<ReturnAnswer>> {
        self.give_back(returns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_code_alone() {
        let simulator = Simulator::new(0.9, Duration::ZERO).expect("a rate");
        // Python: zlib.crc32(b"ORD-1") % 10000 and so on give 1573, 5503, 9353.
        for (code, approved) in [("ORD-1", true), ("ORD-2", true), ("ORD-3", false)] {
            assert_eq!(simulator.approves(code), approved, "{code}");
        }
        let share = (0..10_000).filter(|n| simulator.approves(&format!("ORD-{n}"))).count();
        assert!((8_800..9_200).contains(&share), "{share} of 10,000");
    }

    #[test]
    fn the_ends_of_the_range_approve_all_and_none() {
        let all = Simulator::new(1.0, Duration::ZERO).expect("a rate");
        let none = Simulator::new(0.0, Duration::ZERO).expect("a rate");
        assert!((0..1_000).all(|n| all.approves(&n.to_string())));
        assert!((0..1_000).all(|n| !none.approves(&n.to_string())));
        for rate in [-0.1, 1.1, f64::NAN] {
            assert!(Simulator::new(rate, Duration::ZERO).is_err());
        }
    }
}
