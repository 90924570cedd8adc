//! The provider's ledger and ours, compared one to one.
//!
//! The provider's is read as a stream; of it only what moved money is kept: a reference, an amount, a few bits. Ours is
//! then read in pages, and each row strikes out its counterpart. The system may run meanwhile, and what happened between
//! the two readings is no difference: only what is seen in two looks is reported.

use std::collections::BTreeSet;

use anyhow::Context;
use pipeline::{
    audit::CheckResult,
    domain::{Cents, PaymentStatus, RefundStatus},
    gateway,
    store::{LedgerSnapshot, Store},
};
use rustc_hash::FxHashMap;

use super::lines::{Kind, LedgerLines, Status};

/// Most charges and refunds that are kept in memory, some 100 bytes each.
const ENTRIES_MAX: usize = 20_000_000;

/// Makes both checks.
pub(super) async fn compare(store: &Store, lines: &LedgerLines) -> anyhow::Result<[CheckResult; 2]> {
    let mut look = Look::take(store, lines).await?;
    if look.charges.differs() || look.refunds.differs() {
        let before = std::mem::replace(&mut look, Look::take(store, lines).await?);
        look.charges.confirm(&before.charges);
        look.refunds.confirm(&before.refunds);
    }
    Ok([
        look.charges.result(
            "gateway_charges",
            "every approved payment is one approved charge of the provider, of its amount, and the reverse",
            "charges",
        ),
        look.refunds.result(
            "gateway_refunds",
            "every succeeded refund is one succeeded refund of the provider, of its amount, and the reverse",
            "refunds",
        ),
    ])
}

/// What one reading of both sides shows.
struct Look {
    charges: Found,
    refunds: Found,
}

impl Look {
    async fn take(store: &Store, lines: &LedgerLines) -> anyhow::Result<Self> {
        let (charges, refunds) = theirs(lines).await?;
        let mut ours = LedgerSnapshot::begin(store, gateway::HTTP).await?;
        let mut charges = Comparison::new("order", "charge", charges);
        let mut page = ours.payments_after(None).await?;
        while let Some(last) = page.last() {
            for payment in &page {
                charges.strike(&payment.reference, payment.amount, payment.status == PaymentStatus::Pending);
            }
            page = ours.payments_after(Some(last)).await?;
        }
        let mut refunds = Comparison::new("refund", "refund", refunds);
        let mut page = ours.refunds_after(None).await?;
        while let Some(last) = page.last() {
            for refund in &page {
                refunds.strike(&refund.key, refund.amount, refund.status == RefundStatus::Pending);
            }
            page = ours.refunds_after(Some(last)).await?;
        }
        ours.end().await?;
        Ok(Self { charges: charges.end(), refunds: refunds.end() })
    }
}

/// What the provider says of a reference.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Of the first.
    amount: Cents,
    /// How many charges or refunds moved money.
    count: u32,
    /// How many rows of ours it belongs to.
    struck: u32,
}

type Entries = FxHashMap<Box<str>, Entry>;

/// Reads what moved money: charges and refunds.
async fn theirs(lines: &LedgerLines) -> anyhow::Result<(Entries, Entries)> {
    let (mut charges, mut refunds) = (Entries::default(), Entries::default());
    let mut reading = lines.read().await?;
    while let Some(line) = reading.next().await? {
        let entries = match (line.kind, line.status) {
            (Kind::Charge, Status::Approved) => &mut charges,
            (Kind::Refund, Status::Succeeded) => &mut refunds,
            (Kind::Charge, Status::Pending | Status::Declined) | (Kind::Refund, Status::Pending | Status::Failed) => {
                continue;
            }
            (kind, status) => anyhow::bail!("the ledger has a {kind:?} that is {status:?}"),
        };
        let amount = Cents::parse_total(line.amount.as_bytes())
            .with_context(|| format!("the ledger has an amount of {:?}", line.amount))?;
        let entry = entries.entry(line.reference.into_boxed_str());
        entry.or_insert(Entry { amount, count: 0, struck: 0 }).count += 1;
        anyhow::ensure!(charges.len() + refunds.len() <= ENTRIES_MAX, "the ledger has more than {ENTRIES_MAX} entries");
    }
    Ok((charges, refunds))
}

