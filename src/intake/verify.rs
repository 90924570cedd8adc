//! Waiting until Postgres knows every published order, and publishing again what Redis lost on the way.

use std::time::{Duration, Instant};

use pipeline::{
    message::encode_order,
    retry,
    shutdown::Shutdown,
    store::{self, KnownOrder},
    topology::StageName,
};
use rustc_hash::FxHashMap;

use super::{
    Intake, IntakeError, Known, Link, Open, POLL, Published, PublishedChunk, Talk, chunks::chunks, refused::Refused,
};
use crate::{import::GroupedOrder, output::thousands, patience::patiently, progress::Progress};

/// After this long without an order arriving, the user is told what to look at.
const SILENCE: Duration = Duration::from_secs(5);

/// Longest pause between two publications of the same chunk: whatever keeps losing it, the import must not flood it.
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(10);

/// After so many publications of the same chunk the user is told that this is not normal.
const AGAIN_STRANGE: u32 = 20;

/// What a wait for known orders needs, chunk after chunk.
struct Wait<'a> {
    link: Link<'a>,
    refused: Refused,
    known: Known,
    /// Orders of the chunks before this one.
    seen: u64,
}

impl Intake {
    /// Waits until Postgres knows what was published; `None` when the signal came first. Servers that are away are
    /// waited for.
    ///
    /// # Errors
    /// When a server refuses for good, or the temporary files fail.
    pub async fn await_known(
        &self,
        published: &Published,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<Option<Known>, IntakeError> {
        progress.phase("Processing", Some(published.orders));
        let mut wait = Wait {
            link: Link::new(&self.redis, self.partitions),
            refused: Refused::default(),
            known: Known::default(),
            seen: 0,
        };
        let mut chunks = chunks(&self.orders, |order| order);
        for chunk in &published.chunks {
            let Some(orders) = chunks.recv().await else { break };
            let orders = orders?;
            let count = orders.len() as u64;
            if self.await_chunk(orders, *chunk, &mut wait, progress, shutdown).await?.is_none() {
                return Ok(None);
            }
            wait.seen += count;
            let seen = wait.seen;
            let rate = progress.rate(seen);
            progress.show(seen, || format!("{} orders, {}/s", thousands(seen), thousands(rate)));
        }
        Ok(Some(wait.known))
    }

    /// Waits until every order of a chunk is known or refused; `None` when the signal came first.
    async fn await_chunk(
        &self,
        mut waiting: Vec<GroupedOrder>,
        mut chunk: PublishedChunk,
        wait: &mut Wait<'_>,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<Option<()>, IntakeError> {
        let mut pauses = retry::delays_up_to(AGAIN_PAUSE_MAX);
        let mut again_from = Instant::now();
        let mut published_again = 0;
        let mut silent_since = Instant::now();
        loop {
            let talk = Talk { progress, shutdown };
            // Looked at before Postgres is: what is missing after that has no message any more.
            let Some(processed) = self.is_processed(&mut wait.link, chunk, talk).await? else { return Ok(None) };
            let before = waiting.len();
            waiting = match self.look_up(waiting, &mut wait.known, talk).await? {
                Some(waiting) => waiting,
                None => return Ok(None),
            };
            if processed && !waiting.is_empty() && Instant::now() >= again_from {
                waiting = match self.set_refused_aside(waiting, chunk.partition, wait, talk).await? {
                    Some(waiting) => waiting,
                    None => return Ok(None),
                };
                if !waiting.is_empty() {
                    let Some(again) = self.publish_again(&waiting, chunk, &mut wait.link, talk).await? else {
                        return Ok(None);
                    };
                    chunk = again;
                    wait.known.republished_orders += waiting.len() as u64;
                    published_again += 1;
                    again_from = Instant::now() + pauses.next().unwrap_or(AGAIN_PAUSE_MAX);
                    if published_again == AGAIN_STRANGE {
                        progress.note(&format!(
                            "{} orders were published {AGAIN_STRANGE} times and are in Postgres still not: does another \
                             system use this Redis and namespace, with another database?",
                            thousands(waiting.len() as u64)
                        ));
                    }
                }
            }
            if waiting.is_empty() {
                return Ok(Some(()));
            }
            if waiting.len() < before {
                silent_since = Instant::now();
            } else if silent_since.elapsed() > SILENCE {
                progress
                    .show(wait.seen, || "waiting for workers: does `orderstream run` run? Ctrl-C is safe".to_owned());
            }
            if !shutdown.sleep(POLL).await {
                return Ok(None);
            }
        }
    }

    /// Whether everything up to the chunk's last entry is acknowledged, or gone; `None` when the signal came first.
    async fn is_processed(
        &self,
        link: &mut Link<'_>,
        chunk: PublishedChunk,
        talk: Talk<'_>,
    ) -> Result<Option<bool>, IntakeError> {
        let look = async |open: &mut Open| {
            let PublishedChunk { partition, last } = chunk;
            self.redis.is_past(&mut open.inspector, partition, StageName::Reservation, last).await
        };
        Ok(talk.redis(link, look).await?)
    }

    /// Counts the orders that Postgres knows and returns the others; `None` when the signal came first.
    async fn look_up(
        &self,
        orders: Vec<GroupedOrder>,
        known: &mut Known,
        talk: Talk<'_>,
    ) -> Result<Option<Vec<GroupedOrder>>, IntakeError> {
        let codes: Vec<String> = orders.iter().map(|order| order.order.code().to_string()).collect();
        let tell = |text: &str| talk.progress.note(text);
        let ask = async || Ok(store::known_orders(&self.store.pool(), &codes).await?);
        let Some(found) = patiently(talk.shutdown, tell, ask).await? else { return Ok(None) };
        Ok(Some(orders.into_iter().filter(|order| !self.count(order, &found, known)).collect()))
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

    /// Counts the orders that the workers refused and returns the others; `None` when the signal came first.
    async fn set_refused_aside(
        &self,
        orders: Vec<GroupedOrder>,
        partition: u16,
        wait: &mut Wait<'_>,
        talk: Talk<'_>,
    ) -> Result<Option<Vec<GroupedOrder>>, IntakeError> {
        let Wait { link, refused, known, .. } = wait;
        let read =
            async |open: &mut Open| refused.read(&self.redis, &mut open.inspector, partition, self.import_id).await;
        if talk.redis(link, read).await?.is_none() {
            return Ok(None);
        }
        let (missing, lost): (Vec<_>, Vec<_>) =
            orders.into_iter().partition(|order| refused.has(order.order.code().as_str()));
        known.missing_orders += missing.len() as u64;
        known.missing_rows += missing.iter().map(|order| order.rows() as u64).sum::<u64>();
        Ok(Some(lost))
    }

    /// Publishes what was lost; the chunk as it stands now, or `None` when the signal came first.
    async fn publish_again(
        &self,
        orders: &[GroupedOrder],
        chunk: PublishedChunk,
        link: &mut Link<'_>,
        talk: Talk<'_>,
    ) -> Result<Option<PublishedChunk>, IntakeError> {
        let bodies: Vec<Vec<u8>> = orders.iter().map(|order| encode_order(&order.order)).collect();
        let Some(last) = self.add(link, chunk.partition, &bodies, talk).await? else { return Ok(None) };
        Ok(Some(last.map_or(chunk, |last| PublishedChunk { last, ..chunk })))
    }
}
