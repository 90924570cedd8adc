//! The HTTP API, and the listener that it shares with the dashboard. What it promises stands in docs/HTTP.md.
//!
//! | step | where |
//! |---|---|
//! | connections come and go, within bounds | `listener`, `stall` |
//! | what can be read in two ways is refused | `strict` |
//! | every request gets a name, a time limit, and an answer that can be read | `watch` |
//! | who may do what | `access` |
//! | bodies, within bounds | `body` |
//! | a request that is sent again is answered again | `idempotency` |
//! | what can be asked for | `routes`, and a file for each noun |
//! | everything that can go wrong | `problem` |

pub(crate) mod access;
mod actions;
mod alerts;
pub(crate) mod body;
pub(crate) mod dead_letter_actions;
pub(crate) mod dead_letters;
mod figures;
mod health;
mod idempotency;
pub(crate) mod imports;
pub(crate) mod links;
mod listener;
mod metrics;
mod openapi;
pub(crate) mod order_views;
mod orders;
mod outcry;
mod overview;
pub mod problem;
pub(crate) mod query;
mod readiness;
pub(crate) mod refund_views;
pub(crate) mod refunds;
mod routes;
mod secrets;
mod stall;
mod stock;
mod streams;
mod strict;
mod uploads;
pub(crate) mod watch;
mod webhooks;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use pipeline::{
    retry::{Outage, REDIS},
    shutdown::Shutdown,
    store::{self, Store, WorkerSettings},
    streams::{Connection, Fields, KeptConnection, Redis},
    topology::StageName,
};
use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};
use tracing::{info, warn};

pub use access::new_token;
pub use openapi::{document as openapi, postman};

use self::{
    problem::{Code, Problem},
    uploads::Uploads,
};
use crate::{
    backends::Backends,
    cli::http::HttpArgs,
    dashboard::{self, Dashboard},
    exit::{Exit, Refusal},
    metrics::ProcessMetrics,
    monitor::Monitor,
    output,
};

/// Connections to Postgres for requests.
const POSTGRES_CONNECTIONS: u32 = 8;

/// How long a look at the backlog is good for.
const BACKLOG_KEPT: Duration = Duration::from_millis(200);

/// How often old idempotency keys are looked for.
const CLEAN_EVERY: Duration = Duration::from_secs(600);

