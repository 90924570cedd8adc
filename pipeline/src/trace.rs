//! Traces, as far as the pipeline knows of them: spans after OpenTelemetry's conventions for messaging, and the contexts
//! that messages carry.
//!
//! Spans are those of `tracing`, under a [`TARGET`] of their own, so that a log has none of them. What `tracing` has no
//! word for, links and contexts, comes from whoever exports the spans, by [`install`]. While nobody does, the spans are
//! disabled: no context is read, and nothing is looked at for them.

use std::{collections::HashSet, sync::OnceLock};

use tracing::{Span, field::Empty, info_span};

use crate::{
    message::{Entry, TRACEPARENT, TRACEPARENT_BYTES_MAX, TRACESTATE, TRACESTATE_BYTES_MAX},
    topology::StageName,
};

/// The target of every span that is for traces.
pub const TARGET: &str = "orderstream::trace";

/// Most messages that the span of a batch is linked to, and the most links that OpenTelemetry keeps unless told
/// otherwise.
pub const LINKS_MAX: usize = 128;

/// What a message carries of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Trace, span, flags: a W3C trace context.
    pub traceparent: String,
    /// What vendors add to it.
    pub tracestate: Option<String>,
}

/// Whoever exports the spans.
pub trait Exporter: Send + Sync {
    /// Links a span to the spans that messages come from. What is no context is left out.
    fn link(&self, span: &Span, contexts: &[TraceContext]);

    /// The context of a span, for the messages that come from it.
    fn context(&self, span: &Span) -> Option<TraceContext>;
}

static EXPORTER: OnceLock<Box<dyn Exporter>> = OnceLock::new();

/// Says who exports the spans of this process. The first one stays.
pub fn install(exporter: Box<dyn Exporter>) {
    EXPORTER.set(exporter).ok();
}

/// The context of a span; `None` while nobody exports it.
pub(crate) fn context(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() { None } else { EXPORTER.get()?.context(span) }
}

/// Marks a span as failed.
pub(crate) fn failed(span: &Span, error_type: &str) {
    span.record("error.type", error_type);
    span.record("otel.status_code", "ERROR");
}

/// A stage's work on one batch, linked to where the messages come from.
pub(crate) fn process<'a>(
    stage: StageName,
    partition: u16,
    consumer: &str,
    entries: impl ExactSizeIterator<Item = &'a Entry>,
) -> Span {
    let what = Operation { kind: "consumer", name: "process", stream: stage.stream(), group: Some(stage) };
    let span = what.span(partition, entries.len());
    if span.is_disabled() {
        return span;
    }
    span.record("messaging.client.id", consumer);
    if let Some(exporter) = EXPORTER.get() {
        let mut seen = HashSet::new();
        let fresh = entries.filter(|entry| entry.field(TRACEPARENT).is_some_and(|context| seen.insert(context)));
        exporter.link(&span, &fresh.filter_map(context_of).take(LINKS_MAX).collect::<Vec<_>>());
    }
    span
}

/// Adding messages to a stream.
pub(crate) fn send(stream: &str, partition: u16, messages: usize) -> Span {
    Operation { kind: "producer", name: "send", stream, group: None }.span(partition, messages)
}

/// The hand-off of a batch: one script, which acknowledges entries and sends what follows from them.
#[derive(Debug)]
pub(crate) struct HandOff {
    pub(crate) settle: Span,
    forward: Span,
    dead: Span,
}

impl HandOff {
    /// Begins when the script does. A stage has one target at most.
    pub(crate) fn begin(stage: StageName, partition: u16, messages: usize, forwarded: usize, dead: usize) -> Self {
        let what = Operation { kind: "client", name: "settle", stream: stage.stream(), group: Some(stage) };
        let settle = what.span(partition, messages);
        let sent = |stream: &str, messages: usize| match messages {
            0 => Span::none(),
            messages => settle.in_scope(|| send(stream, partition, messages)),
        };
        let forward = stage.targets().first().map_or_else(Span::none, |to| sent(to.stream(), forwarded));
        let dead = sent("dead", dead);
        Self { settle, forward, dead }
    }

    /// What messages carry on whose originals came without a context.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        context(&self.forward)
    }

    /// The script did not come to its end.
    pub(crate) fn failed(&self, error_type: &str) {
        for span in [&self.settle, &self.forward, &self.dead] {
            failed(span, error_type);
        }
    }
}

/// The context that an entry carries, if it is of a bearable length.
fn context_of(entry: &Entry) -> Option<TraceContext> {
    let text = |field: &str, bytes_max: usize| {
        let value = entry.field(field).filter(|value| value.len() <= bytes_max)?;
        String::from_utf8(value.to_vec()).ok()
    };
    let traceparent = text(TRACEPARENT, TRACEPARENT_BYTES_MAX)?;
    Some(TraceContext { traceparent, tracestate: text(TRACESTATE, TRACESTATE_BYTES_MAX) })
}

/// One of the operations that the conventions know.
struct Operation<'a> {
    kind: &'static str,
    name: &'static str,
    stream: &'a str,
    group: Option<StageName>,
}

impl Operation<'_> {
    fn span(&self, partition: u16, messages: usize) -> Span {
        let Self { kind, name, stream, group } = self;
        info_span!(
            target: TARGET,
            "messages",
            otel.name = %format_args!("{name} {stream}"),
            otel.kind = kind,
            otel.status_code = Empty,
            messaging.system = "redis",
            messaging.operation.name = name,
            "messaging.operation.type" = name,
            messaging.destination.name = stream,
            messaging.destination.partition.id = %partition,
            messaging.consumer.group.name = group.map(StageName::as_str),
            messaging.client.id = Empty,
            messaging.batch.message_count = i64::try_from(messages).unwrap_or(i64::MAX),
            "error.type" = Empty,
        )
    }
}
