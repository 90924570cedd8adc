//! Dead letters: looking at them.

use std::{collections::VecDeque, io};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use pipeline::streams::{Connection, DeadLetter, Direction, LetterId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App,
    access::Viewer,
    problem::{Code, Problem},
    query::{Params, bounded, invalid, word},
};
use crate::{
    cli::dead::{ListArgs, Which, YesNo, parse_span},
    commands::dead::{Desk, groups, page, selection::Selection, show, transfer},
};

/// About how many bytes of an export are written at once.
const PIECE_BYTES: usize = 256 * 1024;

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
    /// Of this group, as the list of groups names it.
    group: Option<String>,
    /// Dead for longer than this: 90s, 10m, 2h, 3d.
    older_than: Option<String>,
    /// Dead for less than this.
    newer_than: Option<String>,
    /// Only letters that were replayed before (`true`), or that were not.
    replayed: Option<bool>,
    /// Most letters to show.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Go on after this letter: `next` of the page before.
    after: Option<String>,
}

/// Which letters to count, or to write.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichParams {
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
}

impl WhichParams {
    fn which(self) -> Result<Which, Problem> {
        let span = |name: &str, text: Option<&str>| {
            text.map(parse_span).transpose().map_err(|error: String| invalid(name, error))
        };
        Ok(Which {
            stage: word("stage", self.stage.as_deref())?,
            reason: word("reason", self.reason.as_deref())?,
            older_than: span("older_than", self.older_than.as_deref())?,
            newer_than: span("newer_than", self.newer_than.as_deref())?,
            order: self.order,
            group: self.group,
            replayed: self.replayed.map(yes_no),
            ..Which::default()
        })
    }
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
    let ListParams { stage, reason, order, group, older_than, newer_than, replayed, limit, after } = params;
    let which = WhichParams { stage, reason, order, group, older_than, newer_than, replayed }.which()?;
    let after = after.as_deref().map(|id| id.parse().map_err(|error| invalid("after", error))).transpose()?;
    let args = ListArgs { which, limit: bounded("limit", limit, 50, 1_000)?, after };
    let mut desk = desk(&app).await?;
    Ok(Json(page(&mut desk, args).await?))
}

/// Dead letters that died of the same thing, counted together: the newest twenty thousand or so.
#[utoipa::path(
    get, path = "/v1/dead-letters/groups", tag = "operations", operation_id = "groupDeadLetters", params(WhichParams),
    responses((status = 200, description = "The groups, as `orderstream dead groups --json` prints them", body = Object))
)]
pub(super) async fn groups(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<WhichParams>,
) -> Result<impl IntoResponse, Problem> {
    let which = params.which()?;
    let mut desk = desk(&app).await?;
    Ok(Json(groups::groups(&mut desk, which).await?))
}

/// Dead letters as `orderstream dead import` takes them back, one a line, oldest first. An answer that breaks off is not
/// complete.
#[utoipa::path(
    get, path = "/v1/dead-letters/export", tag = "operations", operation_id = "exportDeadLetters", params(WhichParams),
    responses((status = 200, description = "Lines, as `orderstream dead export` writes them", body = String, content_type = "application/x-ndjson"))
)]
pub(super) async fn export(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<WhichParams>,
) -> Result<Response, Problem> {
    let which = params.which()?;
    let mut desk = desk(&app).await?;
    let selection = Selection::new(&mut desk, which, Direction::OldestFirst, None).await?;
    let export = Export { desk, selection, waiting: VecDeque::new() };
    let pieces = futures::stream::try_unfold(export, async |mut export| {
        let piece = export.next_piece().await.map_err(|error| {
            tracing::warn!(error = crate::exit::chain(&error), "an export of dead letters broke off");
            io::Error::other(error)
        })?;
        Ok::<_, io::Error>(piece.map(|piece| (piece, export)))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let name = HeaderValue::from_static("attachment; filename=\"dead-letters.ndjson\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

/// An export on its way.
struct Export {
    desk: Desk,
    selection: Selection,
    /// Letters of the page that was read last.
    waiting: VecDeque<DeadLetter>,
}

impl Export {
    /// The next lines; `None` at the end.
    async fn next_piece(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        while self.waiting.is_empty() {
            match self.selection.next_page(&mut self.desk).await? {
                Some(page) => self.waiting = page.into(),
                None => return Ok(None),
            }
        }
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES
            && let Some(letter) = self.waiting.pop_front()
        {
            let (line, _) = transfer::line(&letter)?;
            piece.extend(line);
            piece.push(b'\n');
        }
        Ok(Some(piece))
    }
}

/// One letter, and what to do about it.
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", tag = "operations", operation_id = "getDeadLetter",
    params(("id" = String, Path, description = "The letter, as the list names it")),
    responses((status = 200, description = "The letter, as `orderstream dead show --json` prints it", body = Object))
)]
pub(super) async fn one(State(app): State<App>, _: Viewer, Path(id): Path<String>) -> Result<Response, Problem> {
    let id: LetterId = id.parse().map_err(|_| unknown())?;
    let mut desk = desk(&app).await?;
    let letter = show::find(&mut desk, id).await?.ok_or_else(unknown)?;
    Ok(Json(show::document(&letter)).into_response())
}

pub(crate) fn unknown() -> Problem {
    Problem::new(Code::NotFound, "there is no such dead letter")
}

pub(crate) fn yes_no(yes: bool) -> YesNo {
    if yes { YesNo::Yes } else { YesNo::No }
}

/// As the commands work, over connections of the API. Walks are long: theirs is a connection of its own.
pub(crate) async fn desk(app: &App) -> Result<Desk, Problem> {
    let connection: Connection = app.redis.connect().await?;
    Ok(Desk::over(&app.store, &app.redis, connection, app.partitions))
}
