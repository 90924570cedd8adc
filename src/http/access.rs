//! Who may do what: tokens with roles, as a header or as the cookie of the dashboard, and nothing but loopback without any.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, Method, Version, header, request::Parts, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt;
use pipeline::{
    domain::{ActionVia, ApiRole},
    store::{self, Store, UsedToken},
};
use sha2::{Digest, Sha256};
use tracing::debug;

use super::{
    App,
    problem::{Code, Problem},
};
use crate::actions::Actor;

/// What every token begins with.
const PREFIX: &str = "os_";

/// How long a look-up is good for: a token that is revoked is used no longer than that.
const KEPT: Duration = Duration::from_secs(3);

/// How long a look-up is good for while Postgres is away: whoever watched then must not lose sight of it.
const KEPT_IN_NEED: Duration = Duration::from_secs(600);

/// How long a try to reach Postgres may take, before what was known a while ago must do.
const ASK_MAX: Duration = Duration::from_secs(2);

/// Look-ups that are kept at once.
const KEPT_MAX: usize = 1_024;

/// The cookie in which a browser keeps its token.
pub(crate) const COOKIE: &str = "orderstream_token";

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
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The number of the token; 0 without one.
    pub(crate) token_id: i64,
    /// What the token allows.
    pub(crate) role: ApiRole,
    /// Whose token it is; empty without one.
    pub(crate) name: Arc<str>,
    /// A browser sends its cookie whoever made it ask.
    by_cookie: bool,
}

impl Caller {
    /// Whoever reaches loopback while there is no token.
    fn anybody() -> Self {
        Self { token_id: 0, role: ApiRole::Admin, name: Arc::from(""), by_cookie: false }
    }

    /// Who acts, in the log of actions.
    pub(crate) fn actor(&self, via: ActionVia) -> Actor {
        Actor::of_token((self.token_id != 0).then_some(&*self.name), via)
    }

    /// Whether the role allows what this role does.
    pub(crate) fn is(&self, role: ApiRole) -> bool {
        self.role >= role
    }

    fn demand(self, role: ApiRole) -> Result<Self, Problem> {
        if self.is(role) {
            return Ok(self);
        }
        let detail = format!("this needs a token with the role {role}, yours has {}", self.role);
        Err(Problem::new(Code::Forbidden, detail))
    }
}

/// Demands a caller who may look.
#[derive(Debug, Clone)]
pub(crate) struct Viewer(pub(crate) Caller);

/// Demands a caller who may change something.
#[derive(Debug, Clone)]
pub(crate) struct Operator(pub(crate) Caller);

impl FromRequestParts<App> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        caller(parts, app).await?.demand(ApiRole::Viewer).map(Self)
    }
}

impl FromRequestParts<App> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        caller(parts, app).await?.demand(ApiRole::Operator).map(Self)
    }
}

async fn caller(parts: &Parts, app: &App) -> Result<Caller, Problem> {
    let caller = app.access.caller(&app.store, &parts.headers).await?;
    if caller.by_cookie && !is_read(&parts.method) && !is_from_here(&parts.headers) {
        let detail = "a cookie opens this to our own pages only; programs send Authorization: Bearer os_…";
        return Err(Problem::new(Code::CrossSite, detail));
    }
    Ok(caller)
}

/// What a request says that opens something.
enum Credential<'a> {
    Header(&'a str),
    Cookie(&'a str),
}

impl Credential<'_> {
    /// A header comes before a cookie.
    fn of(headers: &HeaderMap) -> Result<Option<Credential<'_>>, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(cookie(headers).map(Credential::Cookie));
        };
        let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unknown)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::new(Code::Unauthenticated, "the scheme is Bearer"));
        }
        Ok(Some(Credential::Header(token.trim())))
    }
}

/// The token in a cookie.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token)
}

fn unknown() -> Problem {
    Problem::new(Code::Unauthenticated, "the token is not known, or was revoked")
}

