//! What streams take of Redis' memory.

use redis::aio::MultiplexedConnection;

use super::{Error, Redis};
use crate::topology::StageName;

impl Redis {
    /// Bytes of the stream that `stage` reads, as Redis estimates them from a few of its nodes; 0 without a stream.
    ///
    /// # Errors
    /// When Redis cannot be reached, or forbids the command.
    pub async fn stream_memory(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<u64, Error> {
        let mut command = redis::cmd("MEMORY");
        command.arg("USAGE").arg(self.keys().stream(partition, stage)).arg("SAMPLES").arg(5);
        Ok(command.query_async::<Option<u64>>(connection).await?.unwrap_or(0))
    }
}