/// The provider's entries, struck out one by one.
struct Comparison {
    /// What ours is called.
    ours: &'static str,
    /// What theirs is called.
    theirs: &'static str,
    entries: Entries,
    examined: usize,
    differences: BTreeSet<String>,
}

impl Comparison {
    fn new(ours: &'static str, theirs: &'static str, entries: Entries) -> Self {
        Self { ours, theirs, examined: entries.len(), entries, differences: BTreeSet::new() }
    }

    /// A row of ours. While it is pending the provider may have moved the money or not.
    fn strike(&mut self, reference: &str, amount: Cents, pending: bool) {
        let Self { ours, theirs, .. } = self;
        let difference = match self.entries.get_mut(reference) {
            None if pending => return,
            None => {
                self.examined += 1;
                format!("{ours} {reference}: {amount} here, no {theirs} at the provider")
            }
            Some(entry) => {
                entry.struck += 1;
                if entry.amount == amount {
                    return;
                }
                format!("{ours} {reference}: {amount} here, {} at the provider", entry.amount)
            }
        };
        self.differences.insert(difference);
    }

    fn end(mut self) -> Found {
        let (ours, theirs) = (self.ours, self.theirs);
        for (reference, Entry { amount, count, struck }) in &self.entries {
            if *struck != 1 || *count != 1 {
                let difference =
                    format!("{ours} {reference}: {count} × {theirs} of {amount} at the provider, {struck} here");
                self.differences.insert(difference);
            }
        }
        Found { examined: self.examined, differences: self.differences }
    }
}

/// What a comparison found.
struct Found {
    examined: usize,
    differences: BTreeSet<String>,
}

impl Found {
    fn differs(&self) -> bool {
        !self.differences.is_empty()
    }

    /// Keeps what was seen before, too.
    fn confirm(&mut self, before: &Self) {
        self.differences.retain(|difference| before.differences.contains(difference));
    }

    fn result(self, name: &'static str, proves: &'static str, unit: &'static str) -> CheckResult {
        CheckResult::new(name, proves, self.examined, unit, self.differences.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(theirs: &[(&str, i64, u32)], ours: &[(&str, i64, bool)]) -> Vec<String> {
        let entry = |&(reference, amount, count): &(&str, i64, u32)| {
            (reference.into(), Entry { amount: Cents::new(amount), count, struck: 0 })
        };
        let mut comparison = Comparison::new("order", "charge", theirs.iter().map(entry).collect());
        for &(reference, amount, pending) in ours {
            comparison.strike(reference, Cents::new(amount), pending);
        }
        comparison.end().differences.into_iter().collect()
    }

    #[test]
    fn books_that_agree_have_no_differences() {
        assert!(compared(&[("A", 1, 1), ("B", 2, 1)], &[("A", 1, false), ("B", 2, false)]).is_empty());
        // The answer is on its way, or not given yet.
        assert!(compared(&[("A", 1, 1)], &[("A", 1, true), ("B", 2, true)]).is_empty());
    }

    #[test]
    fn every_way_to_disagree_is_a_difference() {
        for (theirs, ours, difference) in [
            (&[][..], &[("A", 1, false)][..], "order A: 0.01 here, no charge at the provider"),
            (&[("A", 1, 1)], &[], "order A: 1 × charge of 0.01 at the provider, 0 here"),
            (&[("A", 1, 2)], &[("A", 1, false)], "order A: 2 × charge of 0.01 at the provider, 1 here"),
            (
                &[("A", 1, 1)],
                &[("A", 1, false), ("A", 1, false)],
                "order A: 1 × charge of 0.01 at the provider, 2 here",
            ),
            (&[("A", 1, 1)], &[("A", 2, false)], "order A: 0.02 here, 0.01 at the provider"),
            (&[("A", 1, 1)], &[("A", 2, true)], "order A: 0.02 here, 0.01 at the provider"),
        ] {
            assert_eq!(compared(theirs, ours), [difference]);
        }
    }
}
