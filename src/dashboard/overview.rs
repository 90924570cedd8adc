//! The first page: how it stands, in a sentence and as a picture.

use axum::{extract::State, response::Response};
use minijinja::context;

use super::{
    page::{Nav, page},
    visitor::Visitor,
};
use crate::http::{App, problem::Problem};

/// The page.
pub(super) async fn show(State(app): State<App>, visitor: Visitor) -> Result<Response, Problem> {
    page(&app, &visitor, Nav::Overview, "overview.html", "Overview", context! {})
}
