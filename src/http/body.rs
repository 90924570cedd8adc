//! Reading bodies: so many bytes, in so much time, of the right type.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::problem::{Code, FieldError, Problem};

/// How long a body may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What every body may take, however small it is.
const TIME_FREE: Duration = Duration::from_secs(20);

/// Below this many bytes a second, a body is not waited for any longer.
const BYTES_PER_SECOND_MIN: u64 = 16 * 1024;

/// A body on its way, within its bounds.
pub(crate) struct Incoming {
    body: Body,
    limit: u64,
    announced: Option<u64>,
    read: u64,
    started: Instant,
}

impl Incoming {
    /// A body of at most `limit` bytes.
    pub(crate) fn new(headers: &HeaderMap, body: Body, limit: u64) -> Result<Self, Problem> {
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        Ok(Self { body, limit, announced, read: 0, started: Instant::now() })
    }

    /// Most bytes that can come: what was announced, else the limit.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.announced.unwrap_or(self.limit)
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            // However slowly it comes, the whole must come in time.
            let allowed = TIME_FREE + Duration::from_secs(self.read / BYTES_PER_SECOND_MIN);
            let deadline = (self.started + allowed).min(Instant::now() + SILENCE_MAX);
            let frame = match tokio::time::timeout_at(deadline, self.body.frame()).await {
                Err(_) => return Err(Problem::new(Code::Timeout, "the body did not come in time")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Problem::new(Code::BadRequest, "the body broke off, or is no gzip")),
                Ok(Some(Ok(frame))) => frame,
            };
            // Trailers say nothing here.
            let Ok(data) = frame.into_data() else { continue };
            self.read += data.len() as u64;
            if self.read > self.limit {
                return Err(too_large(self.limit));
            }
            return Ok(Some(data));
        }
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        while let Some(data) = self.next().await? {
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}

fn too_large(limit: u64) -> Problem {
    Problem::new(Code::TooLarge, format!("at most {limit} bytes are read here"))
}

/// The media type of a body, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Charsets of text, and of a part of it.
const UTF8: &[&str] = &["utf-8", "utf8", "us-ascii", "ascii"];

/// Charsets of files: which of these it is, a file tells by itself.
const OF_FILES: &[&str] = &["utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be"];

/// Refuses a body that says that it is not UTF-8: read as such, it would say something else.
pub(crate) fn demand_utf8(headers: &HeaderMap) -> Result<(), Problem> {
    demand_charset(headers, UTF8, "send UTF-8")
}

/// Refuses what is no CSV in a charset that files are read in.
pub(crate) fn demand_csv(headers: &HeaderMap) -> Result<(), Problem> {
    demand_charset(headers, OF_FILES, "send UTF-8 or UTF-16")?;
    demand_media(headers, "text/csv")
}

fn demand_charset(headers: &HeaderMap, read: &[&str], way_out: &str) -> Result<(), Problem> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parameters = text.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let charsets = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    for (_, charset) in charsets {
        let charset = charset.trim().trim_matches('"').to_ascii_lowercase();
        if !read.contains(&&*charset) {
            let detail = format!("charset {charset:?} is not read here: {way_out}");
            return Err(Problem::new(Code::UnsupportedType, detail));
        }
    }
    Ok(())
}

/// Refuses any other type, and any other charset than UTF-8.
pub(crate) fn demand_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    demand_utf8(headers)?;
    demand_media(headers, wanted)
}

fn demand_media(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    match media_type(headers) {
        found if found == wanted => Ok(()),
        found => Err(Problem::new(Code::UnsupportedType, format!("{wanted} is read here, not {found:?}"))),
    }
}

/// The JSON of a body, to be looked at; what is no JSON is a problem of its own.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(Code::MalformedJson, error.to_string()))
}

/// Refuses a body in an encoding that is not taken apart here; gzip is, on its way to who reads it.
pub(super) async fn demand_encoding(mut request: Request, next: Next) -> Response {
    let encodings = request.headers().get_all(header::CONTENT_ENCODING).iter();
    let text: Vec<&str> = encodings.map(|value| value.to_str().unwrap_or("?")).collect();
    let mut encodings: Vec<String> = text.join(",").split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    encodings.retain(|name| !name.is_empty() && name != "identity");
    let refused = |detail: String| {
        let mut response = Problem::new(Code::UnsupportedType, detail).into_response();
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity"));
        response
    };
    match &encodings[..] {
        [] => {
            request.headers_mut().remove(header::CONTENT_ENCODING);
        }
        _ if request.uri().path().starts_with("/webhooks/") => {
            return refused("Content-Encoding: what is signed is read as it was sent, without one".to_owned());
        }
        [gzip] if gzip == "gzip" || gzip == "x-gzip" => {
            request.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        others => {
            let others = others.join(", ");
            return refused(format!("Content-Encoding: gzip or none is read here, not {others:?}"));
        }
    }
    next.run(request).await
}

/// Looks for faults, field by field.
#[derive(Default)]
pub(crate) struct Faults(Vec<FieldError>);

impl Faults {
    /// Notes a fault.
    pub(crate) fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.into() });
    }

    /// Notes a fault unless the field is right.
    pub(crate) fn check(&mut self, pointer: impl Into<String>, right: bool, detail: &str) {
        if !right {
            self.add(pointer, detail);
        }
    }

    /// The problem with all faults.
    pub(crate) fn problem(self, detail: impl Into<String>) -> Problem {
        Problem::new(Code::Invalid, detail).at(self.0)
    }
}

impl Faults {
    /// Fails if there are any.
    pub(crate) fn result(self, detail: &str) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(self.problem(detail)) }
    }
}

/// Reads a body of ours. Where its shape is wrong, the place is said as far as it is known.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let value = parse(bytes)?;
    if !value.is_object() {
        let mut faults = Faults::default();
        faults.add("", "an object is needed");
        return Err(faults.problem("the body is no JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| Problem::new(Code::Invalid, error.to_string()))
}
