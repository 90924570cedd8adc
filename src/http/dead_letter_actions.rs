//! Dead letters: replaying and discarding them.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use pipeline::{
    domain::ActionVia,
    message::{DeadReason, EntryId},
    shutdown::Shutdown,
    streams::LetterId,
    topology::StageName,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App,
    access::{Caller, Operator},
    body::{self, Faults, Incoming},
    dead_letters::{desk, unknown, yes_no},
    idempotency,
    problem::Problem,
};
use crate::{
    actions::{self, Recorder, WHY_CHARS_MAX},
    cli::dead::{DiscardArgs, ReplayArgs, Which, parse_span},
    commands::dead::{show, tally::Tally},
    progress::Progress,
};

/// Most bytes of what is asked for.
const BYTES_MAX: u64 = 256 * 1024;

/// Most bytes with a body in it: each of its bytes may be six as JSON has it.
const BODY_REQUEST_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Most ids in a request.
const IDS_MAX: usize = 1_000;

/// How long one request goes on; then it tells how far it came.
const WORK_MAX: Duration = Duration::from_secs(15);

/// Which letters, and how.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ActionBody {
    /// These letters.
    #[schema(example = json!(["1795382502144-0"]), max_items = 1000)]
    ids: Vec<String>,
    /// Given up by this stage.
    stage: Option<String>,
    /// Dead for this reason.
    reason: Option<String>,
    /// Of this order code.
    order: Option<String>,
    /// Of this group, as the list of groups names it.
    group: Option<String>,
    /// Dead for longer than this: 90s, 10m, 2h, 3d.
    older_than: Option<String>,
    /// Dead for less than this.
    newer_than: Option<String>,
    /// Only letters that were replayed before (`true`), or that were not.
    replayed: Option<bool>,
    /// Every letter.
    all: bool,
    /// Only say what would be done.
    dry_run: bool,
    /// Replay also those that were replayed before.
    again: bool,
    /// Replay also those that their stage would refuse again: they come back as new letters. Without it they are left
    /// alone, `refused` with the reason.
    force: bool,
    /// Why, for the log of actions.
    #[schema(max_length = 500)]
    why: Option<String>,
    /// Go on after this letter: `after` of the answer that was interrupted.
    after: Option<String>,
    /// No letter that came after this one: `up_to` of the answer that was interrupted, or of a list that was looked at.
    /// What dies after the request began is not touched in any case.
    up_to: Option<String>,
}

impl ActionBody {
    fn which(&self) -> Result<(Which, Option<LetterId>), Problem> {
        let mut faults = Faults::default();
        let mut ids = Vec::new();
        for (index, id) in self.ids.iter().enumerate().take(IDS_MAX) {
            ids.extend(read(&mut faults, &format!("/ids/{index}"), Some(id), str::parse::<LetterId>));
        }
        faults.check("/ids", self.ids.len() <= IDS_MAX, &format!("at most {IDS_MAX}"));
        check_why(&mut faults, self.why.as_deref());
        let after = read(&mut faults, "/after", self.after.as_deref(), str::parse::<LetterId>);
        let which = Which {
            ids,
            stage: read(&mut faults, "/stage", self.stage.as_deref(), str::parse::<StageName>),
            reason: read(&mut faults, "/reason", self.reason.as_deref(), str::parse::<DeadReason>),
            older_than: read(&mut faults, "/older_than", self.older_than.as_deref(), parse_span),
            newer_than: read(&mut faults, "/newer_than", self.newer_than.as_deref(), parse_span),
            up_to: read(&mut faults, "/up_to", self.up_to.as_deref(), str::parse::<EntryId>),
            order: self.order.clone(),
            group: self.group.clone(),
            replayed: self.replayed.map(yes_no),
        };
        // `all` beside ids would leave open which of the two is meant.
        let chosen = if self.all { self.ids.is_empty() } else { !which.is_all() };
        faults.check("", chosen, "name ids, narrow the letters down, or mean every one with all");
        faults.result("it is not clear which letters are meant")?;
        Ok((which, after))
    }
}

/// A field, if it is there and right; what is wrong with it is noted.
fn read<T, E: std::fmt::Display>(
    faults: &mut Faults,
    pointer: &str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    let read = text.map(parse)?;
    read.map_err(|error| faults.add(pointer, error.to_string())).ok()
}

/// Notes it if a reason is longer than the log of actions can hold.
pub(super) fn check_why(faults: &mut Faults, why: Option<&str>) {
    let characters = why.unwrap_or_default().chars().count();
    faults.check("/why", characters <= WHY_CHARS_MAX, &format!("at most {WHY_CHARS_MAX} characters"));
}

/// Sends letters on their way again. After some seconds it tells how far it came: `interrupted` says to ask again, with
/// its `after` and `up_to`.
#[utoipa::path(
    post, path = "/v1/dead-letters/replay", tag = "operations", operation_id = "replayDeadLetters",
    request_body = ActionBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's name for this request: sent again, it is answered again")),
    responses((status = 200, description = "What became of them, as `orderstream dead replay --json` prints it", body = Object))
)]
pub(super) async fn replay(
    State(app): State<App>,
    Operator(caller): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    act(&app, caller, "POST /v1/dead-letters/replay", &headers, body, false).await
}

/// Removes letters for good; an order that is parked for its letter fails as abandoned.
#[utoipa::path(
    post, path = "/v1/dead-letters/discard", tag = "operations", operation_id = "discardDeadLetters",
    request_body = ActionBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's name for this request: sent again, it is answered again")),
    responses((status = 200, description = "What became of them, as `orderstream dead discard --json` prints it", body = Object))
)]
pub(super) async fn discard(
    State(app): State<App>,
    Operator(caller): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    act(&app, caller, "POST /v1/dead-letters/discard", &headers, body, true).await
}