/// What every request works with. Clones share it.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) options: HttpArgs,
    pub(crate) backends: Backends,
    pub(crate) store: Store,
    pub(crate) reports: Store,
    pub(crate) redis: Redis,
    /// For commands that do not block.
    connection: Mutex<KeptConnection>,
    outage: Mutex<Outage>,
    pub(crate) partitions: u16,
    backlog: Mutex<Option<(Instant, u64)>>,
    readiness: readiness::Readiness,
    pub(crate) access: access::Access,
    secrets: secrets::Secrets,
    draining: AtomicBool,
    imports: imports::Imports,
    metrics: ProcessMetrics,
    pub(crate) dashboard: Dashboard,
    pub(crate) monitor: Monitor,
    pub(crate) shutdown: Shutdown,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// A connection to Redis that all requests share.
    pub(crate) async fn connection(&self) -> Result<Connection, Problem> {
        Ok(self.connection.lock().await.get().await?.clone())
    }

    /// What Redis answered over [`App::connection`]. A connection that failed is not used again.
    pub(crate) async fn answered<T>(&self, answer: Result<T, impl Into<Problem>>) -> Result<T, Problem> {
        let answer = answer.map_err(Into::into);
        // One that refuses may have become a replica: another may stand in its place.
        let fails = |problem: &Problem| matches!(problem.code(), Code::RedisAway | Code::RedisRefuses);
        if answer.as_ref().is_err_and(fails) {
            self.connection.lock().await.forget();
        }
        answer
    }

    /// Adds messages to a stage's stream. That Redis denies us to, or allows it again, is known to whoever asks how it stands.
    pub(crate) async fn publish(&self, partition: u16, stage: StageName, messages: &[Fields]) -> Result<(), Problem> {
        let mut connection = self.connection().await?;
        let published = self.redis.publish(&mut connection, partition, stage, messages).await;
        {
            let mut outage = self.outage.lock().await;
            match &published {
                Ok(_) => outage.has_written(),
                Err(error) if error.refusal() == Some(pipeline::streams::Refusal::Denied) => {
                    outage.goes_on(&REDIS, error);
                }
                Err(_) => {}
            }
        }
        self.answered(published).await?;
        Ok(())
    }

    /// Refuses what would make the pipeline's backlog larger than it may be.
    async fn demand_room(&self) -> Result<(), Problem> {
        let mut known = self.backlog.lock().await;
        let backlog = match *known {
            Some((at, backlog)) if at.elapsed() < BACKLOG_KEPT => backlog,
            _ => {
                let mut connection = self.connection().await?;
                let mut backlog = 0;
                for partition in 0..self.partitions {
                    for stage in StageName::WAY {
                        let waiting = self.redis.backlog(&mut connection, partition, stage).await;
                        backlog += self.answered(waiting).await?;
                    }
                }
                *known = Some((Instant::now(), backlog));
                backlog
            }
        };
        if backlog >= self.options.max_backlog {
            let detail = format!("{backlog} orders are on their way, at most {} may be", self.options.max_backlog);
            return Err(Problem::new(Code::Backlog, detail).retry_after(5));
        }
        Ok(())
    }

    /// The partition for what has this name: the same name, the same partition.
    fn partition_of(&self, name: &str) -> u16 {
        let hash = crc32fast::hash(name.as_bytes());
        u16::try_from(hash % u32::from(self.partitions.max(1))).unwrap_or_default()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The API, being served.
pub struct Server {
    task: JoinHandle<()>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Checks the servers and listens; serves until the shutdown, and then brings requests in flight to their end.
    ///
    /// # Errors
    /// When the address cannot be had, or must not be served without tokens.
    pub async fn start(
        backends: &Backends,
        options: &HttpArgs,
        address: SocketAddr,
        monitor: &Monitor,
        metrics: &ProcessMetrics,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        // Requests are few beside what they bring, and nobody is there to repeat one.
        let store = backends.store(WorkerSettings::Worker, POSTGRES_CONNECTIONS)?.always_asked();
        let guarded = store::has_tokens(&mut *store.acquire().await?).await?;
        refuse_unguarded(address, guarded)?;
        let reports = backends.store(WorkerSettings::Page, POSTGRES_CONNECTIONS)?.always_asked();
        metrics.watch_pool("http", &store);
        metrics.watch_pool("http_reports", &reports);
        let installation = store::installation(&store.pool()).await?;
        let folder = match &options.upload_dir {
            // A folder that was named must do.
            Some(folder) => {
                Ok(uploads::create(folder).map_err(|error| Refusal::new(Exit::Usage, crate::exit::chain(&error)))?)
            }
            None => backends.state_dir().map(|folder| folder.join("uploads")),
        };
        let uploads = Uploads::new(folder, &installation, options.upload_max.saturating_mul(options.uploads.into()));
        let app = App(Arc::new(Shared {
            options: options.clone(),
            backends: backends.clone(),
            partitions: store.partitions().await?,
            reports,
            outage: Mutex::default(),
            connection: Mutex::new(KeptConnection::always_asked(&backends.redis()?)),
            redis: backends.redis()?,
            store,
            backlog: Mutex::default(),
            readiness: readiness::Readiness::default(),
            access: access::Access::default(),
            secrets: secrets::Secrets::from_env()?,
            draining: AtomicBool::new(false),
            imports: imports::Imports::new(options.uploads, uploads)?,
            metrics: metrics.clone(),
            dashboard: Dashboard::new(options)?,
            monitor: monitor.clone(),
            shutdown: shutdown.clone(),
        }));
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        monitor.serves_http(address);
        info!(%address, "serving HTTP");
        if !guarded {
            warn!(
                "no token is configured: whoever reaches {address} may do everything. Make one: orderstream token create"
            );
        }
        if app.secrets.is_empty() {
            info!("no ORDERSTREAM_WEBHOOK_SECRET: webhooks are off");
        }
        let gateways = store::known_gateways(&mut *app.store.acquire().await?).await?;
        for variable in app.secrets.of_nobody(&gateways) {
            warn!("{variable} is the secret of no gateway that is known; see: orderstream provider");
        }
        // Before anybody can send again what was accepted.
        imports::look_after(&app).await;
        tokio::spawn(imports::look_after_uploads(app.clone()));
        tokio::spawn(clean(app.clone()));
        tokio::spawn(dashboard::follow(app.clone()));
        let task = tokio::spawn(async move {
            listener::serve(app.clone(), listener).await;
            app.imports.finish().await;
        });
        Ok(Self { task, address })
    }

    /// Says on stdout where it listens: with port 0 nobody else knows.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn announce(&self) -> anyhow::Result<()> {
        output::text_line(&format!("HTTP=http://{}", self.address))
    }

    /// Waits until it has stopped, after the shutdown.
    ///
    /// # Errors
    /// When it ended by a defect.
    pub async fn stopped(self) -> anyhow::Result<()> {
        Ok(self.task.await?)
    }
}

/// Without a token everybody may do everything: then only this machine is served.
fn refuse_unguarded(address: SocketAddr, guarded: bool) -> anyhow::Result<()> {
    if guarded || address.ip().is_loopback() {
        return Ok(());
    }
    let message = format!(
        "--http {address} can be reached by others, and no token is configured: anybody could do everything. Make a \
         token first (orderstream token create --role admin --name NAME), or serve 127.0.0.1"
    );
    Err(Refusal::new(Exit::Usage, message).into())
}

/// Deletes what is too old to be answered again, now and then.
async fn clean(app: App) {
    loop {
        match store::delete_old_request_keys(&app.store.pool()).await {
            Ok(_) => {}
            // The next time will do.
            Err(error) => tracing::debug!(%error, "old idempotency keys stay"),
        }
        if !app.shutdown.sleep(CLEAN_EVERY).await {
            return;
        }
    }
}
