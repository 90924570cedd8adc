//! Products and customers: loaded, never invented by an order.

use rustc_hash::FxHashMap;
use sqlx::{Acquire, PgConnection, PgPool};

use super::{Error, ErrorKind};

/// A product of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its id.
    pub id: i64,
    /// Its article number, unique.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// Its price in the catalogue, in minor units. An order brings the price that it was sold at.
    pub unit_price_cents: i64,
    /// Pieces on hand.
    pub stock: i64,
}

/// Inserts or updates products. The stock given is what is on hand now: the difference to what was on hand counts as
/// received. Each id may stand in the batch once.
///
/// # Errors
/// Class 23 when the stock is less than what open orders hold, or an article number is taken.
pub async fn upsert_products(pool: &PgPool, products: &[Product]) -> Result<(), Error> {
    insert_products(&mut *pool.acquire().await?, products).await
}

async fn insert_products(connection: &mut PgConnection, products: &[Product]) -> Result<(), Error> {
    let ids: Vec<i64> = products.iter().map(|product| product.id).collect();
    let skus: Vec<&str> = products.iter().map(|product| product.sku.as_str()).collect();
    let names: Vec<&str> = products.iter().map(|product| product.name.as_str()).collect();
    let prices: Vec<i64> = products.iter().map(|product| product.unit_price_cents).collect();
    let stocks: Vec<i64> = products.iter().map(|product| product.stock).collect();
    sqlx::query!(
        "INSERT INTO products AS known (id, sku, name, unit_price_cents, stock, received)
         SELECT id, sku, name, unit_price_cents, stock, stock
         FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
              AS new (id, sku, name, unit_price_cents, stock)
         ORDER BY id
         ON CONFLICT (id) DO UPDATE
         SET sku = excluded.sku, name = excluded.name, unit_price_cents = excluded.unit_price_cents,
             received = known.received + excluded.stock - known.stock, stock = excluded.stock",
        &ids,
        &skus as &[&str],
        &names as &[&str],
        &prices,
        &stocks,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A customer of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Their id.
    pub id: i64,
    /// Their name.
    pub name: String,
    /// Where they are written to.
    pub email: String,
}

/// Inserts or updates customers. Each id may stand in the batch once.
///
/// # Errors
/// As any statement.
pub async fn upsert_customers(pool: &PgPool, customers: &[Customer]) -> Result<(), Error> {
    insert_customers(&mut *pool.acquire().await?, customers).await
}

async fn insert_customers(connection: &mut PgConnection, customers: &[Customer]) -> Result<(), Error> {
    let ids: Vec<i64> = customers.iter().map(|customer| customer.id).collect();
    let names: Vec<&str> = customers.iter().map(|customer| customer.name.as_str()).collect();
    let emails: Vec<&str> = customers.iter().map(|customer| customer.email.as_str()).collect();
    sqlx::query!(
        "INSERT INTO customers (id, name, email)
         SELECT id, name, email FROM unnest($1::bigint[], $2::text[], $3::text[]) AS new (id, name, email)
         ORDER BY id
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email",
        &ids,
        &names as &[&str],
        &emails as &[&str],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Rows of a catalogue in one statement.
const LOAD_CHUNK: usize = 5_000;

/// A row of a catalogue that Postgres refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRow {
    /// Its place among the rows that were given.
    pub place: usize,
    /// The rule that it breaks, where that has a name.
    pub constraint: Option<String>,
    /// What Postgres says.
    pub message: String,
}

/// Inserts or updates products like [`upsert_products`], all of them or none. They are sorted by id, as everybody locks them.
///
/// # Errors
/// As any statement; a row that is refused is no error.
pub async fn load_products(pool: &PgPool, products: &[Product]) -> Result<Result<(), RefusedRow>, Error> {
    load(pool, products, async |connection: &mut PgConnection, products: &[Product]| {
        insert_products(connection, products).await
    })
    .await
}

/// Inserts or updates customers like [`upsert_customers`], all of them or none.
///
/// # Errors
/// As any statement; a row that is refused is no error.
pub async fn load_customers(pool: &PgPool, customers: &[Customer]) -> Result<Result<(), RefusedRow>, Error> {
    load(pool, customers, async |connection: &mut PgConnection, customers: &[Customer]| {
        insert_customers(connection, customers).await
    })
    .await
}

async fn load<T>(
    pool: &PgPool,
    rows: &[T],
    insert: impl AsyncFn(&mut PgConnection, &[T]) -> Result<(), Error>,
) -> Result<Result<(), RefusedRow>, Error> {
    let mut transaction = pool.begin().await?;
    for (number, chunk) in rows.chunks(LOAD_CHUNK).enumerate() {
        if try_rows(&mut transaction, chunk, &insert).await?.is_none() {
            continue;
        }
        if let Some((place, error)) = find_refused(&mut transaction, chunk, &insert).await? {
            let refusal = error.as_refusal();
            return Ok(Err(RefusedRow {
                place: number * LOAD_CHUNK + place,
                constraint: refusal.and_then(|refusal| refusal.constraint()).map(str::to_owned),
                message: refusal.map_or_else(|| error.to_string(), |refusal| refusal.message().to_owned()),
            }));
        }
    }
    transaction.commit().await?;
    Ok(Ok(()))
}

/// Takes rows in, or leaves everything as it was and says what is wrong with one of them.
async fn try_rows<T>(
    connection: &mut PgConnection,
    rows: &[T],
    insert: &impl AsyncFn(&mut PgConnection, &[T]) -> Result<(), Error>,
) -> Result<Option<Error>, Error> {
    let mut attempt = connection.begin().await?;
    match insert(&mut attempt, rows).await {
        Ok(()) => attempt.commit().await?,
        Err(error) if error.kind() == ErrorKind::Values => {
            attempt.rollback().await?;
            return Ok(Some(error));
        }
        Err(error) => return Err(error),
    }
    Ok(None)
}

/// Takes rows in by halves, up to the one that is refused; `None` if each of them can be taken after those before it.
async fn find_refused<T>(
    connection: &mut PgConnection,
    rows: &[T],
    insert: &impl AsyncFn(&mut PgConnection, &[T]) -> Result<(), Error>,
) -> Result<Option<(usize, Error)>, Error> {
    let (mut start, mut end) = (0, rows.len());
    while start < rows.len() {
        if start == end {
            end = rows.len();
        }
        let middle = start + (end - start).div_ceil(2);
        match try_rows(connection, &rows[start..middle], insert).await? {
            None => start = middle,
            Some(error) if middle - start == 1 => return Ok(Some((start, error))),
            Some(_) => end = middle,
        }
    }
    Ok(None)
}

/// The names of those of the customers that are in the catalogue.
///
/// # Errors
/// As any statement.
pub async fn customer_names(pool: &PgPool, ids: &[i64]) -> Result<FxHashMap<i64, String>, Error> {
    let rows = sqlx::query!("SELECT id, name FROM customers WHERE id = ANY ($1)", ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}

/// The names of those of the products that are in the catalogue.
///
/// # Errors
/// As any statement.
pub async fn product_names(pool: &PgPool, ids: &[i64]) -> Result<FxHashMap<i64, String>, Error> {
    let rows = sqlx::query!("SELECT id, name FROM products WHERE id = ANY ($1)", ids).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}

/// How the article numbers of made-up products start.
pub const SEEDED_SKU_PREFIX: &str = "SEED-";

/// Whether the catalogue has products that were not made up.
///
/// # Errors
/// As any statement.
pub async fn has_real_products(pool: &PgPool) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM products WHERE NOT starts_with(sku, $1)) AS "real!""#,
        SEEDED_SKU_PREFIX
    )
    .fetch_one(pool)
    .await?)
}

/// Whether the catalogue has no products at all.
///
/// # Errors
/// As any statement.
pub async fn is_catalogue_empty(pool: &PgPool) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT NOT EXISTS (SELECT FROM products) AS "empty!""#).fetch_one(pool).await?)
}
