//! `orderstream migrate`, `seed` and `load`.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::Context;
use pipeline::{
    domain::Cents,
    store::{self, Customer, Product, Store, WorkerSettings},
};
use serde::Deserialize;

use crate::{
    backends::Backends,
    cli::{LoadWhat, SeedArgs},
    config::Globals,
    exit::{Exit, Refusal},
};

/// Rows in one statement.
const CHUNK: usize = 5_000;

pub(super) async fn migrate(backends: &Backends, globals: &Globals) -> anyhow::Result<Exit> {
    backends.store(WorkerSettings::Report, 1)?.migrate().await?;
    note(globals, "the schema is up to date");
    Ok(Exit::Done)
}

pub(super) async fn seed(backends: &Backends, args: &SeedArgs, globals: &Globals) -> anyhow::Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    if store::has_real_products(&store.pool()).await? {
        let message =
            "the catalogue has products that seed did not make, and would overwrite: use load, or another database";
        return Err(Refusal::new(Exit::Conflict, message).into());
    }
    fill(&store, args.products, args.customers, args.stock).await?;
    note(globals, &format!("{} products with {} pieces each, {} customers", args.products, args.stock, args.customers));
    Ok(Exit::Done)
}

/// Made-up products and customers, the same every time.
pub(super) async fn fill(store: &Store, products: i64, customers: i64, stock: i64) -> anyhow::Result<()> {
    let products: Vec<Product> = (1..=products)
        .map(|id| Product {
            id,
            sku: format!("{}{id:06}", store::SEEDED_SKU_PREFIX),
            name: format!("Product {id}"),
            unit_price_cents: 100 + (id * 37) % 4_901,
            stock,
        })
        .collect();
    let customers: Vec<Customer> = (1..=customers)
        .map(|id| Customer { id, name: format!("Customer {id}"), email: format!("customer{id}@example.com") })
        .collect();
    upsert(store, &products, &customers).await
}

async fn upsert(store: &Store, products: &[Product], customers: &[Customer]) -> anyhow::Result<()> {
    for chunk in products.chunks(CHUNK) {
        store::upsert_products(&store.pool(), chunk).await.context(
            "the products were refused (a stock below what open orders hold, or an article number that is taken)",
        )?;
    }
    for chunk in customers.chunks(CHUNK) {
        store::upsert_customers(&store.pool(), chunk).await?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct ProductRow {
    id: i64,
    sku: String,
    name: String,
    unit_price: String,
    stock: i64,
}

#[derive(Deserialize)]
struct CustomerRow {
    id: i64,
    name: String,
    email: String,
}

pub(super) async fn load(globals: &Globals, what: &LoadWhat) -> anyhow::Result<Exit> {
    // The whole file is checked before the first row is written.
    let (products, customers) = match what {
        LoadWhat::Products { file } => (read_products(file)?, Vec::new()),
        LoadWhat::Customers { file } => (Vec::new(), read_customers(file)?),
    };
    let backends = Backends::open(globals).await?;
    upsert(&backends.store(WorkerSettings::Report, 1)?, &products, &customers).await?;
    note(globals, &format!("{} rows loaded", products.len() + customers.len()));
    Ok(Exit::Done)
}

fn read_products(file: &Path) -> anyhow::Result<Vec<Product>> {
    let mut seen = HashSet::new();
    let mut skus = HashSet::new();
    rows(file, |row: ProductRow| {
        check(row.id > 0 && seen.insert(row.id), "id must be a positive number that stands in the file once")?;
        check(!row.sku.is_empty() && skus.insert(row.sku.clone()), "sku must stand in the file once")?;
        check(row.stock >= 0, "stock must not be negative")?;
        let price = Cents::parse_price(row.unit_price.as_bytes()).map_err(|error| format!("unit_price is {error}"))?;
        Ok(Product { id: row.id, sku: row.sku, name: row.name, unit_price_cents: price.get(), stock: row.stock })
    })
}

fn read_customers(file: &Path) -> anyhow::Result<Vec<Customer>> {
    let mut seen = HashSet::new();
    rows(file, |row: CustomerRow| {
        check(row.id > 0 && seen.insert(row.id), "id must be a positive number that stands in the file once")?;
        Ok(Customer { id: row.id, name: row.name, email: row.email })
    })
}

fn check(holds: bool, rule: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

/// Reads a catalogue file; the first error names file and line.
fn rows<R: for<'de> Deserialize<'de>, T>(
    file: &Path,
    mut convert: impl FnMut(R) -> Result<T, String>,
) -> anyhow::Result<Vec<T>> {
    let name = file.display();
    let input: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file).with_context(|| format!("cannot open {name}"))?),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let headers = reader.headers().with_context(|| format!("cannot read {name}"))?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| format!("{name}: nothing was loaded"))?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = record.deserialize::<R>(Some(&headers)).map_err(|error| error.to_string()).and_then(&mut convert);
        rows.push(row.map_err(|error| anyhow::anyhow!("{name}, line {line}: {error}; nothing was loaded"))?);
    }
    Ok(rows)
}

fn note(globals: &Globals, text: &str) {
    if !globals.quiet {
        eprintln!("{text}");
    }
}
