//! How old an entry is: its id is the time at which it was added, as long as nobody gave it another.

use std::fmt;

use chrono::DateTime;
use serde::Serialize;

use crate::message::EntryId;

/// A clock that was set back by less than this has made no ids of the future: entries that come meanwhile are as good as
/// new.
const AHEAD_MS_MAX: u64 = 60_000;

/// The age of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// In milliseconds, by the server's clock.
    Known(u64),
    /// Somebody gave the entry an id of the future. Redis continues from there, so those after it have none either.
    Unknown(AgeUnknown),
}

impl Age {
    /// The age of the entry with this id.
    pub(super) fn of(id: EntryId, now_ms: u64) -> Self {
        match id.ms.saturating_sub(now_ms) {
            ahead if ahead > AHEAD_MS_MAX => Self::Unknown(AgeUnknown(id)),
            _ => Self::Known(now_ms.saturating_sub(id.ms)),
        }
    }

    pub(super) fn known(self) -> Option<u64> {
        match self {
            Self::Known(ms) => Some(ms),
            Self::Unknown(_) => None,
        }
    }

    pub(super) fn unknown(self) -> Option<AgeUnknown> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(why) => Some(why),
        }
    }
}

/// Why an age is unknown: this id is of the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgeUnknown(pub EntryId);

impl fmt::Display for AgeUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == EntryId::MAX {
            return f.write_str("somebody added an entry with the greatest id there is");
        }
        let at = i64::try_from(self.0.ms).ok().and_then(DateTime::from_timestamp_millis);
        match at {
            Some(at) => {
                write!(f, "somebody added an entry with an id of the future, {}", at.format("%Y-%m-%d %H:%M UTC"))
            }
            None => write!(f, "somebody added an entry with an id of the future, {}", self.0),
        }
    }
}

impl Serialize for AgeUnknown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The bounds of a range of all entries after this id. Redis refuses to look beyond the greatest one.
pub(super) fn range_after(id: EntryId) -> (String, &'static str) {
    match id.successor() {
        Some(from) => (from.to_string(), "+"),
        None => ("1-0".to_owned(), "0-0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_the_future_has_no_age_and_a_clock_set_back_by_seconds_changes_nothing() {
        const NOW: u64 = 1_800_000_000_000;
        let of = |ms| Age::of(EntryId { ms, seq: 0 }, NOW);
        assert_eq!(of(NOW - 5_000), Age::Known(5_000));
        assert_eq!(of(NOW + 5_000), Age::Known(0));
        let later = of(1_893_456_000_000).unknown().expect("of the future");
        assert!(later.to_string().ends_with("2030-01-01 00:00 UTC"), "{later}");
        let greatest = Age::of(EntryId::MAX, NOW).unknown().expect("of the future");
        assert!(greatest.to_string().contains("greatest id"), "{greatest}");
    }
}
