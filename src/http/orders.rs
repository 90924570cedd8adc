//! Adding orders.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pipeline::{
    domain::{Cents, LINES_PER_ORDER_MAX, OrderCode},
    message::{
        BODY, BODY_BYTES_MAX, TRACEPARENT, TRACEPARENT_BYTES_MAX, TRACESTATE, TRACESTATE_BYTES_MAX, decode_order,
        encode_order,
    },
    store,
    streams::Fields,
    topology::StageName,
};
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    App,
    access::Operator,
    body::{self, Faults, Incoming},
    idempotency, links,
    problem::{Code, FieldError, Problem},
};

/// Most bytes of a bulk request.
const BULK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most orders of a bulk request.
const BULK_ORDERS_MAX: usize = 10_000;

/// Orders of a bulk request that are published together.
const BULK_CHUNK: usize = 500;

/// How long Postgres is asked what it knows of orders. They are taken without its answer, too.
const LOOK_MAX: Duration = Duration::from_millis(500);

/// What is asked for one order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; `decode_order` reads it")]
pub(super) struct OrderRequest {
    /// The order's name: 1 to 128 bytes in the Unicode normal form NFC, without characters that nobody sees and without blanks
    /// at its ends.
    #[schema(example = "ORD-1", min_length = 1, max_length = 128)]
    order_code: String,
    /// Who orders.
    #[schema(example = 7, minimum = 1)]
    customer_id: i64,
    /// What is ordered.
    #[schema(min_items = 1, max_items = 1000)]
    lines: Vec<LineRequest>,
}

/// A line of an order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; `decode_order` reads it")]
pub(super) struct LineRequest {
    /// Which product.
    #[schema(example = 3, minimum = 1)]
    product_id: i64,
    /// How many pieces.
    #[schema(example = 2, minimum = 1)]
    quantity: i32,
    /// The price of one, as a decimal in a string.
    #[schema(example = "19.99", pattern = r"^[0-9]+(\.[0-9]{1,2})?$")]
    unit_price: String,
}

/// An order that is on its way, or is there already.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// The order's name.
    order_code: String,
    /// `accepted`: what becomes of the order is seen at its link. `duplicate`: Postgres knows the order with this content.
    status: &'static str,
    /// Where to go on.
    links: Links,
}

/// Where to go on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Links {
    /// The order, once it is taken in.
    order: String,
}

/// The answer to one order, or to many.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for the document")]
pub(super) enum Added {
    #[schema(title = "One")]
    One(Accepted),
    #[schema(title = "Many")]
    Many(Bulk),
}

/// What became of the lines of a bulk request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Bulk {
    /// Orders that are on their way.
    accepted: u64,
    /// Orders that Postgres knows with the same content.
    duplicates: u64,
    /// Lines that are no orders, or name an order that has other content.
    rejected: u64,
    /// Line by line. Blank lines are left out.
    results: Vec<LineResult>,
}

/// What became of one line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineResult {
    /// Its number, from 1.
    line: u64,
    /// `accepted`, `duplicate` or `rejected`.
    status: &'static str,
    /// The order's name, where it could be read.
    order_code: Option<String>,
    /// Why it was rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// Adds one order, or many as lines of JSON. `202` says that Redis has them; Postgres knows them soon. Adding the same
/// order again is harmless; one that Postgres knows with other content is answered `409`.
#[utoipa::path(
    post, path = "/v1/orders", tag = "orders", operation_id = "addOrders",
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's name for this request: sent again, it is answered again")),
    request_body(content((OrderRequest = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 202, description = "Accepted; a bulk request is answered line by line",
        body = Added))
)]
pub(super) async fn add(
    State(app): State<App>,
    Operator(caller): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    const ROUTE: &str = "POST /v1/orders";
    body::demand_utf8(&headers)?;
    match &*body::media_type(&headers) {
        "application/json" => {
            let bytes = Incoming::new(&headers, body, BODY_BYTES_MAX as u64)?.whole().await?;
            let work = add_one(&app, &headers, &bytes);
            idempotency::once(&app, caller, ROUTE, &headers, &bytes, work).await
        }
        "application/x-ndjson" | "application/jsonl" => {
            let incoming = Incoming::new(&headers, body, BULK_BYTES_MAX)?;
            if !idempotency::is_keyed(&headers) {
                return add_many(&app, &headers, Pieces::Coming(incoming)).await;
            }
            // The key stands for the whole content, which must be known before anything happens.
            let bytes = Bytes::from(incoming.whole().await?);
            let work = add_many(&app, &headers, Pieces::Here(Some(bytes.clone())));
            idempotency::once(&app, caller, ROUTE, &headers, &bytes, work).await
        }
        found => {
            let detail = format!("application/json or application/x-ndjson is read here, not {found:?}");
            Err(Problem::new(Code::UnsupportedType, detail))
        }
    }
}

