//! How long orders take, from the stream to their end.

use chrono::Utc;
use prometheus::Histogram;

use super::Metrics;

/// Counts orders that reach their end. Clones count together.
#[derive(Debug, Clone)]
pub struct Ends {
    pub(super) completed: Histogram,
    pub(super) failed: Histogram,
}

/// Counts for nobody.
impl Default for Ends {
    fn default() -> Self {
        Metrics::default().ends()
    }
}

impl Ends {
    /// Orders that entered the stream at these instants, in Unix milliseconds, and were completed by a commit just now.
    pub fn completed(&self, received_ms: impl IntoIterator<Item = i64>) {
        observe(&self.completed, received_ms);
    }

    /// The same of orders that failed.
    pub fn failed(&self, received_ms: impl IntoIterator<Item = i64>) {
        observe(&self.failed, received_ms);
    }
}

/// Counted apart and then added: one exchange of shared memory for a batch.
fn observe(histogram: &Histogram, received_ms: impl IntoIterator<Item = i64>) {
    let now = Utc::now().timestamp_millis();
    let local = histogram.local();
    for received in received_ms {
        // The clock is Redis' at the one end and ours at the other: nothing took less than no time.
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of centuries are exact")]
        local.observe(now.saturating_sub(received).max(0) as f64 / 1e3);
    }
    local.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_from_the_future_took_no_time() {
        let ends = Ends::default();
        let now = Utc::now().timestamp_millis();
        ends.completed([now + 3_600_000, i64::MAX, now - 5_000]);
        ends.failed([]);
        assert_eq!(ends.completed.get_sample_count(), 3);
        assert!((5.0..60.0).contains(&ends.completed.get_sample_sum()));
        assert_eq!(ends.failed.get_sample_count(), 0);
    }
}
