//! Streams: how they stand, and pausing their stages.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::IntoResponse,
};
use pipeline::{domain::ActionVia, topology::StageName};
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    access::{Operator, Viewer},
    body::{self, Incoming},
    dead_letter_actions::{check_why, in_time},
    problem::{Code, Problem},
    query::{Params, bounded, invalid},
};
use crate::{
    actions::{self, ClaimWish, Recorder},
    commands::{
        pause::Pauses,
        pending::{PendingWish, held},
        status::look,
    },
};

/// Most bytes in what is said of a pause.
const BYTES_MAX: u64 = 4_096;

/// Longest pause, in seconds: a year.
const SECONDS_MAX: u64 = 31_536_000;

/// How long a message was idle that is made free, unless it is said.
const IDLE_SECONDS: u64 = 10;

/// Longest, in seconds: what a message that was made free looks like.
const IDLE_SECONDS_MAX: u64 = 86_400;

/// Longest name of a consumer.
const CONSUMER_BYTES_MAX: usize = 512;

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
    responses((status = 200, description = "`paused`: all that is paused now; `action`: the number in the log of actions, or null and `not_recorded`", body = Object))
)]
pub(super) async fn pause(
    State(app): State<App>,
    Operator(caller): Operator,
    Path(stage): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Problem> {
    let stage = stage_of(&stage)?;
    let PauseBody { seconds, why } = optional(&headers, body).await?;
    let why = why.unwrap_or_default();
    let mut faults = body::Faults::default();
    let length = seconds.is_none_or(|seconds| (1..=SECONDS_MAX).contains(&seconds));
    faults.check("/seconds", length, &format!("from 1 to {SECONDS_MAX}"));
    check_why(&mut faults, Some(&why));
    faults.result("a value is out of bounds")?;
    let mut pauses = pauses(&app).await?;
    let recorder = Recorder::new(&app.store, caller.actor(ActionVia::Http));
    let length = seconds.map(Duration::from_secs);
    let note = app.answered(actions::pause(&recorder, &mut pauses, stage, length, &why).await).await?;
    app.monitor.call();
    let paused = app.answered(pauses.list().await).await?;
    Ok(Json(json!({ "paused": paused, "action": note.action, "not_recorded": note.not_recorded })))
}

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ResumeBody {
    /// Why, for the log of actions.
    #[schema(max_length = 500)]
    why: Option<String>,
}

/// Lets a paused stage go on.
#[utoipa::path(
    post, path = "/v1/streams/{stage}/resume", tag = "operations", operation_id = "resumeStage",
    params(("stage" = inline(Stage), Path, description = "The stage")),
    request_body(content = Option<ResumeBody>, content_type = "application/json"),
    responses((status = 200, description = "`resumed`: whether it was paused; `paused`: all that still is; `action`: the number in the log of actions, or null and `not_recorded`", body = Object))
)]
pub(super) async fn resume(
    State(app): State<App>,
    Operator(caller): Operator,
    Path(stage): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Problem> {
    let stage = stage_of(&stage)?;
    let ResumeBody { why } = optional(&headers, body).await?;
    let mut faults = body::Faults::default();
    check_why(&mut faults, why.as_deref());
    faults.result("a value is out of bounds")?;
    let mut pauses = pauses(&app).await?;
    let recorder = Recorder::new(&app.store, caller.actor(ActionVia::Http));
    let resumed = actions::resume(&recorder, &mut pauses, stage, why.as_deref().unwrap_or_default()).await;
    let (resumed, note) = app.answered(resumed).await?;
    app.monitor.call();
    let paused = app.answered(pauses.list().await).await?;
    Ok(Json(json!({
        "resumed": resumed, "paused": paused, "action": note.action, "not_recorded": note.not_recorded,
    })))
}

/// Whose messages, and how long they were idle.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ClaimBody {
    /// Only what this consumer holds.
    #[schema(min_length = 1, max_length = 512)]
    consumer: Option<String>,
    /// Only what has been idle for at least so many seconds; 10 unless it is said.
    #[schema(example = 10, minimum = 0, maximum = 86400)]
    idle_seconds: Option<u64>,
    /// Only count.
    dry_run: bool,
    /// Why, for the log of actions.
    #[schema(max_length = 500)]
    why: Option<String>,
}

