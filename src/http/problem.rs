//! Everything that an answer can say went wrong, as RFC 9457 has it. The list is a contract: docs/HTTP.md.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pipeline::{message::Undecodable, store, streams};
use serde::Serialize;

use super::outcry;
use crate::{
    exit::{Exit, Refusal},
    patience::ServerError,
};

/// The media type of problems.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Seconds after which to try again while a server is away.
const AWAY_RETRY_SECONDS: u64 = 2;

/// Seconds after which to try again while a server refuses: somebody has to do something.
const REFUSED_RETRY_SECONDS: u64 = 10;

/// Faulty fields that are named; the rest is not.
const FIELDS_MAX: usize = 50;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $word:literal, $status:ident, $title:literal;)+) => {
        /// What kind of problem it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $code,)+ }

        impl Code {
            /// Every code, in the order of docs/HTTP.md.
            pub const ALL: &'static [Self] = &[$(Self::$code,)+];

            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $word,)+ }
            }

            /// The status of HTTP that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status,)+ }
            }

            /// What it is, for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$code => $title,)+ }
            }
        }
    };
}

codes! {
    /// What cannot be read as a request.
    BadRequest = "bad_request", BAD_REQUEST, "The request cannot be read";
    /// Not JSON at all.
    MalformedJson = "malformed_json", BAD_REQUEST, "The body is not JSON";
    /// A parameter in the query.
    InvalidQuery = "invalid_query", BAD_REQUEST, "A parameter of the query is wrong";
    /// A header that says what cannot be.
    InvalidHeader = "invalid_header", BAD_REQUEST, "A header is wrong";
    /// The name of another site stands in the request.
    HostRefused = "host_refused", BAD_REQUEST, "This name is not served without a token";
    /// No token, or none of ours.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "A valid token is needed";
    /// A webhook that its sender did not sign.
    BadSignature = "bad_signature", UNAUTHORIZED, "The signature does not fit";
    /// A webhook from another time.
    SignatureExpired = "signature_expired", UNAUTHORIZED, "The signature is from another time";
    /// The token's role may not do this.
    Forbidden = "forbidden", FORBIDDEN, "The token's role does not allow this";
    /// A page of another site made the browser send it.
    CrossSite = "cross_site", FORBIDDEN, "Requests from other sites are refused";
    /// No such route.
    NoRoute = "no_route", NOT_FOUND, "There is nothing here";
    /// No such order, refund, import, letter.
    NotFound = "not_found", NOT_FOUND, "There is no such thing";
    /// No secret is configured.
    WebhooksOff = "webhooks_off", NOT_FOUND, "Webhooks are not configured";
    /// The route has other methods.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "This method is not allowed here";
    /// The request did not arrive, or was not dealt with, in time.
    Timeout = "timeout", REQUEST_TIMEOUT, "The request took too long";
    /// The code belongs to an order with other content.
    OrderConflict = "order_conflict", CONFLICT, "The code belongs to another order";
    /// The key belongs to a refund with other content.
    RefundConflict = "refund_conflict", CONFLICT, "The key belongs to another refund";
    /// Somebody sends again what he recorded.
    WebhookReplayed = "webhook_replayed", CONFLICT, "This message came before";
    /// Two messages with one id.
    WebhookIdReused = "webhook_id_reused", CONFLICT, "The id belongs to another message";
    /// The first request with the key still runs.
    IdempotencyInProgress = "idempotency_in_progress", CONFLICT, "A request with this key is being worked on";
    /// More than the route takes.
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The route does not read this.
    UnsupportedType = "unsupported_type", UNSUPPORTED_MEDIA_TYPE, "The body has a type that is not read here";
    /// JSON, but not of the documented shape, or values out of bounds.
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "The content is not valid";
    /// The key belongs to another request.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The key belongs to another request";
    /// Too many requests from one client.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    /// A defect of ours.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something is broken here";
    /// The pipeline has enough to do.
    Backlog = "backlog", SERVICE_UNAVAILABLE, "Too many orders are on their way";
    /// Too many connections or uploads at once.
    Busy = "busy", SERVICE_UNAVAILABLE, "Too much at once";
    /// Postgres does not answer.
    PostgresAway = "postgres_away", SERVICE_UNAVAILABLE, "Postgres is away";
    /// Redis does not answer.
    RedisAway = "redis_away", SERVICE_UNAVAILABLE, "Redis is away";
    /// Postgres answers and refuses: it is read-only, full, or has too many connections.
    PostgresRefuses = "postgres_refuses", SERVICE_UNAVAILABLE, "Postgres refuses";
    /// Redis answers and refuses writes: it is full, read-only, or cannot write to its disk.
    RedisRefuses = "redis_refuses", SERVICE_UNAVAILABLE, "Redis refuses writes";
    /// The process is ending, or a server is away or refuses writes.
    NotReady = "not_ready", SERVICE_UNAVAILABLE, "Not ready";
}

