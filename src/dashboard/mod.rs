//! The dashboard: pages that the server renders, and small scripts that keep their numbers fresh. docs/DASHBOARD.md is
//! for its users.
//!
//! | what | where |
//! |---|---|
//! | templates, and what they can call | `templates`, `format`; `templates/macros.html` says how to write a page |
//! | a page around a template, its headers, problems as pages | `page` |
//! | who looks: the token in a cookie | `visitor`, `login` |
//! | styles, scripts, under names that change with their content | `assets` |
//! | the numbers that every page shows, as texts | `live`; `events` sends them on |
//! | pages | a file for each noun |
//!
//! A page shows the same with and without scripts: `live` makes every text once, the templates put it in, and the scripts
//! put it in again. Scripts never make text of numbers.

mod assets;
mod format;
mod login;
mod overview;
mod page;
mod templates;
mod visitor;

use axum::{Router, routing::get};

pub(crate) use self::page::Visit;
use crate::{cli::http::HttpArgs, http::App};

/// What all pages share.
pub(crate) struct Dashboard {
    assets: assets::Assets,
    templates: templates::Templates,
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
        Ok(Self { assets, templates, environment: options.environment.clone().unwrap_or_default() })
    }
}

/// Every page. They are no part of the API's description.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(overview::show))
        .route("/help", get(page::help))
        .route("/login", get(login::show).post(login::enter))
        .route("/logout", axum::routing::post(login::leave))
        .route("/assets/{name}", get(assets::show))
        .route("/favicon.ico", get(assets::favicon))
}
