//! Publishing, no faster than the pipeline follows.

use pipeline::{failpoint, message::EntryId, shutdown::Shutdown, streams, trace};
use tracing::{Instrument, info_span};

use super::{Freight, Intake, IntakeError, Link, Open, POLL, Published, PublishedChunk, Talk, chunks::chunks};
use crate::{output::thousands, progress::Progress};

/// How many chunks are published between two looks at the backlog.
const CHECK_EVERY: usize = 4;

impl<F: Freight> Intake<F> {
    /// Publishes all messages, or those up to the signal. A Redis that is away or full is waited for.
    ///
    /// # Errors
    /// When Redis refuses for good, or the temporary files fail. Starting over is harmless.
    pub async fn publish(
        &self,
        total: u64,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<Published, IntakeError> {
        // One trace for the whole file: every batch that has some of its messages is linked to it.
        let span = info_span!(
            target: trace::TARGET,
            "import",
            otel.name = %format_args!("import {}", F::NOUN),
            orderstream.import.id = self.import_id,
        );
        self.publish_all(total, progress, shutdown).instrument(span).await
    }

    async fn publish_all(
        &self,
        total: u64,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<Published, IntakeError> {
        progress.phase("Publishing", Some(total));
        let mut link = Link::new(&self.redis, self.partitions, F::STAGE);
        let mut published = Published::default();
        let mut chunks = chunks(&self.freight, |item| F::encode(&item));
        let mut partitions = (0..self.partitions).cycle();
        let mut turn = 0usize;
        while let Some(bodies) = chunks.recv().await {
            let bodies = bodies?;
            if turn.is_multiple_of(CHECK_EVERY)
                && !self.has_room(&mut link, published.messages, progress, shutdown).await?
            {
                return Ok(published);
            }
            turn += 1;
            let partition = partitions.next().unwrap_or_default();
            let talk = Talk { progress, shutdown };
            let Some(last) = self.add(&mut link, partition, &bodies, talk).await? else { return Ok(published) };
            if let Some(last) = last {
                published.chunks.push(PublishedChunk { partition, last });
            }
            published.messages += bodies.len() as u64;
            let count = published.messages;
            let rate = progress.rate(count);
            progress.show(count, || format!("{} {}, {}/s", thousands(count), F::NOUN, thousands(rate)));
        }
        published.complete = true;
        Ok(published)
    }

    /// Adds bodies to the stream and gives the id of the last one, through outages; `None` when the signal came first.
    /// After a failure all of them are added again: nobody knows how many had been, and a second message is harmless.
    pub(super) async fn add(
        &self,
        link: &mut Link<'_>,
        partition: u16,
        bodies: &[Vec<u8>],
        talk: Talk<'_>,
    ) -> Result<Option<Option<EntryId>>, IntakeError> {
        let publish = async |open: &mut Open| {
            failpoint::hit::<streams::Error>("import.before_chunk")?;
            let last = open.publishers[usize::from(partition)].publish(bodies, Some(self.import_id)).await?;
            failpoint::hit::<streams::Error>("import.chunk_added")?;
            Ok(last)
        };
        Ok(talk.redis(link, publish).await?)
    }

    /// Waits until the pipeline has room; `false` when the signal came first.
    async fn has_room(
        &self,
        link: &mut Link<'_>,
        published: u64,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<bool, IntakeError> {
        loop {
            let look = async |open: &mut Open| {
                let mut backlog = 0;
                for partition in 0..self.partitions {
                    for stage in F::WAY {
                        backlog += self.redis.backlog(open.inspector.get().await?, partition, *stage).await?;
                    }
                }
                Ok(backlog)
            };
            let Some(backlog) = (Talk { progress, shutdown }).redis(link, look).await? else { return Ok(false) };
            if backlog < self.max_backlog {
                return Ok(true);
            }
            progress.show(published, || {
                format!("{} {} are on their way: waiting for room (do workers run?)", thousands(backlog), F::NOUN)
            });
            if !shutdown.sleep(POLL).await {
                return Ok(false);
            }
        }
    }
}
