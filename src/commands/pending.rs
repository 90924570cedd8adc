//! What consumers hold, for those who look: there is no command for it.

use std::collections::HashMap;

use pipeline::{
    message::{BODY, EntryId},
    streams::{self, Connection, PendingEntry, Redis},
    topology::StageName,
};
use serde::Serialize;

use crate::output::inert;

/// Bytes of a body that are shown.
const BODY_SHOWN_BYTES: usize = 2_048;

/// Which messages to show.
#[derive(Debug, Clone)]
pub(crate) struct PendingWish {
    /// Held by consumers of this stage.
    pub(crate) stage: StageName,
    /// In this partition.
    pub(crate) partition: u16,
    /// By this consumer alone.
    pub(crate) consumer: Option<String>,
    /// After this message.
    pub(crate) after: EntryId,
    /// At most so many: with bodies, each is read.
    pub(crate) limit: usize,
    /// With the beginning of their bodies.
    pub(crate) bodies: bool,
}

/// A page of messages.
#[derive(Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) pending: Vec<HeldMessage>,
    /// After which to go on; null on the last page.
    pub(crate) next: Option<EntryId>,
}

/// A message in a consumer's hands.
#[derive(Debug, Serialize)]
pub(crate) struct HeldMessage {
    #[serde(flatten)]
    pub(crate) entry: PendingEntry,
    /// What it says, if that was asked for.
    #[serde(flatten)]
    pub(crate) peek: Option<Peek>,
}

/// The beginning of a body.
#[derive(Debug, Serialize)]
pub(crate) struct Peek {
    /// Null if the message was deleted from the stream, or has no body.
    pub(crate) body: Option<String>,
    /// How long it is in all.
    pub(crate) body_bytes: Option<usize>,
}

/// Looks at what is held, in the order of the stream.
///
/// # Errors
/// When Redis cannot be reached.
pub(crate) async fn held(
    redis: &Redis,
    connection: &mut Connection,
    wish: &PendingWish,
) -> Result<Held, streams::Error> {
    let PendingWish { stage, partition, consumer, after, limit, bodies } = wish;
    let entries = redis.pending_entries(connection, *partition, *stage, consumer.as_deref(), *after, *limit).await?;
    let next = entries.last().filter(|_| entries.len() == *limit).map(|entry| entry.id);
    let mut peeks = HashMap::new();
    if *bodies {
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        for entry in redis.peek(connection, *partition, *stage, &ids).await? {
            let body = entry.fields.iter().find(|(name, _)| name == BODY.as_bytes()).map(|(_, body)| body);
            let shown = |body: &Vec<u8>| inert(&body[..body.len().min(BODY_SHOWN_BYTES)], false);
            peeks.insert(entry.id, Peek { body: body.map(shown), body_bytes: body.map(Vec::len) });
        }
    }
    let mut peek = |id: EntryId| peeks.remove(&id).or(bodies.then_some(Peek { body: None, body_bytes: None }));
    let pending = entries.into_iter().map(|entry| HeldMessage { peek: peek(entry.id), entry }).collect();
    Ok(Held { pending, next })
}