/// The look-ups of a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Access {
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
    /// Who asks.
    pub(crate) async fn caller(&self, store: &Store, headers: &HeaderMap) -> Result<Caller, Problem> {
        match Credential::of(headers)? {
            Some(Credential::Header(token)) => self.holder(store, token).await,
            // Only a listener on loopback is open without tokens: see `refuse_unguarded`.
            _ if !self.is_guarded(store).await? => Ok(Caller::anybody()),
            Some(Credential::Cookie(token)) => Ok(Caller { by_cookie: true, ..self.holder(store, token).await? }),
            None => Err(Problem::new(Code::Unauthenticated, "send a token: Authorization: Bearer os_…")),
        }
    }

    /// Whose token this is.
    pub(crate) async fn holder(&self, store: &Store, token: &str) -> Result<Caller, Problem> {
        let hash = hash_of(token).ok_or_else(unknown)?;
        if let Some(caller) = self.recall(&hash, KEPT) {
            return Ok(caller);
        }
        let token = match self.recall(&hash, KEPT_IN_NEED) {
            None => store::find_token(&mut *store.acquire().await?, hash).await?,
            // Nobody can revoke a token while Postgres cannot be reached. One that answers knows better than we do.
            Some(remembered) => {
                let asked = store.ask_if_reachable(ASK_MAX, move |postgres| store::find_token(postgres, hash).boxed());
                match asked.await? {
                    Some(token) => token,
                    None => return Ok(remembered),
                }
            }
        };
        let Some(UsedToken { id, role, name, is_use_due }) = token else {
            // Not to be remembered when Postgres goes away.
            self.known.lock().unwrap_or_else(PoisonError::into_inner).tokens.remove(&hash);
            return Err(unknown());
        };
        if is_use_due {
            tokio::spawn(note_use(store.clone(), id));
        }
        let caller = Caller { token_id: id, role, name: name.into(), by_cookie: false };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.tokens.len() >= KEPT_MAX {
            known.tokens.clear();
        }
        known.tokens.insert(hash, (Instant::now(), caller.clone()));
        Ok(caller)
    }

    fn recall(&self, hash: &[u8; 32], kept: Duration) -> Option<Caller> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tokens.get(hash).filter(|(at, _)| at.elapsed() < kept).map(|(_, caller)| caller.clone())
    }

    /// Whether a token is needed.
    pub(crate) async fn is_guarded(&self, store: &Store) -> Result<bool, Problem> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.any || known.none_at.is_some_and(|at| at.elapsed() < KEPT) {
                return Ok(known.any);
            }
        }
        let remembered = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.none_at.is_some_and(|at| at.elapsed() < KEPT_IN_NEED)
        };
        let any = match remembered {
            false => store::has_tokens(&mut *store.acquire().await?).await?,
            // Nobody can make the first token while Postgres cannot be reached.
            true => match store.ask_if_reachable(ASK_MAX, |postgres| store::has_tokens(postgres).boxed()).await? {
                Some(any) => any,
                None => return Ok(false),
            },
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.any |= any;
        known.none_at = Some(Instant::now());
        Ok(known.any)
    }
}

/// Notes that a token is used, where that can be written: nobody waits for it, and nobody is refused because of it.
async fn note_use(store: Store, id: i64) {
    if let Err(error) = store::note_token_use(&store.pool(), id).await {
        debug!(%error, token = id, "that a token was used is not noted");
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
    let host = host(request)?;
    if !is_read(&request.method) {
        let allowed =
            |origin: &str| app.options.cors_origin.iter().any(|known| known == origin) || is_origin_of(origin, host);
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

/// For whom a request is; may be empty. Two names, or one that is none, are read by everybody as they like.
fn host(request: &Parts) -> Result<&str, Problem> {
    let invalid = |detail: &str| Problem::new(Code::InvalidHeader, format!("Host: {detail}"));
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| invalid("no name and port"))?,
        (Some(_), Some(_)) => return Err(invalid("it stands there more than once")),
        (None, _) if request.version >= Version::HTTP_11 => return Err(invalid("it is missing")),
        (None, _) => "",
    };
    let is_name = |host: &str| host.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
    if !host.is_empty() && !is_name(host) {
        return Err(invalid("no name and port"));
    }
    match request.uri.authority() {
        Some(target) if !target.as_str().eq_ignore_ascii_case(host) => Err(invalid("the request line names another")),
        _ => Ok(host),
    }
}

/// Whether a method only looks.
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether an origin is the site of this name.
fn is_origin_of(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, site)| site.eq_ignore_ascii_case(host))
}

/// Whether a browser says that one of our own pages sent this, or its user. Who says nothing is not trusted.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let origin = text("origin").map(|origin| is_origin_of(origin, text("host").unwrap_or_default()));
    match text("sec-fetch-site") {
        Some("same-origin" | "none") => origin != Some(false),
        Some(_) => false,
        None => origin == Some(true),
    }
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
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie(&headers), None);
        headers.append("cookie", "theme=dark; orderstream_token=os_1; x".parse().expect("a value"));
        assert_eq!(cookie(&headers), Some("os_1"));
        headers.insert("cookie", "xorderstream_token=os_1".parse().expect("a value"));
        assert_eq!(cookie(&headers), None);
    }

    #[test]
    fn with_a_cookie_only_our_own_pages_change_anything() {
        let said = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert("host", "shop.example:8080".parse().expect("a value"));
            for (name, value) in pairs {
                headers.insert(*name, value.parse().expect("a value"));
            }
            is_from_here(&headers)
        };
        assert!(said(&[("sec-fetch-site", "same-origin"), ("origin", "http://shop.example:8080")]));
        assert!(said(&[("sec-fetch-site", "none")]));
        assert!(said(&[("origin", "https://SHOP.example:8080")]));
        for wrong in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "http://shop.example")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://shop.example:8080")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")],
        ] {
            assert!(!said(wrong), "{wrong:?}");
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
