//! What goes wrong, and with whom: decided by the reference alone, so that anybody can predict it.

use sha2::{Digest, Sha256};

use crate::gateway::installation_prefix;

/// A way in which a provider disappoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer is `pending`; a callback brings the decision.
    Pending,
    /// What is asked for is booked, but its first answer never comes.
    Timeouts,
    /// The first request is answered with 500, and nothing is booked.
    Errors,
    /// Pending, and no callback comes: only who asks hears of the decision.
    Lost,
    /// Pending, and the callback comes twice.
    Doubled,
    /// Pending, and the callback comes before the answer.
    Early,
    /// Pending, and decided much later than others.
    Late,
    /// The money is not given back.
    RefundFailures,
}

/// What follows the mark of an installation in a reference.
pub(super) fn without_installation(reference: &str) -> &str {
    installation_prefix(reference).map_or(reference, |prefix| &reference[prefix.len()..])
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Timeouts,
        Self::Errors,
        Self::Lost,
        Self::Doubled,
        Self::Early,
        Self::Late,
        Self::RefundFailures,
    ];

    /// Its name: that of the flag.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Timeouts => "timeouts",
            Self::Errors => "errors",
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Early => "early",
            Self::Late => "late",
            Self::RefundFailures => "refund-failures",
        }
    }
}

/// How often what goes wrong.
#[derive(Debug, Clone)]
pub struct Faults {
    seed: u64,
    /// Of 10,000 references, in the order of [`Fault::ALL`].
    shares: [u32; Fault::ALL.len()],
}

impl Faults {
    /// Nothing goes wrong.
    pub const fn none(seed: u64) -> Self {
        Self { seed, shares: [0; Fault::ALL.len()] }
    }

    /// Lets a fault hit this share of all references, 0 to 1.
    #[must_use]
    pub fn with(mut self, fault: Fault, share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let of_10_000 = (share.clamp(0.0, 1.0) * 10_000.0).round() as u32;
        self.shares[fault as usize] = of_10_000;
        self
    }

    /// Whether a fault hits a reference: when the first four bytes of the SHA-256 of `seed:fault:reference`, read as a
    /// big-endian number, modulo 10,000, are below its share × 10,000.
    /// Of a reference that names an installation, what follows its mark counts, so that everybody's orders can be foretold.
    pub fn hit(&self, fault: Fault, reference: &str) -> bool {
        let reference = without_installation(reference);
        let share = self.shares[fault as usize];
        share > 0 && {
            let digest = Sha256::digest(format!("{}:{}:{reference}", self.seed, fault.name()));
            u32::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes")) % 10_000 < share
        }
    }

    /// Whether what has this reference is decided later than it is answered. Only then is there a callback that can be
    /// lost, doubled, early or late.
    pub fn is_pending(&self, reference: &str) -> bool {
        [Fault::Pending, Fault::Lost, Fault::Doubled, Fault::Early, Fault::Late]
            .into_iter()
            .any(|fault| self.hit(fault, reference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faults_of_a_reference_follow_from_seed_and_reference() {
        let faults = Faults::none(7).with(Fault::Lost, 0.05).with(Fault::Late, 1.0);
        // Python: int.from_bytes(sha256(b"7:lost:ORD-%d" % n).digest()[:4], "big") % 10000 < 500, for n below 100.
        let lost: Vec<u32> = (0..100).filter(|n| faults.hit(Fault::Lost, &format!("ORD-{n}"))).collect();
        assert_eq!(lost, [13, 23, 62]);
        assert!(faults.hit(Fault::Late, "x") && faults.is_pending("x"));
        assert!(!faults.hit(Fault::Early, "x") && !Faults::none(7).is_pending("x"));
    }

    #[test]
    fn the_places_are_those_of_the_list() {
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, place);
        }
    }
}
