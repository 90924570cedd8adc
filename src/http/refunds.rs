//! Asking for refunds.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pipeline::{
    domain::{OrderCode, RefundKey, RefundRequest},
    message::{BODY_BYTES_MAX, decode_refund, encode_refund},
    store::{self, RefundView},
    topology::StageName,
};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    App,
    access::Operator,
    body::{self, Faults, Incoming},
    idempotency, links,
    orders::fields,
    problem::{Code, Problem},
};

/// What is asked for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; `decode_refund` reads it")]
pub(super) struct RefundBody {
    /// The caller's name for the refund: the same key is the same refund, however often it is asked for.
    #[schema(example = "r-1", min_length = 1, max_length = 128)]
    refund_key: String,
    /// Of which order.
    #[schema(example = "ORD-1", min_length = 1, max_length = 128)]
    order_code: String,
    /// How much, as a decimal in a string, above 0, or 0 with `restock`; without it, all that is left.
    #[schema(example = "10.00", pattern = r"^[0-9]+(\.[0-9]{1,2})?$")]
    amount: Option<String>,
    /// Why, for people.
    #[schema(example = "damaged", max_length = 500)]
    reason: Option<String>,
    /// Whether the order's pieces come back to the stock: once for each order, also without money where none is left.
    #[schema(default = false)]
    restock: bool,
}

/// Asks for a refund. `202` says that the request is on its way; its outcome is seen at the link. A key that is known with
/// the same content is answered `200` with what is known.
#[utoipa::path(
    post, path = "/v1/refunds", tag = "refunds", operation_id = "addRefund", request_body = RefundBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's name for this request: sent again, it is answered again")),
    responses((status = 202, description = "On its way", body = Object), (status = 200, description = "Known", body = Object))
)]
pub(super) async fn add(
    State(app): State<App>,
    Operator(caller): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::demand_type(&headers, "application/json")?;
    let bytes = Incoming::new(&headers, body, BODY_BYTES_MAX as u64)?.whole().await?;
    let work = answer(&app, &headers, &bytes);
    idempotency::once(&app, caller, "POST /v1/refunds", &headers, &bytes, work).await
}

async fn answer(app: &App, headers: &HeaderMap, bytes: &[u8]) -> Result<Response, Problem> {
    let location = |key: &str| {
        let link = links::refund(key);
        (HeaderValue::from_str(&link).expect("plain ASCII"), link)
    };
    match ask(app, headers, bytes).await? {
        Asked::Known(known) => {
            let (location, _) = location(&known.key);
            Ok((StatusCode::OK, [(header::LOCATION, location)], Json(known)).into_response())
        }
        Asked::Published { key, order_code } => {
            let (location, link) = location(&key);
            let links = json!({ "refund": link, "order": links::order(&order_code) });
            let accepted = json!({ "refund_key": key, "status": "accepted", "links": links });
            Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
        }
    }
}

/// What became of a request for a refund.
pub(crate) enum Asked {
    /// It was asked for before, with the same content.
    Known(Box<RefundView>),
    /// It is on its way.
    Published {
        /// Its key.
        key: String,
        /// Of which order.
        order_code: String,
    },
}

/// Asks for a refund: of the request's body, as JSON.
///
/// # Errors
/// When the body is no request, or its key is known with other content.
pub(crate) async fn ask(app: &App, headers: &HeaderMap, bytes: &[u8]) -> Result<Asked, Problem> {
    let value = body::parse(bytes)?;
    let request = decode_refund(bytes).map_err(|error| faults(&value).problem(error.detail))?;
    let key = request.key.as_str();
    if let Some(known) = store::find_refund(&app.store.pool(), key).await? {
        if known.request_hash != request.content_hash() {
            return Err(Problem::new(Code::RefundConflict, format!("{key:?} was asked for with other content")));
        }
        return Ok(Asked::Known(Box::new(known)));
    }
    let messages = [fields(headers, encode_refund(&request))];
    // By the order's code: an order and its refunds go one way.
    let partition = app.partition_of(request.order_code.as_str());
    app.publish(partition, StageName::Refund, &messages).await?;
    Ok(Asked::Published { key: key.to_owned(), order_code: request.order_code.to_string() })
}

/// Every field of a request that is at fault.
fn faults(request: &Value) -> Faults {
    let mut faults = Faults::default();
    let text = |name: &str| request[name].as_str();
    let is_text_or_absent = |name: &str| request.get(name).is_none_or(|value| value.is_string() || value.is_null());
    match text("refund_key").map(RefundKey::new) {
        Some(Ok(_)) => {}
        Some(Err(error)) => faults.add("/refund_key", error.to_string()),
        None => faults.add("/refund_key", "a string is needed"),
    }
    match text("order_code").map(OrderCode::check_known) {
        Some(Ok(())) => {}
        Some(Err(error)) => faults.add("/order_code", error.to_string()),
        None => faults.add("/order_code", "a string is needed"),
    }
    // The other parts in a request that is right otherwise.
    for name in ["amount", "reason"] {
        let value = |which: &str| text(name).filter(|_| which == name);
        let restock = request["restock"] == Value::Bool(true);
        match RefundRequest::new("k", "c", value("amount"), value("reason"), restock) {
            Err(error) => faults.add(format!("/{name}"), error.to_string()),
            Ok(_) => faults.check(format!("/{name}"), is_text_or_absent(name), "a string is needed"),
        }
    }
    let restock = request.get("restock").is_none_or(Value::is_boolean);
    faults.check("/restock", restock, "true or false is needed");
    faults
}
