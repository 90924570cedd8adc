//! One sweep.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use tracing::warn;

use super::{PATIENCE, ReconcileError, Reconciler};
use crate::{
    domain::OrderId,
    failpoint,
    message::{EntryId, OrderRef},
    shutdown::Shutdown,
    store::{self, Reconciliation, StrandedOrder},
    streams::{self, Connection},
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
                StageName::Payment | StageName::Reservation => self.to_payment += 1,
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
        (postgres, redis): (&mut PgConnection, &mut Connection),
        mode: Mode,
        from: &mut DateTime<Utc>,
        shutdown: &Shutdown,
    ) -> Result<Option<Found>, ReconcileError> {
        let partitions = self.store.partitions().await?;
        let started_at = in_time(store::now(postgres)).await?;
        for stage in StageName::ALL {
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
        if mode == Mode::Repair && found.to_payment + found.to_settlement > 0 {
            let Found { to_payment, to_settlement, examples, .. } = &found;
            warn!(to_payment, to_settlement, ?examples, "orders had no message any more: emitted again");
            let reconciliation = Reconciliation {
                started_at,
                finished_at: in_time(store::now(postgres)).await?,
                cause: "messages_lost".to_owned(),
                to_payment: to_payment.cast_signed(),
                to_settlement: to_settlement.cast_signed(),
                detail: format!("orders {}", examples.join(", ")),
            };
            in_time(store::note_reconciliation(postgres, &reconciliation)).await?;
        }
        Ok(Some(found))
    }

    /// Waits until everything is acknowledged that is in the stage's stream now; `false` when the signal came first.
    async fn wait_for_acknowledgement(
        &self,
        redis: &mut Connection,
        partition: u16,
        stage: StageName,
        shutdown: &Shutdown,
    ) -> Result<bool, ReconcileError> {
        let newest = self.redis.last_id(redis, partition, stage).await?;
        while !shutdown.has_begun() {
            if self.has_passed(redis, partition, stage, newest).await? {
                return Ok(true);
            }
            shutdown.sleep(POLL).await;
        }
        Ok(false)
    }

    async fn has_passed(
        &self,
        redis: &mut Connection,
        partition: u16,
        stage: StageName,
        newest: Option<EntryId>,
    ) -> Result<bool, ReconcileError> {
        // A stream that is not there has no messages.
        let Some(newest) = newest else { return Ok(true) };
        Ok(match self.redis.group_state(redis, partition, stage).await? {
            Some(group) => group.low_water.is_none_or(|low_water| low_water > newest),
            // Without its group nothing of a stream is acknowledged: workers will begin at its start. Unless it is gone.
            None => self.redis.last_id(redis, partition, stage).await?.is_none(),
        })
    }

    /// Gives each order a message for the stage whose turn it is, when there is room.
    async fn emit(
        &self,
        redis: &mut Connection,
        orders: &[StrandedOrder],
        shutdown: &Shutdown,
    ) -> Result<(), ReconcileError> {
        let mut streams: BTreeMap<(u16, StageName), Vec<OrderRef>> = BTreeMap::new();
        for StrandedOrder { order, partition, stage } in orders {
            streams.entry((*partition, *stage)).or_default().push(order.clone());
        }
        for ((partition, stage), orders) in streams {
            while self.redis.backlog(redis, partition, stage).await? > BACKLOG_MAX {
                if !shutdown.sleep(POLL).await {
                    return Ok(());
                }
            }
            failpoint::hit::<streams::Error>("reconciler.before_emit")?;
            self.redis.emit(redis, partition, stage, &orders).await?;
            failpoint::hit::<streams::Error>("reconciler.emitted")?;
        }
        Ok(())
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, store::Error>>) -> Result<T, ReconcileError> {
    Ok(tokio::time::timeout(PATIENCE, asked).await.map_err(|_| ReconcileError::Silence)??)
}
