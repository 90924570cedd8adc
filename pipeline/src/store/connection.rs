//! How to reach Postgres, and with which settings.

use std::{
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sqlx::{
    ConnectOptions, PgPool, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::Error;
use crate::failpoint;

/// The schema, step by step.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// A pool of connections to one database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Arc<RwLock<PgPool>>,
    options: PgConnectOptions,
    connections: u32,
}

/// The connections of a pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolState {
    /// Open, and nobody uses them.
    pub idle: u32,
    /// Open and in use, or being opened.
    pub used: u32,
    /// Most that are opened.
    pub max: u32,
}

/// Who uses the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerSettings {
    /// Stages and the relay: every statement finds its rows by key.
    Worker,
    /// Reports and the audit: plans by statistics, no limit on time.
    Report,
    /// Pages, for people who wait: plans by statistics, ten seconds at most.
    Page,
}

impl WorkerSettings {
    fn options(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // Every worker statement is a look-up by key, but plans made while a table is empty read it whole for as
            // long as they are kept: seen to make Postgres five times as expensive. These settings leave the one right
            // plan, whatever the statistics say: from the arrays of a batch, row by row, by index, all of it cached.
            Self::Worker => &[
                ("enable_seqscan", "off"),
                ("enable_bitmapscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("random_page_cost", "0"),
                ("seq_page_cost", "0"),
                ("plan_cache_mode", "force_generic_plan"),
                ("jit", "off"),
                ("synchronous_commit", "on"),
                ("statement_timeout", "30s"),
                ("lock_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "30s"),
            ],
            Self::Report => &[("jit", "off"), ("idle_in_transaction_session_timeout", "10min")],
            Self::Page => &[
                ("jit", "off"),
                // Filters that are not given must cost nothing: the plan of one request is none for the next.
                ("plan_cache_mode", "force_custom_plan"),
                ("statement_timeout", "10s"),
                ("lock_timeout", "2s"),
                ("idle_in_transaction_session_timeout", "30s"),
            ],
        }
    }
}

impl Store {
    /// Up to `connections` connections, opened when needed, to the database at `url`.
    ///
    /// # Errors
    /// When the URL cannot be read. Nothing is connected yet.
    pub fn new(url: &str, settings: WorkerSettings, connections: u32) -> Result<Self, Error> {
        // Slow statements are Postgres' own to report (log_min_duration_statement).
        let options =
            PgConnectOptions::from_str(url)?.options(settings.options().iter().copied()).disable_statement_logging();
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("orderstream"),
        };
        Ok(Self { pool: Arc::new(RwLock::new(open(&options, connections))), options, connections })
    }

    /// The pool itself, for statements of one's own. Not to be kept: see [`Store::renew`].
    pub fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the connections do. Asks nobody.
    pub fn pool_state(&self) -> PoolState {
        let pool = self.pool();
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        PoolState { idle, used: pool.size().saturating_sub(idle), max: self.connections }
    }

    /// Opens a new pool, for everybody, and leaves the old one to those who still wait on its connections. For when the
    /// way to the server swallows everything: no reply comes, and no error either.
    pub fn renew(&self) {
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) = open(&self.options, self.connections);
    }

    /// Starts a transaction. The future must run to its end: dropped half-way, it would leave a connection with an
    /// open transaction in the pool.
    ///
    /// # Errors
    /// When no connection can be had within ten seconds.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        failpoint::hit::<Error>("before_begin")?;
        let transaction = self.pool().begin().await?;
        failpoint::hit::<Error>("begin")?;
        Ok(transaction)
    }

    /// Brings the schema up to this version; harmless when it is.
    ///
    /// # Errors
    /// When Postgres cannot be reached, or a migration fails.
    pub async fn migrate(&self) -> Result<(), Error> {
        Ok(MIGRATIONS.run(&self.pool()).await?)
    }

    /// Whether every migration of this version has been applied.
    ///
    /// # Errors
    /// When Postgres cannot be reached or the schema is missing.
    pub async fn is_schema_current(&self) -> Result<bool, Error> {
        let applied: Vec<i64> =
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(&self.pool()).await?;
        Ok(MIGRATIONS.iter().all(|migration| applied.contains(&migration.version)))
    }

    /// How many partitions this installation has.
    ///
    /// # Errors
    /// When Postgres cannot be reached or the schema is missing.
    pub async fn partitions(&self) -> Result<u16, Error> {
        let value =
            sqlx::query_scalar!("SELECT value FROM settings WHERE key = 'partitions'").fetch_one(&self.pool()).await?;
        value.parse().map_err(|_| Error::Setting { name: "partitions", value })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool().close().await;
    }
}

fn open(options: &PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(10))
        // A check before each use costs a round trip; a dead connection fails its first statement and is replaced.
        .test_before_acquire(false)
        .connect_lazy_with(options.clone())
}

/// Commits. After an error nobody knows whether it happened: the same batch is processed again.
///
/// # Errors
/// When Postgres cannot be reached, or refuses.
pub async fn commit(transaction: Transaction<'static, Postgres>) -> Result<(), Error> {
    failpoint::hit::<Error>("before_commit")?;
    transaction.commit().await?;
    failpoint::hit::<Error>("committed")
}
