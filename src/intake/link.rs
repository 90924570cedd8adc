//! The connections of one import to Redis.

use pipeline::{
    streams::{Error, KeptConnection, Publisher, Redis},
    topology::StageName,
};

/// Connections that are opened when they are needed, kept, and opened again after a failure.
pub(super) struct Link<'a> {
    redis: &'a Redis,
    partitions: u16,
    stage: StageName,
    open: Option<Open>,
}

/// Open connections.
pub(super) struct Open {
    /// One for each partition.
    pub(super) publishers: Vec<Publisher>,
    /// For looking.
    pub(super) inspector: KeptConnection,
}

impl<'a> Link<'a> {
    /// To the streams of this stage. Nothing is connected yet.
    pub(super) fn new(redis: &'a Redis, partitions: u16, stage: StageName) -> Self {
        Self { redis, partitions, stage, open: None }
    }

    /// Uses the connections. Whatever fails, or is dropped half-way, takes them with it.
    pub(super) async fn with<T>(
        &mut self,
        work: &mut impl AsyncFnMut(&mut Open) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        let done = work(&mut open).await?;
        self.open = Some(open);
        Ok(done)
    }

    async fn open(&self) -> Result<Open, Error> {
        let mut publishers = Vec::new();
        for partition in 0..self.partitions {
            publishers.push(Publisher::connect(self.redis, partition, self.stage).await?);
        }
        Ok(Open { publishers, inspector: KeptConnection::new(self.redis) })
    }
}
