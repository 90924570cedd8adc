//! `orderstream actions`: who did what to the running pipeline.

use anyhow::Result;
use pipeline::{
    domain::ActionOutcome,
    store::{self, Action, ActionFilter, WorkerSettings},
};
use serde::Serialize;

use super::orders::time;
use crate::{
    backends::Backends,
    cli::operate::ActionsArgs,
    config::Globals,
    exit::Exit,
    output::{self, cut, inert, thousands},
};

/// Most characters of a text in the table; `--json` has all.
const SHOWN_CHARS: usize = 60;

pub(super) async fn run(backends: &Backends, args: ActionsArgs, globals: &Globals) -> Result<Exit> {
    #[derive(Serialize)]
    struct Document {
        actions: Vec<Action>,
        /// Give it to --after for the next page; null on the last.
        next: Option<i64>,
    }

    let store = backends.store(WorkerSettings::Report, 1)?;
    let ActionsArgs { verb, via, outcome, actor, limit, after } = args;
    let filter = ActionFilter { verb, via, outcome, actor, before_id: after };
    let actions = store::list_actions(&store.pool(), &filter, i64::from(limit)).await?;
    let next = actions.last().filter(|_| actions.len() == limit as usize).map(|action| action.id);
    if globals.json {
        output::json(&Document { actions, next })?;
        return Ok(Exit::Done);
    }
    if actions.is_empty() {
        crate::output::note!("no actions match");
        return Ok(Exit::Done);
    }
    let shown = |text: &str| cut(&inert(text.as_bytes(), false), SHOWN_CHARS);
    let rows = actions.iter().map(|action| {
        let verb = match action.outcome {
            ActionOutcome::Done => action.verb.to_string(),
            outcome => format!("{} ({outcome})", action.verb),
        };
        vec![
            action.id.to_string(),
            time(action.at),
            shown(&action.actor),
            action.via.to_string(),
            verb,
            thousands(action.affected),
            shown(&action.target),
            shown(&action.why),
        ]
    });
    output::table(&["ID", "WHEN", "WHO", "VIA", "WHAT", "HOW MANY", "OF", "WHY"], &[0, 5], rows.collect())?;
    if let Some(next) = next {
        crate::output::note!("more: add --after {next}");
    }
    Ok(Exit::Done)
}
