//! Reading the events stream as one of its consumer groups: to learn that there is something new, not what.

use std::time::Duration;

use redis::Value;

use super::{Error, KeptConnection, Redis, reply};
use crate::message::EntryId;

/// The consumer group of the notifier.
pub const NOTIFICATION_GROUP: &str = "notification";

/// The group's one consumer: one notifier is active at a time, and whoever is takes over what the last one left.
const CONSUMER: &str = "notifier";

/// Most entries in one read.
const READ_ENTRIES_MAX: usize = 5_000;

/// The one consumer of the group of the notifier.
#[derive(Debug)]
pub struct EventsReader {
    connection: KeptConnection,
    stream: String,
}

impl EventsReader {
    /// Joins the group, creating stream and group where Redis does not know them, and acknowledges what the last
    /// reader left. The group starts at the end of the stream: whoever joins looks in Postgres first.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses.
    pub async fn join(redis: &Redis) -> Result<Self, Error> {
        let mut reader = Self { connection: KeptConnection::new(redis), stream: redis.keys().events() };
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&reader.stream).arg(NOTIFICATION_GROUP).arg("$").arg("MKSTREAM");
        match create.exec_async(reader.connection.get().await?).await {
            Err(error) if error.code() == Some("BUSYGROUP") => {}
            created => created?,
        }
        loop {
            let left = reader.read("0", None).await?;
            if left.is_empty() {
                return Ok(reader);
            }
            reader.acknowledge(&left).await?;
        }
    }

    /// Waits up to `block` for entries that nobody has read.
    ///
    /// # Errors
    /// When Redis cannot be reached, or no longer knows the group.
    pub async fn read_new(&mut self, block: Duration) -> Result<Vec<EntryId>, Error> {
        self.read(">", Some(block)).await
    }

    async fn read(&mut self, after: &str, block: Option<Duration>) -> Result<Vec<EntryId>, Error> {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(NOTIFICATION_GROUP).arg(CONSUMER).arg("COUNT").arg(READ_ENTRIES_MAX);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis().max(1).to_string());
        }
        let reply: Value =
            command.arg("STREAMS").arg(&self.stream).arg(after).query_async(self.connection.get().await?).await?;
        Ok(reply::read_group(reply)?.into_iter().map(|entry| entry.id).collect())
    }

    /// Acknowledges entries.
    ///
    /// # Errors
    /// When Redis cannot be reached, or the key is no stream.
    pub async fn acknowledge(&mut self, ids: &[EntryId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("XACK");
        command.arg(&self.stream).arg(NOTIFICATION_GROUP);
        for id in ids {
            command.arg(id.to_string());
        }
        Ok(command.exec_async(self.connection.get().await?).await?)
    }
}
