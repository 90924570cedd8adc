//! All workers of one process: started together, stopped together.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::task::JoinSet;
use tracing::error;

use super::{Counters, limits::Limits, worker::Worker};
use crate::{
    collector::Collector,
    metrics::Metrics,
    payments::{GatewayError, Gateways, PaymentLimits, Payments},
    reconciler::{Reconciler, Setbacks},
    relay::Relay,
    shutdown::Shutdown,
    stage::{Callback, Payment, Refund, Reservation, Settlement, Stage},
    store::Store,
    streams::Redis,
    topology::StageName,
};

/// Pause before a worker that panicked starts again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// Which stages.
    pub stages: Vec<StageName>,
    /// Whether to run the relay; of all that run, one at a time is active.
    pub relay: bool,
    /// Whether to run the reconciler, and how long it rests between sweeps; one at a time is active.
    pub reconcile_every: Option<Duration>,
    /// Whether to run the collector; any number of them may be active.
    pub collector: bool,
    /// Workers of each stage in each partition. One keeps the order of arrival for scarce stock.
    pub workers_per_stage: u16,
    /// Their bounds.
    pub limits: Limits,
    /// Who takes the money.
    pub gateways: Gateways,
    /// How long to wait for it.
    pub payments: PaymentLimits,
    /// Where it is counted what they do.
    pub metrics: Metrics,
}

/// Workers of payment, at least, where a provider is asked: the slowest answers of one batch should not hold up the next.
const ASKING_WORKERS_MIN: u16 = 4;

impl PipelineConfig {
    /// How many workers a stage has in each partition, once `gateways` are loaded.
    pub fn workers_of(&self, stage: StageName) -> u16 {
        match stage {
            StageName::Payment if self.gateways.current().is_some_and(|gateway| !gateway.is_pure()) => {
                self.workers_per_stage.max(ASKING_WORKERS_MIN)
            }
            _ => self.workers_per_stage,
        }
    }
}

/// The workers of this process.
#[derive(Debug)]
pub struct Workers {
    tasks: JoinSet<()>,
    counters: BTreeMap<StageName, Arc<Counters>>,
    shutdown: Shutdown,
}

impl Workers {
    /// Starts them. They come to their end after `shutdown` is given. Of the two stores one has the settings of
    /// workers, one those of reports.
    ///
    /// # Errors
    /// When Postgres cannot tell how many partitions there are or who takes the money, or this process must not work with
    /// whoever does.
    pub async fn start(
        config: &PipelineConfig,
        (store, reports): (&Store, &Store),
        redis: &Redis,
        shutdown: &Shutdown,
    ) -> Result<Self, GatewayError> {
        if config.gateways.current().is_none() {
            config.gateways.load(store).await?;
        }
        let mut workers = Self {
            tasks: JoinSet::new(),
            counters: config
                .stages
                .iter()
                .map(|&stage| (stage, Arc::new(Counters::new(&config.metrics, stage))))
                .collect(),
            shutdown: shutdown.clone(),
        };
        let ends = config.metrics.ends();
        let payments = Payments::new(store.clone(), config.gateways.clone(), config.payments.clone());
        let start = format!("{:x}", chrono::Utc::now().timestamp_micros());
        for partition in 0..store.partitions().await? {
            for &stage in &config.stages {
                let spawn = Spawn { config, redis, partition, start: &start };
                match stage {
                    StageName::Reservation => {
                        workers.spawn(&spawn, Reservation::new(store.clone(), partition).counted_by(ends.clone()));
                    }
                    StageName::Payment => workers.spawn(&spawn, Payment::new(payments.clone())),
                    StageName::Settlement => {
                        workers.spawn(&spawn, Settlement::new(store.clone()).counted_by(ends.clone()));
                    }
                    StageName::Refund => workers.spawn(&spawn, Refund::new(payments.clone())),
                    StageName::Callback => workers.spawn(&spawn, Callback::new(payments.clone())),
                }
            }
        }
        if config.relay {
            let relay = Arc::new(Relay::new(store.clone(), redis.clone(), &config.metrics));
            workers.keep("relay", move |shutdown| {
                let relay = Arc::clone(&relay);
                async move { relay.run(&shutdown).await }.boxed()
            });
        }
        if config.collector {
            let collector = Arc::new(Collector::new(payments, redis.clone()));
            workers.keep("collector", move |shutdown| {
                let collector = Arc::clone(&collector);
                async move { collector.run(&shutdown).await }.boxed()
            });
        }
        if let Some(every) = config.reconcile_every {
            let reconciler = Arc::new(Reconciler::new(reports.clone(), redis.clone(), every, &config.metrics));
            let setbacks = Arc::new(Setbacks::new(reports.clone(), redis.clone(), &config.metrics));
            workers.keep("setbacks", move |shutdown| {
                let setbacks = Arc::clone(&setbacks);
                async move { setbacks.run(&shutdown).await }.boxed()
            });
            workers.keep("reconciler", move |shutdown| {
                let reconciler = Arc::clone(&reconciler);
                async move { reconciler.run(&shutdown).await }.boxed()
            });
        }
        Ok(workers)
    }

    /// Runs something until the signal, through panics.
    fn keep(&mut self, who: &'static str, run: impl Fn(Shutdown) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            while AssertUnwindSafe(run(shutdown.clone())).catch_unwind().await.is_err() {
                error!(role = who, "the {who} panicked and starts again");
                shutdown.sleep(AFTER_PANIC).await;
            }
        });
    }

    fn spawn<S: Stage + 'static>(&mut self, spawn: &Spawn<'_>, stage: S) {
        let stage = Arc::new(stage);
        let host = nix::unistd::gethostname().unwrap_or_default();
        for number in 0..spawn.config.workers_of(S::NAME) {
            let worker = Worker {
                stage: Arc::clone(&stage),
                redis: spawn.redis.clone(),
                partition: spawn.partition,
                name: format!("{}:{}:{}:{number}", host.to_string_lossy(), std::process::id(), spawn.start),
                limits: spawn.config.limits,
                counters: Arc::clone(&self.counters[&S::NAME]),
                shutdown: self.shutdown.clone(),
            };
            self.tasks.spawn(async move {
                // A stage must not fall silent: after a panic the worker starts again and finds its batch pending.
                let mut silenced = false;
                while AssertUnwindSafe(worker.run(silenced)).catch_unwind().await.is_err() {
                    silenced = true;
                    error!(stage = %S::NAME, partition = worker.partition, "a worker panicked and starts again");
                    worker.shutdown.sleep(AFTER_PANIC).await;
                }
            });
        }
    }

    /// What each stage has done.
    pub fn counters(&self) -> &BTreeMap<StageName, Arc<Counters>> {
        &self.counters
    }

    /// Gives the signal and waits for the batches in hand, up to `deadline`; whether all came to their end.
    pub async fn stop(mut self, deadline: Duration) -> bool {
        self.shutdown.begin();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(deadline, all).await.is_ok();
        // Not aborted: a transaction must not be dropped half-way while the process goes on.
        self.tasks.detach_all();
        in_time
    }
}

struct Spawn<'a> {
    config: &'a PipelineConfig,
    redis: &'a Redis,
    partition: u16,
    start: &'a str,
}
