//! Postgres, as a stranger sees it: the documented tables, read before, during and after a run.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use serde::Serialize;
use sqlx::{ConnectOptions, FromRow, PgConnection, postgres::PgConnectOptions};

/// The stages' marks on the orders of a run. A stage stamps all orders of a batch with the start of its transaction,
/// so that the distinct stamps are its batches.
const STAGE_RATES: &str = "\
WITH mine AS (SELECT id, created_at, settled_at FROM orders WHERE starts_with(code, $1)),
marks AS (
    SELECT 'reservation' AS stage, created_at AS at FROM mine
    UNION ALL
    SELECT 'payment', payments.created_at FROM mine JOIN payments ON order_id = id WHERE attempt = 1
    UNION ALL
    -- An order that was refused at reservation never came to settlement: it was settled by the same transaction.
    SELECT 'settlement', settled_at FROM mine WHERE settled_at > created_at
)
SELECT stage, count(*) AS orders, count(DISTINCT at) AS batches,
       extract(epoch FROM max(at) - min(at))::float8 AS seconds
FROM marks GROUP BY stage";

/// One connection to Postgres.
pub(crate) struct Ledger {
    connection: PgConnection,
}

/// Write-ahead log since the cluster was made, by everybody.
#[derive(Debug, Clone, Copy, FromRow)]
pub(crate) struct WalPosition {
    /// Bytes.
    pub(crate) bytes: i64,
    /// Records.
    pub(crate) records: i64,
    /// Whole pages among them, written at the first change after a checkpoint.
    pub(crate) page_images: i64,
}

/// How one stage passed the orders of a run.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct StageMarks {
    /// The stage's name.
    pub(crate) stage: String,
    /// Orders that it passed.
    pub(crate) orders: i64,
    /// In so many transactions.
    pub(crate) batches: i64,
    /// From the start of the first to the start of the last.
    pub(crate) seconds: f64,
}

/// What became of the orders of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outcomes {
    /// Orders that Postgres knows.
    pub(crate) known: u64,
    /// Those that are completed or failed.
    pub(crate) settled: u64,
    /// By status, with the reason of those that failed: `failed:out_of_stock`.
    pub(crate) by_status: BTreeMap<String, u64>,
}

/// An order as the documented table shows it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct KnownOrder {
    /// Its code.
    pub(crate) code: String,
    /// Who ordered.
    pub(crate) customer_id: i64,
    /// What it costs, in cents.
    pub(crate) total_cents: i64,
    /// Its state.
    pub(crate) status: String,
    /// Why it failed, if it did.
    pub(crate) failure_reason: Option<String>,
}

impl Ledger {
    /// Connects to the database at `url`.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?.application_name("loadtest");
        let connection = options.connect().await.with_context(|| format!("cannot reach Postgres at {url}"))?;
        Ok(Self { connection })
    }

    /// The process that serves this connection, on the server's machine.
    pub(crate) async fn backend_pid(&mut self) -> Result<u32> {
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut self.connection).await?;
        Ok(u32::try_from(pid)?)
    }

    /// How many of the products and customers with ids from 1 exist.
    pub(crate) async fn catalogue(&mut self, products: u64, customers: u64) -> Result<(u64, u64)> {
        let counts =
            "SELECT (SELECT count(*) FROM products WHERE id <= $1), (SELECT count(*) FROM customers WHERE id <= $2)";
        let (found_products, found_customers): (i64, i64) = sqlx::query_as(counts)
            .bind(i64::try_from(products)?)
            .bind(i64::try_from(customers)?)
            .fetch_one(&mut self.connection)
            .await?;
        Ok((u64::try_from(found_products)?, u64::try_from(found_customers)?))
    }

    /// The number of the last event: each order ends with exactly one.
    pub(crate) async fn last_event(&mut self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT last_seq FROM event_counter").fetch_one(&mut self.connection).await?)
    }

    /// Which of these codes are known.
    pub(crate) async fn known(&mut self, codes: &[String]) -> Result<Vec<String>> {
        let known = "SELECT code FROM orders WHERE code = ANY($1)";
        Ok(sqlx::query_scalar(known).bind(codes).fetch_all(&mut self.connection).await?)
    }

    /// Connections to the database, this one included.
    pub(crate) async fn connections(&mut self) -> Result<u64> {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
        Ok(u64::try_from(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.connection).await?)?)
    }

    /// Ends every other connection to the database.
    pub(crate) async fn terminate_others(&mut self) -> Result<()> {
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";
        sqlx::query(terminate).execute(&mut self.connection).await?;
        Ok(())
    }

    /// The end of the write-ahead log.
    pub(crate) async fn wal_position(&mut self) -> Result<WalPosition> {
        let position = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS bytes, wal_records AS records,
                               wal_fpi AS page_images FROM pg_stat_wal";
        Ok(sqlx::query_as(position).fetch_one(&mut self.connection).await?)
    }

    /// What became of the orders whose codes begin with `prefix`. Reads the whole table: not for use during a run.
    pub(crate) async fn outcomes(&mut self, prefix: &str) -> Result<Outcomes> {
        let counts = "SELECT concat_ws(':', status, failure_reason), settled_at IS NOT NULL, count(*) FROM orders
                      WHERE starts_with(code, $1) GROUP BY status, failure_reason, settled_at IS NOT NULL";
        let rows: Vec<(String, bool, i64)> =
            sqlx::query_as(counts).bind(prefix).fetch_all(&mut self.connection).await?;
        let mut outcomes = Outcomes::default();
        for (status, settled, count) in rows {
            let count = u64::try_from(count)?;
            outcomes.known += count;
            outcomes.settled += if settled { count } else { 0 };
            *outcomes.by_status.entry(status).or_default() += count;
        }
        Ok(outcomes)
    }

    /// Calls `each` with every order that Postgres knows.
    pub(crate) async fn orders(&mut self, mut each: impl FnMut(KnownOrder)) -> Result<()> {
        let orders = "SELECT code, customer_id, total_cents, status, failure_reason FROM orders";
        let mut rows = sqlx::query_as::<_, KnownOrder>(orders).fetch(&mut self.connection);
        while let Some(order) = rows.try_next().await? {
            each(order);
        }
        Ok(())
    }

    /// How the stages passed the orders whose codes begin with `prefix`.
    pub(crate) async fn stage_marks(&mut self, prefix: &str) -> Result<Vec<StageMarks>> {
        Ok(sqlx::query_as(STAGE_RATES).bind(prefix).fetch_all(&mut self.connection).await?)
    }

    /// Calls `each` with the number of every settled order of the run and the time of its settlement in Unix
    /// microseconds: the start of the transaction that settled it.
    pub(crate) async fn settlements(&mut self, prefix: &str, mut each: impl FnMut(usize, i64)) -> Result<()> {
        let times = "SELECT substr(code, length($1) + 1)::bigint, (extract(epoch FROM settled_at) * 1000000)::bigint
                     FROM orders WHERE starts_with(code, $1) AND settled_at IS NOT NULL";
        let mut rows = sqlx::query_as::<_, (i64, i64)>(times).bind(prefix).fetch(&mut self.connection);
        while let Some((number, micros)) = rows.try_next().await? {
            each(usize::try_from(number)?, micros);
        }
        Ok(())
    }
}
