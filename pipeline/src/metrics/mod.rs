//! What this process has done, counted once: `/metrics` shows it to Prometheus, `run --json` to whoever started it.
//!
//! [`Metrics`] is made once in a process and handed to whoever does something. Counting is for whole batches: some
//! additions to atomics, no lock, and nothing that depends on whether anybody looks. What each figure means is in
//! `docs/METRICS.md`.

mod ends;
mod family;
mod stage;

pub use ends::Ends;
pub use family::{counter, counters, gauge, gauges, growing, histograms};
pub use stage::{Outcome, StageMetrics};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry, core::Collector};

use crate::{message::DeadReason, topology::StageName};

/// Seconds that a batch takes: from a millisecond to the bound on its processing.
const BATCH_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Messages in a batch.
const BATCH_MESSAGES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0];

/// Seconds from the stream to the end: a backlog may be of hours.
const END_TO_END_SECONDS: &[f64] =
    &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0];

/// Counts of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    messages: IntCounterVec,
    batch_seconds: HistogramVec,
    batch_messages: HistogramVec,
    end_to_end: HistogramVec,
    retries: IntCounterVec,
    redeliveries: IntCounterVec,
    claims: IntCounterVec,
    suspects: IntCounterVec,
    deleted: IntCounterVec,
    dead_letters: IntCounterVec,
    reemitted: IntCounterVec,
    relay_events: IntCounter,
    setbacks: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        let by_stage = |name, help| counters(name, help, &["stage"]);
        Self {
            messages: counters(
                "orderstream_messages_total",
                "Messages whose batch was handed off, by how they ended.",
                &["stage", "outcome"],
            ),
            batch_seconds: histograms(
                "orderstream_batch_seconds",
                "How long a batch takes, from the first look at it to its hand-off.",
                BATCH_SECONDS,
                &["stage"],
            ),
            batch_messages: histograms(
                "orderstream_batch_messages",
                "How many messages a batch has.",
                BATCH_MESSAGES,
                &["stage"],
            ),
            end_to_end: histograms(
                "orderstream_end_to_end_seconds",
                "From an order's arrival in the stream to its end.",
                END_TO_END_SECONDS,
                &["outcome"],
            ),
            retries: by_stage("orderstream_retries_total", "Batches that were processed again after a failure."),
            redeliveries: by_stage(
                "orderstream_redeliveries_total",
                "Messages that were delivered again, because nobody had acknowledged them.",
            ),
            claims: by_stage("orderstream_claims_total", "Messages taken over from consumers that fell silent."),
            suspects: by_stage(
                "orderstream_suspects_total",
                "Messages processed apart from others, because consumers fell silent with them in hand.",
            ),
            deleted: by_stage(
                "orderstream_deleted_entries_total",
                "Entries that were deleted from the stream before they were processed.",
            ),
            dead_letters: counters(
                "orderstream_dead_letters_total",
                "Messages set aside as dead letters.",
                &["stage", "reason"],
            ),
            reemitted: by_stage(
                "orderstream_reconciler_reemitted_total",
                "Orders that got a new message, because Redis had lost theirs.",
            ),
            setbacks: counter(
                "orderstream_redis_setbacks_total",
                "How often Redis was found to have gone back to an older state, or to have been emptied.",
            ),
            relay_events: counter("orderstream_relay_events_total", "Events carried to the board."),
        }
    }
}

impl Metrics {
    /// Makes them visible to whoever gathers from `registry`.
    ///
    /// # Errors
    /// When the registry has figures of these names.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let all: [Box<dyn Collector>; 13] = [
            Box::new(self.messages.clone()),
            Box::new(self.batch_seconds.clone()),
            Box::new(self.batch_messages.clone()),
            Box::new(self.end_to_end.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.redeliveries.clone()),
            Box::new(self.claims.clone()),
            Box::new(self.suspects.clone()),
            Box::new(self.deleted.clone()),
            Box::new(self.dead_letters.clone()),
            Box::new(self.reemitted.clone()),
            Box::new(self.relay_events.clone()),
            Box::new(self.setbacks.clone()),
        ];
        all.into_iter().try_for_each(|each| registry.register(each))
    }

    /// Those of one stage. From now on they are shown, as zero: what appears with its first event has no increase that
    /// an alert could see.
    pub fn stage(&self, stage: StageName) -> StageMetrics {
        let stage = stage.as_str();
        StageMetrics {
            outcomes: Outcome::WORDS.map(|word| self.messages.with_label_values(&[stage, word])),
            dead_letters: DeadReason::ALL.map(|reason| self.dead_letters.with_label_values(&[stage, reason.as_str()])),
            batch_seconds: self.batch_seconds.with_label_values(&[stage]),
            batch_messages: self.batch_messages.with_label_values(&[stage]),
            retries: self.retries.with_label_values(&[stage]),
            redeliveries: self.redeliveries.with_label_values(&[stage]),
            claims: self.claims.with_label_values(&[stage]),
            suspects: self.suspects.with_label_values(&[stage]),
            deleted: self.deleted.with_label_values(&[stage]),
        }
    }

    /// Where orders that reach their end are counted.
    pub fn ends(&self) -> Ends {
        let by = |outcome| -> Histogram { self.end_to_end.with_label_values(&[outcome]) };
        Ends { completed: by("completed"), failed: by("failed") }
    }

    /// How often Redis went back.
    pub fn setbacks(&self) -> IntCounter {
        self.setbacks.clone()
    }

    /// Events that the relay carried.
    pub fn relay_events(&self) -> IntCounter {
        self.relay_events.clone()
    }

    /// Orders that the reconciler gave a new message for this stage.
    pub fn reemitted(&self, stage: StageName) -> IntCounter {
        self.reemitted.with_label_values(&[stage.as_str()])
    }
}
