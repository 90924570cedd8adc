//! A collector of traces: takes what OTLP over HTTP brings, and tells what came.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;

/// What came so far.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) url: String,
    spans: Arc<Mutex<Vec<Collected>>>,
    /// How it answers; spans of other answers than 200 are forgotten.
    answer: StatusCode,
}

/// A span, and who it came from.
#[derive(Debug, Clone)]
pub(crate) struct Collected {
    pub(crate) resource: Resource,
    pub(crate) span: Span,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::answering(StatusCode::OK).await
    }

    pub(crate) async fn answering(answer: StatusCode) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let collector = Self { url, spans: Arc::default(), answer };
        let routes = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        collector
    }

    pub(crate) fn spans(&self) -> Vec<Collected> {
        self.spans.lock().expect("calm").clone()
    }

    /// The spans of a name, in the order of their beginning.
    pub(crate) fn named(&self, name: &str) -> Vec<Collected> {
        let mut spans = self.spans();
        spans.retain(|it| it.span.name == name);
        spans.sort_by_key(|it| it.span.start_time_unix_nano);
        spans
    }

    /// The only span of a name.
    pub(crate) fn one(&self, name: &str) -> Collected {
        let mut spans = self.named(name);
        let names = || self.spans().iter().map(|it| it.span.name.clone()).collect::<Vec<_>>();
        assert_eq!(spans.len(), 1, "{name} among {:?}", names());
        spans.remove(0)
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-protobuf");
    if collector.answer == StatusCode::OK {
        let request = ExportTraceServiceRequest::decode(body).expect("what the protocol says");
        let mut spans = collector.spans.lock().expect("calm");
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.expect("a resource");
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Collected { resource: resource.clone(), span });
            }
        }
    }
    (collector.answer, ExportTraceServiceResponse { partial_success: None }.encode_to_vec())
}

impl Collected {
    /// An attribute, as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        value(&self.span.attributes, key)
    }

    /// Who it came from.
    pub(crate) fn resource(&self, key: &str) -> Option<String> {
        value(&self.resource.attributes, key)
    }

    pub(crate) fn kind(&self) -> SpanKind {
        SpanKind::try_from(self.span.kind).expect("a kind")
    }

    /// Traces that it is linked to.
    pub(crate) fn linked_traces(&self) -> BTreeSet<String> {
        self.span.links.iter().map(|link| hex(&link.trace_id)).collect()
    }

    /// Spans that it is linked to.
    pub(crate) fn linked_spans(&self) -> BTreeSet<String> {
        self.span.links.iter().map(|link| hex(&link.span_id)).collect()
    }

    pub(crate) fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(crate) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub(crate) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    pub(crate) fn is_child_of(&self, other: &Self) -> bool {
        self.parent() == other.id() && self.trace_id() == other.trace_id()
    }

    /// Whether it ended with an error.
    pub(crate) fn failed(&self) -> bool {
        use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
        self.span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
    }
}

fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match attribute.value.as_ref()? {
        AnyValue { value: Some(any_value::Value::StringValue(text)) } => text.clone(),
        AnyValue { value: Some(any_value::Value::IntValue(number)) } => number.to_string(),
        other => format!("{other:?}"),
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
