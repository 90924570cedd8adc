//! Orders: finding them, and the story of one.

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use minijinja::{Value, context, value::Serde};
use pipeline::{
    domain::{ActionOutcome, ActionVerb, ActionVia, FailureReason, OrderCode, OrderStatus, RefundStatus},
    store::{self, OrderDetail, OrderFilter, OrderSummary},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    address::{Address, day_bounds, number, typed},
    login::{read_form, see_other},
    page::{Nav, page},
    visitor::{Acting, Visitor},
};
use crate::{
    actions::{Deed, Effect, Recorder},
    commands::orders::document,
    http::{
        App,
        problem::{Code, Problem},
        query::{Params, day, encoded, word},
        refunds::{Asked, ask},
    },
};

/// Orders on a page.
const PAGE_ORDERS: i64 = 50;

/// Most bytes of the form for a refund.
const FORM_BYTES_MAX: u64 = 16_384;

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filters {
    q: Option<String>,
    status: Option<String>,
    reason: Option<String>,
    day: Option<String>,
    customer: Option<String>,
    import: Option<String>,
    after: Option<i64>,
}

/// Orders that match, newest first; with an exact code that order itself.
pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    Params(filters): Params<Filters>,
) -> Result<Response, Problem> {
    let pool = app.reports.pool();
    let code = typed(&filters.q);
    // What is none of ours is looked for, too, and not found.
    let searched = code.filter(|code| OrderCode::check(code).is_ok());
    let (mut orders, mut next, mut cut_short, mut refund_of) = (Vec::new(), None, false, None);
    if let Some(code) = searched {
        if store::known_orders(&pool, &[code.to_owned()]).await?.contains_key(code) {
            return Ok(see_other(&format!("/orders/{}", encoded(code))));
        }
        refund_of = store::find_refund(&pool, code).await?.map(|refund| refund.order_code);
    } else if code.is_none() {
        let on = day("day", typed(&filters.day))?.map(day_bounds);
        let filter = OrderFilter {
            status: word::<OrderStatus>("status", typed(&filters.status))?,
            reason: word::<FailureReason>("reason", typed(&filters.reason))?,
            since: on.map(|(since, _)| since),
            until: on.map(|(_, until)| until),
            customer_id: number("customer", &filters.customer)?,
            import_id: number("import", &filters.import)?,
            before_id: filters.after,
        };
        let found = store::search_orders(&pool, filter, PAGE_ORDERS).await?;
        let address = |after: Option<i64>| {
            Address::of("/orders")
                .with("status", typed(&filters.status))
                .with("reason", typed(&filters.reason))
                .with("day", typed(&filters.day))
                .with("customer", typed(&filters.customer))
                .with("import", typed(&filters.import))
                .with("after", after)
                .text()
        };
        next = found.next.map(|next| address(Some(next)));
        cut_short = found.cut_short;
        orders = found.orders;
    }
    let context = context! {
        q => code,
        status => typed(&filters.status),
        reason => typed(&filters.reason),
        day => typed(&filters.day),
        customer => typed(&filters.customer),
        import => typed(&filters.import),
        is_filtered => [&filters.status, &filters.reason, &filters.day, &filters.customer, &filters.import]
            .into_iter()
            .any(|field| typed(field).is_some()),
        is_later => filters.after.is_some(),
        statuses => options("any state", OrderStatus::ALL.iter().map(|status| status.as_str())),
        reasons => options("any reason", FailureReason::ALL.iter().map(|reason| reason.as_str())),
        orders => orders.iter().map(row).collect::<Vec<_>>(),
        next,
        cut_short,
        refund_of,
    };
    page(&app, &visitor, Nav::Orders, "orders.html", "Orders", context)
}

/// The words of a choice; the first is no choice.
pub(super) fn options<'a>(none: &str, words: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let word = |word: &str| (word.to_owned(), word.replace('_', " "));
    std::iter::once((String::new(), none.to_owned())).chain(words.map(word)).collect()
}

/// The tone of an order's state.
fn tone(status: &str) -> &'static str {
    match status {
        "completed" => "good",
        "failed" => "bad",
        _ => "busy",
    }
}

