//! Processes: who works here, of which version, and who has fallen silent.

use std::collections::BTreeSet;

use axum::{extract::State, response::Response};
use chrono::SecondsFormat;
use minijinja::{Value, context};

use super::{
    page::{Nav, page},
    visitor::Visitor,
};
use crate::{
    http::{App, problem::Problem},
    monitor::ProcessView,
};

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Result<Response, Problem> {
    let look = app.dashboard.looks.newest();
    let processes = &look.snapshot.processes;
    let versions: BTreeSet<&str> =
        processes.iter().filter(|process| process.is_live()).map(|process| process.version.as_str()).collect();
    let context = context! {
        processes => processes.iter().map(described).collect::<Vec<_>>(),
        versions => versions.iter().collect::<Vec<_>>().len(),
        version_list => versions.into_iter().collect::<Vec<_>>().join(", "),
    };
    page(&app, &visitor, Nav::Workers, "workers.html", "Workers", context)
}

/// A process, for templates.
pub(super) fn described(process: &ProcessView) -> Value {
    let (tone, word) = match (process.is_live(), process.draining) {
        (false, _) => ("bad", "silent"),
        (true, true) => ("off", "draining"),
        (true, false) if process.roles.is_empty() => ("idle", "watching"),
        (true, false) => ("good", "working"),
    };
    context! {
        id => process.id.clone(),
        host => process.host.clone(),
        pid => process.pid,
        version => process.version.clone(),
        started_at => process.started_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        http => process.http.clone().unwrap_or_default(),
        roles => process.roles.clone(),
        tone,
        word,
    }
}
