//! Dead letters: looking at them, replaying and discarding them.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use pipeline::{
    message::DeadReason,
    shutdown::Shutdown,
    streams::{Connection, Direction, LetterId},
    topology::StageName,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    access::{Caller, Operator, Viewer},
    body::{self, Faults, Incoming},
    idempotency,
    problem::{Code, Problem},
    query::{Params, bounded, invalid, word},
};
use crate::{
    cli::dead::{DiscardArgs, ListArgs, ReplayArgs, Which, YesNo},
    commands::dead::{Desk, discard::discard_all, page, replay::replay_all, selection::Selection, show, tally::Tally},
    progress::Progress,
};

/// Most bytes of what is asked for.
const BYTES_MAX: u64 = 256 * 1024;

/// Most ids in a request.
const IDS_MAX: usize = 1_000;

/// Most characters of a reason.
const WHY_CHARS_MAX: usize = 500;

/// How long one request goes on; then it tells how far it came.
const WORK_MAX: Duration = Duration::from_secs(15);

/// Which letters to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Given up by this stage.
    stage: Option<String>,
    /// Dead for this reason.
    reason: Option<String>,
    /// Of this order code.
    order: Option<String>,
    /// Only letters that were replayed before (`true`), or that were not.
    replayed: Option<bool>,
    /// Most letters to show.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Go on after this letter: `next` of the page before.
    after: Option<String>,
}

/// Dead letters, newest first.
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "operations", operation_id = "listDeadLetters", params(ListParams),
    responses((status = 200, description = "A page, as `orderstream dead list --json` prints it", body = Object))
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<ListParams>,
) -> Result<impl IntoResponse, Problem> {
    let which = Which {
        stage: word("stage", params.stage.as_deref())?,
        reason: word("reason", params.reason.as_deref())?,
        order: params.order,
        replayed: params.replayed.map(yes_no),
        ..Which::default()
    };
    let after = params.after.as_deref().map(|id| id.parse().map_err(|error| invalid("after", error))).transpose()?;
    let args = ListArgs { which, limit: bounded("limit", params.limit, 50, 1_000)?, after };
    let mut desk = desk(&app).await?;
    Ok(Json(page(&mut desk, args).await?))
}

/// One letter, and what to do about it.
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", tag = "operations", operation_id = "getDeadLetter",
    params(("id" = String, Path, description = "The letter, as the list names it")),
    responses((status = 200, description = "The letter, as `orderstream dead show --json` prints it", body = Object))
)]
pub(super) async fn one(State(app): State<App>, _: Viewer, Path(id): Path<String>) -> Result<Response, Problem> {
    let unknown = || Problem::new(Code::NotFound, "there is no such dead letter");
    let id: LetterId = id.parse().map_err(|_| unknown())?;
    let mut desk = desk(&app).await?;
    let letter = show::find(&mut desk, id).await?.ok_or_else(unknown)?;
    Ok(Json(show::document(&letter)).into_response())
}

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
    /// Only letters that were replayed before (`true`), or that were not.
    replayed: Option<bool>,
    /// Every letter.
    all: bool,
    /// Only say what would be done.
    dry_run: bool,
    /// Replay also those that were replayed before.
    again: bool,
    /// Why, for the log.
    #[schema(max_length = 500)]
    why: Option<String>,
}

impl ActionBody {
    fn which(&self) -> Result<Which, Problem> {
        let mut faults = Faults::default();
        let mut ids = Vec::new();
        for (index, id) in self.ids.iter().enumerate().take(IDS_MAX) {
            match id.parse::<LetterId>() {
                Ok(id) => ids.push(id),
                Err(error) => faults.add(format!("/ids/{index}"), error.to_string()),
            }
        }
        faults.check("/ids", self.ids.len() <= IDS_MAX, &format!("at most {IDS_MAX}"));
        let stage = self.stage.as_deref().map(str::parse::<StageName>).transpose();
        let reason = self.reason.as_deref().map(str::parse::<DeadReason>).transpose();
        let stage = stage.unwrap_or_else(|error| {
            faults.add("/stage", error);
            None
        });
        let reason = reason.unwrap_or_else(|error| {
            faults.add("/reason", error);
            None
        });
        let why = self.why.as_deref().unwrap_or_default();
        faults.check("/why", why.chars().count() <= WHY_CHARS_MAX, &format!("at most {WHY_CHARS_MAX} characters"));
        let replayed = self.replayed.map(yes_no);
        let which = Which { ids, stage, reason, order: self.order.clone(), replayed, ..Which::default() };
        // `all` beside ids would leave open which of the two is meant.
        let chosen = if self.all { self.ids.is_empty() } else { !which.is_all() };
        faults.check("", chosen, "name ids, narrow the letters down, or mean every one with all");
        faults.result("it is not clear which letters are meant")?;
        Ok(which)
    }
}

fn yes_no(yes: bool) -> YesNo {
    if yes { YesNo::Yes } else { YesNo::No }
}

/// Sends letters on their way again. After some seconds it tells how far it came: `interrupted` says to ask again.
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
    let which = asked.which()?;
    let work = async {
        let mut desk = desk(app).await?;
        let stop = Shutdown::default();
        let timer = stop.clone();
        let ending = tokio::spawn(async move {
            tokio::time::sleep(WORK_MAX).await;
            timer.begin();
        });
        let done = match discard {
            true => discard_letters(&mut desk, &asked, which, &stop).await,
            false => replay_letters(&mut desk, &asked, which, &stop).await,
        };
        ending.abort();
        Ok(Json(done?).into_response())
    };
    idempotency::once(app, caller, route, headers, &bytes, work).await
}

async fn replay_letters(desk: &mut Desk, asked: &ActionBody, which: Which, stop: &Shutdown) -> anyhow::Result<Tally> {
    let (all, dry_run, again) = (asked.all, asked.dry_run, asked.again);
    let args = ReplayArgs { which, all, dry_run, again, body: None, rate: u32::MAX };
    let mut tally = replay_all(desk, &args, None, stop, &mut Progress::new(true)).await?;
    tally.why.clone_from(&asked.why);
    Ok(tally)
}

async fn discard_letters(desk: &mut Desk, asked: &ActionBody, which: Which, stop: &Shutdown) -> anyhow::Result<Tally> {
    let selection = Selection::new(desk, which.clone(), Direction::OldestFirst, None).await?;
    let args = DiscardArgs { which, all: asked.all, dry_run: asked.dry_run, yes: true, why: asked.why.clone() };
    discard_all(desk, &args, selection, stop, &mut Progress::new(true)).await
}

/// As the commands work, over connections of the API. Walks are long: theirs is a connection of its own.
async fn desk(app: &App) -> Result<Desk, Problem> {
    let connection: Connection = app.redis.connect().await?;
    Ok(Desk::over(&app.store, &app.redis, connection, app.partitions))
}
