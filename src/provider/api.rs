//! Requests and answers.

use std::time::Duration;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Query, Request as HttpRequest, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::Utc;
use futures::stream;
use pipeline::domain::Cents;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::sleep;

use super::{
    Fault, Provider,
    book::{Booking, Kind, Request, Status},
    ledger::LedgerLost,
    problem::Problem,
};

/// Most bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Most bytes in a text of a request.
const TEXT_BYTES_MAX: usize = 256;

/// How many lines of the ledger are put together at once.
const LEDGER_PAGE: usize = 1_000;

/// How long an early callback may keep the answer waiting that it comes before.
const EARLY_MAX: Duration = Duration::from_secs(2);

pub(super) fn routes(provider: Provider) -> Router {
    Router::new()
        .route("/charges", post(charge).get(find_charges))
        .route("/refunds", post(refund).get(find_refunds))
        .route("/ledger", get(ledger))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this is not done here")
        })
        .layer(middleware::from_fn_with_state(provider.clone(), authorize))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(provider)
}

async fn authorize(State(provider): State<Provider>, request: HttpRequest, next: Next) -> Response {
    if let Some(key) = &provider.behaviour.key {
        let expected = format!("Bearer {key}");
        let given = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        if !bool::from(given.ct_eq(expected.as_bytes())) {
            return Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "this is not the key").into_response();
        }
    }
    next.run(request).await
}

#[derive(Deserialize)]
struct ChargeBody {
    amount: String,
    currency: String,
    reference: String,
}

#[derive(Deserialize)]
struct RefundBody {
    charge: Option<String>,
    charge_reference: String,
    amount: String,
    currency: String,
    reference: String,
}

/// A charge or refund as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    status: Status,
    reference: &'a str,
    amount: Cents,
    currency: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    charge: Option<&'a str>,
}

impl<'a> Shown<'a> {
    fn new(booking: &'a Booking, status: Status) -> Self {
        let first = &booking.first;
        Self {
            id: &first.id,
            status,
            reference: &first.reference,
            amount: first.cents,
            currency: &first.currency,
            charge: first.charge.as_deref(),
        }
    }
}

/// A body, or why it was not read.
type Read = Result<Bytes, BytesRejection>;

/// A question, or why it is none.
type Asked = Result<Query<Wanted>, QueryRejection>;

async fn charge(State(provider): State<Provider>, headers: HeaderMap, body: Read) -> Result<Response, Problem> {
    let body = body?;
    let ChargeBody { amount, currency, reference } = read(&body)?;
    let request = request(Kind::Charge, &headers, &body, &amount, currency, reference, None)?;
    provider.answer(request).await
}

async fn refund(State(provider): State<Provider>, headers: HeaderMap, body: Read) -> Result<Response, Problem> {
    let body = body?;
    let RefundBody { charge, charge_reference, amount, currency, reference } = read(&body)?;
    let charge = Some((charge, charge_reference));
    let request = request(Kind::Refund, &headers, &body, &amount, currency, reference, charge)?;
    provider.answer(request).await
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}

fn request(
    kind: Kind,
    headers: &HeaderMap,
    body: &[u8],
    amount: &str,
    currency: String,
    reference: String,
    charge: Option<(Option<String>, String)>,
) -> Result<Request, Problem> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    for (name, text) in [("Idempotency-Key", &key), ("reference", &reference)] {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(Problem::invalid(format!(
                "{name} must have 1 to {TEXT_BYTES_MAX} bytes, none of them control"
            )));
        }
    }
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(Problem::invalid("currency must be three capital letters"));
    }
    let amount = Cents::parse_total(amount.as_bytes()).map_err(|error| Problem::invalid(format!("amount: {error}")))?;
    let body = Sha256::digest(body).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(Request { kind, key, body, reference, amount, currency, charge })
}

