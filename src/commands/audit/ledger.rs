//! The provider's ledger and ours, compared one to one.
//!
//! The provider's is read as a stream; of it only what moved money is kept: a reference, an amount, a few bits. Ours is
//! then read in pages, and each row strikes out its counterpart. The system may run meanwhile, and what happened between
//! the two readings is no difference: only what is seen in two looks is reported.

use std::{
    collections::{BTreeSet, hash_map},
    fmt,
};

use pipeline::{
    audit::CheckResult,
    domain::{Cents, PaymentStatus, RefundStatus},
    store::{KnownGateway, LedgerSnapshot, Store},
};
use rustc_hash::FxHashMap;

use super::lines::{Kind, LedgerLine, LedgerLines, Line, Status};
use crate::gateway::installation_prefix;

/// Most charges and refunds that are kept in memory, some 150 bytes each.
const ENTRIES_MAX: usize = 20_000_000;

/// A provider's ledger, with the gateways of ours that it belongs to: one for each currency that it charges in.
pub(super) struct Ledger {
    pub(super) lines: LedgerLines,
    pub(super) gateways: Vec<KnownGateway>,
    /// What references of this installation begin with.
    pub(super) mark: String,
}

/// Compares a ledger with the books.
///
/// # Errors
/// When the ledger cannot be read to its end, or Postgres cannot be reached.
pub(super) async fn compare(store: &Store, ledger: &Ledger) -> anyhow::Result<Look> {
    let mut look = Look::take(store, ledger).await?;
    if look.charges.differs() || look.refunds.differs() {
        let before = std::mem::replace(&mut look, Look::take(store, ledger).await?);
        look.charges.confirm(&before.charges);
        look.refunds.confirm(&before.refunds);
    }
    Ok(look)
}

/// What one reading of both sides shows, or that of several ledgers together.
#[derive(Default)]
pub(super) struct Look {
    charges: Found,
    refunds: Found,
    /// Entries of other installations, by their references.
    pub(super) of_others: u64,
}

impl Look {
    /// Takes in what another ledger showed.
    pub(super) fn add(&mut self, other: Self) {
        self.charges.add(other.charges);
        self.refunds.add(other.refunds);
        self.of_others += other.of_others;
    }

    /// Both checks.
    pub(super) fn checks(self) -> [CheckResult; 2] {
        [
            self.charges.result(
                "gateway_charges",
                "every approved payment is one approved charge of the provider, of its amount and currency, and the reverse",
                "charges",
            ),
            self.refunds.result(
                "gateway_refunds",
                "every succeeded refund is one succeeded refund of the provider, of its amount and currency, and the reverse",
                "refunds",
            ),
        ]
    }

    async fn take(store: &Store, ledger: &Ledger) -> anyhow::Result<Self> {
        let Theirs { charges, refunds, odd, of_others } = Theirs::read(ledger).await?;
        let gateway = |name: &str| ledger.gateways.iter().find(|gateway| gateway.name == name);
        let names = ledger.gateways.iter().map(|gateway| gateway.name.clone()).collect();
        let mut ours = LedgerSnapshot::begin(store, names).await?;
        let mut charges = Comparison::new("order", "charge", charges, &ledger.mark);
        let mut page = ours.payments_after(None).await?;
        while let Some(last) = page.last() {
            for payment in &page {
                let Some(gateway) = gateway(&payment.gateway) else { continue };
                let pending = payment.status == PaymentStatus::Pending;
                let row =
                    Row { name: &payment.code, prefix: &gateway.reference_prefix, amount: payment.amount, pending };
                charges.strike(&row, gateway.currency.as_deref());
            }
            page = ours.payments_after(Some(last)).await?;
        }
        let mut refunds = Comparison::new("refund", "refund", refunds, &ledger.mark);
        let mut page = ours.refunds_after(None).await?;
        while let Some(last) = page.last() {
            for refund in &page {
                let Some(gateway) = gateway(&refund.gateway) else { continue };
                let (prefix, pending) = (&refund.reference_prefix, refund.status == RefundStatus::Pending);
                let row = Row { name: &refund.key, prefix, amount: refund.amount, pending };
                refunds.strike(&row, gateway.currency.as_deref());
            }
            page = ours.refunds_after(Some(last)).await?;
        }
        ours.end().await?;
        refunds.demand_ours(&charges);
        let (mut charges, refunds) = (charges.end(), refunds.end());
        charges.differences.extend(odd);
        Ok(Self { of_others: of_others + charges.of_others + refunds.of_others, charges, refunds })
    }
}

