//! The servers that a command works with: those named in the environment, or the local stack.

use std::sync::Arc;

use pipeline::{
    shutdown::Shutdown,
    store::{Store, WorkerSettings},
    streams::{Redis, SafetyProblem},
};

use tracing::warn;

use crate::{
    config::{Globals, Servers, servers_from_env},
    exit::{Exit, Refusal},
    patience::patiently,
    stack::Stack,
};

/// Seeded into the catalogue of a local stack that has none, so that a first import has something to sell.
pub const FIRST_PRODUCTS: i64 = 300;
/// See [`FIRST_PRODUCTS`].
pub const FIRST_CUSTOMERS: i64 = 1_500;
/// See [`FIRST_PRODUCTS`].
pub const FIRST_STOCK: i64 = 1_000_000;

/// Postgres and Redis for one command.
#[derive(Clone)]
pub struct Backends {
    /// Runs as long as this does.
    stack: Option<Arc<Stack>>,
    servers: Servers,
    namespace: String,
    allow_volatile_redis: bool,
}

impl Backends {
    /// Finds the servers; brings up the local stack, with its schema, where none are named.
    ///
    /// # Errors
    /// When the configuration is wrong or the stack does not start.
    pub async fn open(globals: &Globals) -> anyhow::Result<Self> {
        let (stack, servers) = match servers_from_env()? {
            Some(servers) => (None, servers),
            None => {
                let stack = tokio::task::block_in_place(|| Stack::enter(globals.state_dir.as_deref()))?;
                let servers = stack.servers();
                (Some(Arc::new(stack)), servers)
            }
        };
        let backends = Self {
            stack,
            servers,
            namespace: globals.namespace.clone(),
            allow_volatile_redis: globals.allow_volatile_redis,
        };
        if backends.is_local() {
            let store = backends.store(WorkerSettings::Report, 1)?;
            store.migrate().await?;
            store.close().await;
        }
        Ok(backends)
    }

    /// Whether the servers are the local stack.
    pub fn is_local(&self) -> bool {
        self.stack.is_some()
    }

    /// The local stack, if it serves.
    pub fn stack(&self) -> Option<&Stack> {
        self.stack.as_deref()
    }

    /// How to reach the servers.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// A pool of connections to Postgres.
    ///
    /// # Errors
    /// When DATABASE_URL cannot be read.
    pub fn store(&self, settings: WorkerSettings, connections: u32) -> anyhow::Result<Store> {
        Store::new(&self.servers.database_url, settings, connections)
            .map_err(|error| Refusal::new(Exit::Usage, format!("DATABASE_URL cannot be used: {error}")).into())
    }

    /// Redis, without a connection yet.
    ///
    /// # Errors
    /// When REDIS_URL cannot be read.
    pub fn redis(&self) -> anyhow::Result<Redis> {
        Redis::new(&self.servers.redis_url, &self.namespace)
            .map_err(|error| Refusal::new(Exit::Usage, format!("REDIS_URL cannot be used: {error}")).into())
    }

    /// Waits until both servers answer, through outages of any length; `false` when the signal came first.
    ///
    /// # Errors
    /// When a server answers in a way that waiting does not heal (no schema, a wrong password), or as
    /// [`Backends::check_safety`].
    pub async fn await_servers(&self, shutdown: &Shutdown) -> anyhow::Result<bool> {
        let (store, redis) = (self.store(WorkerSettings::Report, 1)?, self.redis()?);
        let tell = |text: &str| warn!("{text}");
        let postgres =
            async { anyhow::Ok(patiently(shutdown, tell, async || Ok(store.partitions().await?)).await?.is_some()) };
        let redis = async {
            match patiently(shutdown, tell, async || Ok(redis.safety_problems().await?)).await? {
                Some(problems) => self.judge(&problems).map(|()| true),
                None => Ok(false),
            }
        };
        let (postgres, redis) = tokio::try_join!(postgres, redis)?;
        Ok(postgres && redis)
    }

    /// Refuses to put orders into a Redis that may lose them.
    ///
    /// # Errors
    /// When Redis is away, or its settings are unsafe and nobody said that this is meant.
    pub async fn check_safety(&self) -> anyhow::Result<()> {
        self.judge(&self.redis()?.safety_problems().await?)
    }

    fn judge(&self, problems: &[SafetyProblem]) -> anyhow::Result<()> {
        if problems.is_empty() || self.allow_volatile_redis {
            return Ok(());
        }
        let list: Vec<String> = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
        let message = format!("this Redis may lose orders:{}\nor accept it with --allow-volatile-redis", list.concat());
        Err(Refusal::new(Exit::Usage, message).into())
    }
}
