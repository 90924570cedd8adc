//! Waiting until Postgres knows all that was published, and publishing again what Redis lost on the way.

use std::time::{Duration, Instant};

use pipeline::{retry, shutdown::Shutdown};
use rustc_hash::FxHashMap;

use super::{
    Freight, Intake, IntakeError, Known, KnownItem, Link, Open, POLL, Published, PublishedChunk, Talk, chunks::chunks,
    refused::Refused,
};
use crate::{output::thousands, patience::patiently, progress::Progress};

/// After this long without anything arriving, the user is told what to look at.
const SILENCE: Duration = Duration::from_secs(5);

/// Longest pause between two publications of the same chunk: whatever keeps losing it, the import must not flood it.
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(10);

/// After so many publications of the same chunk the user is told that this is not normal.
const AGAIN_STRANGE: u32 = 20;

/// What a wait for known messages needs, chunk after chunk.
struct Wait<'a> {
    link: Link<'a>,
    refused: Refused,
    known: Known,
    /// Messages of the chunks before this one.
    seen: u64,
}

impl<F: Freight> Intake<F> {
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
        progress.phase("Processing", Some(published.messages));
        let mut wait = Wait {
            link: Link::new(&self.redis, self.partitions, F::STAGE),
            refused: Refused::default(),
            known: Known::default(),
            seen: 0,
        };
        let mut chunks = chunks(&self.freight, |item| item);
        for chunk in &published.chunks {
            let Some(items) = chunks.recv().await else { break };
            let items = items?;
            let count = items.len() as u64;
            if self.await_chunk(items, *chunk, &mut wait, progress, shutdown).await?.is_none() {
                return Ok(None);
            }
            wait.seen += count;
            let seen = wait.seen;
            let rate = progress.rate(seen);
            progress.show(seen, || format!("{} {}, {}/s", thousands(seen), F::NOUN, thousands(rate)));
        }
        Ok(Some(wait.known))
    }

    /// Waits until every message of a chunk is known or refused; `None` when the signal came first.
    async fn await_chunk(
        &self,
        mut waiting: Vec<F::Item>,
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
                    wait.known.republished += waiting.len() as u64;
                    published_again += 1;
                    again_from = Instant::now() + pauses.next().unwrap_or(AGAIN_PAUSE_MAX);
                    if published_again == AGAIN_STRANGE {
                        progress.note(&format!(
                            "{} {} were published {AGAIN_STRANGE} times and are in Postgres still not: does another \
                             system use this Redis and namespace, with another database?",
                            thousands(waiting.len() as u64),
                            F::NOUN
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
            self.redis.is_past(open.inspector.get().await?, partition, F::STAGE, last).await
        };
        Ok(talk.redis(link, look).await?)
    }

    /// Counts what Postgres knows and returns the rest; `None` when the signal came first.
    async fn look_up(
        &self,
        items: Vec<F::Item>,
        known: &mut Known,
        talk: Talk<'_>,
    ) -> Result<Option<Vec<F::Item>>, IntakeError> {
        let names: Vec<String> = items.iter().map(|item| F::name(item).to_owned()).collect();
        let tell = |text: &str| talk.progress.note(text);
        let ask = async || Ok(F::known(&self.store, &names).await?);
        let Some(found) = patiently(talk.shutdown, tell, ask).await? else { return Ok(None) };
        Ok(Some(items.into_iter().filter(|item| !self.count(item, &found, known)).collect()))
    }

    fn count(&self, item: &F::Item, found: &FxHashMap<String, KnownItem>, known: &mut Known) -> bool {
        let Some(existing) = found.get(F::name(item)) else { return false };
        let count = if existing.content_hash != F::content_hash(item) {
            &mut known.conflicting
        } else if existing.import_id == Some(self.import_id) {
            &mut known.new
        } else {
            &mut known.duplicate
        };
        count.add(F::rows(item));
        true
    }

    /// Counts what the workers refused and returns the rest; `None` when the signal came first.
    async fn set_refused_aside(
        &self,
        items: Vec<F::Item>,
        partition: u16,
        wait: &mut Wait<'_>,
        talk: Talk<'_>,
    ) -> Result<Option<Vec<F::Item>>, IntakeError> {
        let Wait { link, refused, known, .. } = wait;
        let read = async |open: &mut Open| {
            refused.read::<F>(&self.redis, open.inspector.get().await?, partition, self.import_id).await
        };
        if talk.redis(link, read).await?.is_none() {
            return Ok(None);
        }
        let (missing, lost): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| refused.has(F::name(item)));
        missing.iter().for_each(|item| known.missing.add(F::rows(item)));
        Ok(Some(lost))
    }

    /// Publishes what was lost; the chunk as it stands now, or `None` when the signal came first.
    async fn publish_again(
        &self,
        items: &[F::Item],
        chunk: PublishedChunk,
        link: &mut Link<'_>,
        talk: Talk<'_>,
    ) -> Result<Option<PublishedChunk>, IntakeError> {
        let bodies: Vec<Vec<u8>> = items.iter().map(F::encode).collect();
        let Some(last) = self.add(link, chunk.partition, &bodies, talk).await? else { return Ok(None) };
        Ok(Some(last.map_or(chunk, |last| PublishedChunk { last, ..chunk })))
    }
}
