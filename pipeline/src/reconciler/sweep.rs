//! One sweep.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use tracing::warn;

use super::{ReconcileError, Reconciler, answered, in_time};
use crate::{
    domain::OrderId,
    failpoint,
    message::OrderRef,
    shutdown::Shutdown,
    store::{self, Reconciliation, StrandedOrder},
    streams::{self, DeadLetter, Direction, KeptConnection},
    topology::StageName,
};

/// Orders that are read and given a message together.
const CHUNK_ORDERS: i64 = 500;

/// How long to rest after a chunk: 10,000 orders a second at most.
const CHUNK_REST: Duration = Duration::from_millis(50);

/// How often the low-water mark is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Nothing is emitted while this many messages wait before a stage.
const BACKLOG_MAX: u64 = 100_000;

/// How many order codes a finding names.
const EXAMPLES_MAX: usize = 10;

/// How much later than its `created_at` an order may be committed, seen from the next sweep.
const COMMIT_LATE_MAX: TimeDelta = TimeDelta::seconds(60);

/// What to do with what is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Emit messages, and write down that it was done.
    Repair,
    /// Only look.
    Look,
}

/// What a sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Orders without a message that wait for payment.
    pub to_payment: u64,
    /// Orders without a message that wait for settlement.
    pub to_settlement: u64,
    /// Parked orders whose dead letter is gone: they go on.
    pub letters_lost: u64,
    /// Their first few codes.
    pub examples: Vec<String>,
}

impl Found {
    /// Whether all was well.
    pub fn is_nothing(&self) -> bool {
        self.to_payment + self.to_settlement + self.letters_lost == 0
    }

    fn add(&mut self, orders: &[StrandedOrder]) {
        for StrandedOrder { order, stage, .. } in orders {
            match stage {
                StageName::Settlement => self.to_settlement += 1,
                _ => self.to_payment += 1,
            }
            if self.examples.len() < EXAMPLES_MAX {
                self.examples.push(order.order_code.clone());
            }
        }
    }
}

impl Reconciler {
    /// Waits for the evidence, then emits what is missing. `from` is when the oldest order was created that may be open;
    /// it moves on as orders end. `None` when the signal came first.
    pub(super) async fn sweep(
        &self,
        (postgres, redis): (&mut PgConnection, &mut KeptConnection),
        mode: Mode,
        from: &mut DateTime<Utc>,
        shutdown: &Shutdown,
    ) -> Result<Option<Found>, ReconcileError> {
        let partitions = in_time(self.store.partitions()).await?;
        let started_at = in_time(store::now(postgres)).await?;
        for stage in StageName::WAY {
            for partition in 0..partitions {
                if !self.wait_for_acknowledgement(redis, partition, stage, shutdown).await? {
                    return Ok(None);
                }
            }
        }
        let oldest = in_time(store::oldest_open_order(postgres, *from)).await?;
        *from = (*from).max(oldest.unwrap_or(started_at).min(started_at) - COMMIT_LATE_MAX);

        let mut found = Found::default();
        let mut after = OrderId(0);
        while oldest.is_some_and(|oldest| oldest <= started_at) && !shutdown.has_begun() {
            let range = (*from, started_at);
            let orders = in_time(store::orders_in_turn(postgres, range, after, CHUNK_ORDERS)).await?;
            let Some(last) = orders.last() else { break };
            after = last.order.order_id;
            found.add(&orders);
            if mode == Mode::Repair {
                self.emit(redis, &orders, shutdown).await?;
                shutdown.sleep(CHUNK_REST).await;
            }
        }
        let parked = in_time(store::parked_before(postgres, started_at)).await?;
        let unlettered = self.without_letter(redis, partitions, parked).await?;
        found.letters_lost = unlettered.len() as u64;
        if mode == Mode::Repair && !unlettered.is_empty() {
            // They go on with a message that the next sweep emits.
            warn!(orders = unlettered.len(), "parked orders had no dead letter any more: they go on");
            in_time(store::unpark_orders(postgres, &unlettered)).await?;
            let detail = format!("{} orders", unlettered.len());
            self.note(postgres, started_at, "letters_lost", &Found::default(), detail).await?;
        }
        if mode == Mode::Repair && found.to_payment + found.to_settlement > 0 {
            let Found { to_payment, to_settlement, examples, .. } = &found;
            warn!(to_payment, to_settlement, ?examples, "orders had no message any more: emitted again");
            let detail = format!("orders {}", examples.join(", "));
            self.note(postgres, started_at, "messages_lost", &found, detail).await?;
        }
        Ok(Some(found))
    }

