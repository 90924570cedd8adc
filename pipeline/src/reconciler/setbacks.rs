//! Notices what Redis lost without anybody's doing of ours: that it went back to an older state, and messages that were
//! delivered to nobody. Both are written down where they outlive Redis.
//!
//! A mark that only grows stands in Redis beside the streams. It is moved on every second, and the greatest is known here,
//! and in Postgres every few seconds: a Redis that has a smaller one was restored, emptied, or is a replica that lagged
//! behind when it was promoted. Losses of deliveries are found by workers (`streams/books.rs`) and only written down here.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus::IntCounter;
use sqlx::PgConnection;
use tracing::error;

use super::{HOLD_PATIENCE, ReconcileError, answered, in_time, within};
use crate::{
    metrics::Metrics,
    retry::Outage,
    shutdown::Shutdown,
    store::{self, Reconciliation, Store},
    streams::{KeptConnection, Mark, Redis},
    topology::StageName,
};

/// How often it is looked, and the mark moved on.
const EVERY: Duration = Duration::from_secs(1);

/// After how many looks Postgres gets to know the mark.
const KEPT_EVERY: u32 = 5;

/// Looks whether Redis lost something, while it is the one that does.
#[derive(Debug)]
pub struct Setbacks {
    store: Store,
    redis: Redis,
    noticed: IntCounter,
}

impl Setbacks {
    /// One between these two.
    pub fn new(store: Store, redis: Redis, metrics: &Metrics) -> Self {
        Self { store, redis, noticed: metrics.setbacks() }
    }

    /// Looks until the signal, through any number of lost connections.
    pub async fn run(&self, shutdown: &Shutdown) {
        let mut outage = Outage::default();
        // Beyond each connection: that it is lost is how a failover begins.
        let mut known = Mark::default();
        while !shutdown.has_begun() {
            let Err(error) = self.session(shutdown, &mut outage, &mut known).await else { return };
            error.say(&mut outage);
            shutdown.sleep(outage.delay()).await;
        }
    }

    async fn session(&self, shutdown: &Shutdown, outage: &mut Outage, known: &mut Mark) -> Result<(), ReconcileError> {
        // Who cannot reach Redis does not ask for the lock.
        let mut redis = KeptConnection::new(&self.redis);
        redis.get().await?;
        // The lock lasts as long as this session, and so must our belief in it.
        let mut postgres = self.store.session().await?;
        while !within(HOLD_PATIENCE, store::try_become_watcher(&mut postgres)).await? {
            if !shutdown.sleep(EVERY).await {
                return Ok(());
            }
        }
        let partitions = in_time(self.store.partitions()).await?;
        let namespace = self.redis.keys().namespace();
        let kept = in_time(store::redis_mark(&mut postgres, namespace)).await?;
        if let Some((number, at_ms)) = kept.filter(|(number, _)| *number > known.number) {
            *known = Mark { number, at_ms };
        }
        let mut looks = 0_u32;
        while !shutdown.has_begun() {
            *known = self.look_at_mark(&mut postgres, &mut redis, *known).await?;
            if looks.is_multiple_of(KEPT_EVERY) {
                in_time(store::keep_redis_mark(&mut postgres, namespace, (known.number, known.at_ms))).await?;
                // Not before both have taken a write: one that only reads is not back.
                outage.has_written();
            }
            looks = looks.wrapping_add(1);
            for partition in 0..partitions {
                for stage in StageName::ALL {
                    self.look_at_books(&mut postgres, &mut redis, partition, stage).await?;
                }
            }
            shutdown.sleep(EVERY).await;
        }
        in_time(store::keep_redis_mark(&mut postgres, namespace, (known.number, known.at_ms))).await
    }

    /// Moves the mark on; what is known afterwards.
    async fn look_at_mark(
        &self,
        postgres: &mut PgConnection,
        redis: &mut KeptConnection,
        known: Mark,
    ) -> Result<Mark, ReconcileError> {
        let now_ms = Utc::now().timestamp_millis();
        let found = answered(self.redis.move_mark(redis.get().await?, known.number, now_ms, false)).await?;
        if found.number < known.number {
            self.note_setback(postgres, found, known).await?;
            answered(self.redis.move_mark(redis.get().await?, known.number, now_ms, true)).await?;
        }
        Ok(Mark { number: found.number.max(known.number) + 1, at_ms: now_ms })
    }

    async fn note_setback(&self, postgres: &mut PgConnection, found: Mark, known: Mark) -> Result<(), ReconcileError> {
        let time = |ms| DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default().format("%Y-%m-%d %H:%M:%S UTC");
        let (cause, detail) = match found.number {
            0 => {
                let detail =
                    format!("Redis was emptied, or is another server: it had its last mark at {}", time(known.at_ms));
                ("redis_emptied", detail)
            }
            _ => {
                #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
                let seconds = (known.at_ms - found.at_ms).max(0) as f64 / 1_000.0;
                let detail =
                    format!("Redis went back from {} to {} ({seconds:.0} s)", time(known.at_ms), time(found.at_ms));
                ("redis_went_back", detail)
            }
        };
        error!(
            cause,
            detail,
            "Redis lost what it was told: orders that Postgres knows get new messages; what only Redis had must be added again"
        );
        in_time(store::note_reconciliation(postgres, &Reconciliation::now(cause, detail))).await?;
        self.noticed.inc();
        Ok(())
    }

    /// Writes down what workers found to be lost since the last time.
    async fn look_at_books(
        &self,
        postgres: &mut PgConnection,
        redis: &mut KeptConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<(), ReconcileError> {
        let books = answered(self.redis.books(redis.get().await?, partition, stage)).await?;
        if books.lost + books.redriven == 0 {
            return Ok(());
        }
        let (lost, redriven) = answered(self.redis.noted_losses(redis.get().await?, partition, stage)).await?;
        let (lost, redriven) = (books.lost.saturating_sub(lost), books.redriven.saturating_sub(redriven));
        if lost + redriven > 0 {
            let detail = format!(
                "{}: {} messages were delivered to nobody; {redriven} were given out again, {lost} are gone",
                stage.stream(),
                lost + redriven
            );
            in_time(store::note_reconciliation(postgres, &Reconciliation::now("deliveries_lost", detail))).await?;
            answered(self.redis.note_losses(redis.get().await?, partition, stage, &books)).await?;
        }
        Ok(())
    }
}
