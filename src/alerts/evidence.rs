//! What takes more than one look to see: whether a message moves, and how many orders failed in the last minutes. Every
//! process that looks keeps it, so that whoever leads next knows it already.

use std::collections::VecDeque;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use pipeline::{message::EntryId, topology::StageName};

use crate::monitor::{Snapshot, StageView};

/// Over how long ends of orders are counted.
const ENDS_SECONDS: i64 = 300;

/// Seconds from one count of ends to the next.
const ENDS_EVERY_SECONDS: i64 = 5;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    oldest: [Option<Oldest>; StageName::ALL.len()],
    seen: u64,
    today: Option<(NaiveDate, i64, i64)>,
    ends: VecDeque<Ends>,
}

/// The oldest message that a stage has in hand.
#[derive(Debug, Clone, Copy)]
struct Oldest {
    id: EntryId,
    since: DateTime<Utc>,
    /// Another one was it before.
    has_moved: bool,
}

/// Orders that ended since the first look.
#[derive(Debug, Clone, Copy)]
struct Ends {
    at: DateTime<Utc>,
    completed: i64,
    failed: i64,
}

/// Whether a stage gets on with the oldest message that it has in hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Grip {
    /// It has no message, or had another one as its oldest before.
    Moves,
    /// The same one for so many seconds, and it is not known whether another one was it before.
    Perhaps(f64),
    /// The same one for so many seconds.
    Holds(f64),
}

/// Orders that ended within the last minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recent {
    pub(super) ended: i64,
    pub(super) failed: i64,
    /// All of the time was watched.
    pub(super) is_whole: bool,
}

impl Evidence {
    /// Takes a look in, if it is a new one.
    pub(super) fn add(&mut self, snapshot: &Snapshot, now: DateTime<Utc>) {
        if snapshot.seq == self.seen || snapshot.stale.is_some() {
            return;
        }
        self.seen = snapshot.seq;
        for (oldest, view) in self.oldest.iter_mut().zip(&snapshot.stages) {
            *oldest = oldest_in_hand(view).map(|id| match *oldest {
                Some(known) if known.id == id => known,
                Some(_) => Oldest { id, since: now, has_moved: true },
                None => Oldest { id, since: now, has_moved: false },
            });
        }
        self.count(snapshot, now);
    }

    fn count(&mut self, snapshot: &Snapshot, now: DateTime<Utc>) {
        let today = &snapshot.today;
        let (completed, failed) = match self.today {
            // A board that is built anew counts up from 0 again: that is no news.
            Some((day, completed, failed)) if day == today.day => {
                ((today.completed - completed).max(0), (today.failed - failed).max(0))
            }
            Some(_) => (today.completed, today.failed),
            None => (0, 0),
        };
        self.today = Some((today.day, today.completed, today.failed));
        let last = self.ends.back().copied().unwrap_or(Ends { at: now, completed: 0, failed: 0 });
        let ends = Ends { at: now, completed: last.completed + completed, failed: last.failed + failed };
        // The newest one is always of now; those before it stand apart from each other.
        let before = self.ends.len().checked_sub(2).and_then(|index| self.ends.get(index));
        if before.is_some_and(|before| (now - before.at).num_seconds() < ENDS_EVERY_SECONDS) {
            self.ends.pop_back();
        }
        self.ends.push_back(ends);
        let begin = now - TimeDelta::seconds(ENDS_SECONDS);
        while self.ends.get(1).is_some_and(|second| second.at <= begin) {
            self.ends.pop_front();
        }
    }

    /// Whether a stage gets on with its oldest message.
    pub(super) fn grip(&self, stage: StageName, now: DateTime<Utc>) -> Grip {
        let place = StageName::ALL.iter().position(|known| *known == stage);
        let Some(oldest) = place.and_then(|place| self.oldest[place]) else { return Grip::Moves };
        let seconds = seconds(now - oldest.since);
        if oldest.has_moved { Grip::Holds(seconds) } else { Grip::Perhaps(seconds) }
    }

    /// Orders that ended within the last minutes.
    pub(super) fn recent(&self, now: DateTime<Utc>) -> Recent {
        let (Some(first), Some(last)) = (self.ends.front(), self.ends.back()) else {
            return Recent { ended: 0, failed: 0, is_whole: false };
        };
        let failed = last.failed - first.failed;
        Recent {
            ended: last.completed - first.completed + failed,
            failed,
            is_whole: (now - first.at).num_seconds() >= ENDS_SECONDS,
        }
    }
}

/// A group's low-water mark is what it has in hand for longest, as long as it has anything in hand.
fn oldest_in_hand(view: &StageView) -> Option<EntryId> {
    let groups = view.partitions.iter().flat_map(|stream| &stream.groups);
    let own = groups.filter(|group| group.name == view.stage.as_str() && group.pending > 0);
    own.filter_map(|group| group.low_water).min()
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
pub(super) fn seconds(span: TimeDelta) -> f64 {
    span.num_milliseconds().max(0) as f64 / 1_000.0
}
