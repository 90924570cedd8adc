//! What a stage has done since the program started.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::{
    metrics::{Metrics, Outcome, StageMetrics},
    topology::StageName,
};

/// Counts of one stage, shared by its workers: its figures in [`Metrics`], and over which time they came together.
#[derive(Debug)]
pub struct Counters {
    metrics: StageMetrics,
    first: OnceLock<Instant>,
    /// Microseconds from `first` to the end of the last batch.
    span_us: AtomicU64,
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
    /// Messages processed apart from others, because consumers had fallen silent with them in hand.
    pub suspected: u64,
    /// Entries that were deleted from the stream before they were processed.
    pub deleted: u64,
    /// Seconds spent on batches.
    pub busy_seconds: f64,
    /// Seconds from the first batch's start to the last one's end.
    pub span_seconds: f64,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics, stage: StageName) -> Self {
        Self { metrics: metrics.stage(stage), first: OnceLock::new(), span_us: AtomicU64::new(0) }
    }

    pub(super) fn batch_started(&self) -> Instant {
        let now = Instant::now();
        self.first.get_or_init(|| now);
        now
    }

    pub(super) fn batch_ended(&self, started: Instant, outcomes: &[Outcome]) {
        let first = *self.first.get_or_init(|| started);
        self.span_us.fetch_max(u64::try_from(first.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.metrics.batch_ended(started.elapsed(), outcomes);
    }

    pub(super) fn retried(&self) {
        self.metrics.retries.inc();
    }

    pub(super) fn redelivered(&self, messages: usize) {
        self.metrics.redeliveries.inc_by(messages as u64);
    }

    pub(super) fn claimed(&self, messages: usize) {
        self.metrics.claims.inc_by(messages as u64);
    }

    pub(super) fn suspected(&self, messages: usize) {
        self.metrics.suspects.inc_by(messages as u64);
    }

    pub(super) fn deleted(&self, messages: usize) {
        self.metrics.deleted.inc_by(messages as u64);
    }

    /// The counts now.
    pub fn snapshot(&self) -> CountersSnapshot {
        let metrics = &self.metrics;
        let [done, forwarded, dead, already] = metrics.outcomes();
        CountersSnapshot {
            batches: metrics.batches(),
            messages: done + forwarded + dead + already,
            forwarded,
            dead,
            already,
            retries: metrics.retries.get(),
            claimed: metrics.claims.get(),
            suspected: metrics.suspects.get(),
            deleted: metrics.deleted.get(),
            busy_seconds: metrics.busy_seconds(),
            #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
            span_seconds: self.span_us.load(Relaxed) as f64 / 1e6,
        }
    }
}