/// How much money an entry says that it moved.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Amount {
    Read(Cents),
    /// As it stands there.
    Odd(Box<str>),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(amount) => amount.fmt(f),
            Self::Odd(text) => write!(f, "{text:?}"),
        }
    }
}

/// What the provider says of a reference.
#[derive(Debug, Clone)]
struct Entry {
    /// Of the first.
    amount: Amount,
    /// Of the first.
    currency: Box<str>,
    /// Of the first: the id of a charge that may be ours, or of the charge that another installation's refund is of.
    charge: Option<Box<str>>,
    /// How many charges or refunds moved money.
    count: u32,
    /// Each moved as much as the first.
    alike: bool,
    /// How many rows of ours it belongs to.
    struck: u32,
}

impl Entry {
    /// Whether it is of another installation. A code of an earlier version may look like a mark.
    fn is_of_others(&self, reference: &str, mark: &str) -> bool {
        self.struck == 0 && is_foreign(reference, mark)
    }
}

type Entries = FxHashMap<Box<str>, Entry>;

/// What moved money: charges and refunds.
#[derive(Default)]
struct Theirs {
    charges: Entries,
    refunds: Entries,
    /// What is wrong with lines that nobody understands, unless they are of other installations.
    odd: BTreeSet<String>,
    /// Such lines of other installations.
    of_others: u64,
}

impl Theirs {
    async fn read(ledger: &Ledger) -> anyhow::Result<Self> {
        let mut theirs = Self::default();
        let mut reading = ledger.lines.read().await?;
        while let Some(line) = reading.next().await? {
            match line {
                Line::Entry(line) => theirs.add(line, &ledger.mark),
                Line::Odd { reference, why } => theirs.add_odd(&reference, &why, &ledger.mark),
            }
            let read = theirs.charges.len() + theirs.refunds.len() + theirs.odd.len();
            anyhow::ensure!(read <= ENTRIES_MAX, "the ledger has more than {ENTRIES_MAX} entries");
        }
        Ok(theirs)
    }

    fn add(&mut self, line: LedgerLine, mark: &str) {
        let is_foreign = is_foreign(&line.reference, mark);
        let (entries, charge) = match (line.kind, line.status) {
            (Kind::Charge, Status::Approved) => (&mut self.charges, line.id.filter(|_| !is_foreign)),
            (Kind::Refund, Status::Succeeded) => (&mut self.refunds, line.charge.filter(|_| is_foreign)),
            (Kind::Charge, Status::Pending | Status::Declined) | (Kind::Refund, Status::Pending | Status::Failed) => {
                return;
            }
            (kind, status) => return self.add_odd(&line.reference, &format!("a {kind:?} that is {status:?}"), mark),
        };
        let amount = match Cents::parse_total(line.amount.as_bytes()) {
            // Earlier versions asked for nothing, too, and some providers take it. It is no money, there or here.
            Ok(Cents::ZERO) => return,
            Ok(amount) => Amount::Read(amount),
            Err(_) => Amount::Odd(line.amount.into_boxed_str()),
        };
        let (currency, charge) = (line.currency.into_boxed_str(), charge.map(String::into_boxed_str));
        let new = Entry { amount, currency, charge, count: 1, alike: true, struck: 0 };
        match entries.entry(line.reference.into_boxed_str()) {
            hash_map::Entry::Vacant(place) => _ = place.insert(new),
            hash_map::Entry::Occupied(mut place) => {
                let entry = place.get_mut();
                entry.count += 1;
                entry.alike &= (&entry.amount, &entry.currency) == (&new.amount, &new.currency);
            }
        }
    }

    fn add_odd(&mut self, reference: &str, why: &str, mark: &str) {
        match is_foreign(reference, mark) {
            true => self.of_others += 1,
            false => _ = self.odd.insert(format!("entry {reference}: not understood: {why}")),
        }
    }
}

/// Whether a reference has the mark of an installation that is not this one.
fn is_foreign(reference: &str, mark: &str) -> bool {
    installation_prefix(reference).is_some_and(|theirs| theirs != mark)
}

/// A row of ours.
#[derive(Clone, Copy)]
struct Row<'a> {
    /// Its code or key.
    name: &'a str,
    /// What stands before that in its reference.
    prefix: &'a str,
    amount: Cents,
    /// The provider may have moved the money or not.
    pending: bool,
}

