//! Streams: how they stand, and pausing their stages.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::IntoResponse,
};
use pipeline::topology::StageName;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    App,
    access::{Operator, Viewer},
    body::{self, Incoming},
    problem::{Code, Problem},
};
use crate::commands::{pause::Pauses, status::look};

/// Most bytes in what is said of a pause.
const BYTES_MAX: u64 = 4_096;

/// Most characters of a reason.
const WHY_CHARS_MAX: usize = 500;

/// Longest pause, in seconds: a year.
const SECONDS_MAX: u64 = 31_536_000;

/// Streams, groups, lag, consumers, dead letters, the relay.
#[utoipa::path(
    get, path = "/v1/streams", tag = "operations", operation_id = "getStreams",
    responses((status = 200, description = "What `orderstream status --json` prints", body = Object))
)]
pub(super) async fn show(State(app): State<App>, _: Viewer) -> Result<impl IntoResponse, Problem> {
    let mut connection = app.connection().await?;
    Ok(Json(app.answered(look(&app.reports, &app.redis, &mut connection).await).await?))
}

/// The stages that there are.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document; `StageName` is read")]
pub(super) enum Stage {
    Reservation,
    Payment,
    Settlement,
    Refund,
    Callback,
}

/// For how long, and why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PauseBody {
    /// Go on by themselves after so many seconds.
    #[schema(example = 600, minimum = 1, maximum = 31536000)]
    seconds: Option<u64>,
    /// Why, for those who look.
    #[schema(max_length = 500)]
    why: Option<String>,
}

/// Pauses a stage: its workers finish the batch in hand and take no other.
#[utoipa::path(
    post, path = "/v1/streams/{stage}/pause", tag = "operations", operation_id = "pauseStage",
    params(("stage" = inline(Stage), Path, description = "The stage")),
    request_body(content = Option<PauseBody>, content_type = "application/json"),
    responses((status = 200, description = "`paused`: all that is paused now", body = Object))
)]
pub(super) async fn pause(
    State(app): State<App>,
    _: Operator,
    Path(stage): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Problem> {
    let stage = stage_of(&stage)?;
    let bytes = Incoming::new(&headers, body, BYTES_MAX)?.whole().await?;
    let PauseBody { seconds, why } = if bytes.is_empty() {
        PauseBody::default()
    } else {
        body::demand_type(&headers, "application/json")?;
        body::read(&bytes)?
    };
    let why = why.unwrap_or_default();
    let mut faults = body::Faults::default();
    let length = seconds.is_none_or(|seconds| (1..=SECONDS_MAX).contains(&seconds));
    faults.check("/seconds", length, &format!("from 1 to {SECONDS_MAX}"));
    faults.check("/why", why.chars().count() <= WHY_CHARS_MAX, &format!("at most {WHY_CHARS_MAX} characters"));
    faults.result("a value is out of bounds")?;
    let mut pauses = pauses(&app).await?;
    app.answered(pauses.pause(stage, seconds.map(Duration::from_secs), &why).await).await?;
    Ok(Json(json!({ "paused": app.answered(pauses.list().await).await? })))
}

/// Lets a paused stage go on.
#[utoipa::path(
    post, path = "/v1/streams/{stage}/resume", tag = "operations", operation_id = "resumeStage",
    params(("stage" = inline(Stage), Path, description = "The stage")),
    responses((status = 200, description = "`resumed`: whether it was paused; `paused`: all that still is", body = Object))
)]
pub(super) async fn resume(
    State(app): State<App>,
    _: Operator,
    Path(stage): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let stage = stage_of(&stage)?;
    let mut pauses = pauses(&app).await?;
    let resumed = app.answered(pauses.resume(stage).await).await?;
    Ok(Json(json!({ "resumed": resumed, "paused": app.answered(pauses.list().await).await? })))
}

async fn pauses(app: &App) -> Result<Pauses, Problem> {
    Ok(Pauses { redis: app.redis.clone(), connection: app.connection().await?, partitions: app.partitions })
}

fn stage_of(name: &str) -> Result<StageName, Problem> {
    name.parse().map_err(|error: String| Problem::new(Code::NotFound, error))
}
