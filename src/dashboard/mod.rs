//! The dashboard: pages that the server renders, and small scripts that keep their numbers fresh. docs/DASHBOARD.md is
//! for its users.
//!
//! | what | where |
//! |---|---|
//! | templates, and what they can call | `templates`, `format`; `templates/macros.html` says how to write a page |
//! | a page around a template, its headers, problems as pages | `page` |
//! | who looks: the token in a cookie | `visitor`, `login` |
//! | styles, scripts, under names that change with their content | `assets` |
//! | the numbers that every page shows, as texts | `live`, `spark`; `look` shares them, `events` sends them on |
//! | pages | a file for each noun |
//!
//! A page shows the same with and without scripts: `live` makes every text once, the templates put it in, and the scripts
//! put it in again. Scripts never make text of numbers.

mod actions;
mod address;
mod alerts;
mod assets;
mod banner;
mod dead;
mod events;
mod fields;
mod format;
mod imports;
mod kpis;
mod live;
mod login;
mod look;
mod orders;
mod overview;
mod page;
mod refund_form;
mod refund_outcome;
mod refunds;
mod spark;
mod stock;
mod streams;
mod templates;
mod visitor;
mod workers;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use tokio::sync::Semaphore;

pub(crate) use self::{look::follow, page::Visit};
use crate::{cli::http::HttpArgs, http::App};

/// What all pages share.
pub(crate) struct Dashboard {
    assets: assets::Assets,
    templates: templates::Templates,
    looks: look::Looks,
    /// Places for those who watch: never all connections, so that the API stays open.
    watchers: Arc<Semaphore>,
    /// What is shown here, such as production; may be empty.
    environment: String,
}

impl Dashboard {
    /// With every template tried.
    ///
    /// # Errors
    /// When a template does not parse: a defect.
    pub(crate) fn new(options: &HttpArgs) -> anyhow::Result<Self> {
        let assets = assets::Assets::new();
        let templates = templates::Templates::new(&assets)?;
        Ok(Self {
            assets,
            templates,
            looks: look::Looks::new(),
            watchers: Arc::new(Semaphore::new((options.http_connections as usize / 2).max(1))),
            environment: options.environment.clone().unwrap_or_default(),
        })
    }
}

/// Every page. They are no part of the API's description.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(overview::show))
        .route("/streams", get(streams::list))
        .route("/streams/{stage}", get(streams::show))
        .route("/streams/{stage}/pause", post(streams::pause))
        .route("/streams/{stage}/resume", post(streams::resume))
        .route("/streams/{stage}/claim", post(streams::claim))
        .route("/workers", get(workers::show))
        .route("/alerts", get(alerts::show))
        .route("/events", get(events::stream))
        .route("/dead", get(dead::show))
        .route("/dead/confirm", get(dead::confirm))
        .route("/dead/act", post(dead::act))
        .route("/dead/{id}", get(dead::letter))
        .route("/dead/{id}/replay", post(dead::edit))
        .route("/actions", get(actions::show))
        .route("/help", get(page::help))
        .route("/login", get(login::show).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/assets/{name}", get(assets::show))
        .route("/orders", get(orders::list))
        .route("/orders/{code}", get(orders::show))
        .route("/orders/{code}/refunds", post(refund_form::send))
        // For codes that cannot stand in a path.
        .route("/order", get(orders::show_named))
        .route("/order/refund", get(refund_form::confirm))
        .route("/order/refunds", post(refund_form::send_named))
        .route("/refunds", get(refunds::list))
        .route("/stock", get(stock::list))
        .route("/kpis", get(kpis::show))
        .route("/imports", get(imports::list))
        .route("/imports/{id}", get(imports::show))
        .route("/favicon.ico", get(assets::favicon))
}
