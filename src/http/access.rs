//! Who may do what: bearer tokens with roles, and nothing but loopback without any.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pipeline::{
    domain::ApiRole,
    store::{self, Store},
};
use sha2::{Digest, Sha256};

use super::{
    App,
    problem::{Code, Problem},
};

/// What every token begins with.
const PREFIX: &str = "os_";

/// How long a look-up is good for: a token that is revoked is used no longer than that.
const KEPT: Duration = Duration::from_secs(3);

/// Look-ups that are kept at once.
const KEPT_MAX: usize = 1_024;

/// A new token as it is shown, and what is kept of it.
///
/// # Errors
/// When the system has no random bytes.
pub fn new_token() -> std::io::Result<(String, [u8; 32])> {
    use std::io::Read;
    let mut random = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok((format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)), Sha256::digest(random).into()))
}

/// The hash of a token as it was shown; `None` for what is none.
fn hash_of(token: &str) -> Option<[u8; 32]> {
    let random: [u8; 32] = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?.try_into().ok()?;
    Some(Sha256::digest(random).into())
}

/// Whoever sent a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// The number of the token; 0 without one.
    pub(super) token_id: i64,
    role: ApiRole,
}

impl Caller {
    fn demand(self, role: ApiRole) -> Result<Self, Problem> {
        if self.role >= role {
            return Ok(self);
        }
        let detail = format!("this needs a token with the role {role}, yours has {}", self.role);
        Err(Problem::new(Code::Forbidden, detail))
    }
}

/// Demands a caller who may look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer;

/// Demands a caller who may change something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator(pub(super) Caller);

impl FromRequestParts<App> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        caller(parts, app).await?.demand(ApiRole::Viewer).map(|_| Self)
    }
}

impl FromRequestParts<App> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        caller(parts, app).await?.demand(ApiRole::Operator).map(Self)
    }
}

async fn caller(parts: &Parts, app: &App) -> Result<Caller, Problem> {
    app.access.caller(&app.store, &parts.headers).await
}

/// The look-ups of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Access {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tokens: HashMap<[u8; 32], (Instant, Caller)>,
    /// Once there was a token there always is one: rows are never deleted.
    any: bool,
    /// When nobody had one.
    none_at: Option<Instant>,
}

impl Access {
    async fn caller(&self, store: &Store, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            // Only a listener on loopback is open without tokens: see `refuse_unguarded`.
            return match self.is_guarded(store).await? {
                true => Err(Problem::new(Code::Unauthenticated, "send a token: Authorization: Bearer os_…")),
                false => Ok(Caller { token_id: 0, role: ApiRole::Admin }),
            };
        };
        let refused = || Problem::new(Code::Unauthenticated, "the token is not known, or was revoked");
        let text = value.to_str().map_err(|_| refused())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(refused)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::new(Code::Unauthenticated, "the scheme is Bearer"));
        }
        let hash = hash_of(token.trim()).ok_or_else(refused)?;
        if let Some(caller) = self.recall(&hash) {
            return Ok(caller);
        }
        let (token_id, role) = store::use_token(&store.pool(), &hash).await?.ok_or_else(refused)?;
        let caller = Caller { token_id, role };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.tokens.len() >= KEPT_MAX {
            known.tokens.clear();
        }
        known.tokens.insert(hash, (Instant::now(), caller));
        Ok(caller)
    }

    fn recall(&self, hash: &[u8; 32]) -> Option<Caller> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tokens.get(hash).filter(|(at, _)| at.elapsed() < KEPT).map(|(_, caller)| *caller)
    }

    /// Whether a token is needed.
    pub(super) async fn is_guarded(&self, store: &Store) -> Result<bool, Problem> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.any || known.none_at.is_some_and(|at| at.elapsed() < KEPT) {
                return Ok(known.any);
            }
        }
        let any = store::has_tokens(&store.pool()).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.any |= any;
        known.none_at = Some(Instant::now());
        Ok(known.any)
    }
}

/// Refuses what a page of another site may have made a browser send. Without tokens, whoever reaches loopback may do
/// everything, so a name that somebody points there (DNS rebinding) is not served; and a request that changes something
/// must not come from another site at all.
pub(super) async fn refuse_strangers(State(app): State<App>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match check(&app, &parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}

async fn check(app: &App, request: &Parts) -> Result<(), Problem> {
    let headers = &request.headers;
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host").unwrap_or_default();
    let is_read = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_read {
        let allowed = |origin: &str| {
            app.options.cors_origin.iter().any(|known| known == origin)
                || origin.split_once("://").is_some_and(|(_, site)| site.eq_ignore_ascii_case(host))
        };
        if let Some(origin) = text("origin").filter(|origin| !allowed(origin)) {
            let detail = format!("the origin {origin:?} is not allowed; --cors-origin allows one");
            return Err(Problem::new(Code::CrossSite, detail));
        }
        let from_elsewhere = matches!(text("sec-fetch-site"), Some("cross-site" | "same-site"));
        if from_elsewhere && text("origin").is_none() {
            return Err(Problem::new(Code::CrossSite, "a page of another site sent this"));
        }
    }
    let is_open =
        ["/livez", "/readyz", "/metrics", "/webhooks/"].iter().any(|path| request.uri.path().starts_with(path));
    if !is_open && !is_loopback_name(host) && !app.access.is_guarded(&app.store).await? {
        let detail = "without tokens only localhost, 127.0.0.1 and [::1] are served: orderstream token create";
        return Err(Problem::new(Code::HostRefused, detail));
    }
    Ok(())
}

/// Whether a Host header names this machine by an address or a name that nobody else can give it.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let (token, hash) = new_token().expect("random bytes");
        assert!(token.starts_with("os_") && token.len() == 46, "{token}");
        assert_eq!(hash_of(&token), Some(hash));
        assert_ne!(new_token().expect("random bytes").1, hash);
        for wrong in ["", "os_", "os_AAAA", &token[3..], &format!("{token}A"), "os_\u{e9}"] {
            assert_eq!(hash_of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_names_that_are_always_this_machine_are_loopback() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:80", "127.1.2.3:9", "[::1]", "[::1]:8080"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0:80", "[::]:1", "?"]
        {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
