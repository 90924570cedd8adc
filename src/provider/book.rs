//! What the provider knows: charges and refunds, by key, by id, by reference; and the rules of booking.

use pipeline::domain::Cents;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ledger::{Booked, Fact, Ledger};

/// Which way the money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Charge,
    Refund,
}

/// Where a charge or refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Pending,
    Approved,
    Declined,
    Succeeded,
    Failed,
}

impl Kind {
    /// The final status of this kind.
    pub(super) fn decided(self, yes: bool) -> Status {
        match (self, yes) {
            (Self::Charge, true) => Status::Approved,
            (Self::Charge, false) => Status::Declined,
            (Self::Refund, true) => Status::Succeeded,
            (Self::Refund, false) => Status::Failed,
        }
    }
}

/// A charge or refund.
#[derive(Debug, Clone)]
pub(super) struct Booking {
    /// As it was first answered; the same key is answered so for ever.
    pub(super) first: Booked,
    pub(super) status: Status,
    /// The number of the last fact about it in the ledger.
    pub(super) line: u64,
    /// Of a charge: what went back or is about to.
    returned: Cents,
    pub(super) delivered: bool,
}

/// What somebody asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) key: String,
    /// Fingerprint of the body.
    pub(super) body: String,
    pub(super) reference: String,
    pub(super) amount: Cents,
    pub(super) currency: String,
    /// Of a refund: the id of the charge, if it is known to who asks, and its reference.
    pub(super) charge: Option<(Option<String>, String)>,
}

/// Why nothing is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotBooked {
    #[error("this idempotency key came with another body before")]
    OtherBody,
    #[error("there is no approved charge of this id or reference, in this currency")]
    NoCharge,
    #[error("less than this amount is left of the charge")]
    ExceedsCharge,
}

/// All charges and refunds.
#[derive(Debug)]
pub(super) struct Book {
    bookings: Vec<Booking>,
    by_key: FxHashMap<String, usize>,
    by_id: FxHashMap<String, usize>,
    by_reference: FxHashMap<(Kind, String), Vec<usize>>,
    /// Keys whose first request was answered with an error.
    failed_once: FxHashSet<String>,
}

impl Book {
    pub(super) fn empty() -> Self {
        Self {
            bookings: Vec::new(),
            by_key: FxHashMap::default(),
            by_id: FxHashMap::default(),
            by_reference: FxHashMap::default(),
            failed_once: FxHashSet::default(),
        }
    }

    /// Takes over a fact that is in the ledger.
    pub(super) fn learn(&mut self, fact: Fact) -> anyhow::Result<()> {
        match fact {
            Fact::Booked(first) => {
                anyhow::ensure!(!self.by_key.contains_key(&first.key), "a key is booked twice");
                self.insert(first, 0);
            }
            Fact::Decided { id, status } => {
                let index = self.index_of(&id)?;
                self.set_status(index, status);
            }
            Fact::Delivered { id } => {
                let index = self.index_of(&id)?;
                self.bookings[index].delivered = true;
            }
        }
        Ok(())
    }

    fn index_of(&self, id: &str) -> anyhow::Result<usize> {
        self.by_id.get(id).copied().ok_or_else(|| anyhow::anyhow!("{id} is not booked before"))
    }

    /// Whether this is the first request under a key; from now on it is not.
    pub(super) fn fails_once(&mut self, key: &str) -> bool {
        !self.by_key.contains_key(key) && self.failed_once.insert(key.to_owned())
    }

    /// Books what is asked for, in this status; or finds what was booked under its key. The booking's place, and whether
    /// it is new.
    pub(super) fn book(
        &mut self,
        ledger: &mut Ledger,
        request: Request,
        status: Status,
        at: i64,
    ) -> Result<(usize, bool), NotBooked> {
        if let Some(&index) = self.by_key.get(&request.key) {
            let first = &self.bookings[index].first;
            let same = first.kind == request.kind && first.body == request.body;
            return if same { Ok((index, false)) } else { Err(NotBooked::OtherBody) };
        }
        let charge = match &request.charge {
            Some((id, reference)) => Some(self.charge_with_room(id.as_deref(), reference, &request)?),
            None => None,
        };
        let Request { kind, key, body, reference, amount, currency, charge: _ } = request;
        let prefix = match kind {
            Kind::Charge => "ch",
            Kind::Refund => "re",
        };
        let digest = Sha256::digest(&key);
        let id = digest.iter().take(12).fold(format!("{prefix}_"), |id, byte| format!("{id}{byte:02x}"));
        let first = Booked { kind, id, key, body, reference, cents: amount, currency, status, charge, at };
        let line = ledger.append(&Fact::Booked(first.clone()));
        Ok((self.insert(first, line), true))
    }

