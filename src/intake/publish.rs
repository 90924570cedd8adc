//! Publishing, no faster than the pipeline follows.

use pipeline::{
    shutdown::Shutdown,
    streams::{Connection, Publisher},
    topology::StageName,
};

use super::{Intake, IntakeError, POLL, Published, PublishedChunk, chunks::chunks};
use crate::{import::encode_order_into, output::thousands, progress::Progress};

/// How many chunks are published between two looks at the backlog.
const CHECK_EVERY: usize = 4;

impl Intake {
    /// Publishes all orders, or those up to the signal.
    ///
    /// # Errors
    /// When Redis or the temporary files fail. Starting over is harmless.
    pub async fn publish(
        &self,
        total: u64,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<Published, IntakeError> {
        progress.phase("Publishing", Some(total));
        let mut publishers = Vec::new();
        for partition in 0..self.partitions {
            publishers.push((partition, Publisher::connect(&self.redis, partition).await?));
        }
        let mut inspector = self.redis.connect().await?;
        let mut published = Published::default();
        let mut chunks = chunks(&self.orders, |order| {
            let mut body = Vec::with_capacity(512);
            encode_order_into(&order.order, &mut body);
            body
        });
        let mut turn = 0usize;
        while let Some(bodies) = chunks.recv().await {
            let bodies = bodies?;
            if turn.is_multiple_of(CHECK_EVERY)
                && !self.has_room(&mut inspector, published.orders, progress, shutdown).await?
            {
                return Ok(published);
            }
            let (partition, publisher) = &mut publishers[turn % usize::from(self.partitions)];
            turn += 1;
            if let Some(last) = publisher.publish(&bodies, Some(self.import_id)).await? {
                published.chunks.push(PublishedChunk { partition: *partition, last });
            }
            published.orders += bodies.len() as u64;
            let count = published.orders;
            let rate = progress.rate(count);
            progress.show(count, || format!("{} orders, {}/s", thousands(count), thousands(rate)));
        }
        published.complete = true;
        Ok(published)
    }

    /// Waits until the pipeline has room; `false` when the signal came first.
    async fn has_room(
        &self,
        inspector: &mut Connection,
        published: u64,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> Result<bool, IntakeError> {
        while !shutdown.has_begun() {
            let mut backlog = 0;
            for partition in 0..self.partitions {
                for stage in StageName::ALL {
                    backlog += self.redis.backlog(inspector, partition, stage).await?;
                }
            }
            if backlog < self.max_backlog {
                return Ok(true);
            }
            progress.show(published, || {
                format!("{} orders are on their way: waiting for room (do workers run?)", thousands(backlog))
            });
            shutdown.sleep(POLL).await;
        }
        Ok(false)
    }
}
