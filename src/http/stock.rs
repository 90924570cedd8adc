//! The stock.

use axum::{Json, extract::State, response::IntoResponse};
use pipeline::store::{self, StockFilter};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::{
    App,
    access::Viewer,
    problem::Problem,
    query::{Params, bounded, encoded, invalid},
};
use crate::{cli::parse_place, commands::stock::StockPage};

/// Longest text to search for.
const SEARCH_CHARS_MAX: usize = 200;

/// Which products.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StockParams {
    /// Only this product id, this article number, or names with this in them.
    #[param(max_length = 200)]
    search: Option<String>,
    /// Only products with at most so many free pieces, those with the fewest first.
    #[param(minimum = 0)]
    low: Option<i64>,
    /// Most products to show.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<u32>,
    /// Go on after this place: `next` of the page before has it.
    after: Option<String>,
}

/// Products with what is on hand, what open orders hold of that, and what is free.
#[utoipa::path(
    get, path = "/v1/stock", tag = "figures", operation_id = "listStock", params(StockParams),
    responses((status = 200, description = "A page of products; `next` is the address of the next one, or null", body = Object))
)]
pub(super) async fn list(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<StockParams>,
) -> Result<impl IntoResponse, Problem> {
    let limit = bounded("limit", params.limit, 50, 1_000)?;
    if params.low.is_some_and(|low| low < 0) {
        return Err(invalid("low", "0 or more"));
    }
    let search = params.search.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if search.is_some_and(|text| text.chars().count() > SEARCH_CHARS_MAX || text.contains('\0')) {
        return Err(invalid("search", format!("at most {SEARCH_CHARS_MAX} characters")));
    }
    let after = params.after.as_deref().map(parse_place).transpose().map_err(|detail| invalid("after", detail))?;
    let scarce_first = params.low.is_some();
    let filter = StockFilter { available_max: params.low, search, scarce_first, after };
    let products = store::list_stock(&app.reports.pool(), filter, i64::from(limit)).await?;
    let page = StockPage::new(products, limit, scarce_first);
    let next = page.next.map(|place| {
        let mut next = format!("/v1/stock?limit={limit}&after={}", encoded(&place));
        next.extend(params.low.map(|low| format!("&low={low}")));
        next.extend(search.map(|text| format!("&search={}", encoded(text))));
        next
    });
    Ok(Json(json!({ "products": page.products, "next": next })))
}
