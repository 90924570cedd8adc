//! Files that were brought in, and how far they are.

use axum::{
    extract::{Path, State},
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use minijinja::{Value, context};
use pipeline::store::{self, ImportView};
use serde::Deserialize;

use super::{
    address::Address,
    page::{Nav, page},
    visitor::Visitor,
};
use crate::{
    commands::figures::read_currencies,
    http::{
        App,
        imports::{Document, has_rejects},
        problem::{Code, Problem},
        query::Params,
    },
    output::titled,
};

/// Imports on a page.
const PAGE_IMPORTS: usize = 50;

/// An importer says something every two seconds. One that was silent for so long has ended without a word; soon after,
/// whoever watches ends its import.
const SILENCE_MAX: TimeDelta = TimeDelta::seconds(15);

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    after: Option<i64>,
}

/// Imports, newest first.
pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    Params(place): Params<Place>,
) -> Result<Response, Problem> {
    let mut views = store::list_imports(&app.reports.pool(), None, place.after, 1 + PAGE_IMPORTS as i64).await?;
    let has_more = views.len() > PAGE_IMPORTS;
    views.truncate(PAGE_IMPORTS);
    let last = views.last().filter(|_| has_more).map(|view| view.id);
    let context = context! {
        next => last.map(|last| Address::of("/imports").with("after", Some(last)).text()),
        is_later => place.after.is_some(),
        is_running => views.iter().any(|view| view.finished_at.is_none()),
        imports => views.into_iter().map(|view| row(&app, view)).collect::<Vec<_>>(),
    };
    page(&app, &visitor, Nav::Imports, "imports.html", "Imports", context)
}

/// One import.
pub(super) async fn show(State(app): State<App>, visitor: Visitor, Path(id): Path<i64>) -> Result<Response, Problem> {
    let pool = app.reports.pool();
    let views = store::list_imports(&pool, Some(id), None, 1).await?;
    let Some(view) = views.into_iter().next() else {
        return Err(Problem::new(Code::NotFound, "there is no import of this number"));
    };
    let is_of_orders = view.kind == "orders";
    let states = match is_of_orders {
        true => store::state_counts(&pool, Some(id)).await?,
        false => Vec::new(),
    };
    let currencies = read_currencies(&app.reports, None).await?;
    let state = |state: &store::StateCount| {
        context! {
            status => &*state.status,
            reason => state.failure_reason.as_deref(),
            orders => state.orders,
            total => state.total.get(),
        }
    };
    let context = context! {
        import => row(&app, view),
        is_of_orders,
        states => states.iter().map(state).collect::<Vec<_>>(),
        total_title => titled("Total", &currencies.label()),
        currency_note => currencies.note(),
    };
    page(&app, &visitor, Nav::Imports, "import.html", &format!("Import {id}"), context)
}

/// An import as it is shown.
fn row(app: &App, view: ImportView) -> Value {
    let has_rejects = has_rejects(app, view.id);
    let Document { view, progress, error, .. } = Document::new(app, view);
    let is_running = view.finished_at.is_none();
    let last_word = view.noted_at.unwrap_or(view.started_at);
    let is_silent = is_running && Utc::now() - last_word > SILENCE_MAX;
    let (tone, word) = match (view.status.as_str(), is_silent) {
        (_, true) => ("warn", "silent"),
        (status @ ("done" | "published"), _) => ("good", status),
        (status @ "failed", _) => ("bad", status),
        (status @ "interrupted", _) => ("warn", status),
        (status, _) => ("busy", status),
    };
    let seconds = seconds_between(view.started_at, view.finished_at.unwrap_or_else(Utc::now));
    #[expect(clippy::cast_precision_loss, reason = "of a rate")]
    let rate = |count: i64| (seconds > 0.0).then(|| count as f64 / seconds);
    let progress = progress.filter(|_| is_running).map(|standing| {
        let unit = if standing.phase == "reading" { "bytes" } else { "orders" };
        context! { phase => standing.phase, position => standing.position, length => standing.length, unit }
    });
    context! {
        id => view.id,
        kind => view.kind,
        file => view.file,
        sha256 => view.sha256,
        tone,
        word,
        is_running,
        is_silent,
        is_abandoned => view.abandoned,
        is_uploaded => view.uploaded,
        rows => view.rows,
        rejected_rows => view.rejected_rows,
        rejected_orders => view.rejected_orders,
        orders => view.published_orders,
        duplicates => view.duplicate_orders,
        conflicts => view.conflicting_orders,
        rows_rate => rate(view.rows).filter(|_| !is_running),
        orders_rate => rate(view.published_orders).filter(|_| !is_running),
        seconds,
        started_at => view.started_at.to_rfc3339(),
        finished_at => view.finished_at.map(|at| at.to_rfc3339()),
        last_word => last_word.to_rfc3339(),
        progress,
        error,
        has_rejects,
    }
}

fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).as_seconds_f64().max(0.0)
}
