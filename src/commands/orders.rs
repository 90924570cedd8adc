//! `orderstream order` and `orders`.

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use pipeline::{
    gateway,
    store::{self, FoundOrders, OrderDetail, OrderFilter, WorkerSettings},
};
use serde::Serialize;

use crate::{
    backends::Backends,
    cli::OrdersArgs,
    config::Globals,
    exit::{Exit, Refusal},
    output::{self, amount, titled},
};

pub(super) async fn show(backends: &Backends, code: &str, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let Some(detail) = store::find_order(&store.pool(), code).await? else {
        let message = format!(
            "Postgres has no order {code:?}; a message on its way or a dead letter (orderstream dead list) is not in Postgres"
        );
        return Err(Refusal::new(Exit::NotFound, message).into());
    };
    let document = document(detail);
    if globals.json {
        output::json(&document)?;
        return Ok(Exit::Done);
    }

    let Document { detail, timeline } = document;
    let order = &detail.order;
    let state = match &order.failure_reason {
        Some(reason) => format!("{} ({reason})", order.status),
        None => order.status.clone(),
    };
    output::text_line(&format!("Order     {}  (id {}, partition {})", order.code, order.id, detail.partition))?;
    output::text_line(&format!("State     {state}"))?;
    output::text_line(&format!("Customer  {}", order.customer_id))?;
    let currency = order.currency.as_deref().unwrap_or_default();
    output::text_line(&format!(
        "Total     {}   refunded {}",
        amount(order.total, currency),
        amount(detail.refunded, currency)
    ))?;
    if let Some(import) = detail.import_id {
        output::text_line(&format!("Import    {import}"))?;
    }
    output::text_line("")?;
    output::table(
        &["LINE", "PRODUCT", "NAME", "QUANTITY", &titled("UNIT PRICE", currency)],
        &[0, 1, 3, 4],
        detail
            .lines
            .iter()
            .map(|line| {
                vec![
                    line.line.to_string(),
                    line.product_id.to_string(),
                    line.product.clone().unwrap_or_else(|| "(not in the catalogue)".to_owned()),
                    line.quantity.to_string(),
                    output::money(line.unit_price),
                ]
            })
            .collect(),
    )?;
    output::text_line("")?;
    output::table(
        &["WHEN", "WHAT"],
        &[],
        timeline.into_iter().map(|moment| vec![time(moment.at), moment.what]).collect(),
    )?;
    Ok(Exit::Done)
}

/// An order with all that belongs to it, as programs see it.
#[derive(Serialize)]
pub(crate) struct Document {
    #[serde(flatten)]
    pub(crate) detail: OrderDetail,
    pub(crate) timeline: Vec<Moment>,
}

/// Tells the story of an order.
pub(crate) fn document(detail: OrderDetail) -> Document {
    let timeline = timeline(&detail);
    Document { detail, timeline }
}

/// Something that happened to the order.
#[derive(Serialize)]
pub(crate) struct Moment {
    at: DateTime<Utc>,
    /// Where it happened: `stream`, a stage, `callback`, `notification`, or `event`.
    stage: &'static str,
    what: String,
}

