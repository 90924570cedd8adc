//! `orderstream refund` and `refunds`.

use std::time::{Duration, Instant};

use anyhow::Result;
use pipeline::{
    domain::{Cents, RefundRequest},
    payments::{Granting, Payments},
    store::{self, RefundFilter, RefundView, WorkerSettings},
};
use serde::Serialize;

use super::orders::time;
use crate::{
    backends::Backends,
    cli::refund::{RefundArgs, RefundsArgs},
    config::Globals,
    exit::{Exit, Refusal},
    gateway::{self, Begins, GatewayFigures, gateways, payment_limits},
    output::{self, amount, inert},
};

/// How often a refund that is not through is looked at.
const POLL: Duration = Duration::from_millis(100);

pub(super) async fn refund(backends: &Backends, args: &RefundArgs, globals: &Globals) -> Result<Exit> {
    let request =
        RefundRequest::new(&args.key, &args.code, args.amount.as_deref(), args.reason.as_deref(), args.restock)
            .map_err(|error| Refusal::new(Exit::Usage, error.to_string()))?;
    let store = backends.store(WorkerSettings::Worker, 2)?;
    if store::find_order(&store.pool(), &args.code).await?.is_none() {
        let message = format!("Postgres has no order {:?}: nothing to refund", args.code);
        return Err(Refusal::new(Exit::NotFound, message).into());
    }
    let gateways = gateways(&args.payment, &GatewayFigures::default(), Begins::Nothing)?;
    gateway::load(&gateways, &store).await?;
    let payments = Payments::new(store.clone(), gateways, payment_limits(&args.payment));
    let granting = loop {
        match payments.refund(&[(&request, None)]).await {
            // Somebody else asked about the same order or key at the same moment.
            Err(error) if error.kind() == store::ErrorKind::Contention => {}
            granting => break granting?[0],
        }
    };
    if granting == Granting::Conflict {
        let message = format!(
            "the key {:?} belongs to another refund (order, amount, reason or --restock differ): see orderstream refunds",
            args.key
        );
        return Err(Refusal::new(Exit::Conflict, message).into());
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let refund = loop {
        let refund = store::find_refund(&store.pool(), &args.key).await?;
        let Some(refund) = refund else { anyhow::bail!("the refund {:?} has gone from Postgres", args.key) };
        if refund.settled_at.is_some() || Instant::now() >= deadline {
            break refund;
        }
        tokio::time::sleep(POLL).await;
    };
    if globals.json {
        output::json(&refund)?;
    } else {
        tell(&refund)?;
    }
    Ok(if refund.refusal.is_some() { Exit::Conflict } else { Exit::Done })
}

fn tell(refund: &RefundView) -> Result<()> {
    let asked = asked(refund, "all that is left");
    let text = match (refund.status.as_str(), refund.refusal.as_deref()) {
        (_, Some(refusal)) => format!("refused: {refusal} ({asked} of order {})", refund.order_code),
        ("succeeded", _) => {
            let stock = match (refund.restock, refund.restocked) {
                (true, true) => ", its pieces are back in stock",
                (true, false) => ", its pieces had come back before",
                _ => "",
            };
            match refund.amount == Some(Cents::ZERO) {
                true => format!("the pieces of order {} are back in stock; no money went back", refund.order_code),
                false => format!("{asked} of order {} went back{stock}", refund.order_code),
            }
        }
        ("waiting", _) => {
            format!("waits for order {} to reach its end; see: orderstream refunds --order CODE", refund.order_code)
        }
        _ => format!("{asked} of order {} granted; the gateway owes its answer", refund.order_code),
    };
    output::text_line(&inert(text.as_bytes(), false))
}

/// How much was asked for, in what; `without` an amount all of it.
fn asked(refund: &RefundView, without: &str) -> String {
    let currency = refund.currency.as_deref().unwrap_or_default();
    refund.amount.map_or_else(|| without.to_owned(), |cents| amount(cents, currency))
}

pub(super) async fn list(backends: &Backends, args: &RefundsArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let filter =
        RefundFilter { order_code: args.order.as_deref(), status: args.status, import_id: args.import, after: None };
    let refunds = store::list_refunds(&store.pool(), filter, i64::from(args.limit)).await?;
    if globals.json {
        #[derive(Serialize)]
        struct Document<'a> {
            refunds: &'a [RefundView],
        }
        output::json(&Document { refunds: &refunds })?;
        return Ok(Exit::Done);
    }
    if refunds.is_empty() {
        crate::output::note!("no refunds match");
        return Ok(Exit::Done);
    }
    let rows = refunds
        .into_iter()
        .map(|refund| {
            vec![
                inert(refund.key.as_bytes(), false),
                inert(refund.order_code.as_bytes(), false),
                asked(&refund, "the rest"),
                refund.status,
                refund.refusal.unwrap_or_default(),
                if refund.restocked { "yes" } else { "" }.to_owned(),
                time(refund.created_at),
                inert(refund.reason.unwrap_or_default().as_bytes(), false),
            ]
        })
        .collect();
    output::table(&["KEY", "ORDER", "AMOUNT", "STATE", "REFUSED FOR", "RESTOCKED", "ASKED", "REASON"], &[2], rows)?;
    Ok(Exit::Done)
}
