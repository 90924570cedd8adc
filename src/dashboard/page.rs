//! A page: a template in the layout, with the headers that keep it what it is.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use minijinja::{Value, context};
use pipeline::domain::ApiRole;

use super::{look::Now, visitor::Visitor};
use crate::http::{
    App,
    access::Caller,
    problem::{Code, Problem},
    watch::Rendered,
};

/// Nothing but our own files, no inline scripts or styles, no frames.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// Where programs ask: they get problems as JSON, whatever they accept.
const OF_PROGRAMS: &[&str] =
    &["/v1/", "/webhooks/", "/problems/", "/livez", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json"];

/// The parts of the dashboard, as its navigation lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nav {
    /// The pipeline as a picture.
    Overview,
    /// Streams, groups, consumers, charts.
    Streams,
    /// What no stage could process.
    Dead,
    /// Orders.
    Orders,
    /// Money that goes back.
    Refunds,
    /// Pieces of products.
    Stock,
    /// Figures and leaderboards.
    Kpis,
    /// Files that were brought in.
    Imports,
    /// Processes.
    Workers,
    /// Rules, and what fires.
    Alerts,
    /// Who did what.
    Actions,
    /// None of them.
    None,
}

impl Nav {
    /// Path and name of each, in order.
    const ALL: [(Self, &'static str, &'static str); 11] = [
        (Self::Overview, "/", "Overview"),
        (Self::Streams, "/streams", "Streams"),
        (Self::Dead, "/dead", "Dead letters"),
        (Self::Orders, "/orders", "Orders"),
        (Self::Refunds, "/refunds", "Refunds"),
        (Self::Stock, "/stock", "Stock"),
        (Self::Kpis, "/kpis", "KPIs"),
        (Self::Imports, "/imports", "Imports"),
        (Self::Workers, "/workers", "Workers"),
        (Self::Alerts, "/alerts", "Alerts"),
        (Self::Actions, "/actions", "Actions"),
    ];

    fn entries(self) -> Vec<Value> {
        let entry = |(nav, path, name): (Self, &'static str, &'static str)| {
            let badge = match nav {
                Self::Dead => "dead.badge",
                Self::Alerts => "alerts.badge",
                _ => "",
            };
            context! { path, name, badge, is_current => nav == self }
        };
        Self::ALL.into_iter().map(entry).collect()
    }
}

/// The page that a template makes for somebody. The template finds `context` as `page`: see `templates/macros.html`.
///
/// # Errors
/// When the template names a value that does not exist: a defect.
pub(crate) fn page(
    app: &App,
    visitor: &Visitor,
    nav: Nav,
    template: &str,
    title: &str,
    context: Value,
) -> Result<Response, Problem> {
    render(app, StatusCode::OK, Some(visitor), nav, template, title, context)
}

/// A page for somebody of whom nothing is known: it shows nothing of the pipeline.
///
/// # Errors
/// When the template names a value that does not exist: a defect.
pub(super) fn bare(
    app: &App,
    status: StatusCode,
    template: &str,
    title: &str,
    context: Value,
) -> Result<Response, Problem> {
    render(app, status, None, Nav::None, template, title, context)
}

fn render(
    app: &App,
    status: StatusCode,
    visitor: Option<&Visitor>,
    nav: Nav,
    template: &str,
    title: &str,
    page: Value,
) -> Result<Response, Problem> {
    let dashboard = &app.dashboard;
    let who = visitor.map(|visitor| {
        let Caller { role, name, token_id, .. } = &visitor.caller;
        context! {
            role => role.as_str(),
            name => &**name,
            has_token => *token_id != 0,
            may_act => role >= &ApiRole::Operator,
            hindrance => visitor.hindrance(),
            path => visitor.path.clone(),
        }
    });
    let values = context! {
        title,
        page,
        who,
        nav => nav.entries(),
        now => visitor.map(|_| Value::from_object(Now(dashboard.looks.newest()))),
        environment => dashboard.environment.clone(),
        version => env!("CARGO_PKG_VERSION"),
    };
    let text = dashboard.templates.render(template, values)?;
    let mut response = (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response();
    response.extensions_mut().insert(Rendered);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    Ok(response)
}

/// The keys, the words, the signs.
pub(super) async fn help(State(app): State<App>, visitor: Visitor) -> Result<Response, Problem> {
    page(&app, &visitor, Nav::None, "help.html", "Help", context! {})
}

/// A browser that visits the dashboard: problems are shown to it as pages.
pub(crate) struct Visit {
    headers: HeaderMap,
    path: String,
}

impl Visit {
    /// The visit that a request is; `None` for a request of a program.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let path = request.uri().path();
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let is_page = accept.contains("text/html")
            && matches!(*request.method(), Method::GET | Method::POST)
            && !OF_PROGRAMS.iter().any(|prefix| path.starts_with(prefix));
        is_page.then(|| Self { headers: request.headers().clone(), path: path.to_owned() })
    }

    /// A problem as a page.
    pub(crate) async fn show(self, app: &App, problem: &Problem, request_id: &str) -> Response {
        // Whoever has no token sees nothing but the problem.
        let visitor = match problem.code() {
            Code::RateLimited | Code::HostRefused | Code::CrossSite => None,
            _ => app.access.caller(&app.store, &self.headers).await.ok(),
        };
        let visitor = visitor.map(|caller| Visitor { caller, path: self.path });
        let code = problem.code();
        let status = code.status();
        let context = context! {
            status => status.as_u16(),
            title => code.title(),
            detail => problem.detail(),
            code => code.as_str(),
            request_id,
            retry => problem.seconds(),
            errors => minijinja::value::Serde(problem.errors()),
        };
        let shown = render(app, status, visitor.as_ref(), Nav::None, "problem.html", code.title(), context);
        let mut response = match shown {
            Ok(response) => response,
            Err(_) => return problem.render(request_id),
        };
        if let Some(seconds) = problem.seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
