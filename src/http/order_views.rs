//! Looking at orders.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use pipeline::{
    domain::OrderCode,
    store::{self, OrderFilter},
};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::{
    App,
    access::Viewer,
    problem::{Code, Problem},
    query::{Params, bounded, encoded, instant, invalid, word},
};
use crate::commands::orders::{Document, document};

/// After this time, a search for orders gives what it has, and the rest is left to the next page.
pub(crate) const SEARCH_TIME: Duration = Duration::from_millis(400);

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
    find(&app, &code).await.map(Json)
}

/// Which order.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Named {
    /// The order's code.
    #[param(example = "ORD-1")]
    code: String,
}

/// The same by a code in the query: `.` and `..` cannot stand in a path.
#[utoipa::path(
    get, path = "/v1/order", tag = "orders", operation_id = "getOrderByCode", params(Named),
    responses((status = 200, description = "The order, as `orderstream order --json` prints it", body = Object))
)]
pub(super) async fn show_named(
    State(app): State<App>,
    _: Viewer,
    Params(Named { code }): Params<Named>,
) -> Result<impl IntoResponse, Problem> {
    find(&app, &code).await.map(Json)
}

async fn find(app: &App, code: &str) -> Result<Document, Problem> {
    let unknown = || Problem::new(Code::NotFound, "Postgres has no order of this code; it may be on its way");
    OrderCode::check_known(code).map_err(|_| unknown())?;
    let detail = store::find_order(&app.reports.pool(), code).await?.ok_or_else(unknown)?;
    Ok(document(detail))
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
    /// Only orders of this customer.
    customer_id: Option<i64>,
    /// Only orders that this import brought.
    import: Option<i64>,
    /// Most orders to show.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Go on after the order with this id: `next` of the page before has it.
    after: Option<i64>,
}

/// Orders, newest first: by the time at which they were taken in. A page may have fewer than `limit` orders, or none, and
/// a next one all the same: `cut_short` says that older orders were not looked at.
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
        until: None,
        customer_id: params.customer_id,
        import_id: params.import,
        after_id: params.after,
    };
    let found = store::search_orders(&app.reports.pool(), filter, limit as usize, Some(SEARCH_TIME)).await?;
    let found = found.ok_or_else(|| invalid("after", "there is no order of this id"))?;
    let next = found.next.map(|last| {
        let mut next = format!("/v1/orders?limit={limit}&after={last}");
        let number = |number: Option<i64>| number.map(|number| number.to_string());
        for (name, value) in [
            ("status", params.status),
            ("reason", params.reason),
            ("since", params.since),
            ("customer_id", number(params.customer_id)),
            ("import", number(params.import)),
        ] {
            next.extend(value.map(|value| format!("&{name}={}", encoded(&value))));
        }
        next
    });
    Ok(Json(json!({ "orders": found.orders, "next": next, "cut_short": found.cut_short })))
}
