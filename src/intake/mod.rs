//! From complete orders to Postgres knowing them all.
//!
//! Orders are published in chunks, in order of first appearance, while the pipeline has room. Then each chunk is looked
//! up in Postgres until it knows every order of it. Between the two, orders exist only in Redis: what Redis loses there
//! is published again, as often as it is lost. Servers that are away are waited for.

mod chunks;
mod link;
mod publish;
mod refused;
mod verify;

use std::{sync::Arc, time::Duration};

use pipeline::{
    message::EntryId,
    shutdown::Shutdown,
    store::Store,
    streams::{self, Redis},
};

use crate::{
    import::Grouped,
    patience::{ServerError, patiently},
    progress::Progress,
};
use link::{Link, Open};

/// Orders that are published, and looked up, together.
const CHUNK_ORDERS: usize = 1_000;

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(50);

/// A failure on the way.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// A server, in a way that waiting does not heal.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The temporary files that hold what does not fit into memory.
    #[error("reading the temporary files failed")]
    Spill(#[from] std::io::Error),
}

/// Publishes the orders of one import and waits for them.
#[derive(Debug)]
pub struct Intake {
    /// Where orders are looked up.
    pub store: Store,
    /// Where they are published.
    pub redis: Redis,
    /// Partitions to publish to, in turn.
    pub partitions: u16,
    /// The import's number.
    pub import_id: i64,
    /// Nothing is published while this many orders are on their way.
    pub max_backlog: u64,
    /// The orders.
    pub orders: Arc<Grouped>,
}

/// A chunk that was published.
#[derive(Debug, Clone, Copy)]
pub struct PublishedChunk {
    partition: u16,
    /// Its last entry: once everything up to it is acknowledged, its orders are in Postgres or nowhere.
    last: EntryId,
}

/// What was published.
#[derive(Debug, Default)]
pub struct Published {
    /// The chunks, in order.
    pub chunks: Vec<PublishedChunk>,
    /// Orders in them.
    pub orders: u64,
    /// Whether that is all of them.
    pub complete: bool,
}

/// What became of the published orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Known {
    /// Orders that this import brought.
    pub new_orders: u64,
    /// Their rows.
    pub new_rows: u64,
    /// Orders that were known before, with the same content.
    pub duplicate_orders: u64,
    /// Their rows.
    pub duplicate_rows: u64,
    /// Orders whose code is known with other content: dead letters.
    pub conflicting_orders: u64,
    /// Their rows.
    pub conflicting_rows: u64,
    /// Orders that the workers refused: dead letters.
    pub missing_orders: u64,
    /// Their rows.
    pub missing_rows: u64,
    /// Orders that were published again because Redis had lost them.
    pub republished_orders: u64,
}

/// What a part of the import says to the user, and whether it is to end.
#[derive(Clone, Copy)]
struct Talk<'a> {
    progress: &'a Progress,
    shutdown: &'a Shutdown,
}

impl Talk<'_> {
    /// Speaks with Redis until it answers; `None` when the signal came first.
    async fn redis<T>(
        &self,
        link: &mut Link<'_>,
        mut work: impl AsyncFnMut(&mut Open) -> Result<T, streams::Error>,
    ) -> Result<Option<T>, ServerError> {
        let tell = |text: &str| self.progress.note(text);
        patiently(self.shutdown, tell, async || Ok(link.with(&mut work).await?)).await
    }
}
