//! Who takes the money.

use std::time::Duration;

use crate::domain::{Cents, OrderId};

/// One amount to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge<'a> {
    /// Our number for the order.
    pub order_id: OrderId,
    /// The order's code: the reference under which the provider knows the charge.
    pub order_code: &'a str,
    /// How much.
    pub amount: Cents,
}

/// A provider's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The money is ours.
    Approved,
    /// The provider said no.
    Declined,
}

/// A payment provider. Called outside any transaction, possibly twice for the same charge: the order's code is the
/// idempotency key.
pub trait Gateway: Send + Sync {
    /// The name that payments are stored under.
    fn name(&self) -> &'static str;

    /// Asks for every charge; one verdict each, in the same order.
    fn charge(&self, charges: &[Charge<'_>]) -> impl Future<Output = Vec<Verdict>> + Send;
}

/// The simulated provider: a pure function of the order code, so that anyone can predict it.
#[derive(Debug, Clone, Copy)]
pub struct Simulator {
    approved_of_10_000: u32,
    latency: Duration,
}

impl Simulator {
    /// Approves the share `success_rate` (0 to 1) of all codes, each batch after `latency`.
    ///
    /// # Errors
    /// When the rate is no number from 0 to 1.
    pub fn new(success_rate: f64, latency: Duration) -> Result<Self, String> {
        if !(0.0..=1.0).contains(&success_rate) {
            return Err(format!("{success_rate} is not a rate from 0 to 1"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10,000")]
        let approved_of_10_000 = (success_rate * 10_000.0).ceil() as u32;
        Ok(Self { approved_of_10_000, latency })
    }

    /// Approved unless `crc32_ieee(order_code) % 10000 >= success_rate × 10000`.
    pub fn verdict(&self, order_code: &str) -> Verdict {
        if crc32fast::hash(order_code.as_bytes()) % 10_000 < self.approved_of_10_000 {
            Verdict::Approved
        } else {
            Verdict::Declined
        }
    }
}

impl Gateway for Simulator {
    fn name(&self) -> &'static str {
        "simulator"
    }

    async fn charge(&self, charges: &[Charge<'_>]) -> Vec<Verdict> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        charges.iter().map(|charge| self.verdict(charge.order_code)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_from_the_code_alone() {
        let simulator = Simulator::new(0.9, Duration::ZERO).expect("a rate");
        // Python: zlib.crc32(b"ORD-1") % 10000 and so on give 1573, 5503, 9353.
        for (code, verdict) in
            [("ORD-1", Verdict::Approved), ("ORD-2", Verdict::Approved), ("ORD-3", Verdict::Declined)]
        {
            assert_eq!(simulator.verdict(code), verdict, "{code}");
        }
        let share = (0..10_000).filter(|n| simulator.verdict(&format!("ORD-{n}")) == Verdict::Approved).count();
        assert!((8_800..9_200).contains(&share), "{share} of 10,000");
    }

    #[test]
    fn the_ends_of_the_range_approve_all_and_none() {
        let all = Simulator::new(1.0, Duration::ZERO).expect("a rate");
        let none = Simulator::new(0.0, Duration::ZERO).expect("a rate");
        assert!((0..1_000).all(|n| all.verdict(&n.to_string()) == Verdict::Approved));
        assert!((0..1_000).all(|n| none.verdict(&n.to_string()) == Verdict::Declined));
        for rate in [-0.1, 1.1, f64::NAN] {
            assert!(Simulator::new(rate, Duration::ZERO).is_err());
        }
    }
}
