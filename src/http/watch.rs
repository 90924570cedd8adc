//! What happens to every request: a name, a limit on rate and time, an answer that can be read, a line in the log.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use tracing::Instrument;

use super::{
    App,
    listener::Peer,
    problem::{Code, Problem},
};
use crate::{
    dashboard::Visit,
    telemetry::{answered, request_span},
};

/// The header that names a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest name that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Clients that are remembered before those at rest are forgotten.
const CLIENTS_MAX: usize = 10_000;

/// Routes whose bodies may take longer than a request.
const SLOW_ROUTES: &[&str] = &["/v1/imports", "/v1/imports/{id}/rejects"];

/// Routes that are asked every few seconds by machines that watch: their spans would hide all others.
const UNTRACED_ROUTES: &[&str] = &["/livez", "/readyz", "/metrics"];

/// How often each client asks.
pub(super) type Rates = Arc<DefaultKeyedRateLimiter<IpAddr>>;

/// Up to so many requests a second from each client.
pub(super) fn rates(per_second: u32) -> Rates {
    Arc::new(RateLimiter::keyed(Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN))))
}

/// Turns a client away that asks too often.
pub(super) async fn limit_rate(State(rates): State<Rates>, request: Request, next: Next) -> Response {
    let Some(Peer(peer)) = request.extensions().get::<Peer>() else { return next.run(request).await };
    if rates.len() > CLIENTS_MAX {
        rates.retain_recent();
    }
    match rates.check_key(&client(peer.ip())) {
        Ok(()) => next.run(request).await,
        Err(early) => {
            let wait = early.wait_time_from(governor::clock::DefaultClock::default().now());
            let problem = Problem::new(Code::RateLimited, "so many requests a second from one address are not served");
            problem.retry_after(wait.as_secs() + 1).into_response()
        }
    }
}

/// Who an address stands for: one machine has a whole network of IPv6 addresses.
fn client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

/// Names the request, and makes every answer one of ours.
pub(super) async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let visit = Visit::of(&request);
    let route = request.extensions().get::<MatchedPath>().map_or("-", |path| path.as_str()).to_owned();
    let matched = route != "-";
    let method = request.method().clone();
    let name = HeaderValue::from_str(&id).expect("checked, or made of digits");
    request.headers_mut().insert(REQUEST_ID, name.clone());
    let limit = match SLOW_ROUTES.contains(&&*route) {
        true => None,
        false => Some(Duration::from_secs(app.options.http_timeout)),
    };
    // A task of its own: a caller who hangs up must not stop a transaction half-way, and a panic ends nothing else.
    // One for the log, at a level that is always heard, and one for traces.
    let span = tracing::error_span!("request", request_id = id);
    let trace = match UNTRACED_ROUTES.contains(&&*route) {
        true => tracing::Span::none(),
        false => request_span(&method, matched.then_some(&*route), request.uri().path(), request.headers()),
    };
    let task = tokio::spawn(next.run(request).instrument(span.clone()).instrument(trace.clone()));
    let outcome = match limit {
        Some(limit) => tokio::time::timeout(limit, task).await,
        None => Ok(task.await),
    };
    let response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            tracing::error!(parent: &span, %panic, "a request panicked");
            Problem::new(Code::Internal, "this is a defect; the log says more under this request_id").into_response()
        }
        Err(_) => Problem::new(Code::Timeout, "it took too long; it may have happened all the same").into_response(),
    };
    let mut response = readable(&app, response, &id, visit).await;
    response.headers_mut().insert(REQUEST_ID, name);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let cache = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(cache);
    let status = response.status().as_u16();
    app.metrics.answered(method.as_str(), &route, status);
    answered(&trace, status);
    let ms = started.elapsed().as_millis();
    match (&method, status) {
        // Whoever watches asks every few seconds: what is wrong is said where it is noticed.
        _ if UNTRACED_ROUTES.contains(&&*route) => {
            tracing::debug!(parent: &span, %method, route, status, ms, "answered");
        }
        // That a server is away, or refuses, is said where it is noticed: not with every request.
        (_, 500..) if status != 503 => tracing::warn!(parent: &span, %method, route, status, ms, "answered"),
        (&Method::GET, _) => tracing::debug!(parent: &span, %method, route, status, ms, "answered"),
        _ => tracing::info!(parent: &span, %method, route, status, ms, "answered"),
    }
    response
}

/// The problem in an answer, rendered with the request's name, be it ours or of the router: as a page for a browser that
/// visits the dashboard.
async fn readable(app: &App, response: Response, id: &str, visit: Option<Visit>) -> Response {
    let (parts, body) = response.into_parts();
    let is_rendered = parts.headers.contains_key(header::CONTENT_TYPE) && parts.extensions.get::<Rendered>().is_some();
    let problem = match parts.extensions.get::<Problem>() {
        Some(problem) => Some(problem.clone()),
        None if is_rendered => None,
        None => Problem::of_foreign(parts.status),
    };
    let Some(problem) = problem else { return Response::from_parts(parts, body) };
    let mut rendered = match visit {
        Some(visit) => visit.show(app, &problem, id).await,
        None => problem.render(id),
    };
    // The router says which methods there are, and somebody else which encodings.
    for name in [header::ALLOW, header::ACCEPT_ENCODING] {
        if let Some(value) = parts.headers.get(&name) {
            rendered.headers_mut().insert(name, value.clone());
        }
    }
    for (name, value) in &parts.headers {
        if name == header::VARY || name.as_str().starts_with("access-control-") {
            rendered.headers_mut().append(name.clone(), value.clone());
        }
    }
    rendered
}

/// Marks an answer whose body is not to be touched, whatever its status.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rendered;

/// The name that the caller gave it, if that is short and plain; else one of ours.
fn request_id(request: &Request) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:/+=".contains(character);
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.chars().all(plain) => id.to_owned(),
        _ => format!("{:032x}", rand_number()),
    }
}

/// Good enough to tell requests apart.
fn rand_number() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    // Each state has keys of its own, drawn from the system once and counted on.
    let half = || u128::from(RandomState::new().hash_one(0_u8));
    (half() << 64) | half()
}
