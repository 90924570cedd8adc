//! The figures of one stage.

use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use crate::message::DeadReason;

/// How a message left a stage, as far as counting goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing follows.
    Done,
    /// Handed to another stage.
    Forwarded,
    /// Set aside as a dead letter.
    Dead(DeadReason),
    /// Somebody else had handed it off.
    Already,
}

impl Outcome {
    /// The values of the label, in the order of [`Outcome::index`].
    pub(super) const WORDS: [&'static str; 4] = ["done", "forwarded", "dead", "already"];

    const fn index(self) -> usize {
        match self {
            Self::Done => 0,
            Self::Forwarded => 1,
            Self::Dead(_) => 2,
            Self::Already => 3,
        }
    }
}

/// The figures of one stage, looked up once. Clones share them.
#[derive(Debug, Clone)]
pub struct StageMetrics {
    pub(super) outcomes: [IntCounter; Outcome::WORDS.len()],
    /// In the order of [`DeadReason::ALL`].
    pub(super) dead_letters: [IntCounter; DeadReason::ALL.len()],
    pub(super) batch_seconds: Histogram,
    pub(super) batch_messages: Histogram,
    /// Batches processed again after a failure.
    pub retries: IntCounter,
    /// Messages delivered again.
    pub redeliveries: IntCounter,
    /// Messages taken over from consumers that fell silent.
    pub claims: IntCounter,
    /// Messages processed apart from others.
    pub suspects: IntCounter,
    /// Entries deleted before they were processed.
    pub deleted: IntCounter,
}

impl StageMetrics {
    /// Counts a batch that was handed off.
    pub fn batch_ended(&self, took: Duration, outcomes: &[Outcome]) {
        let mut ended = [0; Outcome::WORDS.len()];
        for outcome in outcomes {
            ended[outcome.index()] += 1;
            if let Outcome::Dead(reason) = outcome
                && let Some(index) = DeadReason::ALL.iter().position(|known| known == reason)
            {
                self.dead_letters[index].inc();
            }
        }
        for (counter, messages) in self.outcomes.iter().zip(ended) {
            counter.inc_by(messages);
        }
        self.batch_seconds.observe(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "batches have some thousand messages")]
        self.batch_messages.observe(outcomes.len() as f64);
    }

    /// Messages by how they ended: done, forwarded, dead, already handed off by somebody else.
    pub fn outcomes(&self) -> [u64; 4] {
        self.outcomes.each_ref().map(IntCounter::get)
    }

    /// How many batches were handed off.
    pub fn batches(&self) -> u64 {
        self.batch_seconds.get_sample_count()
    }

    /// Seconds spent on batches.
    pub fn busy_seconds(&self) -> f64 {
        self.batch_seconds.get_sample_sum()
    }
}
