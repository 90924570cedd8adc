//! `orderstream stock`: what is on hand, what open orders hold, what is free.

use anyhow::Result;
use pipeline::store::{self, ProductStock, StockDrift, StockFilter, WorkerSettings};
use serde::Serialize;

use crate::{
    backends::Backends,
    cli::StockArgs,
    config::Globals,
    exit::Exit,
    output::{self, inert, thousands},
};

/// A page of the stock, as programs see it.
#[derive(Serialize)]
pub(crate) struct StockPage {
    /// Products.
    pub(crate) products: Vec<ProductStock>,
    /// Where to go on; null on the last page.
    pub(crate) next: Option<String>,
}

impl StockPage {
    /// A page of up to `limit` products.
    pub(crate) fn new(products: Vec<ProductStock>, limit: u32, scarce_first: bool) -> Self {
        let last = products.last().filter(|_| products.len() == limit as usize);
        let place = |product: &ProductStock| match scarce_first {
            true => format!("{}:{}", product.available, product.id),
            false => product.id.to_string(),
        };
        let next = last.map(place);
        Self { products, next }
    }
}

pub(super) async fn run(backends: &Backends, args: &StockArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    if args.drift {
        return show_drift(store::list_stock_drift(&store.pool(), i64::from(args.limit)).await?, globals);
    }
    let filter = StockFilter {
        available_max: args.low,
        search: args.search.as_deref(),
        scarce_first: args.low.is_some(),
        after: args.after,
    };
    let products = store::list_stock(&store.pool(), filter, i64::from(args.limit)).await?;
    let page = StockPage::new(products, args.limit, filter.scarce_first);
    if globals.json {
        output::json(&page)?;
        return Ok(Exit::Done);
    }
    if page.products.is_empty() {
        crate::output::note!("no products match");
        return Ok(Exit::Done);
    }
    let row = |product: ProductStock| {
        vec![
            product.id.to_string(),
            inert(product.sku.as_bytes(), false),
            inert(product.name.as_bytes(), false),
            thousands(product.on_hand),
            thousands(product.reserved),
            thousands(product.available),
        ]
    };
    let rows = page.products.into_iter().map(row).collect();
    output::table(&["PRODUCT", "SKU", "NAME", "ON HAND", "RESERVED", "AVAILABLE"], &[0, 3, 4, 5], rows)?;
    if let Some(next) = page.next {
        crate::output::note!("more: add --after {next}");
    }
    Ok(Exit::Done)
}

fn show_drift(drift: Vec<StockDrift>, globals: &Globals) -> Result<Exit> {
    let exit = if drift.is_empty() { Exit::Done } else { Exit::Difference };
    if globals.json {
        output::json(&serde_json::json!({ "drift": drift }))?;
    } else if drift.is_empty() {
        output::text_line("Every product holds what open orders hold.")?;
    } else {
        let row = |product: StockDrift| {
            vec![product.product_id.to_string(), thousands(product.reserved), thousands(product.held)]
        };
        let rows = drift.into_iter().map(row).collect();
        output::table(&["PRODUCT", "RESERVED", "HELD BY OPEN ORDERS"], &[0, 1, 2], rows)?;
    }
    Ok(exit)
}
