//! The reconciler: gives orders a new message whose message Redis has lost.
//!
//! What is in flight cannot be read from two stores at one instant, so nothing is compared. A sweep waits for evidence:
//!
//! 1. Note the time `t`, by the clock of Postgres.
//! 2. Stage by stage, in the order of an order's way: note the stream's last id, and wait until the group's **low-water
//!    mark** (its oldest unacknowledged entry) has passed it.
//! 3. Every order that was created before `t` and is still open has no message any more.
//!
//! Because: an order that is created before `t` came in by an entry that was in `incoming` by then. When that entry is
//! acknowledged, a message of the order is in `reserved` — the two happen in one script — and when everything that was in
//! `reserved` after that is acknowledged, it is in `paid`, or has ended. No clocks are compared, a backlog only makes a
//! sweep wait longer, and where Redis was emptied there is nothing to wait for. If the evidence is wrong after all, an
//! order has two messages, which is harmless: stages pass on what is done.

mod sweep;

pub use sweep::{Found, Mode};

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{
    metrics::Metrics,
    retry::{Outage, POSTGRES, REDIS},
    shutdown::Shutdown,
    store::{self, Store},
    streams::{self, Connection, Redis},
    topology::StageName,
};

/// How often a reconciler that is not the active one looks whether it may be.
const STANDBY_WAIT: Duration = Duration::from_secs(1);

/// Longest rest between sweeps, reached when one sweep after the other finds something: what does not help should not
/// be done ever again at full pace.
const REST_MAX: Duration = Duration::from_secs(300);

/// How long an exchange may take. What takes longer is left behind with its connection.
const PATIENCE: Duration = Duration::from_secs(600);

/// Sweeps while it is the one active reconciler.
#[derive(Debug)]
pub struct Reconciler {
    store: Store,
    redis: Redis,
    every: Duration,
    metrics: Metrics,
}

/// Why a sweep came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Postgres could not be asked.
    #[error("Postgres: {0}")]
    Store(#[from] store::Error),
    /// Redis could not be asked.
    #[error("Redis: {0}")]
    Streams(#[from] streams::Error),
    /// No answer came.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silence,
}

impl ReconcileError {
    fn say(&self, outage: &mut Outage) {
        match self {
            Self::Store(error) => outage.goes_on(&POSTGRES, error),
            Self::Silence => outage.goes_on(&POSTGRES, self),
            Self::Streams(error) => outage.goes_on(&REDIS, error),
        }
    }
}

impl From<sqlx::Error> for ReconcileError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Reconciler {
    /// A reconciler between these two, resting for `every` between sweeps. `store` should have
    /// [`WorkerSettings::Report`](store::WorkerSettings::Report): ranges of orders are read.
    pub fn new(store: Store, redis: Redis, every: Duration, metrics: &Metrics) -> Self {
        // Shown as zero from the start.
        for stage in [StageName::Payment, StageName::Settlement] {
            metrics.reemitted(stage);
        }
        Self { store, redis, every, metrics: metrics.clone() }
    }

    /// Sweeps until the signal, through any number of lost connections.
    pub async fn run(&self, shutdown: &Shutdown) {
        let mut outage = Outage::default();
        while !shutdown.has_begun() {
            let Err(error) = self.session(shutdown, &mut outage).await else { return };
            error.say(&mut outage);
            shutdown.sleep(outage.delay()).await;
        }
    }

    /// One sweep now, whoever else sweeps; `None` when the signal came first.
    ///
    /// # Errors
    /// When Postgres or Redis cannot be reached.
    pub async fn once(&self, mode: Mode, shutdown: &Shutdown) -> Result<Option<Found>, ReconcileError> {
        let (mut postgres, mut redis) = self.connect().await?;
        let mut from = DateTime::UNIX_EPOCH;
        self.sweep((&mut postgres, &mut redis), mode, &mut from, shutdown).await
    }

    async fn session(&self, shutdown: &Shutdown, outage: &mut Outage) -> Result<(), ReconcileError> {
        let (mut postgres, mut redis) = self.connect().await?;
        while !store::try_become_reconciler(&mut postgres).await? {
            if !shutdown.sleep(STANDBY_WAIT).await {
                return Ok(());
            }
        }
        let mut from = DateTime::<Utc>::UNIX_EPOCH;
        let mut rest = self.every;
        while !shutdown.has_begun() {
            let sweep = self.sweep((&mut postgres, &mut redis), Mode::Repair, &mut from, shutdown);
            let Some(found) = sweep.await? else { return Ok(()) };
            outage.is_over();
            rest = if found.is_nothing() { self.every } else { (rest * 2).min(REST_MAX).max(self.every) };
            shutdown.sleep(rest).await;
        }
        Ok(())
    }

    /// Connections of one's own: the lock lasts as long as the one to Postgres, and so must our belief in it.
    async fn connect(&self) -> Result<(PgConnection, Connection), ReconcileError> {
        Ok((self.store.pool().acquire().await?.detach(), self.redis.connect().await?))
    }
}