async fn add_one(app: &App, headers: &HeaderMap, bytes: &[u8]) -> Result<Response, Problem> {
    let order = ReadOrder::of(bytes)?;
    let known = known(app, vec![order.code.clone()]).await;
    let status = match known.get(&order.code) {
        // The status of HTTP is that of the first time: whoever sends an order again until it is accepted must see that.
        Some(hash) if *hash == order.content_hash => "duplicate",
        Some(_) => return Err(Problem::new(Code::OrderConflict, conflict(&order.code))),
        None => {
            app.demand_room().await?;
            publish(app, headers, vec![order.clone()]).await?;
            "accepted"
        }
    };
    let link = links::order(&order.code);
    let location = HeaderValue::from_str(&link).expect("plain ASCII");
    let accepted = Accepted { order_code: order.code, status, links: Links { order: link } };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
}

/// What orders of these codes contain that Postgres knows, as far as it says so at once: an order that is known already
/// is not sent to Redis again, but Redis alone can take orders.
async fn known(app: &App, codes: Vec<String>) -> FxHashMap<String, i64> {
    if app.monitor.latest().postgres_away.is_some() {
        return FxHashMap::default();
    }
    let pool = app.store.pool();
    match tokio::time::timeout(LOOK_MAX, store::known_orders(&pool, &codes)).await {
        Ok(Ok(known)) => known.into_iter().map(|(code, order)| (code, order.content_hash)).collect(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "whether orders are known is not known");
            FxHashMap::default()
        }
        Err(_) => FxHashMap::default(),
    }
}

fn conflict(code: &str) -> String {
    format!(
        "{code:?} is known with another customer, or other lines: an order cannot be changed; give it a code of its own"
    )
}

/// The content of a bulk request.
enum Pieces {
    Coming(Incoming),
    Here(Option<Bytes>),
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        match self {
            Self::Coming(incoming) => incoming.next().await,
            Self::Here(bytes) => Ok(bytes.take()),
        }
    }
}

async fn add_many(app: &App, headers: &HeaderMap, mut pieces: Pieces) -> Result<Response, Problem> {
    let mut many = Many::default();
    let mut rest: Vec<u8> = Vec::new();
    let mut line = 0;
    app.demand_room().await?;
    loop {
        let piece = pieces.next().await?;
        let is_last = piece.is_none();
        let mut bytes = piece.as_deref().unwrap_or_default();
        while let Some(end) =
            bytes.iter().position(|&byte| byte == b'\n').or((is_last && !rest.is_empty()).then_some(0))
        {
            rest.extend_from_slice(&bytes[..end]);
            bytes = bytes.get(end + 1..).unwrap_or_default();
            line += 1;
            many.take_line(line, &rest)?;
            rest.clear();
            if many.ready.len() >= BULK_CHUNK {
                many.publish(app, headers).await?;
                app.demand_room().await?;
            }
        }
        if is_last {
            break;
        }
        rest.extend_from_slice(bytes);
        if rest.len() > BODY_BYTES_MAX {
            let detail = format!("line {} has more than {BODY_BYTES_MAX} bytes", line + 1);
            return Err(Problem::new(Code::TooLarge, detail));
        }
    }
    many.publish(app, headers).await?;
    match many.results.is_empty() {
        true => Err(Problem::new(Code::Invalid, "there is no order in the body")),
        false => Ok((StatusCode::ACCEPTED, Json(many.answer())).into_response()),
    }
}

/// A bulk request that is being read.
#[derive(Default)]
struct Many {
    results: Vec<LineResult>,
    /// Orders that are to be published, with the places of their results.
    ready: Vec<(usize, ReadOrder)>,
    /// Line and content of every order of the request.
    seen: FxHashMap<String, (u64, i64)>,
}

