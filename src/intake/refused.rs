//! Which orders of an import the workers have refused.

use std::collections::HashMap;

use pipeline::{
    message::{Entry, EntryId, Incoming, Message},
    streams::{Connection, Error, Redis},
};
use rustc_hash::FxHashSet;

/// Dead letters read at once; their bodies may be large.
const PAGE: usize = 100;

/// The dead letters of one import, read as far as they go.
///
/// An acknowledged entry whose order Postgres does not have proves nothing: Redis may have lost the entry, be emptied, or
/// go back to an older state, and be past its id since. A refusal is told apart by what it leaves behind, in the script
/// that acknowledges the entry: a dead letter with the import's number and the order itself. As long as there is none,
/// the order was lost, and is published again.
#[derive(Default)]
pub(super) struct Refused {
    /// Up to where each partition's dead letters are read.
    read_to: HashMap<u16, EntryId>,
    codes: FxHashSet<String>,
}

impl Refused {
    /// Reads what was added since the last time. Harmless to give up half-way and to do again.
    pub(super) async fn read(
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
            self.codes.extend(page.iter().filter_map(|letter| refused_code(letter, import_id)));
        }
    }

    /// Whether the order with this code was refused.
    pub(super) fn has(&self, code: &str) -> bool {
        self.codes.contains(code)
    }
}

/// The code of the import's order that this dead letter holds. That of an entry which somebody deleted holds none: its
/// order was lost.
fn refused_code(letter: &Entry, import_id: i64) -> Option<String> {
    let Incoming { order, import_id: brought_by, .. } = Incoming::decode(letter).ok()?;
    (brought_by == Some(import_id)).then(|| order.code().to_string())
}
