//! Families of figures: a name, what it means, and the names of its labels. All of it stands in the source, so that
//! what the crate checks when it runs cannot fail there.

use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts};

const SOUND: &str = "names, labels and buckets of figures are sound";

/// A count that only grows.
pub fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect(SOUND)
}

/// Counts that only grow.
pub fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect(SOUND)
}

/// Counts that only grow, and are counted elsewhere.
pub fn growing(name: &str, help: &str, labels: &[&str]) -> CounterVec {
    CounterVec::new(Opts::new(name, help), labels).expect(SOUND)
}

/// A figure that comes and goes.
pub fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect(SOUND)
}

/// Figures that come and go.
pub fn gauges(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect(SOUND)
}

/// Distributions, by upper bounds.
pub fn histograms(name: &str, help: &str, bounds: &[f64], labels: &[&str]) -> HistogramVec {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(bounds.to_vec()), labels).expect(SOUND)
}
