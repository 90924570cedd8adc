//! How the pipeline stands, and how it stood.

use axum::{Json, extract::State, response::IntoResponse};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App,
    access::Viewer,
    problem::Problem,
    query::{Params, word},
};

/// How the pipeline stands: what the dashboard, `orderstream top`, alerts and metrics show. Asks no server: it is the
/// last look, at most a second old, or `stale`.
#[utoipa::path(
    get, path = "/v1/overview", tag = "operations", operation_id = "getOverview",
    responses((status = 200, description = "The snapshot that `orderstream top --json` prints", body = Object))
)]
pub(super) async fn show(State(app): State<App>, _: Viewer) -> impl IntoResponse {
    Json(app.monitor.latest().as_ref().clone())
}

/// How far back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// `15m` and `1h` have a point every five seconds, `6h` and `24h` every minute.
    #[param(default = "15m", pattern = "^(15m|1h|6h|24h)$")]
    range: Option<String>,
}

/// How the pipeline stood: lag, pending and rates of every stage, in columns of one time axis. What nobody looked at, and
/// what Redis could not tell, is null.
#[utoipa::path(
    get, path = "/v1/history", tag = "operations", operation_id = "getHistory", params(HistoryParams),
    responses((status = 200, description = "Columns: `at` in Unix seconds, and for each stage `lag`, `lag_seconds`, `pending`, `rate_in`, `rate_out`", body = Object))
)]
pub(super) async fn history(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<HistoryParams>,
) -> Result<impl IntoResponse, Problem> {
    let range = word("range", params.range.as_deref())?.unwrap_or_default();
    Ok(Json(app.monitor.history(range).await?))
}