impl Provider {
    /// Books and answers, with whatever is to go wrong on the way.
    async fn answer(&self, request: Request) -> Result<Response, Problem> {
        let (kind, reference) = (request.kind, request.reference.clone());
        let faults = &self.behaviour.faults;
        let answered_after = self.latency(&request.key);
        if faults.hit(Fault::Errors, &reference) && self.books().book.fails_once(&request.key) {
            let detail = "as --errors has it, once";
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail));
        }
        let status = match faults.is_pending(&reference) {
            true => Status::Pending,
            false => kind.decided(self.says_yes(kind, &reference)),
        };
        let (index, is_new, line) = {
            let mut books = self.books();
            let books = &mut *books;
            let (index, is_new) = books.book.book(&mut books.ledger, request, status, Utc::now().timestamp_millis())?;
            (index, is_new, books.book.get(index).line)
        };
        // Before anything is waited for: whoever hangs up now has booked all the same.
        let decision = (is_new && status == Status::Pending).then(|| self.decide_later(index));
        self.flushed.reaches(line).await?;
        if is_new && faults.hit(Fault::Timeouts, &reference) {
            self.shutdown.begun().await;
        }
        if faults.hit(Fault::Early, &reference)
            && let Some(decision) = decision
        {
            // Late is not wrong either: then the callback came at the same time.
            tokio::time::timeout(EARLY_MAX, decision).await.ok();
        }
        sleep(answered_after).await;
        let books = self.books();
        let booking = books.book.get(index);
        let status = match booking.first.status {
            Status::Declined => StatusCode::PAYMENT_REQUIRED,
            Status::Pending => StatusCode::ACCEPTED,
            Status::Approved | Status::Succeeded | Status::Failed => StatusCode::CREATED,
        };
        Ok((status, Json(Shown::new(booking, booking.first.status))).into_response())
    }

    /// The latency, and as much more or less as the key has it.
    fn latency(&self, key: &str) -> Duration {
        let (latency, jitter) = (self.behaviour.latency, self.behaviour.jitter);
        let share = f64::from(crc32fast::hash(key.as_bytes())) / f64::from(u32::MAX);
        (latency + jitter.mul_f64(2.0 * share)).saturating_sub(jitter)
    }
}

#[derive(Deserialize)]
struct Wanted {
    reference: String,
}

async fn find_charges(provider: State<Provider>, wanted: Asked) -> Result<Response, Problem> {
    find(&provider, Kind::Charge, "charges", &wanted?.reference).await
}

async fn find_refunds(provider: State<Provider>, wanted: Asked) -> Result<Response, Problem> {
    find(&provider, Kind::Refund, "refunds", &wanted?.reference).await
}

async fn find(provider: &Provider, kind: Kind, name: &str, reference: &str) -> Result<Response, Problem> {
    sleep(provider.latency(reference)).await;
    let found: Vec<Booking> = {
        let books = provider.books();
        books.book.places(kind, reference).into_iter().map(|index| books.book.get(index).clone()).collect()
    };
    // What is not on disk yet may be forgotten again.
    provider.flushed.reaches(found.iter().map(|booking| booking.line).max().unwrap_or(0)).await?;
    let shown: Vec<Shown<'_>> = found.iter().map(|booking| Shown::new(booking, booking.status)).collect();
    Ok(Json(serde_json::json!({ name: shown })).into_response())
}

/// A line of `GET /ledger`.
#[derive(Serialize)]
struct LedgerLine<'a> {
    kind: Kind,
    #[serde(flatten)]
    shown: Shown<'a>,
}

/// Every charge and refund as it stands, oldest first, one JSON object a line.
async fn ledger(State(provider): State<Provider>) -> Response {
    let pages = stream::try_unfold((provider, 0), async |(provider, from)| {
        let (page, count, line) = {
            let books = provider.books();
            let bookings = books.book.page(from, LEDGER_PAGE);
            let mut page = Vec::with_capacity(bookings.len() * 160);
            for booking in bookings {
                let line = LedgerLine { kind: booking.first.kind, shown: Shown::new(booking, booking.status) };
                serde_json::to_writer(&mut page, &line).expect("texts are always JSON");
                page.push(b'\n');
            }
            (page, bookings.len(), books.ledger.last())
        };
        provider.flushed.reaches(line).await?;
        Ok::<_, LedgerLost>((count > 0).then_some((page, (provider, from + count))))
    });
    let lines = ([("content-type", "application/x-ndjson")], Body::from_stream(pages));
    lines.into_response()
}