    /// The id of the charge that a refund is of.
    fn charge_with_room(&self, id: Option<&str>, reference: &str, refund: &Request) -> Result<String, NotBooked> {
        let places = match id {
            Some(id) => self.by_id.get(id).into_iter().copied().collect(),
            None => self.places(Kind::Charge, reference),
        };
        let charges = places.into_iter().map(|index| &self.bookings[index]).filter(|charge| {
            charge.status == Status::Approved
                && charge.first.reference == reference
                && charge.first.currency == refund.currency
        });
        let mut refusal = NotBooked::NoCharge;
        for charge in charges {
            let after = charge.returned.checked_add(refund.amount);
            if after.is_some_and(|after| after <= charge.first.cents) {
                return Ok(charge.first.id.clone());
            }
            refusal = NotBooked::ExceedsCharge;
        }
        Err(refusal)
    }

    fn insert(&mut self, first: Booked, line: u64) -> usize {
        let index = self.bookings.len();
        self.by_key.insert(first.key.clone(), index);
        self.by_id.insert(first.id.clone(), index);
        self.by_reference.entry((first.kind, first.reference.clone())).or_default().push(index);
        let status = first.status;
        self.bookings.push(Booking { status: Status::Pending, line, returned: Cents::ZERO, delivered: false, first });
        self.reserve(index, 1);
        self.set_status(index, status);
        index
    }

    /// Takes a refund's amount from what is left of its charge, or with -1 puts it back.
    fn reserve(&mut self, refund: usize, sign: i64) {
        let Booked { charge, cents, .. } = &self.bookings[refund].first;
        let Some(&charge) = charge.as_ref().and_then(|id| self.by_id.get(id)) else { return };
        let change = Cents::new(cents.get() * sign);
        let returned = &mut self.bookings[charge].returned;
        *returned = returned.checked_add(change).expect("never above the charge");
    }

    fn set_status(&mut self, index: usize, status: Status) {
        if status == Status::Failed {
            self.reserve(index, -1);
        }
        self.bookings[index].status = status;
    }

    /// Decides what is pending; whether it was.
    pub(super) fn decide(&mut self, ledger: &mut Ledger, index: usize, yes: bool) -> bool {
        let Booking { status: Status::Pending, first, .. } = &self.bookings[index] else { return false };
        let status = first.kind.decided(yes);
        let line = ledger.append(&Fact::Decided { id: first.id.clone(), status });
        self.set_status(index, status);
        self.bookings[index].line = line;
        true
    }

    /// Notes that a callback arrived.
    pub(super) fn note_delivery(&mut self, ledger: &mut Ledger, index: usize) {
        let booking = &mut self.bookings[index];
        booking.delivered = true;
        // Not waited for: who does not know it sends the callback once more.
        ledger.append(&Fact::Delivered { id: booking.first.id.clone() });
    }

    pub(super) fn get(&self, index: usize) -> &Booking {
        &self.bookings[index]
    }

    /// The places of all of a reference, oldest first.
    pub(super) fn places(&self, kind: Kind, reference: &str) -> Vec<usize> {
        self.by_reference.get(&(kind, reference.to_owned())).cloned().unwrap_or_default()
    }

    /// Up to `limit` from this place on.
    pub(super) fn page(&self, from: usize, limit: usize) -> &[Booking] {
        &self.bookings[from.min(self.bookings.len())..self.bookings.len().min(from.saturating_add(limit))]
    }

    /// Everything whose decision or callback is still owed.
    pub(super) fn owed(&self) -> Vec<usize> {
        let owes = |booking: &Booking| booking.first.status == Status::Pending && !booking.delivered;
        (0..self.bookings.len()).filter(|&index| owes(&self.bookings[index])).collect()
    }
}
