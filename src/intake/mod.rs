//! From complete orders, or requests for refunds, to Postgres knowing them all.
//!
//! Messages are published in chunks, in order of first appearance, while the pipeline has room. Then each chunk is looked
//! up in Postgres until it knows every one of it. Between the two, they exist only in Redis: what Redis loses there
//! is published again, as often as it is lost. Servers that are away are waited for.

mod chunks;
mod freight;
mod link;
mod outcomes;
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
    patience::{ServerError, patiently},
    progress::Progress,
};
pub use freight::{Freight, KnownItem};
use link::{Link, Open};
pub use outcomes::Outcomes;

/// Messages that are published, and looked up, together.
const CHUNK_ITEMS: usize = 1_000;

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

/// Publishes what one import carries and waits for it.
#[derive(Debug)]
pub struct Intake<F> {
    /// Where it is looked up.
    pub store: Store,
    /// Where it is published.
    pub redis: Redis,
    /// Partitions to publish to, in turn.
    pub partitions: u16,
    /// The import's number.
    pub import_id: i64,
    /// Nothing is published while this many messages are on their way.
    pub max_backlog: u64,
    /// What it carries.
    pub freight: Arc<F>,
}

/// A chunk that was published.
#[derive(Debug, Clone, Copy)]
pub struct PublishedChunk {
    partition: u16,
    /// Its last entry: once everything up to it is acknowledged, its messages are in Postgres or nowhere.
    last: EntryId,
}

/// What was published.
#[derive(Debug, Default)]
pub struct Published {
    /// The chunks, in order.
    pub chunks: Vec<PublishedChunk>,
    /// Messages in them.
    pub messages: u64,
    /// Whether that is all of them.
    pub complete: bool,
}

/// What became of what was published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// What this import brought.
    pub new: Count,
    /// What was known before, with the same content.
    pub duplicate: Count,
    /// What is known with other content: dead letters.
    pub conflicting: Count,
    /// What the workers refused: dead letters.
    pub missing: Count,
    /// What was published again because Redis had lost it.
    pub republished: u64,
}

/// Messages, and their rows in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Messages.
    pub messages: u64,
    /// Their rows.
    pub rows: u64,
}

impl Count {
    fn add(&mut self, rows: u64) {
        self.messages += 1;
        self.rows += rows;
    }
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