fn row(order: &OrderSummary) -> Value {
    let took = order.settled_at.map(|settled| seconds_between(order.created_at, settled));
    context! {
        code => &*order.code,
        customer_id => order.customer_id,
        status => &*order.status,
        tone => tone(&order.status),
        reason => order.failure_reason.as_deref(),
        total => order.total.get(),
        created_at => order.created_at.to_rfc3339(),
        settled_at => order.settled_at.map(|at| at.to_rfc3339()),
        took,
    }
}

fn seconds_between(from: chrono::DateTime<chrono::Utc>, to: chrono::DateTime<chrono::Utc>) -> f64 {
    (to - from).as_seconds_f64().max(0.0)
}

/// What came of a form of the page before.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    refund: Option<String>,
}

/// One order: where it stands, and how it came there.
pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    Path(code): Path<String>,
    Params(told): Params<Told>,
) -> Result<Response, Problem> {
    let pool = app.reports.pool();
    let known = match OrderCode::check(&code) {
        Ok(()) => store::find_order(&pool, &code).await?,
        Err(_) => None,
    };
    let Some(detail) = known else {
        let detail = "Postgres has no order of this code. It may be on its way still, or be a dead letter.";
        return Err(Problem::new(Code::NotFound, detail));
    };
    // The key of a refund that was asked for a moment ago: it is on its way, or among the others already.
    let asked = typed(&told.refund).map(str::to_owned);
    let is_known = asked.as_ref().is_some_and(|key| detail.refunds.iter().any(|refund| refund.key == *key));
    let customer = store::customer_names(&pool, &[detail.order.customer_id]).await?.remove(&detail.order.customer_id);
    let left = detail.order.total.get() - detail.refunded.get();
    let title = format!("Order {code}");
    let document = document(detail);
    let context = context! {
        order => row(&document.detail.order),
        detail => Serde(&document.detail),
        way => Serde(way(&document.detail)),
        lines => lines(&document.detail),
        payments => payments(&document.detail),
        refunds => refunds(&document.detail),
        timeline => Serde(&document.timeline),
        customer,
        refunded => document.detail.refunded.get(),
        left,
        may_refund => document.detail.order.status == "completed" && left > 0,
        asked => asked.filter(|_| !is_known),
        came => is_known,
        // The form is the request: sent twice, it is one refund.
        key => format!("page-{}", random_name().map_err(|error| Problem::new(Code::Internal, error.to_string()))?),
    };
    page(&app, &visitor, Nav::Orders, "order.html", &title, context)
}

fn random_name() -> std::io::Result<String> {
    use std::io::Read;
    let mut random = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(format!("{:016x}", u64::from_be_bytes(random)))
}

/// A step of an order's way, as it is drawn.
#[derive(Serialize)]
struct Step {
    name: &'static str,
    /// `done`, `now`, `skipped` or `open`.
    state: &'static str,
    tone: &'static str,
    word: String,
    at: Option<String>,
}

/// Received, reserved, paid, ended.
fn way(detail: &OrderDetail) -> Vec<Step> {
    let order = &detail.order;
    let is_final = order.settled_at.is_some();
    let held = detail.was_reserved();
    let at = |at: chrono::DateTime<chrono::Utc>| Some(at.to_rfc3339());
    let step = |name, state, tone, word: &str, at| Step { name, state, tone, word: word.replace('_', " "), at };
    let reserved = match (held, order.status.as_str()) {
        (false, _) => step("Stock", "done", "bad", "not held", at(order.created_at)),
        (true, "reserved") => step("Stock", "now", "busy", "reserved", at(order.created_at)),
        (true, _) => step("Stock", "done", "good", "reserved", at(order.created_at)),
    };
    let paid = match detail.payments.last() {
        None if is_final => step("Payment", "skipped", "idle", "not asked for", None),
        None => step("Payment", "open", "idle", "to come", None),
        Some(payment) => {
            let tone = match payment.status.as_str() {
                "approved" => "good",
                "pending" => "busy",
                "late" => "warn",
                _ => "bad",
            };
            let state = if payment.status == "pending" { "now" } else { "done" };
            step("Payment", state, tone, &payment.status, at(payment.answered_at.unwrap_or(payment.created_at)))
        }
    };
    let end = match (order.settled_at, order.failure_reason.as_deref()) {
        (Some(settled), Some(reason)) => step("Failed", "done", "bad", reason, at(settled)),
        (Some(settled), None) => step("Completed", "done", "good", "completed", at(settled)),
        (None, _) => step("End", "open", "idle", "to come", None),
    };
    vec![step("Received", "done", "good", "from the stream", at(detail.received_at)), reserved, paid, end]
}

