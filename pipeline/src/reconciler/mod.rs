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

mod setbacks;
mod sweep;

pub use setbacks::Setbacks;
pub use sweep::{Found, Mode};

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::{
    metrics::Metrics,
    retry::{Failure, Outage, POSTGRES, REDIS},
    shutdown::Shutdown,
    store::{self, Store},
    streams::{self, KeptConnection, Redis},
    topology::StageName,
};

/// How often a reconciler that is not the active one looks whether it may be.
const STANDBY_WAIT: Duration = Duration::from_secs(1);

/// Longest rest between sweeps, reached when one sweep after the other finds something: what does not help should not
/// be done ever again at full pace.
const REST_MAX: Duration = Duration::from_secs(300);

/// How long a question to Postgres may take: one reads all orders since the oldest that may be open. What takes longer is
/// left behind with its connection. A Postgres that has vanished is noticed earlier, by the kernel.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long an exchange with Redis may take.
const REDIS_PATIENCE: Duration = Duration::from_secs(10);

/// How often a session that rests is asked whether it still holds its lock.
const HOLD_EVERY: Duration = Duration::from_secs(5);

/// How long that may take.
const HOLD_PATIENCE: Duration = Duration::from_secs(10);

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
    /// Redis gave no answer.
    #[error("Redis: no answer for {} s: the connection is given up", REDIS_PATIENCE.as_secs())]
    RedisSilent,
}

impl Failure for ReconcileError {}

impl ReconcileError {
    fn say(&self, outage: &mut Outage) {
        match self {
            Self::Store(error) => outage.goes_on(&POSTGRES, error),
            Self::RedisSilent => outage.goes_on(&REDIS, self),
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
        let (mut postgres, mut redis) = (self.store.session().await?, KeptConnection::new(&self.redis));
        let mut from = DateTime::UNIX_EPOCH;
        self.sweep((&mut postgres, &mut redis), mode, &mut from, shutdown).await
    }

    async fn session(&self, shutdown: &Shutdown, outage: &mut Outage) -> Result<(), ReconcileError> {
        // Who cannot reach Redis does not ask for the lock.
        let mut redis = KeptConnection::new(&self.redis);
        redis.get().await?;
        // The lock lasts as long as this session, and so must our belief in it.
        let mut postgres = self.store.session().await?;
        while !within(HOLD_PATIENCE, store::try_become_reconciler(&mut postgres)).await? {
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
            hold(&mut postgres, rest, shutdown).await?;
        }
        Ok(())
    }
}

/// Rests, and looks now and then whether the session is still there.
async fn hold(postgres: &mut PgConnection, rest: Duration, shutdown: &Shutdown) -> Result<(), ReconcileError> {
    let over = Instant::now() + rest;
    loop {
        let left = over.saturating_duration_since(Instant::now());
        if !shutdown.sleep(left.min(HOLD_EVERY)).await || left <= HOLD_EVERY {
            return Ok(());
        }
        within(HOLD_PATIENCE, store::now(postgres)).await?;
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, store::Error>>) -> Result<T, ReconcileError> {
    within(PATIENCE, asked).await
}

/// What Redis answers in time.
async fn answered<T>(question: impl Future<Output = Result<T, streams::Error>>) -> Result<T, ReconcileError> {
    Ok(tokio::time::timeout(REDIS_PATIENCE, question).await.map_err(|_| ReconcileError::RedisSilent)??)
}

/// What Postgres answers in time.
async fn within<T>(
    patience: Duration,
    question: impl Future<Output = Result<T, store::Error>>,
) -> Result<T, ReconcileError> {
    let silence = |_| store::Error::NoAnswer { seconds: patience.as_secs() };
    Ok(tokio::time::timeout(patience, question).await.map_err(silence)??)
}
