//! Latencies of a run, worked out when it is over.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told from a longer one: an hour, in microseconds.
const LONGEST_US: u64 = 3_600_000_000;

/// How long orders took, milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Latency {
    /// Arithmetic mean.
    pub(super) mean: f64,
    /// Half took no longer.
    pub(super) p50: f64,
    /// 90 of 100 took no longer.
    pub(super) p90: f64,
    /// 99 of 100 took no longer.
    pub(super) p99: f64,
    /// 999 of 1,000 took no longer.
    pub(super) p99_9: f64,
    /// The longest.
    pub(super) max: f64,
}

/// Collects latencies with three significant digits.
pub(super) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { histogram: Histogram::new_with_bounds(1, LONGEST_US, 3)? })
    }

    /// Adds one order, by its start and end in Unix microseconds. An end before the start is none at all.
    pub(super) fn record(&mut self, start_us: u64, end_us: i64) {
        let end_us = u64::try_from(end_us).unwrap_or(0);
        self.histogram.saturating_record(end_us.saturating_sub(start_us));
    }

    /// The figures, or `None` without any order.
    pub(super) fn summary(&self) -> Option<Latency> {
        let histogram = &self.histogram;
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        (!histogram.is_empty()).then(|| Latency {
            mean: histogram.mean() / 1_000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: histogram.max() as f64 / 1_000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut latencies = Latencies::new().expect("bounds");
        assert!(latencies.summary().is_none());
        for ms in 1..=1_000 {
            latencies.record(1_000_000, 1_000_000 + ms * 1_000);
        }
        let latency = latencies.summary().expect("orders");
        for (value, expected) in
            [(latency.p50, 500.0), (latency.p99, 990.0), (latency.p99_9, 999.0), (latency.max, 1_000.0)]
        {
            assert!((value - expected).abs() <= expected * 0.001, "{value} is not {expected}");
        }
    }

    #[test]
    fn an_end_before_the_start_counts_as_nothing() {
        let mut latencies = Latencies::new().expect("bounds");
        latencies.record(5_000, 4_000);
        assert!(latencies.summary().expect("an order").max < 0.002);
    }
}
