//! The place of an entry in its stream.

use std::{fmt, str::FromStr};

/// The place of an entry in its stream; the first half is the Redis server's clock in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// Unix milliseconds.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

impl EntryId {
    /// The greatest id: a stream that has given it out gives out no other.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// The smallest id after this one; `None` after the last.
    pub fn successor(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => Some(Self { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The largest id before this one; `None` before the first.
    pub fn predecessor(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => Some(Self { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl serde::Serialize for EntryId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for EntryId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, seq) = text.split_once('-').ok_or("an entry id has the form 1700000000000-0")?;
        match (ms.parse(), seq.parse()) {
            (Ok(ms), Ok(seq)) => Ok(Self { ms, seq }),
            _ => Err("an entry id consists of two numbers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_neighbours_up_to_their_ends() {
        let id = |ms, seq| EntryId { ms, seq };
        for (one, next) in [(id(5, 0), id(5, 1)), (id(5, u64::MAX), id(6, 0)), (id(0, 0), id(0, 1))] {
            assert_eq!((one.successor(), next.predecessor()), (Some(next), Some(one)));
        }
        assert_eq!((id(u64::MAX, u64::MAX).successor(), id(0, 0).predecessor()), (None, None));
    }
}