    /// Which of the parked orders have no dead letter: Redis lost it, or it was dropped.
    async fn without_letter(
        &self,
        redis: &mut KeptConnection,
        partitions: u16,
        parked: Vec<OrderId>,
    ) -> Result<Vec<OrderId>, ReconcileError> {
        let mut missing: BTreeSet<OrderId> = parked.into_iter().collect();
        for partition in 0..partitions {
            if missing.is_empty() {
                break;
            }
            let walk = self.redis.walk_dead_letters(redis.get().await?, partition, Direction::NewestFirst, None);
            let mut walk = answered(walk).await?;
            while !missing.is_empty()
                && let Some(letters) = answered(walk.next_page(&self.redis, redis.get().await?)).await?
            {
                for order in letters.iter().filter_map(DeadLetter::order_ref) {
                    missing.remove(&order.order_id);
                }
            }
        }
        Ok(missing.into_iter().collect())
    }

    async fn note(
        &self,
        postgres: &mut PgConnection,
        started_at: DateTime<Utc>,
        cause: &str,
        found: &Found,
        detail: String,
    ) -> Result<(), ReconcileError> {
        let reconciliation = Reconciliation {
            started_at,
            finished_at: in_time(store::now(postgres)).await?,
            cause: cause.to_owned(),
            to_payment: found.to_payment.cast_signed(),
            to_settlement: found.to_settlement.cast_signed(),
            detail,
        };
        in_time(store::note_reconciliation(postgres, &reconciliation)).await
    }

    /// Waits until everything is acknowledged that is in the stage's stream now; `false` when the signal came first.
    async fn wait_for_acknowledgement(
        &self,
        redis: &mut KeptConnection,
        partition: u16,
        stage: StageName,
        shutdown: &Shutdown,
    ) -> Result<bool, ReconcileError> {
        // A stream that is not there has no messages.
        let Some(newest) = answered(self.redis.last_id(redis.get().await?, partition, stage)).await? else {
            return Ok(true);
        };
        while !shutdown.has_begun() {
            if answered(self.redis.is_past(redis.get().await?, partition, stage, newest)).await? {
                return Ok(true);
            }
            shutdown.sleep(POLL).await;
        }
        Ok(false)
    }

    /// Gives each order a message for the stage whose turn it is, when there is room.
    async fn emit(
        &self,
        redis: &mut KeptConnection,
        orders: &[StrandedOrder],
        shutdown: &Shutdown,
    ) -> Result<(), ReconcileError> {
        let mut streams: BTreeMap<(u16, StageName), Vec<OrderRef>> = BTreeMap::new();
        for StrandedOrder { order, partition, stage } in orders {
            streams.entry((*partition, *stage)).or_default().push(order.clone());
        }
        for ((partition, stage), orders) in streams {
            while answered(self.redis.backlog(redis.get().await?, partition, stage)).await? > BACKLOG_MAX {
                if !shutdown.sleep(POLL).await {
                    return Ok(());
                }
            }
            failpoint::hit::<streams::Error>("reconciler.before_emit")?;
            answered(self.redis.emit(redis.get().await?, partition, stage, &orders)).await?;
            self.metrics.reemitted(stage).inc_by(orders.len() as u64);
            failpoint::hit::<streams::Error>("reconciler.emitted")?;
        }
        Ok(())
    }
}
