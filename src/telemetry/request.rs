//! The span of an HTTP request, after OpenTelemetry's conventions for servers.

use axum::http::{HeaderMap, Method};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use pipeline::trace::TARGET;
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Longest path that a span has.
const PATH_BYTES_MAX: usize = 512;

/// The methods that the conventions know; names of spans must not come from outside.
const METHODS: [Method; 9] = [
    Method::CONNECT,
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
    Method::TRACE,
];

/// A span for a request, in the caller's trace if the request names one. `route` is `None` where nothing matches.
pub(crate) fn request_span(method: &Method, route: Option<&str>, path: &str, headers: &HeaderMap) -> Span {
    let known = if METHODS.contains(method) { method.as_str() } else { "_OTHER" };
    let named = if METHODS.contains(method) { method.as_str() } else { "HTTP" };
    let span = info_span!(
        target: TARGET,
        "request",
        otel.name = %format_args!("{named}{}{}", if route.is_some() { " " } else { "" }, route.unwrap_or_default()),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = known,
        http.route = route,
        http.response.status_code = Empty,
        url.scheme = "http",
        // Without the query, which is the caller's.
        url.path = &path[..path.floor_char_boundary(PATH_BYTES_MAX)],
        "error.type" = Empty,
    );
    if !span.is_disabled() {
        let caller =
            TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), &Headers(headers));
        // The only failure: the span has begun already, which it has not.
        span.set_parent(caller).ok();
    }
    span
}

/// How it was answered. Only what is the server's fault is an error of it.
pub(crate) fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.record("error.type", status.to_string());
        span.record("otel.status_code", "ERROR");
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}
