//! Refunds, whoever asked for them.

use axum::{extract::State, response::Response};
use minijinja::{Value, context};
use pipeline::{
    domain::{Cents, RefundStatus},
    store::{self, RefundFilter, RefundView},
};
use serde::Deserialize;

use super::{
    address::{Address, number, typed},
    orders::{options, refund_tone},
    page::{Nav, page},
    visitor::Visitor,
};
use crate::http::{
    App,
    problem::Problem,
    query::{Params, invalid, word},
    refund_views::{place, place_of},
};

/// Refunds on a page.
const PAGE_REFUNDS: usize = 50;

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filters {
    order: Option<String>,
    status: Option<String>,
    import: Option<String>,
    after: Option<String>,
}

/// Refunds that match, newest first.
pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    Params(filters): Params<Filters>,
) -> Result<Response, Problem> {
    let filter = RefundFilter {
        order_code: typed(&filters.order),
        status: word::<RefundStatus>("status", typed(&filters.status))?,
        import_id: number("import", &filters.import)?,
        after: filters.after.as_deref().map(place).transpose()?,
    };
    if filter.order_code.is_some_and(|code| code.contains('\0')) {
        return Err(invalid("order", "no order has this code"));
    }
    // One more than is shown tells whether there is another page.
    let mut refunds = store::list_refunds(&app.reports.pool(), filter, 1 + PAGE_REFUNDS as i64).await?;
    let has_more = refunds.len() > PAGE_REFUNDS;
    refunds.truncate(PAGE_REFUNDS);
    let next = refunds.last().filter(|_| has_more).map(|last| {
        Address::of("/refunds")
            .with("order", filter.order_code)
            .with("status", filter.status)
            .with("import", filter.import_id)
            .with("after", Some(place_of(last)))
            .text()
    });
    let context = context! {
        order => filter.order_code,
        status => typed(&filters.status),
        import => filter.import_id,
        is_filtered => filter.order_code.is_some() || filter.status.is_some() || filter.import_id.is_some(),
        is_later => filters.after.is_some(),
        statuses => options("any state", RefundStatus::ALL.iter().map(|status| status.as_str())),
        refunds => refunds.iter().map(row).collect::<Vec<_>>(),
        next,
    };
    page(&app, &visitor, Nav::Refunds, "refunds.html", "Refunds", context)
}

fn row(refund: &RefundView) -> Value {
    context! {
        key => &*refund.key,
        order_code => &*refund.order_code,
        amount => refund.amount.map(Cents::get),
        currency => refund.currency.as_deref(),
        status => &*refund.status,
        tone => refund_tone(&refund.status),
        refusal => refund.refusal.as_deref(),
        reason => refund.reason.as_deref(),
        restock => refund.restock,
        restocked => refund.restocked,
        automatic => refund.automatic,
        created_at => refund.created_at.to_rfc3339(),
        settled_at => refund.settled_at.map(|at| at.to_rfc3339()),
    }
}