async fn act(
    app: &App,
    caller: Caller,
    route: &'static str,
    headers: &HeaderMap,
    body: Body,
    discard: bool,
) -> Result<Response, Problem> {
    body::demand_type(headers, "application/json")?;
    let bytes = Incoming::new(headers, body, BYTES_MAX)?.whole().await?;
    let asked: ActionBody = body::read(&bytes)?;
    let (which, after) = asked.which()?;
    let recorder = Recorder::new(&app.store, caller.actor(ActionVia::Http));
    let ActionBody { all, dry_run, again, force, why, .. } = asked;
    let work = async {
        let tally = match discard {
            true => discard_letters(app, &recorder, DiscardArgs { which, all, dry_run, yes: true, why, after }).await?,
            false => {
                let args = ReplayArgs { which, all, dry_run, again, force, body: None, rate: u32::MAX, why, after };
                replay_letters(app, &recorder, args, None).await?
            }
        };
        Ok(Json(tally).into_response())
    };
    idempotency::once(app, caller, route, headers, &bytes, work).await
}

/// How to replay one letter.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReplayBody {
    /// With this body instead of its own: the text of a message, as a stage would read it.
    body: Option<String>,
    /// Also if it was replayed before.
    again: bool,
    /// Also if its stage would refuse it again, as it is; another body has to be right in any case.
    force: bool,
    /// Only say what would be done.
    dry_run: bool,
    /// Why, for the log of actions.
    #[schema(max_length = 500)]
    why: Option<String>,
}

/// Sends one letter on its way again, with another body if one is given. A body that the stage would refuse again is
/// refused here.
#[utoipa::path(
    post, path = "/v1/dead-letters/{id}/replay", tag = "operations", operation_id = "replayDeadLetter",
    request_body = ReplayBody,
    params(
        ("id" = String, Path, description = "The letter, as the list names it"),
        ("Idempotency-Key" = Option<String>, Header, description = "The caller's name for this request: sent again, it is answered again"),
    ),
    responses((status = 200, description = "What became of it, as `orderstream dead replay --json` prints it", body = Object))
)]
pub(super) async fn replay_one(
    State(app): State<App>,
    Operator(caller): Operator,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::demand_type(&headers, "application/json")?;
    let bytes = Incoming::new(&headers, body, BODY_REQUEST_BYTES_MAX)?.whole().await?;
    let ReplayBody { body, again, force, dry_run, why } = body::read(&bytes)?;
    let mut faults = Faults::default();
    check_why(&mut faults, why.as_deref());
    faults.result("a value is out of bounds")?;
    let letter: LetterId = id.parse().map_err(|_| unknown())?;
    show::find(&mut desk(&app).await?, letter).await?.ok_or_else(unknown)?;
    let recorder = Recorder::new(&app.store, caller.actor(ActionVia::Http));
    let which = Which { ids: vec![letter], ..Which::default() };
    let args = ReplayArgs { which, all: false, dry_run, again, force, body: None, rate: u32::MAX, why, after: None };
    let work = async {
        let tally = replay_letters(&app, &recorder, args, body.as_deref().map(str::as_bytes)).await?;
        Ok(Json(tally).into_response())
    };
    // The letter is part of what is asked for.
    let content = [id.as_bytes(), &[0], &bytes].concat();
    idempotency::once(&app, caller, "POST /v1/dead-letters/{id}/replay", &headers, &content, work).await
}

/// Replays letters, for as long as a request may take.
pub(crate) async fn replay_letters(
    app: &App,
    recorder: &Recorder,
    args: ReplayArgs,
    body: Option<&[u8]>,
) -> Result<Tally, Problem> {
    let mut desk = desk(app).await?;
    let done = in_time(async |stop| {
        // On the heap: in a build without optimisations the future is too large for a thread's stack.
        Ok(Box::pin(actions::replay(recorder, &mut desk, &args, body, &stop, &mut Progress::new(true))).await?)
    })
    .await;
    app.monitor.call();
    done
}

/// How long it is looked what a replay would come to.
const PREVIEW_MAX: Duration = Duration::from_secs(2);

/// What a replay would come to, of as many letters as can be looked at in a moment.
pub(crate) async fn preview_replay(app: &App, recorder: &Recorder, args: ReplayArgs) -> Result<Tally, Problem> {
    let mut desk = desk(app).await?;
    let args = ReplayArgs { dry_run: true, ..args };
    within(PREVIEW_MAX, async |stop| {
        Ok(Box::pin(actions::replay(recorder, &mut desk, &args, None, &stop, &mut Progress::new(true))).await?)
    })
    .await
}

/// Discards letters, for as long as a request may take.
pub(crate) async fn discard_letters(app: &App, recorder: &Recorder, args: DiscardArgs) -> Result<Tally, Problem> {
    let mut desk = desk(app).await?;
    let done = in_time(async |stop| {
        Ok(Box::pin(actions::discard(recorder, &mut desk, &args, &stop, &mut Progress::new(true))).await?)
    })
    .await;
    app.monitor.call();
    done
}

/// Works until it is done, or a request has taken long enough: then the work is told to stop where it is.
pub(crate) async fn in_time<T>(work: impl AsyncFnOnce(Shutdown) -> Result<T, Problem>) -> Result<T, Problem> {
    within(WORK_MAX, work).await
}

async fn within<T>(time: Duration, work: impl AsyncFnOnce(Shutdown) -> Result<T, Problem>) -> Result<T, Problem> {
    let stop = Shutdown::default();
    let timer = stop.clone();
    let ending = tokio::spawn(async move {
        tokio::time::sleep(time).await;
        timer.begin();
    });
    let done = work(stop).await;
    ending.abort();
    done
}
