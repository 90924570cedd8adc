//! Calls of payment providers, as they are counted.

use std::time::Instant;

use pipeline::metrics::{counters, gauge, histograms};
use prometheus::{HistogramVec, IntCounterVec, IntGauge, Registry};

use super::CallError;

/// Seconds that a call takes.
const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What is asked of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// To take money.
    Charge,
    /// What became of a charge.
    FindCharge,
    /// To give money back.
    Refund,
    /// What became of a refund.
    FindRefund,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Charge, Self::FindCharge, Self::Refund, Self::FindRefund];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::FindCharge => "find_charge",
            Self::Refund => "refund",
            Self::FindRefund => "find_refund",
        }
    }

    /// The path below the provider's URL.
    pub(super) const fn collection(self) -> &'static str {
        match self {
            Self::Charge | Self::FindCharge => "charges",
            Self::Refund | Self::FindRefund => "refunds",
        }
    }
}

/// What is counted of calls. Clones share it.
#[derive(Debug, Clone)]
pub struct GatewayFigures {
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
}

impl Default for GatewayFigures {
    fn default() -> Self {
        Self {
            requests: counters(
                "orderstream_gateway_requests_total",
                "Questions to the payment provider, by what became of them.",
                &["operation", "outcome"],
            ),
            seconds: histograms(
                "orderstream_gateway_request_seconds",
                "How long a call of the provider takes from its turn to its answer, tries again included.",
                SECONDS,
                &["operation"],
            ),
            in_flight: gauge("orderstream_gateway_in_flight", "Calls of the provider that wait for their answer."),
        }
    }
}

impl GatewayFigures {
    /// Makes them visible to whoever gathers from `registry`.
    ///
    /// # Errors
    /// When the registry has figures of these names.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.seconds.clone()))?;
        registry.register(Box::new(self.in_flight.clone()))
    }

    /// Shows all that may happen, as zero: what appears with its first event has no increase that an alert could see.
    pub(super) fn begin(&self) {
        for operation in Operation::ALL.map(Operation::as_str) {
            self.seconds.with_label_values(&[operation]);
            for outcome in CallError::KINDS.into_iter().chain([ANSWERED]) {
                self.requests.with_label_values(&[operation, outcome]);
            }
        }
    }

    /// Counts what became of a question.
    pub(super) fn judged<T>(&self, operation: Operation, answer: &Result<T, CallError>) {
        let outcome = answer.as_ref().err().map_or(ANSWERED, CallError::kind);
        self.requests.with_label_values(&[operation.as_str(), outcome]).inc();
    }

    /// A call that has its turn, until it is dropped.
    pub(super) fn call(&self, operation: Operation) -> Call<'_> {
        self.in_flight.inc();
        Call { figures: self, operation, started: Instant::now() }
    }
}

/// The outcome of a question that the provider answered, whatever the answer.
const ANSWERED: &str = "answered";

/// A call that waits for its answer.
pub(super) struct Call<'a> {
    figures: &'a GatewayFigures,
    operation: Operation,
    started: Instant,
}

/// However it ends, by an answer or by having waited long enough.
impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.figures.in_flight.dec();
        let seconds = self.figures.seconds.with_label_values(&[self.operation.as_str()]);
        seconds.observe(self.started.elapsed().as_secs_f64());
    }
}
