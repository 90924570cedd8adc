//! Order codes as small numbers: each text is kept once, all in one piece of memory.

use std::hash::{BuildHasher, RandomState};

/// A set of codes, numbered in the order in which they came.
///
/// Open addressing over an arena of text: some 25 bytes a code beside its text and no allocation for each, where a
/// `HashMap<String, u32>` takes about 80 and two allocations.
#[derive(Debug)]
pub(super) struct Codes {
    text: String,
    /// Where each code ends in `text`; it begins where the one before ends.
    ends: Vec<u32>,
    slots: Vec<Slot>,
    /// Seeded at random: files come from outside, and may be made to collide.
    hasher: RandomState,
}

/// Half the hash of a code, and its number plus one; zero where the slot is free.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: u32,
    number: u32,
}

/// Slots in the beginning; a power of two, as always.
const SLOTS_MIN: usize = 1024;

impl Codes {
    pub(super) fn new() -> Self {
        let slots = vec![Slot::default(); SLOTS_MIN];
        Self { text: String::new(), ends: Vec::new(), slots, hasher: RandomState::new() }
    }

    /// Number of codes.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.ends.len() * size_of::<u32>() + self.slots.len() * size_of::<Slot>()
    }

    /// The code with a number that [`Codes::intern`] gave.
    pub(super) fn get(&self, number: u32) -> &str {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[number] as usize]
    }

    /// The number of a code, if it is known.
    pub(super) fn find(&self, code: &str) -> Option<u32> {
        self.slots[self.place(code, self.hash(code))].number.checked_sub(1)
    }

    /// The number of a code; a new one is [`Codes::len`] before the call.
    ///
    /// Numbers and text offsets have 32 bits; the owner stops long before, at its budget of memory.
    pub(super) fn intern(&mut self, code: &str) -> u32 {
        let hash = self.hash(code);
        let mut place = self.place(code, hash);
        if let Some(number) = self.slots[place].number.checked_sub(1) {
            return number;
        }
        // At most two thirds full: beyond that, runs of taken slots grow long.
        if (self.len() + 1) * 3 > self.slots.len() * 2 {
            self.grow();
            place = self.place(code, hash);
        }
        self.text.push_str(code);
        self.ends.push(u32::try_from(self.text.len()).expect("bounded by the budget"));
        let number = u32::try_from(self.len()).expect("bounded by the budget");
        self.slots[place] = Slot { hash, number };
        number - 1
    }

    /// The slot that holds a code, or the free one that it would take.
    fn place(&self, code: &str, hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let slot = self.slots[place];
            if slot.number == 0 || (slot.hash == hash && self.get(slot.number - 1) == code) {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); mask + 1]);
        for slot in old.into_iter().filter(|slot| slot.number != 0) {
            let mut place = slot.hash as usize & mask;
            while self.slots[place].number != 0 {
                place = (place + 1) & mask;
            }
            self.slots[place] = slot;
        }
    }

    /// The upper half: 32 bits are enough for as many slots as numbers.
    fn hash(&self, code: &str) -> u32 {
        (self.hasher.hash_one(code) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_as_they_come_and_found_again() {
        let mut codes = Codes::new();
        let text = |number: u32| format!("ORD-{number}");
        for number in 0..10_000 {
            assert_eq!(codes.intern(&text(number)), number);
            assert_eq!(codes.intern(&text(number / 2)), number / 2);
        }
        assert_eq!(codes.len(), 10_000);
        for number in 0..10_000 {
            assert_eq!(codes.get(number), text(number));
            assert_eq!(codes.find(&text(number)), Some(number));
        }
        assert_eq!(codes.find("ORD-10000"), None);
        assert_eq!(codes.find(""), None);
    }
}
