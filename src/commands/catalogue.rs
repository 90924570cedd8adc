//! `orderstream migrate`, `seed` and `load`.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, anyhow};
use lettre::Address;
use pipeline::{
    domain::{Cents, is_unseen},
    store::{self, Customer, Product, RefusedRow, Store, WorkerSettings},
};
use serde_json::json;

use crate::{
    backends::Backends,
    cli::{LoadWhat, SeedArgs},
    config::Globals,
    exit::{Exit, Refusal},
    import::{BadValue, PlainRow, read_rows},
    output::{self, thousands},
};

/// Longest article number, in bytes.
const SKU_BYTES_MAX: usize = 255;

/// Most pieces of a product: sums over all products stay within 64 bits.
const STOCK_MAX: i64 = 1_000_000_000_000;

/// Rows in one statement.
const CHUNK: usize = 5_000;

pub(super) async fn migrate(backends: &Backends, globals: &Globals) -> anyhow::Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    store.migrate().await?;
    note(globals, "the schema is up to date");
    let known = {
        let mut connection = store.pool().acquire().await.map_err(store::Error::from)?;
        store::known_gateways(&mut connection).await?
    };
    let mut unlocated = Vec::new();
    for gateway in known.iter().filter(|gateway| gateway.is_unlocated()) {
        let load = store::gateway_loads(&store.pool()).await?.into_iter().find(|load| load.gateway == gateway.name);
        let (payments, pending) = load.map_or((0, 0), |load| (load.payments, load.pending));
        unlocated.push(json!({ "gateway": gateway.name, "payments": payments, "pending": pending }));
        output::write_note(&format!(
            "{} payments ({} of them open) were taken by the gateway {:?}, and the version that stored them did not record which \
             provider that is. No process begins payments before you say it: orderstream provider locate {} URL --currency EUR",
            thousands(payments),
            thousands(pending),
            gateway.name,
            gateway.name,
        ));
    }
    if globals.json {
        output::json(&json!({ "schema": "current", "gateways_to_locate": unlocated }))?;
    }
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
    if globals.json {
        output::json(&json!({ "products": args.products, "pieces_each": args.stock, "customers": args.customers }))?;
    }
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

pub(super) async fn load(globals: &Globals, what: &LoadWhat) -> anyhow::Result<Exit> {
    // The whole file is checked before the first row is written.
    let (rows, notes) = match what {
        LoadWhat::Products { file } => {
            let products = read_products(globals, file)?;
            let store = Backends::open(globals).await?.store(WorkerSettings::Report, 1)?;
            let loaded = store::load_products(&store.pool(), &products.rows).await?;
            products.loaded(loaded, |product, refused| match refused.constraint.as_deref() {
                Some("products_sku_key") => ("sku", format!("{:?} belongs to another product", product.sku)),
                Some("products_never_oversold") => {
                    ("stock", format!("{} is less than the pieces that open orders hold", product.stock))
                }
                _ => ("", refused.message.clone()),
            })?;
            (products.rows.len(), products.notes)
        }
        LoadWhat::Customers { file } => {
            let customers = read_customers(globals, file)?;
            let store = Backends::open(globals).await?.store(WorkerSettings::Report, 1)?;
            let loaded = store::load_customers(&store.pool(), &customers.rows).await?;
            customers.loaded(loaded, |_, refused| ("", refused.message.clone()))?;
            (customers.rows.len(), customers.notes)
        }
    };
    if globals.json {
        output::json(&json!({ "rows": rows, "notes": notes }))?;
    }
    note(globals, &format!("{} rows loaded", thousands(rows as u64)));
    Ok(Exit::Done)
}

/// The rows of a file, by id, and the line of each.
struct Rows<T> {
    name: String,
    rows: Vec<T>,
    lines: Vec<u64>,
    /// What is good to know of how it was read.
    notes: Vec<String>,
}

