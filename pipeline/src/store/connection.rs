//! How to reach Postgres, and with which settings.

use std::{
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::future::BoxFuture;
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Error, socket};
use crate::failpoint;

/// The schema, step by step.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Longest wait for a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that has rested for longer is asked whether it is still there before it is used: the server may end
/// idle sessions, and a restart ends all. The question costs a round trip, which a busy worker is spared.
const REST_MAX: Duration = Duration::from_millis(100);

/// Longest wait for the answer to that question.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// What every session asks of the server: to notice within seconds that our machine has vanished. Until then it would
/// keep our locks, for two hours by its own defaults. Means nothing on a Unix socket.
const SESSION: &[(&str, &str)] = &[
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "3"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "15s"),
];

/// A pool of connections to one database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    pool: Arc<RwLock<PgPool>>,
    options: PgConnectOptions,
    connections: u32,
    rest_max: Duration,
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
            Self::Report => &[
                ("jit", "off"),
                ("idle_in_transaction_session_timeout", "10min"),
                // A statement without a limit must not outlive the machine that asked for it.
                ("client_connection_check_interval", "5s"),
            ],
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
        let options = PgConnectOptions::from_str(url)?
            .options(SESSION.iter().chain(settings.options()).copied())
            .disable_statement_logging();
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("orderstream"),
        };
        let pool = Arc::new(RwLock::new(open(&options, connections, REST_MAX)));
        Ok(Self { pool, options, connections, rest_max: REST_MAX })
    }

    /// For users who can spare the question: each connection is asked before each use whether it is still there.
    #[must_use]
    pub fn always_asked(self) -> Self {
        let store = Self { rest_max: Duration::ZERO, ..self };
        store.renew();
        store
    }

    /// The pool itself, for statements of one's own. Not to be kept: see [`Store::renew`].
    pub fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How each connection is made.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A connection out of the pool.
    ///
    /// # Errors
    /// When none can be had within ten seconds.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        Ok(self.pool().acquire().await?)
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
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) =
            open(&self.options, self.connections, self.rest_max);
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

    /// Where the server is: its host and port, or its socket. Without user, password and database.
    pub fn address(&self) -> String {
        address(&self.options)
    }

    /// Opens a session of one's own, outside of the pool: for a lock that lasts as long as the session. The server does
    /// not end it for being idle.
    ///
    /// # Errors
    /// When the server cannot be reached within ten seconds, or refuses.
    pub async fn session(&self) -> Result<PgConnection, Error> {
        let options = self.options.clone().options([("idle_session_timeout", "0")]);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
        let session = connected.map_err(|_| Error::NoConnection { seconds: CONNECT_TIMEOUT.as_secs() })??;
        watch_over(&options);
        Ok(session)
    }

    /// Asks Postgres for what somebody remembers; `None` if it cannot be reached within `patience`, and only then. A pool
    /// whose connections are all in use is no reason: then the question goes over a session of its own. A server that
    /// answers has the last word, be it a refusal.
    ///
    /// # Errors
    /// When Postgres is there and does not answer the question.
    pub async fn ask_if_reachable<T>(
        &self,
        patience: Duration,
        question: impl for<'a> Fn(&'a mut PgConnection) -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<Option<T>, Error> {
        let pool = self.pool();
        let asked = async { question(&mut *pool.acquire().await?).await };
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(answer)) => return Ok(Some(answer)),
            Ok(Err(error)) if !error.is_unreachable() => return Err(error),
            Ok(Err(_)) | Err(_) => {}
        }
        let mut session = match tokio::time::timeout(patience, self.session()).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) if !error.is_unreachable() => return Err(error),
            Ok(Err(_)) | Err(_) => return Ok(None),
        };
        match tokio::time::timeout(patience, question(&mut session)).await {
            Ok(answer) => answer.map(Some),
            Err(_) => Err(Error::NoAnswer { seconds: patience.as_secs() }),
        }
    }

    /// Brings the schema up to this version; harmless when it is.
    ///
    /// # Errors
    /// When Postgres cannot be reached, the database cannot hold every text, or a migration fails.
    pub async fn migrate(&self) -> Result<(), Error> {
        let (encoding, database): (String, String) =
            sqlx::query_as("SELECT current_setting('server_encoding'), current_database()::text")
                .fetch_one(&self.pool())
                .await?;
        if encoding != "UTF8" {
            return Err(Error::Encoding { database, encoding });
        }
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

fn open(options: &PgConnectOptions, connections: u32, rest_max: Duration) -> PgPool {
    let watched = options.clone();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECT_TIMEOUT)
        .after_connect(move |_, _| {
            watch_over(&watched);
            Box::pin(async { Ok(()) })
        })
        // Asked by us, and only after a rest.
        .test_before_acquire(false)
        .before_acquire(move |connection, meta| {
            Box::pin(async move { Ok(meta.idle_for < rest_max || answers(connection).await) })
        })
        .connect_lazy_with(options.clone())
}

/// Whether a connection is still there. One that is not is replaced, and nobody hears of it.
async fn answers(connection: &mut PgConnection) -> bool {
    matches!(tokio::time::timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(())))
}

fn watch_over(options: &PgConnectOptions) {
    if !is_local(options) {
        socket::watch_over(options.get_port());
    }
}

/// Whether the server is reached by a Unix socket.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || options.get_host().starts_with('/')
}

fn address(options: &PgConnectOptions) -> String {
    let port = options.get_port();
    match options.get_socket() {
        Some(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
        None if is_local(options) => format!("{}/.s.PGSQL.{port}", options.get_host()),
        None => format!("{}:{port}", options.get_host()),
    }
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