/// The provider's entries, struck out one by one.
struct Comparison<'a> {
    /// What references of this installation begin with. Where it is a copy, the books have rows of the original, too.
    mark: &'a str,
    /// What ours is called.
    ours: &'static str,
    /// What theirs is called.
    theirs: &'static str,
    entries: Entries,
    examined: usize,
    differences: BTreeSet<String>,
}

impl<'a> Comparison<'a> {
    fn new(ours: &'static str, theirs: &'static str, entries: Entries, mark: &'a str) -> Self {
        Self { mark, ours, theirs, examined: entries.len(), entries, differences: BTreeSet::new() }
    }

    /// Strikes out the entry of a row, whose gateway has this currency.
    fn strike(&mut self, &Row { name, prefix, amount, pending }: &Row<'_>, currency: Option<&str>) {
        if amount == Cents::ZERO {
            return;
        }
        let Self { ours, theirs, .. } = self;
        let currency = currency.unwrap_or("?");
        let difference = match self.entries.get_mut(format!("{prefix}{name}").as_str()) {
            None if pending => return,
            None => {
                self.examined += 1;
                format!("{ours} {name}: {amount} {currency} here, no {theirs} at the provider")
            }
            Some(entry) => {
                entry.struck += 1;
                if entry.amount == Amount::Read(amount) && &*entry.currency == currency {
                    return;
                }
                format!("{ours} {name}: {amount} {currency} here, {} {} at the provider", entry.amount, entry.currency)
            }
        };
        self.differences.insert(difference);
    }

    /// Of refunds, when all rows have been struck: none of another installation is of a charge of ours.
    fn demand_ours(&mut self, charges: &Comparison<'_>) {
        let foreign = self.entries.iter().filter(|(reference, entry)| entry.is_of_others(reference, self.mark));
        let by_charge = foreign.filter_map(|(reference, entry)| Some((entry.charge.as_deref()?, (reference, entry))));
        let mut by_charge: Vec<_> = by_charge.collect();
        by_charge.sort_unstable_by_key(|(charge, _)| *charge);
        if by_charge.is_empty() {
            return;
        }
        for (charged, charge) in &charges.entries {
            // An earlier version's charges do not say whose they are; the books do.
            let is_ours = charged.starts_with(self.mark) || charge.struck > 0;
            let Some(id) = charge.charge.as_deref().filter(|_| is_ours) else { continue };
            let first = by_charge.partition_point(|(charge, _)| *charge < id);
            for (_, (reference, Entry { amount, currency, .. })) in
                by_charge[first..].iter().take_while(|(charge, _)| *charge == id)
            {
                self.differences.insert(format!(
                    "refund {reference}: another installation gave back {amount} {currency} of our charge {charged}"
                ));
            }
        }
    }

    fn end(mut self) -> Found {
        let (ours, theirs) = (self.ours, self.theirs);
        let mut of_others = 0;
        for (reference, entry) in &self.entries {
            let Entry { amount, currency, count, alike, struck, .. } = entry;
            // Whoever else sells over this account has books of his own, and a copy's original is somebody else.
            if entry.is_of_others(reference, self.mark) {
                of_others += u64::from(*count);
                continue;
            }
            if *struck != 1 || *count != 1 {
                let each = if *alike { "" } else { "different amounts, first " };
                let difference = format!(
                    "{ours} {reference}: {count} × {theirs} of {each}{amount} {currency} at the provider, {struck} here"
                );
                self.differences.insert(difference);
            }
        }
        Found { examined: self.examined, differences: self.differences, of_others }
    }
}

/// What a comparison found.
#[derive(Default)]
struct Found {
    examined: usize,
    of_others: u64,
    differences: BTreeSet<String>,
}

impl Found {
    fn differs(&self) -> bool {
        !self.differences.is_empty()
    }

