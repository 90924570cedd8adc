//! Orders: finding them, and the story of one.

use axum::{
    extract::{Path, State},
    response::Response,
};
use minijinja::{Value, context, value::Serde};
use pipeline::{
    domain::{Cents, FailureReason, OrderCode, OrderStatus, RefundStatus},
    store::{self, OrderDetail, OrderFilter, OrderSummary},
};
use serde::{Deserialize, Serialize};

use super::{
    address::{Address, day_bounds, number, typed},
    login::see_other,
    page::{Nav, page},
    refund_form, refund_outcome,
    visitor::Visitor,
};
use crate::{
    commands::orders::document,
    http::{
        App, links,
        order_views::SEARCH_TIME,
        problem::{Code, Problem},
        query::{Params, day, invalid, word},
    },
    output::titled,
};

/// Orders on a page.
const PAGE_ORDERS: usize = 50;

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
    let searched = code.filter(|code| OrderCode::check_known(code).is_ok());
    let (mut orders, mut next, mut cut_short, mut refund_of) = (Vec::new(), None, false, None);
    if let Some(code) = searched {
        if store::known_orders(&pool, &[code.to_owned()]).await?.contains_key(code) {
            return Ok(see_other(&links::order_page(code)));
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
            after_id: filters.after,
        };
        let found = store::search_orders(&pool, filter, PAGE_ORDERS, Some(SEARCH_TIME)).await?;
        let found = found.ok_or_else(|| invalid("after", "there is no order of this id"))?;
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
        currency => order.currency.as_deref(),
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
    /// The key of a refund that was asked for.
    refund: Option<String>,
    /// The key of a form that was used before, for another refund.
    other: Option<String>,
}

/// One order: where it stands, and how it came there.
pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    Path(code): Path<String>,
    Params(told): Params<Told>,
) -> Result<Response, Problem> {
    page_of(&app, &visitor, code, told).await
}

/// The page of an order whose code cannot stand in a path.
pub(super) async fn show_named(
    State(app): State<App>,
    visitor: Visitor,
    Params(Named { code, refund, other }): Params<Named>,
) -> Result<Response, Problem> {
    page_of(&app, &visitor, code, Told { refund, other }).await
}

/// An order that is named in the query, with what came of a form of its page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    code: String,
    refund: Option<String>,
    other: Option<String>,
}

async fn page_of(app: &App, visitor: &Visitor, code: String, told: Told) -> Result<Response, Problem> {
    let pool = app.reports.pool();
    let known = match OrderCode::check_known(&code) {
        Ok(()) => store::find_order(&pool, &code).await?,
        Err(_) => None,
    };
    let Some(detail) = known else {
        let detail = "Postgres has no order of this code. It may be on its way still, or be a dead letter.";
        return Err(Problem::new(Code::NotFound, detail));
    };
    let customer = store::customer_names(&pool, &[detail.order.customer_id]).await?.remove(&detail.order.customer_id);
    let currency = detail.order.currency.clone().unwrap_or_default();
    let left = refund_form::left_of(&detail);
    let key = refund_form::key_of(&store::installation(&pool).await?, &detail);
    let sent_at = refund_form::sent_at(app, &detail, &key).await?;
    let told = match (typed(&told.refund), typed(&told.other)) {
        (Some(key), _) => Some(refund_outcome::outcome(app, &detail, key, &currency).await?),
        (None, Some(key)) => {
            let text = refund_outcome::other(&detail, key, &currency);
            Some(refund_outcome::Outcome { tone: "warn", text, is_open: false })
        }
        // It was sent from another page, or before this one was loaded.
        (None, None) if sent_at.is_some() => Some(refund_outcome::outcome(app, &detail, &key, &currency).await?),
        (None, None) => None,
    };
    let is_open = detail.order.settled_at.is_none()
        || told.as_ref().is_some_and(|told| told.is_open)
        || detail.refunds.iter().any(|refund| refund.settled_at.is_none());
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
        may_restock => refund_form::may_restock(&document.detail),
        may_refund => left > 0 || refund_form::may_restock(&document.detail),
        amount_title => titled("Amount", &currency),
        price_title => titled("Price", &currency),
        subtotal_title => titled("Subtotal", &currency),
        currency,
        told => told.map(|told| context! { tone => told.tone, text => told.text }),
        is_open,
        key,
    };
    page(app, visitor, Nav::Orders, "order.html", &title, context)
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
            let state = if payment.status == "pending" { "now" } else { "done" };
            let word = match payment.amount {
                Cents::ZERO => "nothing to pay",
                _ => payment.status.as_str(),
            };
            let at = at(payment.answered_at.unwrap_or(payment.created_at));
            step("Payment", state, payment_tone(&payment.status), word, at)
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
        let tone = payment_tone(&payment.status);
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

/// The tone of a payment's state.
fn payment_tone(status: &str) -> &'static str {
    match status {
        "approved" => "good",
        "pending" => "busy",
        "late" => "warn",
        _ => "bad",
    }
}

/// The tone of a refund's state.
pub(super) fn refund_tone(status: &str) -> &'static str {
    match status.parse() {
        Ok(RefundStatus::Succeeded) => "good",
        Ok(RefundStatus::Waiting | RefundStatus::Pending) => "busy",
        _ => "bad",
    }
}
