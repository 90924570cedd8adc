//! The first page: how it stands, in a sentence and as a picture. It is made of the newest look alone: it asks neither
//! Redis nor Postgres.

use axum::{extract::State, response::Response};
use minijinja::{Value, context, value::Serde};
use pipeline::topology::StageName;

use super::{
    live::REMARKS_MAX,
    page::{Nav, page},
    visitor::Visitor,
    workers,
};
use crate::http::{App, problem::Problem};

/// Reasons that are listed here; a page has all of them.
const REASONS_MAX: usize = 6;

/// Processes and alerts that are listed here.
const ROWS_MAX: usize = 6;

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Result<Response, Problem> {
    let look = app.dashboard.looks.newest();
    let snapshot = &look.snapshot;
    let firing: Vec<_> = snapshot.alerts.iter().filter(|alert| alert.state == "firing").take(ROWS_MAX).collect();
    let context = context! {
        remarks => REMARKS_MAX,
        any_failed => snapshot.today.failed > 0,
        way => StageName::WAY.map(described).to_vec(),
        beside => [StageName::Refund, StageName::Callback].map(described).to_vec(),
        failed => most(snapshot.today.failed_by.iter().map(|(reason, count)| (reason, *count))),
        dead => most(snapshot.dead_letters.reasons.iter().map(|(reason, count)| (reason, *count))),
        alerts => Serde(firing),
        processes => snapshot.processes.iter().take(ROWS_MAX).map(workers::described).collect::<Vec<_>>(),
    };
    page(&app, &visitor, Nav::Overview, "overview.html", "Overview", context)
}

/// The reasons with the highest counts, those first.
fn most<'a, N: Ord>(counts: impl Iterator<Item = (&'a String, N)>) -> Vec<String> {
    let mut counts: Vec<(&String, N)> = counts.collect();
    counts.sort_by(|(_, one), (_, other)| other.cmp(one));
    counts.into_iter().take(REASONS_MAX).map(|(reason, _)| reason.clone()).collect()
}

/// A stage, for templates.
pub(super) fn described(stage: StageName) -> Value {
    let name = stage.as_str();
    let title = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
    context! { name, title, stream => stage.stream() }
}
