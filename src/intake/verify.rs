//! Waiting until Postgres knows every published order, and publishing again what Redis lost on the way.

use std::time::{Duration, Instant};

use pipeline::{
    message::encode_order,
    shutdown::Shutdown,
    store::{self, KnownOrder},
    streams::Publisher,
    topology::StageName,
};
use rustc_hash::FxHashMap;

use super::{Intake, IntakeError, Known, POLL, Published, PublishedChunk, chunks::chunks};
use crate::{import::GroupedOrder, output::thousands, progress::Progress};

/// How often an order is published again before it is called missing: refused ones will never be in Postgres.
const REPUBLISH_MAX: u32 = 3;

/// After this long without an order arriving, the user is told what to look at.
const SILENCE: Duration = Duration::from_secs(5);

impl Intake {
    /// Waits until Postgres knows what was published; `None` when the signal came first.
    ///
    /// # Errors
    /// When Postgres, Redis or the temporary files fail.
    pub async fn await_known(
        &self,
        published: &Published,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<Option<Known>, IntakeError> {
        progress.phase("Processing", Some(published.orders));
        let mut known = Known::default();
        let mut seen = 0;
        let mut chunks = chunks(&self.orders, |order| order);
        for chunk in &published.chunks {
            let Some(orders) = chunks.recv().await else { break };
            let orders = orders?;
            let count = orders.len() as u64;
            if !self.await_chunk(orders, *chunk, &mut known, (seen, progress), shutdown).await? {
                return Ok(None);
            }
            seen += count;
            let rate = progress.rate(seen);
            progress.show(seen, || format!("{} orders, {}/s", thousands(seen), thousands(rate)));
        }
        Ok(Some(known))
    }

    async fn await_chunk(
        &self,
        orders: Vec<GroupedOrder>,
        mut chunk: PublishedChunk,
        known: &mut Known,
        (seen, progress): (u64, &mut Progress),
        shutdown: &Shutdown,
    ) -> Result<bool, IntakeError> {
        let mut waiting = orders;
        let mut republished = 0;
        let mut silent_since = Instant::now();
        loop {
            // Looked at before Postgres is: what is missing after that has no message any more.
            let processed = self.is_processed(chunk).await?;
            let before = waiting.len();
            waiting = self.look_up(waiting, known).await?;
            if waiting.is_empty() {
                return Ok(true);
            }
            if processed {
                if republished == REPUBLISH_MAX {
                    known.missing_orders += waiting.len() as u64;
                    known.missing_rows += waiting.iter().map(|order| order.rows() as u64).sum::<u64>();
                    return Ok(true);
                }
                republished += 1;
                chunk = self.publish_again(&waiting, chunk.partition).await?.unwrap_or(chunk);
                known.republished_orders += waiting.len() as u64;
            }
            if waiting.len() < before {
                silent_since = Instant::now();
            } else if silent_since.elapsed() > SILENCE {
                progress.show(seen, || "waiting for workers: does `orderstream run` run? Ctrl-C is safe".to_owned());
            }
            if !shutdown.sleep(POLL).await {
                return Ok(false);
            }
        }
    }

    /// Whether everything up to the chunk's last entry is acknowledged, or gone.
    async fn is_processed(&self, chunk: PublishedChunk) -> Result<bool, IntakeError> {
        let mut connection = self.redis.connect().await?;
        let stream = self.redis.stream_state(&mut connection, chunk.partition, StageName::Reservation).await?;
        let group = stream.groups.iter().find(|group| group.name == StageName::Reservation.as_str());
        Ok(match group {
            Some(group) => group.low_water.is_none_or(|low_water| low_water > chunk.last),
            // Without a group nothing is acknowledged; without entries nothing will be.
            None => stream.length == 0,
        })
    }

    /// Counts the orders that Postgres knows; the others are returned.
    async fn look_up(&self, orders: Vec<GroupedOrder>, known: &mut Known) -> Result<Vec<GroupedOrder>, IntakeError> {
        let codes: Vec<String> = orders.iter().map(|order| order.order.code().to_string()).collect();
        let found = store::known_orders(&self.store.pool(), &codes).await?;
        Ok(orders.into_iter().filter(|order| !self.count(order, &found, known)).collect())
    }

    fn count(&self, order: &GroupedOrder, found: &FxHashMap<String, KnownOrder>, known: &mut Known) -> bool {
        let Some(existing) = found.get(order.order.code().as_str()) else { return false };
        let (orders, rows) = if existing.content_hash != order.order.content_hash() {
            (&mut known.conflicting_orders, &mut known.conflicting_rows)
        } else if existing.import_id == Some(self.import_id) {
            (&mut known.new_orders, &mut known.new_rows)
        } else {
            (&mut known.duplicate_orders, &mut known.duplicate_rows)
        };
        *orders += 1;
        *rows += order.rows() as u64;
        true
    }

    async fn publish_again(
        &self,
        orders: &[GroupedOrder],
        partition: u16,
    ) -> Result<Option<PublishedChunk>, IntakeError> {
        let bodies: Vec<Vec<u8>> = orders.iter().map(|order| encode_order(&order.order)).collect();
        let last = Publisher::connect(&self.redis, partition).await?.publish(&bodies, Some(self.import_id)).await?;
        Ok(last.map(|last| PublishedChunk { partition, last }))
    }
}
