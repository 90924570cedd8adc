//! The login: a token, kept by the browser in a cookie that scripts cannot read and other sites cannot send.

use axum::{
    Form,
    body::Body,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use minijinja::context;
use serde::Deserialize;

use super::page;
use crate::http::{
    App,
    access::COOKIE,
    body::{self, Incoming},
    problem::{Code, Problem},
    query::Params,
};

/// Most bytes of the form.
const BYTES_MAX: u64 = 8_192;

/// What a form of a page sends.
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// How long a browser keeps the token, in seconds: a week.
const COOKIE_SECONDS: u32 = 604_800;

/// Where to go on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// What the form sends.
#[derive(Debug, Deserialize)]
struct Entry {
    token: String,
    #[serde(default)]
    next: String,
}

/// A path on this site, or nothing: `//evil.example` and `/\evil.example` are other sites to a browser.
pub(super) fn local_path(path: &str) -> Option<&str> {
    let plain = |character: char| !character.is_control() && character != '\\' && !character.is_whitespace();
    (path.starts_with('/') && !path.starts_with("//") && path.chars().all(plain)).then_some(path)
}

/// The form.
pub(super) async fn show(State(app): State<App>, Params(Next { next }): Params<Next>) -> Result<Response, Problem> {
    if !app.access.is_guarded(&app.store).await? {
        return Ok(see_other("/"));
    }
    form(&app, StatusCode::OK, &next, "")
}

fn form(app: &App, status: StatusCode, next: &str, wrong: &str) -> Result<Response, Problem> {
    let next = local_path(next).unwrap_or("/");
    page::bare(app, status, "login.html", "Sign in", context! { next, wrong })
}

/// Takes a token.
pub(super) async fn enter(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let Entry { token, next } = read_form(&headers, body, BYTES_MAX).await?;
    match app.access.holder(&app.store, token.trim()).await {
        Ok(_) => {}
        Err(problem) if problem.code() == Code::Unauthenticated => {
            return form(&app, StatusCode::UNAUTHORIZED, &next, "This token is not known, or was revoked.");
        }
        Err(problem) => return Err(problem),
    }
    let mut response = see_other(local_path(&next).unwrap_or("/"));
    set_cookie(&mut response, &headers, token.trim(), COOKIE_SECONDS);
    Ok(response)
}

/// Forgets the token. Who only has a cookie must come from one of our pages, as with everything that changes something.
pub(super) async fn leave(headers: HeaderMap) -> Response {
    let mut response = see_other("/login");
    set_cookie(&mut response, &headers, "", 0);
    response
}

/// The fields of a form that one of our pages sent.
pub(crate) async fn read_form<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    bytes_max: u64,
) -> Result<T, Problem> {
    body::demand_type(headers, "application/x-www-form-urlencoded")?;
    let bytes = Incoming::new(headers, body, bytes_max)?.whole().await?;
    let mut request = Request::new(Body::from(bytes));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(header::CONTENT_TYPE, FORM);
    match Form::<T>::from_request(request, &()).await {
        Ok(Form(fields)) => Ok(fields),
        Err(rejection) => Err(Problem::new(Code::Invalid, rejection.body_text())),
    }
}

/// A redirect after a form: the browser gets the page anew, and a reload sends nothing twice.
pub(crate) fn see_other(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response(),
        Err(_) => (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response(),
    }
}

fn set_cookie(response: &mut Response, headers: &HeaderMap, token: &str, seconds: u32) {
    let is_secure =
        headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"));
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}");
    // A token that was found has no character that a header cannot have.
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        for path in ["/", "/orders?q=1", "/orders/A%2FB#x"] {
            assert_eq!(local_path(path), Some(path));
        }
        for path in ["", "orders", "//evil.example", "/\\evil.example", "https://evil.example", "/\n/evil", "/\t/evil"]
        {
            assert_eq!(local_path(path), None, "{path:?}");
        }
    }
}
