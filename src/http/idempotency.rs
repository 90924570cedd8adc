//! A request that is sent again, with the header Idempotency-Key, gets the answer of the first time.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt;
use pipeline::store::{self, Claim, KeptAnswer, RequestKey};
use sha2::{Digest, Sha256};

use super::{
    App,
    access::Caller,
    problem::{Code, Problem},
};

/// The header with the caller's name for a request.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that an answer is an earlier one.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key.
const KEY_BYTES_MAX: usize = 255;

/// Headers that are given again.
const KEPT_HEADERS: [HeaderName; 2] = [header::CONTENT_TYPE, header::LOCATION];

/// Stands in an answer that began an import: once that has come to nothing, the answer is not given again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Began {
    pub(super) import_id: i64,
}

/// Whether a request has a key.
pub(super) fn is_keyed(headers: &HeaderMap) -> bool {
    headers.contains_key(IDEMPOTENCY_KEY)
}

/// Does what is asked for, unless the same request with the same key has been answered. An answer that is no success is
/// not kept: nothing happened, and the next try may go better.
pub(super) async fn once(
    app: &App,
    caller: Caller,
    route: &'static str,
    headers: &HeaderMap,
    content: &[u8],
    work: impl Future<Output = Result<Response, Problem>>,
) -> Result<Response, Problem> {
    if !is_keyed(headers) {
        return work.await;
    }
    let mut hasher = Sha256::new();
    hasher.update(super::body::media_type(headers).as_bytes());
    hasher.update([0]);
    hasher.update(content);
    let hash = hasher.finalize().into();
    let request = RequestKey { token_id: caller.token_id, route, key: key_of(headers)?, hash };
    let claimed = match store::claim_request_key(&app.store.pool(), &request).await? {
        Claim::Ours(until) => until,
        Claim::Answered(answer) => return again(answer),
        Claim::InProgress => {
            let detail = "the first request with this Idempotency-Key is still being worked on";
            return Err(Problem::new(Code::IdempotencyInProgress, detail).retry_after(1));
        }
        Claim::Reused => {
            let detail = "another request had this Idempotency-Key within the last day";
            return Err(Problem::new(Code::IdempotencyKeyReused, detail));
        }
    };
    match work.await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let body = whole(body).await?;
            let import_id = parts.extensions.get::<Began>().map(|began| began.import_id);
            let answer = keep(parts.status, &parts.headers, &body, import_id);
            if let Err(error) = store::keep_answer(&app.store.pool(), &request, claimed, &answer).await {
                // What was asked for is done, and harmless to do again: the caller need not know.
                tracing::warn!(%error, "an answer could not be kept");
            }
            Ok(Response::from_parts(parts, Body::from(body)))
        }
        Err(problem) => {
            if let Err(error) = store::release_request_key(&app.store.pool(), &request, claimed).await {
                // It frees itself in two minutes.
                tracing::warn!(%error, "an idempotency key could not be released");
            }
            Err(problem)
        }
    }
}

/// The key: as a quoted string, as the draft has it, or bare.
fn key_of(headers: &HeaderMap) -> Result<String, Problem> {
    let invalid = || {
        let detail = format!("Idempotency-Key has 1 to {KEY_BYTES_MAX} visible ASCII characters");
        Problem::new(Code::InvalidHeader, detail)
    };
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(invalid()) };
    let text = value.to_str().map_err(|_| invalid())?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    match (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(invalid()),
    }
}

async fn whole(body: Body) -> Result<Bytes, Problem> {
    // Our own answers come from memory.
    let collected = body.collect().await.map_err(|error| anyhow::Error::new(error).context("an answer broke off"))?;
    Ok(collected.to_bytes())
}

fn keep(status: StatusCode, headers: &HeaderMap, body: &[u8], import_id: Option<i64>) -> KeptAnswer {
    let kept: Vec<(&str, &str)> =
        KEPT_HEADERS.iter().filter_map(|name| Some((name.as_str(), headers.get(name)?.to_str().ok()?))).collect();
    KeptAnswer {
        status: i16::try_from(status.as_u16()).expect("below 1000"),
        headers: serde_json::to_string(&kept).expect("texts are always JSON"),
        body: body.to_vec(),
        import_id,
    }
}

fn again(answer: KeptAnswer) -> Result<Response, Problem> {
    let read = || -> anyhow::Result<Response> {
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = StatusCode::from_u16(u16::try_from(answer.status)?)?;
        let headers: Vec<(String, String)> = serde_json::from_str(&answer.headers)?;
        for (name, value) in headers {
            response.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(response)
    };
    Ok(read()?)
}
