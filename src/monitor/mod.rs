//! Watching the pipeline: one sampler a process looks at both servers once a second, whatever the number of viewers, and
//! makes one [`Snapshot`] of it, which pages, `top`, alerts and metrics share.
//!
//! | step | where |
//! |---|---|
//! | look at Redis and Postgres | `sample`; `calls` for looks out of turn |
//! | keep the looks of the last minutes: rates, trends, sparklines | `window` |
//! | one view a stage | `view` |
//! | say it in words | `sentence` |
//! | keep a day of it in Redis | `history` |
//! | say of this process that it is there | `report` |
//! | end imports whose process has vanished | `vanished` |

mod arrivals;
mod calls;
mod history;
mod report;
mod sample;
mod sentence;
mod snapshot;
mod vanished;
mod view;
mod window;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use pipeline::{
    shutdown::Shutdown,
    store::{self, Store, WorkerSettings},
    streams::{self, Connection, KeptConnection, Redis},
};
use tokio::{
    sync::{OnceCell, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};
use tracing::debug;

pub use history::{History, Range, Series};
pub use report::Work;
pub(crate) use report::process_id;
pub(crate) use sentence::capitalised;
pub use sentence::{rate, span};
pub use snapshot::{
    AlertView, Away, DeadLetters, ProcessView, RelayView, Snapshot, StageState, StageView, State, Today, Trend,
};

use self::{
    calls::Calls,
    history::Recorder,
    sample::{Before, Sample, Truth},
    window::{SPARK_MS, SPARK_POINTS, Window},
};
use crate::{
    alerts::{Alerting, Alerts, Shelf, Watch},
    backends::Backends,
    patience::ServerError,
};

/// How often the pipeline is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A server that has not answered by then is away.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the one process that writes history may be silent before another does.
const LEASE: Duration = Duration::from_secs(5);

/// How often the stock is compared with the open orders.
const CHECK_STOCK_EVERY: Duration = Duration::from_secs(60);

/// A process that has said nothing for this long is not counted on: it reports once a second.
const LIVE_SECONDS: f64 = 5.0;

/// What a process watches for.
#[derive(Debug, Clone, Copy)]
pub struct MonitorOptions {
    /// Somebody looks at the snapshots of this process. Without, it only looks while it leads.
    pub has_viewers: bool,
    /// It may be the one process that writes history and evaluates alerts.
    pub may_lead: bool,
}

impl MonitorOptions {
    /// Of a process that shows how it stands, and may keep the history if nobody else does.
    pub fn of_viewer() -> Self {
        Self { has_viewers: true, may_lead: true }
    }
}

/// The sampler of a process. Clones share it.
#[derive(Clone)]
pub struct Monitor(Arc<Inner>);

struct Inner {
    id: String,
    redis: Redis,
    store: Store,
    /// Asked for at the first look: a process that never looks takes no connection for it.
    partitions: OnceCell<u16>,
    options: MonitorOptions,
    snapshots: watch::Sender<Arc<Snapshot>>,
    calls: Calls,
    leads: AtomicBool,
    /// Products whose stock drifted, as it was found last; `None` where nobody could look.
    drift: Mutex<Option<i64>>,
    /// Where this process serves HTTP, once it does.
    http: OnceLock<String>,
    /// Whom this process tells of alerts, once it may.
    alerting: OnceLock<Alerting>,
    /// The process has done all its work.
    over: Shutdown,
    reporter: Mutex<Option<JoinHandle<()>>>,
}

impl Monitor {
    /// Starts looking, and telling others that this process is there, until the shutdown. What `work` does is told.
    ///
    /// # Errors
    /// When the configuration cannot be used, or Postgres does not answer.
    pub async fn start(
        backends: &Backends,
        options: MonitorOptions,
        work: Work,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let store = backends.store(WorkerSettings::Page, 3)?;
        let monitor = Self(Arc::new(Inner {
            id: report::process_id(),
            redis: backends.redis()?,
            partitions: OnceCell::new(),
            store,
            options,
            snapshots: watch::Sender::new(Arc::new(Snapshot::nothing_yet())),
            calls: Calls::new(),
            leads: AtomicBool::new(false),
            drift: Mutex::default(),
            http: OnceLock::new(),
            alerting: OnceLock::new(),
            over: Shutdown::default(),
            reporter: Mutex::default(),
        }));
        if options.has_viewers {
            monitor.partitions().await?;
        }
        tokio::spawn(monitor.clone().look_until(shutdown.clone()));
        tokio::spawn(monitor.clone().check_stock_until(shutdown.clone()));
        if options.may_lead {
            tokio::spawn(monitor.clone().end_vanished_imports_until(shutdown.clone()));
        }
        if !work.is_nothing() {
            let reporter = tokio::spawn(monitor.clone().report_until(work, shutdown.clone()));
            *monitor.0.reporter.lock().unwrap_or_else(PoisonError::into_inner) = Some(reporter);
        }
        Ok(monitor)
    }

    /// How it stands.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.0.snapshots.borrow().clone()
    }

    /// Every snapshot from now on; who is slow gets the newest only.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.snapshots.subscribe()
    }

    /// How it stood, up to now.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn history(&self, range: Range) -> Result<History, streams::Error> {
        history::read(&self.0.redis, &mut self.0.redis.connect().await?, range).await
    }

    /// Tells where this process serves HTTP.
    pub fn serves_http(&self, address: SocketAddr) {
        self.0.http.get_or_init(|| address.to_string());
    }

    /// From now on alerts are evaluated here whenever this process leads, and somebody is told.
    ///
    /// # Errors
    /// When Postgres cannot tell the installation's name.
    pub async fn alert(&self, alerts: Alerts, shutdown: &Shutdown) -> Result<(), store::Error> {
        let installation = store::installation(&self.0.store.pool()).await?;
        self.0.alerting.get_or_init(|| alerts.start(installation, shutdown));
        Ok(())
    }

    /// Whether this is the one process that writes history and evaluates alerts.
    pub fn leads(&self) -> bool {
        self.0.leads.load(Ordering::Relaxed)
    }

    async fn look_until(self, shutdown: Shutdown) {
        let mut eyes = Eyes::default();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut calls, mut called) = (self.0.calls.listen(), 0);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = calls.changed() => {}
                () = shutdown.begun() => return,
            }
            let before = std::mem::replace(&mut called, *calls.borrow_and_update());
            eyes.is_called = called > before;
            let leads = self.0.options.may_lead && self.lead(&mut eyes).await;
            self.0.leads.store(leads, Ordering::Relaxed);
            if !leads && !self.0.options.has_viewers {
                self.0.calls.answer(called, 0);
                continue;
            }
            let mut snapshot = self.look(&mut eyes).await;
            if !self.watch(&mut eyes, &mut snapshot, leads).await {
                eyes.connection = None;
            }
            if leads && snapshot.stale.is_none() && !self.record(&mut eyes, &snapshot).await {
                eyes.connection = None;
            }
            let seq = snapshot.seq;
            self.0.snapshots.send_replace(Arc::new(snapshot));
            self.0.calls.answer(called, seq);
        }
    }

    /// Looks once a minute whether the stock drifted: that reads all orders.
    async fn check_stock_until(self, shutdown: Shutdown) {
        loop {
            if self.leads() || self.0.options.has_viewers {
                let drift = sample::stock_drift(&self.0.store).await;
                if let Err(error) = &drift {
                    debug!(%error, "whether the stock drifted is not known");
                }
                *self.0.drift.lock().unwrap_or_else(PoisonError::into_inner) = drift.ok();
            }
            if !shutdown.sleep(CHECK_STOCK_EVERY).await {
                return;
            }
        }
    }

    async fn connection(&self, eyes: &mut Eyes) -> Result<Connection, streams::Error> {
        let kept = eyes.connection.get_or_insert_with(|| KeptConnection::new(&self.0.redis));
        let connection = kept.get().await?;
        if eyes.window.is_none() {
            let mut window = Window::default();
            let from = self.0.redis.now_ms(connection).await?.saturating_sub(SPARK_POINTS as u64 * SPARK_MS);
            window.recall(&history::recent(&self.0.redis, connection, from).await?);
            eyes.window = Some(window);
        }
        Ok(connection.clone())
    }

    /// The connection, if there is one: what follows a look does not connect by itself.
    async fn open_connection(eyes: &mut Eyes) -> Option<Connection> {
        let kept = eyes.connection.as_mut()?;
        tokio::time::timeout(PATIENCE, kept.get()).await.ok()?.ok().cloned()
    }

    /// Takes the lease, or renews it. Who cannot ask goes on as before: while Redis is away nobody else has it either.
    async fn lead(&self, eyes: &mut Eyes) -> bool {
        let asked = async {
            let mut connection = self.connection(eyes).await?;
            self.0.redis.lead_monitoring(&mut connection, &self.0.id, LEASE).await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(leads)) => leads,
            // It answers, and lets nobody take the lease.
            Ok(Err(error)) if error.refusal().is_some() => self.leads(),
            Ok(Err(_)) | Err(_) => {
                eyes.connection = None;
                self.leads()
            }
        }
    }

    /// Adds where the alerts stand; `false` if the connection should not be used again.
    async fn watch(&self, eyes: &mut Eyes, snapshot: &mut Snapshot, leads: bool) -> bool {
        let connection = match snapshot.stale {
            None => Self::open_connection(eyes).await,
            Some(_) => None,
        };
        let shelf = Shelf { redis: &self.0.redis, connection, who: &self.0.id };
        eyes.watch.look(snapshot, self.0.alerting.get(), leads, shelf).await
    }

    async fn record(&self, eyes: &mut Eyes, snapshot: &Snapshot) -> bool {
        let Some(connection) = Self::open_connection(eyes).await else { return true };
        let written = eyes.recorder.record(&self.0.redis, &connection, snapshot);
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(())) => true,
            // A gap in a chart.
            Ok(Err(error)) => {
                debug!(%error, "a point of the history was not written");
                !error.is_unreachable()
            }
            Err(_) => false,
        }
    }

    async fn look(&self, eyes: &mut Eyes) -> Snapshot {
        let shown = eyes.before.as_ref().map(|before| before.cursor.unwrap_or(0));
        let (sample, truth) = tokio::join!(self.sample(eyes), self.ask(shown));
        let mut snapshot = Snapshot::clone(&self.latest());
        match (sample, &mut eyes.window) {
            (Ok(sample), Some(window)) => {
                window.add(&sample);
                snapshot.seq += 1;
                snapshot.at = sample::instant(sample.at_ms);
                snapshot.stale = None;
                snapshot.processes = view::processes(&sample, window);
                // What only those who work can know, a command that is denied above all, they say.
                let told = || view::refused(&sample, &snapshot.processes, |report| report.redis_refuses.as_ref());
                let refusal = sample.redis_refuses.clone().or_else(told);
                snapshot.redis_refuses = ongoing(snapshot.redis_refuses.take(), refusal);
                snapshot.stages = view::stages(&sample, window, &snapshot.processes);
                snapshot.dead_letters = view::dead_letters(&sample);
                snapshot.today = view::today(&sample, snapshot.today.currencies);
                snapshot.relay.cursor = sample.cursor;
                eyes.before = Some(sample);
            }
            (Ok(_), None) => {}
            (Err(Unseen { error, refusal }), _) => {
                let refusal = refusal.map(|refusal| refusal.as_str().to_owned());
                snapshot.redis_refuses = ongoing(snapshot.redis_refuses.take(), refusal);
                snapshot.stale.get_or_insert_with(|| Away { since: Utc::now(), error });
            }
        }
        let (away, mut refusal) = match truth {
            Ok(truth) => {
                snapshot.parked_orders = Some(truth.parked_orders);
                snapshot.relay.last_event = Some(truth.last_event);
                snapshot.abandoned_imports = Some(truth.abandoned_imports);
                snapshot.setbacks = truth.setbacks;
                snapshot.today.currencies = truth.currencies;
                // Of a board that cannot be seen nobody knows how old it is.
                snapshot.relay.behind_seconds = truth.behind_seconds.filter(|_| snapshot.stale.is_none());
                (None, truth.refusal.map(|refusal| refusal.as_str().to_owned()))
            }
            Err(unanswered) => {
                (snapshot.parked_orders, snapshot.relay.last_event) = (None, None);
                snapshot.abandoned_imports = None;
                snapshot.relay.behind_seconds = None;
                (Some(unanswered.error), unanswered.refusal.map(|refusal| refusal.as_str().to_owned()))
            }
        };
        snapshot.postgres_away = ongoing(snapshot.postgres_away.take(), away);
        // What only those who write can know, a full disk above all, they say.
        if let Some(sample) = eyes.before.as_ref().filter(|_| refusal.is_none() && snapshot.postgres_away.is_none()) {
            refusal = view::refused(sample, &snapshot.processes, |report| report.postgres_refuses.as_ref());
        }
        snapshot.postgres_refuses = ongoing(snapshot.postgres_refuses.take(), refusal);
        snapshot.drift = *self.0.drift.lock().unwrap_or_else(PoisonError::into_inner);
        // The cursor was read a moment before the counter, or after: a board is never ahead.
        let relay = &mut snapshot.relay;
        relay.behind = relay.last_event.map(|last| (last - relay.cursor.unwrap_or(0)).max(0));
        sentence::tell(&mut snapshot);
        snapshot
    }

    async fn partitions(&self) -> Result<u16, store::Error> {
        self.0.partitions.get_or_try_init(|| self.0.store.partitions()).await.copied()
    }

    async fn sample(&self, eyes: &mut Eyes) -> Result<Sample, Unseen> {
        let look = async {
            let partitions = self.partitions().await?;
            let connection = self.connection(eyes).await?;
            let before = Before { sample: eyes.before.as_ref(), is_called: eyes.is_called };
            Ok::<_, ServerError>(sample::look(&self.0.redis, &connection, partitions, before).await?)
        };
        let looked = match tokio::time::timeout(PATIENCE, look).await {
            Ok(Ok(sample)) => return Ok(sample),
            Ok(Err(error)) => {
                let refusal = match &error {
                    ServerError::Streams(error) => error.refusal(),
                    ServerError::Store(_) => None,
                };
                Unseen { refusal, error: crate::exit::chain(&error.into()) }
            }
            Err(_) => Unseen { refusal: None, error: format!("no answer within {} s", PATIENCE.as_secs()) },
        };
        eyes.connection = None;
        Err(looked)
    }

    async fn ask(&self, shown: Option<i64>) -> Result<Truth, Unanswered> {
        let error = match tokio::time::timeout(PATIENCE, sample::ask(&self.0.store, shown)).await {
            Ok(Ok(truth)) => return Ok(truth),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        // A pool waits in silence for a connection that it is refused.
        let error = match error {
            Some(error) if !error.is_unreachable() => Some(error),
            error => self.0.store.why_unreachable().await.or(error),
        };
        Err(match error {
            Some(error) => Unanswered { refusal: error.refusal(), error: error.to_string() },
            None => Unanswered { refusal: None, error: format!("no answer within {} s", PATIENCE.as_secs()) },
        })
    }
}

/// Why Redis could not be looked at.
struct Unseen {
    error: String,
    refusal: Option<streams::Refusal>,
}

/// Why Postgres could not be asked.
struct Unanswered {
    error: String,
    refusal: Option<store::Refusal>,
}

/// A trouble that goes on, has begun, or is over; what it is may change meanwhile.
fn ongoing(before: Option<Away>, error: Option<String>) -> Option<Away> {
    error.map(|error| Away { since: before.map_or_else(Utc::now, |before| before.since), error })
}

/// What a sampler keeps from one look to the next.
#[derive(Default)]
struct Eyes {
    connection: Option<KeptConnection>,
    /// Filled from the history at the first connection.
    window: Option<Window>,
    before: Option<Sample>,
    /// Somebody has called for this look.
    is_called: bool,
    recorder: Recorder,
    watch: Watch,
}