fn timeline(detail: &OrderDetail) -> Vec<Moment> {
    let order = &detail.order;
    let moment = |at, stage, what| Moment { at, stage, what };
    let mut moments = vec![moment(detail.received_at, "stream", "received from the stream".to_owned())];
    // A failed reservation has its event at the same instant; only a held one is a moment of its own.
    if detail.was_reserved() {
        moments.push(moment(order.created_at, "reservation", "stock reserved".to_owned()));
    }
    for payment in &detail.payments {
        if payment.gateway == gateway::NONE {
            moments.push(moment(payment.created_at, "payment", "nothing to pay: nobody was asked".to_owned()));
            continue;
        }
        let asked = amount(payment.amount, payment.currency.as_deref().unwrap_or_default());
        let of = format!("payment {} of {asked} by {}", payment.attempt, payment.gateway);
        match payment.answered_at {
            Some(answered) => {
                moments.push(moment(payment.created_at, "payment", format!("{of} asked for")));
                let what = match payment.status.as_str() {
                    "late" => format!("{of} came late: it goes back"),
                    status => format!("{of} {status}"),
                };
                moments.push(moment(answered, "payment", what));
            }
            None => moments.push(moment(payment.created_at, "payment", format!("{of} {}", payment.status))),
        }
    }
    for refund in &detail.refunds {
        let currency = order.currency.as_deref().unwrap_or_default();
        let asked = refund.amount.map_or_else(|| "the rest".to_owned(), |cents| amount(cents, currency));
        let of = format!("refund {} of {asked}", refund.key);
        let reason = refund.reason.as_deref().unwrap_or("no reason given");
        moments.push(moment(refund.created_at, "refund", format!("{of} asked for ({reason})")));
        if let Some(settled) = refund.settled_at {
            let why = refund.refusal.as_ref().map(|refusal| format!(": {refusal}")).unwrap_or_default();
            let stock = if refund.restocked { ", stock returned" } else { "" };
            moments.push(moment(settled, "refund", format!("{of} {}{why}{stock}", refund.status)));
        }
    }
    moments.extend(detail.callbacks.iter().map(|callback| {
        let what = format!("the provider told {}: {}", callback.kind, callback.outcome);
        moment(callback.received_at, "callback", what)
    }));
    moments.extend(detail.events.iter().map(|event| {
        let reason = match (&order.failure_reason, event.kind.as_str()) {
            (Some(reason), "failed") => format!(": {reason}"),
            _ => String::new(),
        };
        moment(event.at, "event", format!("{}{reason} (event {})", event.kind, event.seq))
    }));
    moments.extend(detail.notifications.iter().map(|notification| {
        let of = format!("{} of event {}", notification.channel, notification.seq);
        let (at, what) = match (notification.sent_at, notification.last_error.as_deref()) {
            (Some(sent), _) => (sent, format!("{of} sent")),
            (None, Some(error)) => (notification.created_at, format!("{of} {}: {error}", notification.status)),
            (None, None) => (notification.created_at, format!("{of} {}", notification.status)),
        };
        moment(at, "notification", what)
    }));
    moments.sort_by_key(|moment| moment.at);
    moments
}

pub(super) async fn list(backends: &Backends, args: &OrdersArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let filter = OrderFilter {
        status: args.state,
        reason: args.reason,
        since: args.since,
        until: None,
        customer_id: args.customer,
        import_id: args.import,
        after_id: args.after,
    };
    let found = store::search_orders(&store.pool(), filter, args.limit as usize, None).await?;
    let Some(FoundOrders { orders, next, .. }) = found else {
        let message = format!("--after {}: there is no order of this id", args.after.unwrap_or_default());
        return Err(Refusal::new(Exit::NotFound, message).into());
    };
    if globals.json {
        #[derive(Serialize)]
        struct Document<'a> {
            orders: &'a [store::OrderSummary],
            /// Give it to --after for the next page; null on the last.
            next: Option<i64>,
        }
        output::json(&Document { orders: &orders, next })?;
        return Ok(Exit::Done);
    }
    if orders.is_empty() {
        crate::output::note!("no orders match");
        return Ok(Exit::Done);
    }
    let rows = orders
        .into_iter()
        .map(|order| {
            vec![
                order.id.to_string(),
                order.code,
                order.customer_id.to_string(),
                order.status,
                order.failure_reason.unwrap_or_default(),
                amount(order.total, order.currency.as_deref().unwrap_or_default()),
                time(order.created_at),
            ]
        })
        .collect();
    output::table(&["ID", "CODE", "CUSTOMER", "STATE", "REASON", "TOTAL", "CREATED"], &[0, 2, 5], rows)?;
    if let Some(next) = next {
        crate::output::note!("more: add --after {next}");
    }
    Ok(Exit::Done)
}

pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
