//! Whoever looks at a page. Who is not known is sent to the login first.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use pipeline::domain::ApiRole;

use super::login::local_path;
use crate::http::{
    App,
    access::{Caller, Operator, Viewer},
    problem::{Code, Problem},
    query::encoded,
};

/// Somebody who may look.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// Who it is.
    pub(crate) caller: Caller,
    /// The page, with its query.
    pub(crate) path: String,
}

/// Somebody who may change something.
#[derive(Debug, Clone)]
pub(crate) struct Acting(pub(crate) Visitor);

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        match Viewer::from_request_parts(parts, app).await {
            Ok(Viewer(caller)) => Ok(Self { caller, path: path_of(parts) }),
            Err(problem) => Err(refusal(parts, problem)),
        }
    }
}

impl FromRequestParts<App> for Acting {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        match Operator::from_request_parts(parts, app).await {
            Ok(Operator(caller)) => Ok(Self(Visitor { caller, path: path_of(parts) })),
            Err(problem) => Err(refusal(parts, problem)),
        }
    }
}

impl Visitor {
    /// Why buttons are disabled; `None` if they are not.
    pub(super) fn hindrance(&self) -> Option<String> {
        let role = self.caller.role;
        (!self.caller.is(ApiRole::Operator)).then(|| format!("Your role is {role}: this needs operator."))
    }
}

fn path_of(parts: &Parts) -> String {
    parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned()
}

/// The login, for a browser that has no token that is good for anything.
fn refusal(parts: &Parts, problem: Problem) -> Response {
    if problem.code() != Code::Unauthenticated || parts.headers.contains_key(header::AUTHORIZATION) {
        return problem.into_response();
    }
    // What was sent is lost; the page that it was sent from is not.
    let next = if parts.method == "GET" { path_of(parts) } else { "/".to_owned() };
    let to = match local_path(&next) {
        Some("/") | None => "/login".to_owned(),
        Some(next) => format!("/login?next={}", encoded(next)),
    };
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}
