//! What is counted, in the text format of Prometheus.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
};

use axum::{extract::State, http::header, response::IntoResponse};

use super::App;

/// Requests by method, route and status. Routes and methods are few: what matches none is one of them.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
}

impl Metrics {
    pub(super) fn count(&self, method: &str, route: &str, status: u16) {
        const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((method, route.to_owned(), status)).or_default() += 1;
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# HELP orderstream_build_info What runs.\n# TYPE orderstream_build_info gauge\n\
             orderstream_build_info{{version=\"{}\"}} 1\n\
             # HELP orderstream_http_requests_total Requests answered.\n\
             # TYPE orderstream_http_requests_total counter\n",
            env!("CARGO_PKG_VERSION")
        );
        for ((method, route, status), count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            writeln!(text, "orderstream_http_requests_total{{{labels}}} {count}").expect("a text takes everything");
        }
        text
    }
}

/// Counters, in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "getMetrics", security(()),
    responses((status = 200, description = "Counters", body = String, content_type = "text/plain"))
)]
pub(super) async fn show(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.text())
}