/// A field that is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where it stands in the body: a JSON pointer (RFC 6901).
    #[schema(example = "/lines/0/quantity")]
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// An answer that says what went wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<u64>,
}

/// What a problem looks like on the wire.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct Document<'a> {
    /// Where the kind of problem is described, relative to the address of the service.
    #[schema(example = "/problems/not_found")]
    r#type: String,
    /// What kind it is, for people.
    title: &'a str,
    /// The status of HTTP.
    status: u16,
    /// What exactly, for people.
    detail: &'a str,
    /// What kind it is, for programs.
    code: &'a str,
    /// The request, as logs name it.
    request_id: &'a str,
    /// The fields at fault, where it is about fields.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// With the fields that are at fault.
    pub fn at(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self.errors.truncate(FIELDS_MAX);
        self
    }

    /// With the seconds after which another try may go better.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// A server that answers and refuses, and why.
    pub(super) fn refused(code: Code, what: &str, why: &str) -> Self {
        Self::new(code, format!("{what}: {why}; try again when that is put right")).retry_after(REFUSED_RETRY_SECONDS)
    }

    /// What kind it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What exactly, for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields at fault.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Seconds after which another try may go better.
    pub fn seconds(&self) -> Option<u64> {
        self.retry_after
    }

    /// The answer, with the request's name.
    pub fn render(&self, request_id: &str) -> Response {
        let document = Document {
            r#type: format!("/problems/{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            request_id,
            errors: &self.errors,
        };
        let body = serde_json::to_vec(&document).expect("texts and numbers are always JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"orderstream\""));
        }
        response
    }

    /// The problem in an answer that was not made by us: of the router, of an extractor. `None` for what is no problem.
    pub fn of_foreign(status: StatusCode) -> Option<Self> {
        let code = match status {
            StatusCode::NOT_FOUND => Code::NoRoute,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedType,
            StatusCode::UNPROCESSABLE_ENTITY => Code::Invalid,
            StatusCode::REQUEST_TIMEOUT => Code::Timeout,
            status if status.is_client_error() => Code::BadRequest,
            status if status.is_server_error() => Code::Internal,
            _ => return None,
        };
        Some(Self::new(code, code.title()))
    }
}

/// Carried by the answer until the request's name is added: see [`Problem::render`].
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        if let Some(refusal) = error.refusal() {
            outcry::say("Postgres refuses", refusal.as_str(), &error);
            return Self::refused(Code::PostgresRefuses, "Postgres refuses", refusal.as_str());
        }
        if error.is_transient() || error.is_unreachable() {
            outcry::say("Postgres is away", "", &error);
            return Self::new(Code::PostgresAway, "try again in a moment").retry_after(AWAY_RETRY_SECONDS);
        }
        if error.kind() == store::ErrorKind::Values {
            return Self::new(Code::Invalid, "Postgres cannot hold these values");
        }
        Self::internal(&error.into())
    }
}

impl From<streams::Error> for Problem {
    fn from(error: streams::Error) -> Self {
        if let Some(refusal) = error.refusal() {
            outcry::say("Redis refuses writes", refusal.as_str(), &error);
            return Self::refused(Code::RedisRefuses, "Redis refuses writes", refusal.as_str());
        }
        if error.is_transient() || error.is_unreachable() {
            outcry::say("Redis is away", "", &error);
            return Self::new(Code::RedisAway, "try again in a moment").retry_after(AWAY_RETRY_SECONDS);
        }
        Self::internal(&error.into())
    }
}

impl From<ServerError> for Problem {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Store(error) => error.into(),
            ServerError::Streams(error) => error.into(),
        }
    }
}

/// What the code behind the commands fails with.
impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<store::Error>() {
            Ok(error) => error.into(),
            Err(error) => match error.downcast::<streams::Error>() {
                Ok(error) => error.into(),
                Err(error) => match error.downcast::<Refusal>() {
                    Ok(refusal) => refusal.into(),
                    Err(error) => Self::internal(&error),
                },
            },
        }
    }
}

/// A rule of the commands, which holds here as well.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = if refusal.exit() == Exit::NotFound { Code::NotFound } else { Code::Invalid };
        Self::new(code, refusal.to_string())
    }
}

impl From<Undecodable> for Problem {
    fn from(error: Undecodable) -> Self {
        Self::new(Code::Invalid, error.detail)
    }
}

impl Problem {
    /// A defect: its cause is for the log, not for the caller.
    fn internal(error: &anyhow::Error) -> Self {
        tracing::error!(error = crate::exit::chain(error), "a request failed");
        Self::new(Code::Internal, "this is a defect; the log says more under this request_id")
    }
}
