//! Orders: adding them, looking at them.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pipeline::{
    domain::{Cents, LINES_PER_ORDER_MAX, OrderCode},
    message::{
        BODY, BODY_BYTES_MAX, TRACEPARENT, TRACEPARENT_BYTES_MAX, TRACESTATE, TRACESTATE_BYTES_MAX, decode_order,
        encode_order,
    },
    store::{self, OrderFilter},
    streams::Fields,
    topology::StageName,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    access::{Operator, Viewer},
    body::{self, Faults, Incoming},
    idempotency,
    problem::{Code, FieldError, Problem},
    query::{Params, bounded, encoded, instant, word},
};
use crate::commands::orders::document;

/// Most bytes of a bulk request.
const BULK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most orders of a bulk request.
const BULK_ORDERS_MAX: usize = 10_000;

/// Orders of a bulk request that are published together.
const BULK_CHUNK: usize = 500;

/// What is asked for one order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; `decode_order` reads it")]
pub(super) struct OrderRequest {
    /// The order's name: 1 to 128 bytes, without control characters and without blanks at its ends.
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

/// An order that is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// The order's name.
    order_code: String,
    /// Always `accepted`: what becomes of the order is seen at its link.
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
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Bulk {
    /// Orders that are on their way.
    accepted: u64,
    /// Lines that are no orders.
    rejected: u64,
    /// Line by line. Blank lines are left out.
    results: Vec<LineResult>,
}

/// What became of one line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineResult {
    /// Its number, from 1.
    line: u64,
    /// `accepted` or `rejected`.
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
/// order again is harmless.
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
    let (code, body) = read_order(bytes)?;
    app.demand_room().await?;
    publish(app, headers, vec![(code.clone(), body)]).await?;
    let link = format!("/v1/orders/{}", encoded(&code));
    let location = HeaderValue::from_str(&link).expect("plain ASCII");
    let accepted = Accepted { order_code: code, status: "accepted", links: Links { order: link } };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
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
    let mut bulk = Bulk::default();
    let mut ready = Vec::new();
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
            take_line(&mut bulk, &mut ready, line, &rest)?;
            rest.clear();
            if ready.len() >= BULK_CHUNK {
                publish(app, headers, std::mem::take(&mut ready)).await?;
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
    publish(app, headers, ready).await?;
    if bulk.results.is_empty() {
        return Err(Problem::new(Code::Invalid, "there is no order in the body"));
    }
    Ok((StatusCode::ACCEPTED, Json(bulk)).into_response())
}

fn take_line(bulk: &mut Bulk, ready: &mut Vec<(String, Vec<u8>)>, line: u64, bytes: &[u8]) -> Result<(), Problem> {
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.len() > BODY_BYTES_MAX {
        return Err(Problem::new(Code::TooLarge, format!("line {line} has more than {BODY_BYTES_MAX} bytes")));
    }
    if bulk.results.len() >= BULK_ORDERS_MAX {
        let detail = format!("at most {BULK_ORDERS_MAX} orders are taken at once; those before line {line} were");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let result = match read_order(bytes) {
        Ok((code, body)) => {
            bulk.accepted += 1;
            ready.push((code.clone(), body));
            LineResult { line, status: "accepted", order_code: Some(code), detail: None, errors: Vec::new() }
        }
        Err(problem) => {
            bulk.rejected += 1;
            let value: Option<Value> = serde_json::from_slice(bytes).ok();
            let code = value.and_then(|value| value.get("order_code")?.as_str().map(str::to_owned));
            LineResult {
                line,
                status: "rejected",
                order_code: code,
                detail: Some(problem.detail().to_owned()),
                errors: problem.errors().to_vec(),
            }
        }
    };
    bulk.results.push(result);
    Ok(())
}

/// The order's code, and the message that the pipeline reads: what we have read ourselves, written anew.
fn read_order(bytes: &[u8]) -> Result<(String, Vec<u8>), Problem> {
    let value = body::parse(bytes)?;
    match decode_order(bytes) {
        Ok(order) => Ok((order.code().to_string(), encode_order(&order))),
        Err(error) => Err(faults(&value).problem(error.detail)),
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
async fn publish(app: &App, headers: &HeaderMap, orders: Vec<(String, Vec<u8>)>) -> Result<(), Problem> {
    let mut messages: Vec<Vec<Fields>> = vec![Vec::new(); usize::from(app.partitions)];
    for (code, body) in orders {
        messages[usize::from(app.partition_of(&code))].push(fields(headers, body));
    }
    let mut connection = app.connection().await?;
    for (partition, messages) in (0..).zip(&messages) {
        let published = app.redis.publish(&mut connection, partition, StageName::Reservation, messages).await;
        app.answered(published).await?;
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

/// One order with all that belongs to it, as soon as it is taken in.
#[utoipa::path(
    get, path = "/v1/orders/{code}", tag = "orders", operation_id = "getOrder",
    params(("code" = String, Path, description = "The order's code, percent-encoded")),
    responses((status = 200, description = "The order, as `orderstream order --json` prints it", body = Object))
)]
pub(super) async fn show(
    State(app): State<App>,
    _: Viewer,
    Path(code): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    let unknown = || Problem::new(Code::NotFound, "Postgres has no order of this code; it may be on its way");
    OrderCode::check(&code).map_err(|_| unknown())?;
    let detail = store::find_order(&app.reports.pool(), &code).await?.ok_or_else(unknown)?;
    Ok(Json(document(detail)))
}

/// Which orders.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only orders that stand here: reserved, paying, completed, failed.
    status: Option<String>,
    /// Only orders that failed for this reason.
    reason: Option<String>,
    /// Only orders taken in since then: a day or an instant.
    since: Option<String>,
    /// Most orders to show.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Go on after this id: `next` of the page before has it.
    after: Option<i64>,
}

/// Orders, newest first.
#[utoipa::path(
    get, path = "/v1/orders", tag = "orders", operation_id = "listOrders", params(ListParams),
    responses((status = 200, description = "A page of orders; `next` is the address of the next one, or null", body = Object))
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<ListParams>,
) -> Result<impl IntoResponse, Problem> {
    let limit = bounded("limit", params.limit, 50, 1_000)?;
    let filter = OrderFilter {
        status: word("status", params.status.as_deref())?,
        reason: word("reason", params.reason.as_deref())?,
        since: instant("since", params.since.as_deref())?,
        before_id: params.after,
        ..OrderFilter::default()
    };
    let orders = store::list_orders(&app.reports.pool(), filter, i64::from(limit)).await?;
    let last = orders.last().filter(|_| orders.len() == limit as usize).map(|order| order.id);
    let next = last.map(|last| {
        let mut next = format!("/v1/orders?limit={limit}&after={last}");
        for (name, value) in [("status", params.status), ("reason", params.reason), ("since", params.since)] {
            next.extend(value.map(|value| format!("&{name}={}", encoded(&value))));
        }
        next
    });
    Ok(Json(json!({ "orders": orders, "next": next })))
}
