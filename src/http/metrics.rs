//! What Prometheus asks for.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{
    App,
    problem::{Code, Problem},
};
use crate::metrics::MEDIA_TYPE;

/// What this process has done and how the pipeline stands, in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "getMetrics", security(()),
    responses((status = 200, description = "Counts and figures", body = String, content_type = "text/plain"))
)]
pub(super) async fn show(State(app): State<App>) -> Result<Response, Problem> {
    match app.metrics.text(&app.monitor.latest()) {
        Ok(text) => Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response()),
        Err(error) => {
            tracing::error!(%error, "the figures cannot be shown");
            Err(Problem::new(Code::Internal, "this is a defect; the log says more under this request_id"))
        }
    }
}
