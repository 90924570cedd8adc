//! The log of actions: who did what to the running pipeline, and why.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use pipeline::store::{self, ActionFilter};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::{
    App,
    access::Viewer,
    problem::{Code, Problem},
    query::{Params, bounded, encoded, word},
};

/// Which actions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only this: pause, resume, claim, replay, edit_and_replay, discard, refund, set_provider, locate_provider, move_provider, accept_key.
    verb: Option<String>,
    /// Only by this way: cli, http, dashboard, top.
    via: Option<String>,
    /// Only with this end: done, refused, failed, interrupted.
    outcome: Option<String>,
    /// Only by whoever has exactly this name.
    actor: Option<String>,
    /// Most actions to show.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Go on after this number: `next` of the page before has it.
    after: Option<i64>,
}

/// What was done to the running pipeline, newest first: by the command line, over HTTP, in the browser, in the terminal.
#[utoipa::path(
    get, path = "/v1/actions", tag = "operations", operation_id = "listActions", params(ListParams),
    responses((status = 200, description = "A page of actions; `next` is the address of the next one, or null", body = Object))
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<ListParams>,
) -> Result<impl IntoResponse, Problem> {
    let ListParams { verb, via, outcome, actor, limit, after } = params;
    let limit = bounded("limit", limit, 50, 1_000)?;
    let filter = ActionFilter {
        verb: word("verb", verb.as_deref())?,
        via: word("via", via.as_deref())?,
        outcome: word("outcome", outcome.as_deref())?,
        actor: actor.clone(),
        before_id: after,
    };
    let actions = store::list_actions(&app.reports.pool(), &filter, i64::from(limit)).await?;
    let last = actions.last().filter(|_| actions.len() == limit as usize).map(|action| action.id);
    let next = last.map(|last| {
        let mut next = format!("/v1/actions?limit={limit}&after={last}");
        for (name, value) in [("verb", verb), ("via", via), ("outcome", outcome), ("actor", actor)] {
            next.extend(value.map(|value| format!("&{name}={}", encoded(&value))));
        }
        next
    });
    Ok(Json(json!({ "actions": actions, "next": next })))
}

/// One action.
#[utoipa::path(
    get, path = "/v1/actions/{id}", tag = "operations", operation_id = "getAction",
    params(("id" = i64, Path, description = "The action's number")),
    responses((status = 200, description = "The action", body = Object))
)]
pub(super) async fn one(State(app): State<App>, _: Viewer, Path(id): Path<i64>) -> Result<impl IntoResponse, Problem> {
    let action = store::find_action(&app.reports.pool(), id).await?;
    let unknown = || Problem::new(Code::NotFound, "there is no action of this number");
    Ok(Json(action.ok_or_else(unknown)?))
}
