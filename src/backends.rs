//! The servers that a command works with: those named in the environment, or the local stack.

use std::{path::PathBuf, sync::Arc};

use pipeline::{
    retry::{POSTGRES, REDIS},
    shutdown::Shutdown,
    store::{self, Store, WorkerSettings},
    streams::{Redis, SafetyProblem},
};

use tracing::warn;

use crate::{
    config::{Globals, Servers, servers_from_env},
    exit::{Exit, Refusal, chain},
    patience::patiently,
    signals::leave_stack_on_signal,
    stack::{Stack, state_dir},
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
    state_dir: Option<PathBuf>,
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
                // From before there is a server that could be left behind.
                leave_stack_on_signal()?;
                let stack =
                    tokio::task::block_in_place(|| Stack::enter(globals.state_dir.as_deref(), !globals.no_sync))?;
                let servers = stack.servers();
                (Some(Arc::new(stack)), servers)
            }
        };
        let backends = Self {
            stack,
            servers,
            state_dir: globals.state_dir.clone(),
            namespace: globals.namespace.clone(),
            allow_volatile_redis: globals.allow_volatile_redis,
        };
        POSTGRES.stands_at(backends.store(WorkerSettings::Report, 1)?.address());
        REDIS.stands_at(backends.redis()?.address());
        if backends.is_local() {
            let store = backends.store(WorkerSettings::Report, 1)?;
            // One that is there can be looked at, whatever state its Postgres is in.
            if !store.is_schema_current().await.unwrap_or(false) {
                store.migrate().await?;
            }
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

    /// The folder for what outlives a process, whether or not the servers are the local stack. It may not be there yet.
    ///
    /// # Errors
    /// When none is named, and the user has no home.
    pub fn state_dir(&self) -> anyhow::Result<PathBuf> {
        state_dir(self.state_dir.as_deref())
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
        let url = &self.servers.database_url;
        let wrong = |why: &str| {
            let message = format!(
                "DATABASE_URL is not the URL of a Postgres: {why}; it looks like \
                 postgres://USER:PASSWORD@HOST:5432/DATABASE, or postgres://USER@localhost/DATABASE?host=/FOLDER/OF/SOCKET"
            );
            anyhow::Error::from(Refusal::new(Exit::Usage, message))
        };
        // What reads it takes any scheme for Postgres'.
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong("it begins with neither postgres:// nor postgresql://"));
        }
        Store::new(url, settings, connections).map_err(|error| wrong(&chain(&error.into())))
    }

    /// Redis, without a connection yet.
    ///
    /// # Errors
    /// When REDIS_URL cannot be read.
    pub fn redis(&self) -> anyhow::Result<Redis> {
        Redis::new(&self.servers.redis_url, &self.namespace).map_err(|error| {
            let message = format!(
                "REDIS_URL is not the URL of a Redis: {}; it looks like redis://:PASSWORD@HOST:6379, rediss://… for TLS, \
                 or unix:///PATH/OF/SOCKET",
                error.to_string().replace("- InvalidClientConfig", "")
            );
            Refusal::new(Exit::Usage, message).into()
        })
    }

    /// Waits until both servers answer, through outages of any length; `false` when the signal came first.
    ///
    /// # Errors
    /// When a server answers in a way that waiting does not heal (no schema, a wrong password), or as
    /// [`Backends::check_safety`].
    pub async fn await_servers(&self, shutdown: &Shutdown) -> anyhow::Result<bool> {
        let (store, redis) = (self.store(WorkerSettings::Report, 1)?, self.redis()?);
        let tell = |text: &str| warn!("{text}");
        let postgres = async {
            let attempt = async || {
                store.partitions().await?;
                Ok(store.is_schema_current().await?)
            };
            match patiently(shutdown, tell, attempt).await? {
                Some(false) => {
                    let message = "the database has the schema of an earlier version; bring it up to date with: orderstream migrate";
                    Err(Refusal::new(Exit::Failed, message).into())
                }
                is_current => anyhow::Ok(is_current.is_some()),
            }
        };
        let redis = async {
            match patiently(shutdown, tell, async || Ok(redis.safety_problems().await?)).await? {
                Some(problems) => self.judge(&problems).map(|()| true),
                None => Ok(false),
            }
        };
        let (postgres, redis) = tokio::try_join!(postgres, redis)?;
        if postgres && redis {
            self.check_owner().await?;
        }
        Ok(postgres && redis)
    }

    /// Refuses to put orders into a Redis that may lose them, or among those of another installation.
    ///
    /// # Errors
    /// When Redis is away, or its settings are unsafe and nobody said that this is meant, or another installation works in the namespace.
    pub async fn check_safety(&self) -> anyhow::Result<()> {
        self.judge(&self.redis()?.safety_problems().await?)?;
        self.check_owner().await
    }

    /// Refuses a namespace that another installation works in: each would take orders of the other, and charge them.
    ///
    /// # Errors
    /// When it does, or Postgres is away.
    async fn check_owner(&self) -> anyhow::Result<()> {
        let store = self.store(WorkerSettings::Report, 1)?;
        let installation = store::installation(&store.pool()).await?;
        store.close().await;
        let redis = self.redis()?;
        // A Redis that does not say so now refuses the work, too, and is told of there.
        let Ok(owner) = redis.owner(&installation).await else { return Ok(()) };
        if owner == installation {
            return Ok(());
        }
        let message = format!(
            "the keys {}:* in Redis are those of installation {owner}, and the database is installation {installation}: on the same \
             keys they would take each other's orders, and charge them. Name another --namespace (or the right DATABASE_URL); where \
             the other installation is gone for good: redis-cli DEL '{}'",
            self.namespace,
            redis.keys().installation()
        );
        Err(Refusal::new(Exit::Conflict, message).into())
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
