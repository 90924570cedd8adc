//! The stock: what is on hand, what open orders hold, what is free, and whether that agrees.

use axum::{extract::State, response::Response};
use minijinja::{Value, context, value::Serde};
use pipeline::store::{self, ProductStock, StockFilter};
use serde::Deserialize;

use super::{
    address::{Address, number, typed},
    page::{Nav, page},
    visitor::Visitor,
};
use crate::{
    cli::parse_place,
    commands::stock::StockPage,
    http::{
        App,
        problem::Problem,
        query::{Params, invalid},
    },
};

/// Products on a page.
const PAGE_PRODUCTS: u32 = 50;

/// Most products whose stock drifted that are named.
const DRIFT_SHOWN_MAX: i64 = 100;

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filters {
    q: Option<String>,
    low: Option<String>,
    sort: Option<String>,
    check: Option<String>,
    after: Option<String>,
}

/// Products that match, and on demand whether their reserved pieces are those of open orders.
pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    Params(filters): Params<Filters>,
) -> Result<Response, Problem> {
    let pool = app.reports.pool();
    let search = typed(&filters.q);
    if search.is_some_and(|text| text.contains('\0')) {
        return Err(invalid("q", "nothing has such a name"));
    }
    let low = number("low", &filters.low)?;
    let scarce_first = low.is_some() || typed(&filters.sort) == Some("free");
    let after = typed(&filters.after).map(parse_place).transpose().map_err(|detail| invalid("after", detail))?;
    let filter = StockFilter { available_max: low, search, scarce_first, after };
    let products = store::list_stock(&pool, filter, i64::from(PAGE_PRODUCTS)).await?;
    let shown = StockPage::new(products, PAGE_PRODUCTS, scarce_first);
    let address = || Address::of("/stock").with("q", search).with("low", low).with("sort", typed(&filters.sort));
    let drift = match typed(&filters.check) {
        Some(_) => Some(store::list_stock_drift(&pool, DRIFT_SHOWN_MAX).await?),
        None => None,
    };
    let context = context! {
        q => search,
        low,
        sort => typed(&filters.sort),
        sorts => [("", "by id"), ("free", "fewest free first")],
        is_filtered => search.is_some() || low.is_some(),
        is_later => after.is_some(),
        products => shown.products.iter().map(row).collect::<Vec<_>>(),
        next => shown.next.map(|place| address().with("after", Some(place)).text()),
        check => address().with("check", Some(1)).text(),
        drift => Serde(drift),
        drift_shown_max => DRIFT_SHOWN_MAX,
        // As the last look of the monitor found it; it looks once a minute.
        drifted => app.monitor.latest().drift,
    };
    page(&app, &visitor, Nav::Stock, "stock.html", "Stock", context)
}

fn row(product: &ProductStock) -> Value {
    context! {
        id => product.id,
        sku => &*product.sku,
        name => &*product.name,
        unit_price => product.unit_price.get(),
        on_hand => product.on_hand,
        reserved => product.reserved,
        available => product.available,
    }
}