/// Makes messages free at once that a silent consumer holds. A worker that is alive keeps its messages fresh.
#[utoipa::path(
    post, path = "/v1/streams/{stage}/claim", tag = "operations", operation_id = "claimMessages",
    params(("stage" = inline(Stage), Path, description = "The stage")),
    request_body(content = Option<ClaimBody>, content_type = "application/json"),
    responses((status = 200, description = "What `orderstream claim --json` prints, with `action`", body = Object))
)]
pub(super) async fn claim(
    State(app): State<App>,
    Operator(caller): Operator,
    Path(stage): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Problem> {
    let stage = stage_of(&stage)?;
    let ClaimBody { consumer, idle_seconds, dry_run, why } = optional(&headers, body).await?;
    let mut faults = body::Faults::default();
    check_why(&mut faults, why.as_deref());
    let idle = idle_seconds.unwrap_or(IDLE_SECONDS);
    faults.check("/idle_seconds", idle <= IDLE_SECONDS_MAX, &format!("from 0 to {IDLE_SECONDS_MAX}"));
    let name = consumer.as_deref().is_none_or(|name| (1..=CONSUMER_BYTES_MAX).contains(&name.len()));
    faults.check("/consumer", name, &format!("from 1 to {CONSUMER_BYTES_MAX} bytes"));
    faults.result("a value is out of bounds")?;
    let mut pauses = pauses(&app).await?;
    let recorder = Recorder::new(&app.store, caller.actor(ActionVia::Http));
    let wish = ClaimWish { stage, consumer, idle: Duration::from_secs(idle), dry_run };
    let why = why.unwrap_or_default();
    let work = in_time(async |stop| Ok(actions::claim(&recorder, &mut pauses, &wish, &why, &stop).await?)).await;
    let (claimed, note) = app.answered(work).await?;
    app.monitor.call();
    let mut document = serde_json::to_value(&claimed).map_err(anyhow::Error::from)?;
    if let Some(note) = note {
        document["action"] = json!(note.action);
        document["not_recorded"] = json!(note.not_recorded);
    }
    Ok(Json(document))
}

/// Whose messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PendingParams {
    /// Only what this consumer holds.
    consumer: Option<String>,
    /// Only of this partition.
    #[param(minimum = 0, default = 0)]
    partition: Option<u16>,
    /// Go on after this message: `next` of the page before.
    after: Option<String>,
    /// Most messages to show.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
    /// Also the beginning of their bodies.
    bodies: Option<bool>,
}

/// The messages that consumers of a stage hold: delivered, and not acknowledged.
#[utoipa::path(
    get, path = "/v1/streams/{stage}/pending", tag = "operations", operation_id = "listPending",
    params(("stage" = inline(Stage), Path, description = "The stage"), PendingParams),
    responses((status = 200, description = "`pending`: `id`, `consumer`, `idle_ms`, `deliveries`, with `bodies` also `body` (null if it was deleted from the stream) and `body_bytes`; `next`, null on the last page", body = Object))
)]
pub(super) async fn pending(
    State(app): State<App>,
    _: Viewer,
    Path(stage): Path<String>,
    Params(params): Params<PendingParams>,
) -> Result<impl IntoResponse, Problem> {
    let stage = stage_of(&stage)?;
    let limit = bounded("limit", params.limit, 50, 100)? as usize;
    let after = params.after.as_deref().map(|id| id.parse().map_err(|error| invalid("after", error))).transpose()?;
    let partition = params.partition.unwrap_or_default();
    if partition >= app.partitions {
        return Err(invalid("partition", format!("there are {}", app.partitions)));
    }
    let wish = PendingWish {
        stage,
        partition,
        consumer: params.consumer,
        after: after.unwrap_or_default(),
        limit,
        bodies: params.bodies.unwrap_or_default(),
    };
    let mut connection = app.connection().await?;
    let found = app.answered(held(&app.redis, &mut connection, &wish).await).await?;
    Ok(Json(found))
}

/// The body of a request that may have none.
async fn optional<T: serde::de::DeserializeOwned + Default>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let bytes = Incoming::new(headers, body, BYTES_MAX)?.whole().await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    body::demand_type(headers, "application/json")?;
    body::read(&bytes)
}

async fn pauses(app: &App) -> Result<Pauses, Problem> {
    Ok(Pauses { redis: app.redis.clone(), connection: app.connection().await?, partitions: app.partitions })
}

fn stage_of(name: &str) -> Result<StageName, Problem> {
    name.parse().map_err(|error: String| Problem::new(Code::NotFound, error))
}
