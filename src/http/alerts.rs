//! Where the built-in alerts stand.

use axum::{Json, extract::State, response::IntoResponse};
use serde_json::json;

use super::{App, access::Viewer};

/// Where every built-in alert stands: what `orderstream alerts --json` prints. Asks no server: it is part of the last
/// look. Empty while no process evaluates alerts.
#[utoipa::path(
    get, path = "/v1/alerts", tag = "operations", operation_id = "getAlerts",
    responses((status = 200, description = "`alerts`: each with `rule`, `severity`, `state` (`calm` or `firing`), `since`, `changed_at`, `value`, `stage`, `message`, `threshold`, `limit`, `runbook`, `unsent`", body = Object))
)]
pub(super) async fn show(State(app): State<App>, _: Viewer) -> impl IntoResponse {
    Json(json!({ "alerts": app.monitor.latest().alerts }))
}
