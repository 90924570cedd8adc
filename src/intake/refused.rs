//! Which messages of an import the workers have refused.

use std::collections::HashMap;

use pipeline::{
    message::EntryId,
    streams::{Connection, Error, Redis},
};
use rustc_hash::FxHashSet;

use super::Freight;

/// Dead letters read at once; their bodies may be large.
const PAGE: usize = 100;

/// The dead letters of one import, read as far as they go.
///
/// An acknowledged entry that Postgres does not have proves nothing: Redis may have lost the entry, be emptied, or
/// go back to an older state, and be past its id since. A refusal is told apart by what it leaves behind, in the script
/// that acknowledges the entry: a dead letter with the import's number and the message itself. As long as there is
/// none, the message was lost, and is published again. That of an entry which somebody deleted holds none: it was lost.
#[derive(Default)]
pub(super) struct Refused {
    /// Up to where each partition's dead letters are read.
    read_to: HashMap<u16, EntryId>,
    names: FxHashSet<String>,
}

impl Refused {
    /// Reads what was added since the last time. Harmless to give up half-way and to do again.
    pub(super) async fn read<F: Freight>(
        &mut self,
        redis: &Redis,
        connection: &mut Connection,
        partition: u16,
        import_id: i64,
    ) -> Result<(), Error> {
        let read_to = self.read_to.entry(partition).or_default();
        loop {
            let page = redis.dead_letters_after(connection, partition, *read_to, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            *read_to = last.id;
            let ours = page.iter().filter_map(F::dead).filter(|(_, brought_by)| *brought_by == Some(import_id));
            self.names.extend(ours.map(|(name, _)| name));
        }
    }

    /// Whether the message of this name was refused.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}
