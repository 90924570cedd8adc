//! Links and contexts, which the pipeline's spans have and `tracing` has no word for.

use std::collections::HashMap;

use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use pipeline::{
    message::{TRACEPARENT, TRACESTATE},
    trace::{Exporter, TraceContext},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

#[derive(Default)]
pub(super) struct Bridge {
    propagator: TraceContextPropagator,
}

impl Exporter for Bridge {
    fn link(&self, span: &Span, contexts: &[TraceContext]) {
        for context in contexts {
            // What cannot be read is no valid context, and is not added.
            span.add_link(self.read(context));
        }
    }

    fn context(&self, span: &Span) -> Option<TraceContext> {
        let mut fields = HashMap::<String, String>::new();
        self.propagator.inject_context(&span.context(), &mut fields);
        let tracestate = fields.remove(TRACESTATE).filter(|state| !state.is_empty());
        Some(TraceContext { traceparent: fields.remove(TRACEPARENT)?, tracestate })
    }
}

impl Bridge {
    fn read(&self, context: &TraceContext) -> SpanContext {
        // Not the current span's context: that would be linked where a message has none.
        let none = opentelemetry::Context::new();
        self.propagator.extract_with_context(&none, &Carried(context)).span().span_context().clone()
    }
}

struct Carried<'a>(&'a TraceContext);

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(&self.0.traceparent),
            TRACESTATE => self.0.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_standard_allows_is_a_context() {
        let read = |traceparent: &str| {
            let context = TraceContext { traceparent: traceparent.to_owned(), tracestate: Some("a=1".to_owned()) };
            Bridge::default().read(&context)
        };
        let good = read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert!(good.is_valid() && good.is_sampled() && good.is_remote());
        assert_eq!(good.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(good.trace_state().get("a"), Some("1"));
        for bad in [
            "",
            "no context",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(!read(bad).is_valid(), "{bad:?}");
        }
    }
}
