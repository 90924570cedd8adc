//! The log of actions: who did what, to how many, and why.

use axum::{extract::State, response::Response};
use minijinja::{Value, context};
use pipeline::{
    domain::{ActionOutcome, ActionVerb, ActionVia},
    store::{self, Action, ActionFilter},
};

use super::{
    fields::{Fields, query},
    page::{Nav, page},
    visitor::Visitor,
};
use crate::{
    http::{
        App,
        problem::Problem,
        query::{Params, invalid, word},
    },
    output::thousands,
};

/// Actions on a page.
const PAGE: i64 = 50;

/// The conditions that actions are found by.
const CONDITIONS: &[&str] = &["verb", "via", "outcome", "actor"];

/// The page.
pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    Params(fields): Params<Fields>,
) -> Result<Response, Problem> {
    fn some(text: &str) -> Option<&str> {
        (!text.is_empty()).then_some(text)
    }
    let after = some(fields.get("after")).map(str::parse::<i64>).transpose();
    let filter = ActionFilter {
        verb: word("verb", some(fields.get("verb")))?,
        via: word("via", some(fields.get("via")))?,
        outcome: word("outcome", some(fields.get("outcome")))?,
        actor: some(fields.get("actor")).map(str::to_owned),
        before_id: after.map_err(|_| invalid("after", "a number"))?,
    };
    let actions = store::list_actions(&app.reports.pool(), &filter, PAGE).await?;
    let chosen = fields.some(CONDITIONS);
    let at = |further: &[(&str, &str)]| format!("/actions?{}", query(&[&*chosen, further].concat()));
    let is_full = i64::try_from(actions.len()).is_ok_and(|count| count == PAGE);
    let last = actions.last().filter(|_| is_full).map(|action| action.id.to_string());
    let context = context! {
        next => last.map(|last| at(&[("after", &last)])),
        first => filter.before_id.map(|_| at(&[])),
        is_filtered => !chosen.is_empty() || filter.before_id.is_some(),
        chosen => fields.chosen(CONDITIONS),
        verbs => choices(ActionVerb::ALL.iter().map(|word| word.as_str())),
        ways => choices(ActionVia::ALL.iter().map(|word| word.as_str())),
        outcomes => choices(ActionOutcome::ALL.iter().map(|word| word.as_str())),
        actions => actions.iter().map(row).collect::<Vec<_>>(),
    };
    page(&app, &visitor, Nav::Actions, "actions.html", "Actions", context)
}

fn row(action: &Action) -> Value {
    context! {
        id => action.id,
        at => action.at.to_rfc3339(),
        actor => action.actor.clone(),
        via => action.via.as_str(),
        verb => action.verb.as_str().replace('_', " "),
        affected => thousands(action.affected),
        target => action.target.clone(),
        why => action.why.clone(),
        outcome => action.outcome.as_str(),
        tone => match action.outcome {
            ActionOutcome::Done => "good",
            ActionOutcome::Refused | ActionOutcome::Interrupted => "warn",
            ActionOutcome::Failed => "bad",
        },
        detail => action.detail.to_string(),
    }
}

fn choices<'a>(words: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let every = [(String::new(), "any".to_owned())];
    every.into_iter().chain(words.map(|word| (word.to_owned(), word.replace('_', " ")))).collect()
}
