//! When entries came whose ids do not tell: looks at a stream's last id, kept until what came by then is done.

use std::collections::VecDeque;

use pipeline::message::EntryId;

/// Looks that are kept of one stream: an hour of a stream that grows with every look.
const MARKS_MAX: usize = 3_600;

/// What the looks at one stream tell of when its entries came.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// A last id, and when it was seen first; both grow.
    marks: VecDeque<(EntryId, u64)>,
}

impl Arrivals {
    /// Takes in that the stream ends with this id, and that what is before `oldest` is done.
    pub(super) fn note(&mut self, last_id: EntryId, oldest: Option<EntryId>, at_ms: u64) {
        if self.marks.back().is_some_and(|(id, at)| *id > last_id || *at > at_ms) {
            // Another stream under this name, or another clock.
            self.marks.clear();
        }
        if self.marks.back().is_none_or(|(id, _)| *id < last_id) {
            self.marks.push_back((last_id, at_ms));
        }
        let is_done = |id: EntryId| oldest.is_none_or(|oldest| id < oldest);
        while self.marks.len() > 1 && self.marks.front().is_some_and(|(id, _)| is_done(*id)) {
            self.marks.pop_front();
        }
        if self.marks.len() > MARKS_MAX {
            // What came then counts as having come a second later.
            self.marks.remove(1);
        }
    }

    /// Milliseconds for which the entry has been there at least; `None` if it has not been seen.
    pub(super) fn age(&self, id: EntryId, at_ms: u64) -> Option<u64> {
        let (_, seen) = self.marks.iter().find(|(last_id, _)| *last_id >= id)?;
        Some(at_ms.saturating_sub(*seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> EntryId {
        EntryId { ms: 1_893_456_000_000, seq }
    }

    #[test]
    fn an_entry_is_as_old_as_the_first_look_that_saw_it() {
        let mut arrivals = Arrivals::default();
        for second in 0..10 {
            arrivals.note(id(second * 5), Some(id(3)), second * 1_000);
        }
        assert_eq!(arrivals.age(id(3), 10_000), Some(9_000));
        assert_eq!(arrivals.age(id(45), 10_000), Some(1_000));
        assert_eq!(arrivals.age(id(46), 10_000), None);
        arrivals.note(id(45), Some(id(30)), 10_000);
        assert_eq!((arrivals.age(id(30), 10_000), arrivals.marks.len()), (Some(4_000), 4));
    }

    #[test]
    fn a_stream_that_begins_anew_is_another_one() {
        let mut arrivals = Arrivals::default();
        arrivals.note(EntryId::MAX, Some(EntryId::MAX), 1_000);
        assert_eq!(arrivals.age(EntryId::MAX, 9_000), Some(8_000));
        arrivals.note(id(0), Some(id(0)), 9_000);
        assert_eq!(arrivals.age(id(0), 9_500), Some(500));
    }

    #[test]
    fn looks_are_bounded_and_the_oldest_entry_keeps_its_age() {
        let mut arrivals = Arrivals::default();
        for second in 0..2 * 3_600 {
            arrivals.note(id(second), Some(id(0)), second * 1_000);
        }
        assert_eq!(arrivals.marks.len(), MARKS_MAX);
        assert_eq!(arrivals.age(id(0), 7_200_000), Some(7_200_000));
    }
}
