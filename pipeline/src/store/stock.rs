//! Pieces on hand and pieces held.

use rustc_hash::FxHashMap;
use sqlx::PgConnection;

use super::Error;
use crate::failpoint;

/// Locks the products in id order and tells how many free pieces each has: on hand, not held. Unknown ids are absent.
///
/// # Errors
/// As any statement.
pub async fn lock_products_in_id_order(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<FxHashMap<i64, i64>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, stock - reserved AS "free!" FROM products WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("lock_products_in_id_order")?;
    Ok(rows.into_iter().map(|row| (row.id, row.free)).collect())
}

/// Holds pieces of products that this transaction has locked. Each product must stand in the arrays once: a join
/// updates a row once, whatever the number of its partners.
///
/// # Errors
/// As any statement; class 23 when a product has fewer free pieces.
pub async fn add_reserved(connection: &mut PgConnection, ids: &[i64], pieces: &[i64]) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE products SET reserved = reserved + held.pieces
         FROM unnest($1::bigint[], $2::bigint[]) AS held (id, pieces)
         WHERE products.id = held.id",
        ids,
        pieces
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("add_reserved")?;
    Ok(())
}