fn lines(detail: &OrderDetail) -> Vec<Value> {
    let line = |line: &store::OrderLine| {
        context! {
            line => line.line,
            product_id => line.product_id,
            product => line.product.as_deref(),
            quantity => line.quantity,
            unit_price => line.unit_price.get(),
            total => line.unit_price.get() * i64::from(line.quantity),
        }
    };
    detail.lines.iter().map(line).collect()
}

fn payments(detail: &OrderDetail) -> Vec<Value> {
    let payment = |payment: &store::PaymentRow| {
        let tone = match payment.status.as_str() {
            "approved" => "good",
            "pending" => "busy",
            "late" => "warn",
            _ => "bad",
        };
        context! {
            attempt => payment.attempt,
            status => &*payment.status,
            tone,
            amount => payment.amount.get(),
            gateway => &*payment.gateway,
            provider_id => payment.provider_id.as_deref(),
            created_at => payment.created_at.to_rfc3339(),
            answered_at => payment.answered_at.map(|at| at.to_rfc3339()),
        }
    };
    detail.payments.iter().map(payment).collect()
}

fn refunds(detail: &OrderDetail) -> Vec<Value> {
    let refund = |refund: &store::RefundRow| {
        context! {
            key => &*refund.key,
            amount => refund.amount.map(pipeline::domain::Cents::get),
            status => &*refund.status,
            tone => refund_tone(&refund.status),
            refusal => refund.refusal.as_deref(),
            reason => refund.reason.as_deref(),
            restocked => refund.restocked,
            automatic => refund.automatic,
            created_at => refund.created_at.to_rfc3339(),
        }
    };
    detail.refunds.iter().map(refund).collect()
}

/// The tone of a refund's state.
pub(super) fn refund_tone(status: &str) -> &'static str {
    match status.parse() {
        Ok(RefundStatus::Succeeded) => "good",
        Ok(RefundStatus::Waiting | RefundStatus::Pending) => "busy",
        _ => "bad",
    }
}

/// What the form for a refund sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundForm {
    key: String,
    #[serde(default)]
    amount: String,
    #[serde(default)]
    reason: String,
    restock: Option<String>,
}

/// Asks for a refund, as `POST /v1/refunds` does.
pub(super) async fn refund(
    State(app): State<App>,
    Acting(visitor): Acting,
    Path(code): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let form: RefundForm = read_form(&headers, body, FORM_BYTES_MAX).await?;
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let request = json!({
        "refund_key": form.key.trim(),
        "order_code": code,
        "amount": given(&form.amount).map(|amount| amount.replace(',', "")),
        "reason": given(&form.reason),
        "restock": form.restock.is_some(),
    });
    let recorder = Recorder::new(&app.store, visitor.caller.actor(ActionVia::Dashboard));
    let amount = given(&form.amount);
    let deed = Deed { verb: ActionVerb::Refund, target: code.clone(), why: form.reason.trim() };
    let effect = |asked: &Result<Asked, Problem>| {
        let (affected, outcome, detail) = match asked {
            Ok(Asked::Published { .. }) => (1, ActionOutcome::Done, "asked for".to_owned()),
            Ok(Asked::Known(_)) => (0, ActionOutcome::Done, "was asked for before".to_owned()),
            Err(problem) => (0, ActionOutcome::Refused, problem.detail().to_owned()),
        };
        let restock = form.restock.is_some();
        let detail = json!({ "refund_key": form.key.trim(), "amount": amount, "restock": restock, "what": detail });
        Effect { affected, outcome, detail }
    };
    let work = async { Ok(ask(&app, &headers, request.to_string().as_bytes()).await) };
    let (asked, _) = recorder.act(deed, work, effect).await?;
    let key = match asked? {
        Asked::Known(refund) => refund.key,
        Asked::Published { key, .. } => key,
    };
    let to = Address::of(format!("/orders/{}", encoded(&code))).with("refund", Some(key)).text();
    Ok(see_other(&format!("{to}#refunds")))
}
