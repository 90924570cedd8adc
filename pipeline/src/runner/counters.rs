//! What a stage has done since the program started.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// Counts of one stage, shared by its workers.
#[derive(Debug, Default)]
pub struct Counters {
    first: OnceLock<Instant>,
    /// Microseconds from `first` to the end of the last batch.
    span_us: AtomicU64,
    busy_us: AtomicU64,
    batches: AtomicU64,
    messages: AtomicU64,
    forwarded: AtomicU64,
    dead: AtomicU64,
    already: AtomicU64,
    retries: AtomicU64,
    claimed: AtomicU64,
    suspected: AtomicU64,
    deleted: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct CountersSnapshot {
    /// Batches handed off.
    pub batches: u64,
    /// Messages in them.
    pub messages: u64,
    /// Of those, handed to another stage.
    pub forwarded: u64,
    /// Of those, dead letters.
    pub dead: u64,
    /// Of those, handed off before by somebody.
    pub already: u64,
    /// Batches processed again after a failure.
    pub retries: u64,
    /// Messages taken over from consumers that were idle too long.
    pub claimed: u64,
    /// Messages processed alone, because consumers had fallen silent with them in hand.
    pub suspected: u64,
    /// Entries that were deleted from the stream before they were processed.
    pub deleted: u64,
    /// Seconds spent on batches.
    pub busy_seconds: f64,
    /// Seconds from the first batch's start to the last one's end.
    pub span_seconds: f64,
}

impl Counters {
    pub(super) fn batch_started(&self) -> Instant {
        let now = Instant::now();
        self.first.get_or_init(|| now);
        now
    }

    pub(super) fn batch_ended(&self, started: Instant, messages: usize, forwarded: usize, dead: usize, already: u64) {
        let first = *self.first.get_or_init(|| started);
        self.span_us.fetch_max(micros(first), Relaxed);
        self.busy_us.fetch_add(micros(started), Relaxed);
        self.batches.fetch_add(1, Relaxed);
        self.messages.fetch_add(messages as u64, Relaxed);
        self.forwarded.fetch_add(forwarded as u64, Relaxed);
        self.dead.fetch_add(dead as u64, Relaxed);
        self.already.fetch_add(already, Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn claimed(&self, messages: usize) {
        self.claimed.fetch_add(messages as u64, Relaxed);
    }

    pub(super) fn suspected(&self) {
        self.suspected.fetch_add(1, Relaxed);
    }

    pub(super) fn deleted(&self, messages: usize) {
        self.deleted.fetch_add(messages as u64, Relaxed);
    }

    /// The counts now.
    pub fn snapshot(&self) -> CountersSnapshot {
        #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
        let seconds = |micros: &AtomicU64| micros.load(Relaxed) as f64 / 1e6;
        CountersSnapshot {
            batches: self.batches.load(Relaxed),
            messages: self.messages.load(Relaxed),
            forwarded: self.forwarded.load(Relaxed),
            dead: self.dead.load(Relaxed),
            already: self.already.load(Relaxed),
            retries: self.retries.load(Relaxed),
            claimed: self.claimed.load(Relaxed),
            suspected: self.suspected.load(Relaxed),
            deleted: self.deleted.load(Relaxed),
            busy_seconds: seconds(&self.busy_us),
            span_seconds: seconds(&self.span_us),
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