impl<T> Rows<T> {
    /// Whether they were loaded; `why` says which column is at fault, if it is one, and what is wrong there.
    fn loaded(
        &self,
        loaded: Result<(), RefusedRow>,
        why: impl Fn(&T, &RefusedRow) -> (&'static str, String),
    ) -> anyhow::Result<()> {
        let Err(refused) = loaded else { return Ok(()) };
        let (column, why) = why(&self.rows[refused.place], &refused);
        let column = Some(column).filter(|column| !column.is_empty()).map(str::to_owned);
        Err(nothing_loaded(&self.name, &BadValue { line: self.lines[refused.place], column, why }))
    }
}

fn nothing_loaded(name: &str, bad: &BadValue) -> anyhow::Error {
    anyhow!("{name}, {bad}; nothing was loaded")
}

fn read_products(globals: &Globals, file: &Path) -> anyhow::Result<Rows<Product>> {
    let mut skus = HashMap::new();
    read(globals, file, &["id", "sku", "name", "unit_price", "stock"], |id, row| {
        let (sku, name) = (row.values[1].to_owned(), row.values[2].to_owned());
        check("sku", !sku.is_empty(), || "is empty".to_owned())?;
        check("sku", sku.len() <= SKU_BYTES_MAX, || format!("has more than {SKU_BYTES_MAX} bytes"))?;
        check_visible("sku", &sku)?;
        if let Some(line) = skus.insert(sku.clone(), row.line) {
            return Err(("sku", format!("{sku:?} stands on line {line} already")));
        }
        check_plain("name", &name)?;
        let price = Cents::parse_price(row.amount(3).as_bytes());
        let price = price.map_err(|error| ("unit_price", format!("{:?} is {error}", row.values[3])))?;
        let stock = row.values[4].parse::<i64>().ok().filter(|stock| (0..=STOCK_MAX).contains(stock));
        let stock = stock
            .ok_or_else(|| ("stock", format!("{:?} is no whole number from 0 on, up to {STOCK_MAX}", row.values[4])))?;
        Ok(Product { id, sku, name, unit_price_cents: price.get(), stock })
    })
}

fn read_customers(globals: &Globals, file: &Path) -> anyhow::Result<Rows<Customer>> {
    read(globals, file, &["id", "name", "email"], |id, row| {
        let (name, email) = (row.values[1].to_owned(), row.values[2].to_owned());
        check_plain("name", &name)?;
        check_plain("email", &email)?;
        check_visible("email", &email)?;
        // Who has none gets no mail.
        if !email.is_empty()
            && let Err(error) = email.parse::<Address>()
        {
            return Err(("email", format!("{email:?} is no mail address: {error}")));
        }
        Ok(Customer { id, name, email })
    })
}

/// A column, and what is wrong there.
type Fault = (&'static str, String);

fn check(column: &'static str, holds: bool, why: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err((column, why())) }
}

/// A text for people is one line: what stands in it goes into mails and onto terminals.
fn check_plain(column: &'static str, text: &str) -> Result<(), Fault> {
    check(column, !text.chars().any(char::is_control), || {
        "contains a line break or another control character".to_owned()
    })
}

/// A text by which something is known has nothing in it that nobody sees.
fn check_visible(column: &'static str, text: &str) -> Result<(), Fault> {
    match text.chars().find(|&character| is_unseen(character)) {
        Some(character) => Err((column, format!("contains U+{:04X}, which cannot be seen", u32::from(character)))),
        None => Ok(()),
    }
}

/// Reads a catalogue file whose first column is the id; the first error names file, line and column.
fn read<T>(
    globals: &Globals,
    file: &Path,
    columns: &'static [&'static str],
    mut convert: impl FnMut(i64, &PlainRow<'_>) -> Result<T, Fault>,
) -> anyhow::Result<Rows<T>> {
    let name = file.display().to_string();
    let input: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(file).with_context(|| format!("cannot open {name}"))?),
    };
    let mut found = BTreeMap::new();
    let read = read_rows(input, columns, |row| {
        let mut take = || {
            let id = row.values[0].parse::<i64>().ok().filter(|id| *id > 0);
            let id = id.ok_or_else(|| ("id", format!("{:?} is no positive whole number", row.values[0])))?;
            let converted = convert(id, row)?;
            match found.insert(id, (row.line, converted)) {
                Some((line, _)) => Err(("id", format!("{id} stands on line {line} already"))),
                None => Ok(()),
            }
        };
        take().map_err(|(column, why): Fault| BadValue { line: row.line, column: Some(column.to_owned()), why })
    });
    match read.with_context(|| format!("cannot read {name}"))? {
        Err(bad) => Err(nothing_loaded(&name, &bad)),
        Ok(file) => {
            let notes = file.notes();
            for told in &notes {
                note(globals, &format!("{name}: {told}"));
            }
            let (lines, rows) = found.into_values().unzip();
            Ok(Rows { name, rows, lines, notes })
        }
    }
}

fn note(globals: &Globals, text: &str) {
    if !globals.quiet {
        crate::output::note!("{text}");
    }
}