    /// Takes in what was found of another ledger.
    fn add(&mut self, other: Self) {
        self.examined += other.examined;
        self.differences.extend(other.differences);
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

    fn entry(amount: i64, currency: &str, count: u32) -> Entry {
        let amount = Amount::Read(Cents::new(amount));
        Entry { amount, currency: currency.into(), charge: None, count, alike: true, struck: 0 }
    }

    fn compared(theirs: &[(&str, i64, u32)], ours: &[(&str, i64, bool)]) -> Vec<String> {
        let entries = |&(reference, amount, count): &(&str, i64, u32)| (reference.into(), entry(amount, "EUR", count));
        let mut comparison = Comparison::new("order", "charge", theirs.iter().map(entries).collect(), MARK);
        for &(name, amount, pending) in ours {
            comparison.strike(&Row { name, prefix: MARK, amount: Cents::new(amount), pending }, Some("EUR"));
        }
        comparison.end().differences.into_iter().collect()
    }

    /// What references of ours begin with.
    const MARK: &str = "0123456789ab:";

    /// What the provider calls our `A`.
    const A: &str = "0123456789ab:A";

    #[test]
    fn books_that_agree_have_no_differences() {
        let theirs = [(A, 1, 1), ("0123456789ab:B", 2, 1)];
        assert!(compared(&theirs, &[("A", 1, false), ("B", 2, false)]).is_empty());
        // Nothing was charged, whoever was asked for it.
        assert!(compared(&[], &[("FREE", 0, false)]).is_empty());
        // The answer is on its way, or not given yet.
        assert!(compared(&[(A, 1, 1)], &[("A", 1, true), ("B", 2, true)]).is_empty());
    }

    #[test]
    fn every_way_to_disagree_is_a_difference() {
        for (theirs, ours, difference) in [
            (&[][..], &[("A", 1, false)][..], "order A: 0.01 EUR here, no charge at the provider"),
            (&[(A, 1, 1)], &[], "order 0123456789ab:A: 1 × charge of 0.01 EUR at the provider, 0 here"),
            (&[(A, 1, 2)], &[("A", 1, false)], "order 0123456789ab:A: 2 × charge of 0.01 EUR at the provider, 1 here"),
            (
                &[(A, 1, 1)],
                &[("A", 1, false), ("A", 1, false)],
                "order 0123456789ab:A: 1 × charge of 0.01 EUR at the provider, 2 here",
            ),
            (&[(A, 1, 1)], &[("A", 2, false)], "order A: 0.02 EUR here, 0.01 EUR at the provider"),
            (&[(A, 1, 1)], &[("A", 2, true)], "order A: 0.02 EUR here, 0.01 EUR at the provider"),
        ] {
            assert_eq!(compared(theirs, ours), [difference]);
        }
    }

    #[test]
    fn what_another_installation_charged_is_passed_over_unless_it_is_one_of_ours() {
        assert!(compared(&[("aaaaaaaaaaaa:A", 1, 2)], &[]).is_empty());
        let entries = [("aaaaaaaaaaaa:A".into(), entry(1, "EUR", 2))].into_iter().collect();
        let mut comparison = Comparison::new("order", "charge", entries, MARK);
        // An earlier version asked by the code alone, and this code looks like a mark.
        let row = Row { name: "aaaaaaaaaaaa:A", prefix: "", amount: Cents::new(1), pending: false };
        comparison.strike(&row, Some("EUR"));
        let differences: Vec<String> = comparison.end().differences.into_iter().collect();
        assert_eq!(differences, ["order aaaaaaaaaaaa:A: 2 × charge of 0.01 EUR at the provider, 1 here"]);
    }

    #[test]
    fn charges_of_different_amounts_are_told_apart() {
        let mut theirs = Theirs::default();
        for amount in ["1.00", "2.00"] {
            let (kind, status, reference) = (Kind::Charge, Status::Approved, A.to_owned());
            let (amount, currency) = (amount.to_owned(), "EUR".to_owned());
            theirs.add(LedgerLine { kind, status, reference, id: None, charge: None, amount, currency }, MARK);
        }
        let mut comparison = Comparison::new("order", "charge", theirs.charges, MARK);
        comparison.strike(&Row { name: "A", prefix: MARK, amount: Cents::new(100), pending: false }, Some("EUR"));
        let differences: Vec<String> = comparison.end().differences.into_iter().collect();
        let told = "order 0123456789ab:A: 2 × charge of different amounts, first 1.00 EUR at the provider, 1 here";
        assert_eq!(differences, [told]);
    }

    #[test]
    fn the_same_number_in_another_currency_is_a_difference() {
        let entries = [(A.into(), entry(1, "USD", 1))].into_iter().collect();
        let mut comparison = Comparison::new("order", "charge", entries, MARK);
        comparison.strike(&Row { name: "A", prefix: MARK, amount: Cents::new(1), pending: false }, Some("EUR"));
        let differences: Vec<String> = comparison.end().differences.into_iter().collect();
        assert_eq!(differences, ["order A: 0.01 EUR here, 0.01 USD at the provider"]);
    }
}