impl Many {
    fn take_line(&mut self, line: u64, bytes: &[u8]) -> Result<(), Problem> {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Problem::new(Code::TooLarge, format!("line {line} has more than {BODY_BYTES_MAX} bytes")));
        }
        if self.results.len() >= BULK_ORDERS_MAX {
            let detail = format!("at most {BULK_ORDERS_MAX} orders are taken at once; those before line {line} were");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        let mut result = LineResult { line, status: "accepted", order_code: None, detail: None, errors: Vec::new() };
        match ReadOrder::of(bytes) {
            Ok(order) => {
                result.order_code = Some(order.code.clone());
                let first = *self.seen.entry(order.code.clone()).or_insert((line, order.content_hash));
                match first {
                    (_, hash) if hash == order.content_hash => self.ready.push((self.results.len(), order)),
                    (first, _) => {
                        result.reject(format!("line {first} has this code with another customer, or other lines"));
                    }
                }
            }
            Err(problem) => {
                let value: Option<Value> = serde_json::from_slice(bytes).ok();
                result.order_code = value.and_then(|value| value.get("order_code")?.as_str().map(str::to_owned));
                result.errors = problem.errors().to_vec();
                result.reject(problem.detail().to_owned());
            }
        }
        self.results.push(result);
        Ok(())
    }

    /// Publishes what is ready and not known yet.
    async fn publish(&mut self, app: &App, headers: &HeaderMap) -> Result<(), Problem> {
        let ready = std::mem::take(&mut self.ready);
        if ready.is_empty() {
            return Ok(());
        }
        let known = known(app, ready.iter().map(|(_, order)| order.code.clone()).collect()).await;
        let mut new = Vec::with_capacity(ready.len());
        for (place, order) in ready {
            match known.get(&order.code) {
                None => new.push(order),
                Some(hash) if *hash == order.content_hash => self.results[place].status = "duplicate",
                Some(_) => self.results[place].reject(conflict(&order.code)),
            }
        }
        publish(app, headers, new).await
    }

    fn answer(self) -> Bulk {
        let count = |status: &str| self.results.iter().filter(|result| result.status == status).count() as u64;
        Bulk {
            accepted: count("accepted"),
            duplicates: count("duplicate"),
            rejected: count("rejected"),
            results: self.results,
        }
    }
}

impl LineResult {
    fn reject(&mut self, detail: String) {
        (self.status, self.detail) = ("rejected", Some(detail));
    }
}

/// An order that was read.
#[derive(Clone)]
struct ReadOrder {
    code: String,
    content_hash: i64,
    /// The message that the pipeline reads: what we have read ourselves, written anew.
    body: Vec<u8>,
}

impl ReadOrder {
    fn of(bytes: &[u8]) -> Result<Self, Problem> {
        let value = body::parse(bytes)?;
        match decode_order(bytes) {
            Ok(order) => Ok(Self {
                code: order.code().to_string(),
                content_hash: order.content_hash(),
                body: encode_order(&order),
            }),
            Err(error) => Err(faults(&value).problem(error.detail)),
        }
    }
}

/// Every field of an order that is at fault.
fn faults(order: &Value) -> Faults {
    let mut faults = Faults::default();
    let positive = |value: &Value| value.as_i64().is_some_and(|number| number > 0);
    match order["order_code"].as_str().map(OrderCode::check) {
        Some(Ok(())) => {}
        Some(Err(error)) => faults.add("/order_code", error.to_string()),
        None => faults.add("/order_code", "a string is needed"),
    }
    faults.check("/customer_id", positive(&order["customer_id"]), "must be a positive integer");
    let Some(lines) = order["lines"].as_array() else {
        faults.add("/lines", "an array is needed");
        return faults;
    };
    let bounds = 1..=LINES_PER_ORDER_MAX;
    faults.check("/lines", bounds.contains(&lines.len()), &format!("from 1 to {LINES_PER_ORDER_MAX} lines"));
    for (index, line) in lines.iter().enumerate() {
        let at = |field: &str| format!("/lines/{index}/{field}");
        faults.check(at("product_id"), positive(&line["product_id"]), "must be a positive integer");
        let quantity = line["quantity"].as_i64().is_some_and(|number| (1..=i64::from(i32::MAX)).contains(&number));
        faults.check(at("quantity"), quantity, "must be an integer from 1 to 2147483647");
        let price = line["unit_price"].as_str().is_some_and(|text| Cents::parse_price(text.as_bytes()).is_ok());
        let detail = "must be a decimal in a string, with at most two places, up to 99999999.99";
        faults.check(at("unit_price"), price, detail);
    }
    faults
}

/// Adds orders to the stream, each to the partition of its code.
async fn publish(app: &App, headers: &HeaderMap, orders: Vec<ReadOrder>) -> Result<(), Problem> {
    let mut messages: Vec<Vec<Fields>> = vec![Vec::new(); usize::from(app.partitions)];
    for ReadOrder { code, body, .. } in orders {
        messages[usize::from(app.partition_of(&code))].push(fields(headers, body));
    }
    for (partition, messages) in (0..).zip(&messages) {
        app.publish(partition, StageName::Reservation, messages).await?;
    }
    Ok(())
}

/// The fields of a message: the body, and the trace that it belongs to.
pub(super) fn fields(headers: &HeaderMap, body: Vec<u8>) -> Fields {
    let mut fields = vec![(BODY.into(), body)];
    let header = |name: &str, bytes_max: usize| {
        headers.get(name).map(HeaderValue::as_bytes).filter(|value| value.len() <= bytes_max)
    };
    if let Some(trace) = header(TRACEPARENT, TRACEPARENT_BYTES_MAX) {
        fields.push((TRACEPARENT.into(), trace.to_vec()));
        fields.extend(header(TRACESTATE, TRACESTATE_BYTES_MAX).map(|state| (TRACESTATE.into(), state.to_vec())));
    }
    fields
}
