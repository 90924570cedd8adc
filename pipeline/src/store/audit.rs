//! The questions of the audit that SQL alone can answer, asked in one snapshot.
//!
//! All checks have one shape: a statement that yields the offending rows, and a figure that says how much was looked
//! at, so that "no differences" cannot mean "nothing compared". They read whole tables and are planned by statistics:
//! run them with [`WorkerSettings::Report`](super::WorkerSettings::Report).

mod events;
mod money;
mod references;
mod stock;

use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};

use super::{Error, Store};
use crate::domain::{OrderId, OrderStatus, PaymentStatus};

/// How many offending rows a check names; it counts them all.
pub const EXAMPLES_MAX: usize = 20;

/// A statement about the tables that must hold at every commit.
#[derive(Debug, Clone, Copy)]
pub struct SqlCheck {
    /// A short name, in words joined by underscores.
    pub name: &'static str,
    /// The sentence that holds when no row offends.
    pub proves: &'static str,
    /// What the figure counts.
    pub unit: &'static str,
    /// `SELECT` of one bigint: how much was examined.
    examined: &'static str,
    /// `SELECT` of the offending rows: two texts, the row's name and what is wrong with it.
    offending: &'static str,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFinding {
    /// How much was examined.
    pub examined: i64,
    /// How many rows offend.
    pub differences: i64,
    /// Up to [`EXAMPLES_MAX`] of them, with what is wrong.
    pub examples: Vec<String>,
}

/// Every check, in the order in which the report shows them.
pub fn sql_checks() -> impl Iterator<Item = &'static SqlCheck> {
    [stock::CHECKS, money::CHECKS, events::CHECKS, references::CHECKS].into_iter().flatten()
}

impl SqlCheck {
    /// Asks the question.
    ///
    /// # Errors
    /// As any statement.
    pub async fn run(&self, connection: &mut PgConnection) -> Result<SqlFinding, Error> {
        let Self { examined, offending, .. } = self;
        // Safe: only constants of this module are put together.
        let statement = AssertSqlSafe(format!(
            "WITH wrong (row_name, detail) AS MATERIALIZED ({offending})
             SELECT ({examined}),
                    (SELECT count(*) FROM wrong),
                    ARRAY(SELECT row_name || ': ' || detail FROM wrong ORDER BY row_name LIMIT {EXAMPLES_MAX})"
        ));
        let (examined, differences, examples) = sqlx::query_as(statement).fetch_one(connection).await?;
        Ok(SqlFinding { examined, differences, examples })
    }
}

/// Starts the one snapshot that all questions are asked in. It writes nothing and waits for nobody.
///
/// # Errors
/// When no connection can be had within ten seconds.
pub async fn begin_snapshot(store: &Store) -> Result<Transaction<'static, Postgres>, Error> {
    let mut snapshot = store.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    // Hash tables over all orders and lines: the default would spill each of them to disk. And no nested loops, which
    // statistics from a time when the tables were small make look cheap, and which would take hours.
    sqlx::raw_sql("SET LOCAL work_mem = '64MB'; SET LOCAL enable_nestloop = off").execute(&mut *snapshot).await?;
    Ok(snapshot)
}

/// An order that has not reached its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    /// Our number.
    pub id: OrderId,
    /// The outside's name.
    pub code: String,
    /// What it contains.
    pub content_hash: i64,
    /// Where it stands.
    pub status: OrderStatus,
    /// The answer of its last payment attempt, if it has one.
    pub payment: Option<PaymentStatus>,
}

/// The orders that have not reached their end and are not parked: all of them, or those among `ids`. In id order. A
/// parked order has a dead letter instead of a message; the reconciler sees to that.
///
/// # Errors
/// As any statement.
pub async fn open_orders(connection: &mut PgConnection, ids: Option<&[i64]>) -> Result<Vec<OpenOrder>, Error> {
    let rows = sqlx::query!(
        r#"SELECT o.id, o.code, o.content_hash, o.status,
                  (SELECT p.status FROM payments p WHERE p.order_id = o.id ORDER BY p.attempt DESC LIMIT 1) AS payment
           FROM orders o
           WHERE o.status IN ('reserved', 'paying') AND ($1::bigint[] IS NULL OR o.id = ANY ($1))
             AND NOT EXISTS (SELECT 1 FROM parked WHERE parked.order_id = o.id)
           ORDER BY o.id"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(OpenOrder {
                id: OrderId(row.id),
                code: row.code,
                content_hash: row.content_hash,
                status: row.status.parse()?,
                payment: row.payment.map(|word| word.parse()).transpose()?,
            })
        })
        .collect()
}
