//! Order codes as small numbers: each text is kept once, all in one piece of memory.

use std::hash::{BuildHasher, RandomState};

/// A map from codes to values, numbered in the order in which the codes came.
///
/// Open addressing over an arena of text. A look-up is where an import spends its time, and that time goes into waiting
/// for memory: it takes three places in memory, of which one is the value that is wanted anyway. A
/// `HashMap<String, u32>` beside a list of values takes five, and two allocations a code.
#[derive(Debug)]
pub(super) struct Codes<T> {
    text: String,
    entries: Vec<Entry<T>>,
    slots: Vec<Slot>,
    /// Seeded at random: files come from outside, and may be made to collide.
    hasher: RandomState,
}

/// A value, and where its code stands in the text; within one cache line as long as the value has at most 56 bytes.
#[derive(Debug)]
#[repr(align(64))]
struct Entry<T> {
    value: T,
    start: u32,
    length: u32,
}

/// Half the hash of a code, and its number plus one; zero where the slot is free.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: u32,
    number: u32,
}

/// Slots in the beginning; a power of two, as always.
const SLOTS_MIN: usize = 1024;

impl<T: Default> Codes<T> {
    pub(super) fn new() -> Self {
        let slots = vec![Slot::default(); SLOTS_MIN];
        Self { text: String::new(), entries: Vec::new(), slots, hasher: RandomState::new() }
    }

    /// Number of codes.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.len() * size_of::<Entry<T>>() + self.slots.len() * size_of::<Slot>()
    }

    /// The code with a number that [`Codes::intern`] gave.
    pub(super) fn code(&self, number: u32) -> &str {
        let entry = &self.entries[number as usize];
        &self.text[entry.start as usize..][..entry.length as usize]
    }

    /// Its value.
    pub(super) fn value(&self, number: u32) -> &T {
        &self.entries[number as usize].value
    }

    /// Its value, to be changed.
    pub(super) fn value_mut(&mut self, number: u32) -> &mut T {
        &mut self.entries[number as usize].value
    }

    /// All numbers with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.entries.iter().map(|entry| &entry.value))
    }

    /// The number of a code, if it is known.
    pub(super) fn find(&self, code: &str) -> Option<u32> {
        self.slots[self.place(code, self.hash(code))].number.checked_sub(1)
    }

    /// The number of a code; a new one gets the next number and the default value.
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
        let bounded = |number: usize| u32::try_from(number).expect("bounded by the budget");
        let (start, length) = (bounded(self.text.len()), bounded(code.len()));
        self.text.push_str(code);
        self.entries.push(Entry { value: T::default(), start, length });
        let number = bounded(self.len());
        self.slots[place] = Slot { hash, number };
        number - 1
    }

    /// The slot that holds a code, or the free one that it would take.
    fn place(&self, code: &str, hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let slot = self.slots[place];
            if slot.number == 0 || (slot.hash == hash && self.code(slot.number - 1) == code) {
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
        let mut codes = Codes::<u8>::new();
        let text = |number: u32| format!("ORD-{number}");
        for number in 0..10_000 {
            assert_eq!(codes.intern(&text(number)), number);
            assert_eq!(codes.intern(&text(number / 2)), number / 2);
        }
        assert_eq!(codes.len(), 10_000);
        for number in 0..10_000 {
            assert_eq!(codes.code(number), text(number));
            assert_eq!(codes.find(&text(number)), Some(number));
        }
        assert_eq!(codes.find("ORD-10000"), None);
        assert_eq!(codes.find(""), None);
    }
}
