//! `orderstream run`: the workers and the relay.

use std::{collections::BTreeMap, time::Duration};

use pipeline::{
    payments::Gateways,
    relay::Board,
    runner::{CountersSnapshot, Limits, PipelineConfig, Workers},
    shutdown::Shutdown,
    store::{self, Store, WorkerSettings},
    streams::{self, KeptConnection, Redis},
    topology::StageName,
};
use tracing::{info, warn};

use super::shutdown_on_signal;
use crate::{
    alerts::{AlertSecrets, Alerts},
    backends::Backends,
    cli::{Role, RunArgs, WorkerArgs},
    config::Globals,
    exit::{Exit, Refusal},
    gateway::{self, Begins, GatewayFigures, gateways, payment_limits},
    http::Server,
    metrics::ProcessMetrics,
    monitor::{Monitor, MonitorOptions, Work},
    notify::{Channels, NotifySecrets, Notifying},
    output,
    patience::ServerError,
};

/// How often a draining run looks whether anything is left.
const DRAIN_POLL: Duration = Duration::from_millis(100);

pub(super) async fn run(globals: &Globals, args: &RunArgs) -> anyhow::Result<Exit> {
    let shutdown = shutdown_on_signal()?;
    // Wrong configuration is said before anything is waited for.
    gateways(&args.workers.payment, &GatewayFigures::default(), Begins::Payments)?;
    Channels::new(&args.workers.notify, &NotifySecrets::from_env()?)?;
    let (mail_from, environment) = (args.workers.notify.mail_from.as_ref(), args.http.environment.as_deref());
    let alerts = Alerts::new(&args.alerts, mail_from, environment, &AlertSecrets::from_env()?)?;
    let backends = Backends::open(globals).await?;
    let metrics = ProcessMetrics::new()?;
    // Containers start in any order. What is wrong for good still ends the command at once.
    let crew = loop {
        if !backends.await_servers(&shutdown).await? {
            if globals.json {
                output::json(&BTreeMap::<StageName, CountersSnapshot>::new())?;
            }
            return Ok(if args.until_drained { Exit::Interrupted } else { Exit::Done });
        }
        match Crew::start(&backends, &args.stages, &args.workers, &metrics, args.http.address.is_some(), &shutdown)
            .await
        {
            // A server that went away between the two looks is waited for again.
            Err(error) if will_pass(&error) => {}
            crew => break crew?,
        }
    };
    crew.monitor().alert(alerts, &shutdown).await?;
    let server = match args.http.address {
        Some(address) => {
            Some(Server::start(&backends, &args.http, address, crew.monitor(), &metrics, &shutdown).await?)
        }
        None => None,
    };
    if let Some(server) = &server {
        server.announce()?;
    }
    if args.until_drained {
        tokio::select! {
            drained = crew.drained(Until::NothingIsLeft) => drained?,
            () = shutdown.begun() => {}
        }
    } else {
        shutdown.begun().await;
    }
    let interrupted = shutdown.has_begun();
    if let Some(server) = server {
        shutdown.begin();
        server.stopped().await?;
    }
    let (counts, gateways) = (crew.counts(), crew.gateways().clone());
    let in_time = crew.stop().await;
    if globals.json {
        output::json(&counts)?;
    }
    demand_no_refusal(&gateways)?;
    match (in_time, interrupted && args.until_drained) {
        (false, _) => Ok(Exit::Failed),
        (true, true) => Ok(Exit::Interrupted),
        (true, false) => Ok(Exit::Done),
    }
}

/// What workers are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Nobody owes anything: no provider an answer, no order that has not settled a refund.
    NothingIsLeft,
    /// The orders and refunds of this import have come to their ends; what others wait for is theirs.
    Import(i64),
}

/// The workers of this process, with what is needed to watch them.
pub(super) struct Crew {
    workers: Workers,
    gateways: Gateways,
    store: Store,
    reports: Store,
    redis: Redis,
    stages: Vec<StageName>,
    relay: bool,
    collector: bool,
    notifier: Option<Notifying>,
    monitor: Monitor,
    drain_deadline: Duration,
}

