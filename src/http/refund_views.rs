//! Looking at refunds.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use chrono::{DateTime, SecondsFormat, Utc};
use pipeline::store::{self, RefundFilter, RefundView};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::{
    App,
    access::Viewer,
    problem::{Code, Problem},
    query::{Params, bounded, encoded, invalid, word},
};

/// Most bytes of a key: those of automatic refunds are longer than what anybody can ask for.
const KEY_BYTES_MAX: usize = 256;

/// One refund, as soon as it is taken in.
#[utoipa::path(
    get, path = "/v1/refunds/{key}", tag = "refunds", operation_id = "getRefund",
    params(("key" = String, Path, description = "The refund's key, percent-encoded")),
    responses((status = 200, description = "The refund", body = Object))
)]
pub(super) async fn show(
    State(app): State<App>,
    _: Viewer,
    Path(key): Path<String>,
) -> Result<impl IntoResponse, Problem> {
    find(&app, &key).await.map(Json)
}

/// Which refund.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Named {
    /// The refund's key.
    #[param(example = "r-1")]
    key: String,
}

/// The same by a key in the query: `.` and `..` cannot stand in a path.
#[utoipa::path(
    get, path = "/v1/refund", tag = "refunds", operation_id = "getRefundByKey", params(Named),
    responses((status = 200, description = "The refund", body = Object))
)]
pub(super) async fn show_named(
    State(app): State<App>,
    _: Viewer,
    Params(Named { key }): Params<Named>,
) -> Result<impl IntoResponse, Problem> {
    find(&app, &key).await.map(Json)
}

async fn find(app: &App, key: &str) -> Result<RefundView, Problem> {
    let unknown = || Problem::new(Code::NotFound, "Postgres has no refund of this key; it may be on its way");
    if key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(unknown());
    }
    store::find_refund(&app.reports.pool(), key).await?.ok_or_else(unknown)
}

/// Which refunds.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only refunds of this order.
    order: Option<String>,
    /// Only refunds that stand here: waiting, pending, succeeded, refused, failed.
    status: Option<String>,
    /// Only refunds that this import brought.
    import: Option<i64>,
    /// Most refunds to show.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Go on after this place: `next` of the page before has it.
    after: Option<String>,
}

/// Refunds, newest first, whoever asked for them.
#[utoipa::path(
    get, path = "/v1/refunds", tag = "refunds", operation_id = "listRefunds", params(ListParams),
    responses((status = 200, description = "A page of refunds; `next` is the address of the next one, or null", body = Object))
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<ListParams>,
) -> Result<impl IntoResponse, Problem> {
    let limit = bounded("limit", params.limit, 50, 1_000)? as usize;
    if params.order.as_deref().is_some_and(|code| code.contains('\0')) {
        return Err(invalid("order", "no order has this code"));
    }
    let filter = RefundFilter {
        order_code: params.order.as_deref(),
        status: word("status", params.status.as_deref())?,
        import_id: params.import,
        after: params.after.as_deref().map(place).transpose()?,
    };
    // One more than is shown tells whether there is another page.
    let asked = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut refunds = store::list_refunds(&app.reports.pool(), filter, asked).await?;
    let has_more = refunds.len() > limit;
    refunds.truncate(limit);
    let next = refunds.last().filter(|_| has_more).map(|last| {
        let mut next = format!("/v1/refunds?limit={limit}&after={}", encoded(&place_of(last)));
        let import = params.import.map(|import| import.to_string());
        for (name, value) in [("order", &params.order), ("status", &params.status), ("import", &import)] {
            next.extend(value.as_ref().map(|value| format!("&{name}={}", encoded(value))));
        }
        next
    });
    Ok(Json(json!({ "refunds": refunds, "next": next })))
}

/// A place in the list: time and key.
pub(crate) fn place(text: &str) -> Result<(DateTime<Utc>, &str), Problem> {
    let place = text.split_once(',').and_then(|(at, key)| Some((super::query::instant("after", Some(at)).ok()??, key)));
    place.filter(|(_, key)| !key.contains('\0')).ok_or_else(|| invalid("after", "no place in the list"))
}

/// The place of a refund in the list.
pub(crate) fn place_of(refund: &RefundView) -> String {
    format!("{},{}", refund.created_at.to_rfc3339_opts(SecondsFormat::Micros, true), refund.key)
}
