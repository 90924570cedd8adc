//! Alerts: the rules, where they stand, and what to do.

use axum::{extract::State, response::Response};
use minijinja::{context, value::Serde};
use serde::Serialize;

use super::{
    page::{Nav, page},
    visitor::Visitor,
};
use crate::{
    alerts::Severity,
    http::{App, problem::Problem},
    monitor::AlertView,
};

/// What to do when a rule fires, in a sentence, and where that can be done.
const REMEDIES: &[(&str, &str, &str)] = &[
    (
        "lag_behind",
        "Look whether the stage has workers and no errors; start more processes if it only has too much to do.",
        "/streams",
    ),
    ("lag_growing", "More comes than is done. Start more processes, or hold imports back.", "/streams"),
    (
        "lag_unknown",
        "Entries were deleted from the middle of a stream. The age of the oldest is still right; the lag comes back once the group has read past the gap.",
        "/streams",
    ),
    (
        "dead_letters",
        "Read the reasons: a bad deploy is replayed after it is mended, what nobody can use is discarded.",
        "/dead",
    ),
    (
        "stuck_orders",
        "A worker has had messages in hand for minutes: look at its process and at Postgres, and claim them if it is gone.",
        "/workers",
    ),
    (
        "stock_drift",
        "Run orderstream audit: it names the products and orders. Tell somebody before more is sold.",
        "/stock",
    ),
    ("no_progress", "Work waits and nothing is done: look at the processes, the pauses, and Postgres.", "/workers"),
    ("relay_behind", "Figures and leaderboards are late. Look whether a process has the role relay.", "/workers"),
    ("no_consumer", "No process runs the stage: start one with orderstream run.", "/workers"),
    (
        "stage_paused_long",
        "Somebody paused the stage and may have forgotten it: resume it, or say why not.",
        "/streams",
    ),
    (
        "failed_ratio",
        "Many orders fail. The reasons of today tell whether it is the stock, the catalogue or the payment provider.",
        "/",
    ),
    (
        "import_abandoned",
        "The process of an import has vanished. Import the same file again: that brings in the rest and repeats nothing.",
        "/imports",
    ),
    (
        "server_went_back",
        "A server was restored or emptied. Orders that Postgres knows go on; let programs add again what only Redis had.",
        "/",
    ),
    (
        "deliveries_lost",
        "A consumer was deleted, or entries were: what is still in the stream is given out again, the rest has to be added again.",
        "/streams",
    ),
    (
        "server_refuses",
        "A server answers and refuses writes: make room, or point at the primary. Workers wait and lose nothing.",
        "/",
    ),
    ("server_away", "Redis or Postgres does not answer. Workers wait for it and lose nothing.", "/"),
];

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    alert: &'a AlertView,
    is_firing: bool,
    remedy: &'static str,
    place: &'static str,
    /// What colour it has when it fires.
    tone: &'static str,
}

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Result<Response, Problem> {
    let look = app.dashboard.looks.newest();
    let mut rows: Vec<Row<'_>> = look.snapshot.alerts.iter().map(described).collect();
    rows.sort_by_key(|row| !row.is_firing);
    page(&app, &visitor, Nav::Alerts, "alerts.html", "Alerts", context! { rows => Serde(rows) })
}

fn described(alert: &AlertView) -> Row<'_> {
    let known = REMEDIES.iter().find(|(rule, _, _)| *rule == alert.rule);
    let (_, remedy, place) = known.copied().unwrap_or(("", "", "/"));
    let is_firing = alert.state == "firing";
    let tone = match (is_firing, alert.severity) {
        (false, _) => "good",
        (true, Severity::Warning) => "warn",
        (true, _) => "bad",
    };
    Row { alert, is_firing, remedy, place, tone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Rule;

    #[test]
    fn every_rule_has_a_remedy() {
        let known: Vec<&str> = REMEDIES.iter().map(|(rule, _, _)| *rule).collect();
        for rule in Rule::ALL {
            assert!(known.contains(&rule.as_str()), "{}", rule.as_str());
        }
        assert!(REMEDIES.iter().all(|(_, remedy, place)| remedy.ends_with('.') && place.starts_with('/')));
    }
}