impl Crew {
    /// Checks the servers and starts the workers. With viewers, somebody in this process looks at how it goes.
    pub(super) async fn start(
        backends: &Backends,
        roles: &[Role],
        args: &WorkerArgs,
        metrics: &ProcessMetrics,
        has_viewers: bool,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        backends.check_safety().await?;
        let mut stages: Vec<StageName> = roles.iter().filter_map(|role| role.stage()).collect();
        stages.sort();
        stages.dedup();
        let (relay, collector) = (roles.contains(&Role::Relay), roles.contains(&Role::Collector));
        let redis = backends.redis()?;
        let reports = backends.store(WorkerSettings::Report, 2)?;
        // Who begins no payments says who takes them only if it was told.
        let begins = match stages.contains(&StageName::Payment) {
            true => Begins::Payments,
            false if collector || stages.contains(&StageName::Refund) => Begins::Questions,
            false => Begins::Nothing,
        };
        let gateways = gateways(&args.payment, &metrics.gateway, begins)?;
        gateway::load(&gateways, &reports).await?;
        let config = PipelineConfig {
            stages: stages.clone(),
            relay,
            reconcile_every: roles.contains(&Role::Reconciler).then(|| Duration::from_secs(args.reconcile_every)),
            workers_per_stage: args.workers,
            limits: Limits {
                batch_messages_max: usize::from(args.batch),
                claim_idle: Duration::from_secs(args.claim_idle),
                attempts_max: args.attempts_max,
                processing_max: Duration::from_secs(args.processing_limit),
                ..Limits::default()
            },
            collector,
            gateways: gateways.clone(),
            payments: payment_limits(&args.payment),
            metrics: metrics.pipeline.clone(),
        };
        // One connection per worker, one for the relay, five for the collector, one for watching.
        let workers: u32 = StageName::ALL.iter().map(|stage| u32::from(config.workers_of(*stage))).sum();
        let store = backends.store(WorkerSettings::Worker, workers + 7)?;
        metrics.watch_pool("workers", &store);
        metrics.watch_pool("worker_reports", &reports);
        // Before the workers: what they do is told, also on a channel that is switched on for the first time.
        let notifier = match roles.contains(&Role::Notifier) {
            true => Notifying::prepare(backends, &args.notify, metrics).await?,
            false => None,
        };
        let workers = Workers::start(&config, (&store, &reports), &redis, shutdown).await.map_err(gateway::refused)?;
        // A process that must begin no more payments ends: it says why, and whoever keeps it running sees it.
        tokio::spawn({
            let (gateways, shutdown) = (gateways.clone(), shutdown.clone());
            async move {
                gateways.refused().await;
                shutdown.begin();
            }
        });
        let notifier = notifier.map(|notifier| Notifying::start(notifier, shutdown));
        let beside = roles.iter().filter(|role| role.stage().is_none());
        let work =
            Work { stages: workers.counters().clone(), roles: beside.map(|role| role.as_str().to_owned()).collect() };
        let options = MonitorOptions { has_viewers, may_lead: roles.contains(&Role::Monitor) };
        let monitor = Monitor::start(backends, options, work, shutdown).await?;
        let names: Vec<&str> = stages.iter().map(|stage| stage.as_str()).collect();
        info!(stages = names.join(","), relay, "running");
        Ok(Self {
            workers,
            gateways,
            store,
            reports,
            redis,
            stages,
            relay,
            collector,
            notifier,
            monitor,
            drain_deadline: Duration::from_secs(args.drain_deadline),
        })
    }

    /// Waits until the streams of all stages are acknowledged to their end, with a collector what `until` says is not open any
    /// more, and with a relay the board shows the last event. Looks twice: a message between two streams is seen by neither look
    /// alone. A server that is away has not drained; the workers say that it is away.
    pub(super) async fn drained(&self, until: Until) -> anyhow::Result<()> {
        let mut calm = 0;
        let mut connection = KeptConnection::new(&self.redis);
        while calm < 2 {
            calm = match self.is_drained(until, &mut connection).await {
                Ok(true) => calm + 1,
                Ok(false) => 0,
                Err(error) if error.outage().is_some() => {
                    connection.forget();
                    0
                }
                Err(error) => return Err(error.into()),
            };
            tokio::time::sleep(DRAIN_POLL).await;
        }
        Ok(())
    }

    async fn is_drained(&self, until: Until, connection: &mut KeptConnection) -> Result<bool, ServerError> {
        let connection = connection.get().await?;
        for partition in 0..self.store.partitions().await? {
            for stage in &self.stages {
                let group = self.redis.group_state(connection, partition, *stage).await?;
                if !group.is_some_and(|group| group.is_drained()) {
                    return Ok(false);
                }
            }
        }
        if self.collector {
            let mut postgres = self.reports.pool().acquire().await.map_err(store::Error::from)?;
            let is_open = match until {
                Until::NothingIsLeft => store::is_money_owed(&mut postgres).await?,
                Until::Import(import_id) => store::is_import_open(&mut postgres, import_id).await?,
            };
            if is_open {
                return Ok(false);
            }
        }
        if self.relay {
            let mut postgres = self.store.pool().acquire().await.map_err(store::Error::from)?;
            let last = store::last_event_seq(&mut postgres).await?;
            let cursor = Board::new(self.redis.keys().clone()).cursor(connection).await?;
            if cursor.unwrap_or(0) != last {
                return Ok(false);
            }
        }
        match &self.notifier {
            Some(notifier) => Ok(notifier.is_done().await?),
            None => Ok(true),
        }
    }

    /// Who takes the money.
    pub(super) fn gateways(&self) -> &Gateways {
        &self.gateways
    }

    /// What each stage has done.
    pub(super) fn counts(&self) -> BTreeMap<StageName, CountersSnapshot> {
        self.workers.counters().iter().map(|(stage, counters)| (*stage, counters.snapshot())).collect()
    }

    /// Who watches the pipeline in this process.
    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Stops the workers; whether their batches came to an end in time.
    pub(super) async fn stop(self) -> bool {
        let stopped = async {
            let notified = async {
                match self.notifier {
                    Some(notifier) => notifier.stop(self.drain_deadline).await,
                    None => true,
                }
            };
            tokio::join!(self.workers.stop(self.drain_deadline), notified)
        };
        let in_time = stopped.await == (true, true);
        self.monitor.farewell().await;
        if in_time {
            info!("stopped");
            self.store.close().await;
        } else {
            warn!(
                seconds = self.drain_deadline.as_secs(),
                "stopped with batches in hand; another worker takes them over after --claim-idle"
            );
        }
        in_time
    }
}

/// Fails if this process had to end because another gateway takes new payments than it was told.
pub(super) fn demand_no_refusal(gateways: &Gateways) -> anyhow::Result<()> {
    match gateways.refusal() {
        Some(why) => Err(Refusal::new(Exit::Conflict, why).into()),
        None => Ok(()),
    }
}

fn will_pass(error: &anyhow::Error) -> bool {
    error.downcast_ref::<store::Error>().is_some_and(store::Error::is_transient)
        || error.downcast_ref::<streams::Error>().is_some_and(streams::Error::is_transient)
}
