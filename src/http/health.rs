//! Whether the process lives, and whether it can do its work.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    problem::{Code, Problem},
    query::Params,
};

/// Whether it is well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`: what is not well is answered with a problem.
    status: &'static str,
    /// What was looked at; only if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Checks>,
}

/// What was looked at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Checks {
    /// Whether Postgres answers and takes writes.
    postgres: &'static str,
    /// Whether Redis answers and takes writes.
    redis: &'static str,
    /// Whether the schema is that of this version.
    schema: &'static str,
}

/// The process lives.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "getLiveness", security(()),
    responses((status = 200, description = "It lives", body = Health))
)]
pub(super) async fn live() -> impl IntoResponse {
    Json(Health { status: "ok", checks: None })
}

/// How much is told.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadyParams {
    /// Tell what was looked at.
    verbose: Option<String>,
}

/// The process can do its work: Postgres and Redis answer and take writes, the schema is that of this version, and it
/// is not ending.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "getReadiness", security(()), params(ReadyParams),
    responses((status = 200, description = "It is ready", body = Health))
)]
pub(super) async fn ready(State(app): State<App>, Params(params): Params<ReadyParams>) -> Result<Response, Problem> {
    if app.is_draining() {
        return Err(Problem::new(Code::NotReady, "the process is ending").retry_after(1));
    }
    let state = app.readiness.look(&app).await;
    if let Some(detail) = state.trouble() {
        return Err(Problem::new(Code::NotReady, detail).retry_after(2));
    }
    let checks = params.verbose.is_some().then_some(Checks { postgres: "ok", redis: "ok", schema: "ok" });
    Ok(Json(Health { status: "ok", checks }).into_response())
}
