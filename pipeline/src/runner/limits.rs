//! The bounds that a worker keeps.

use std::time::Duration;

/// How often an entry is taken with a whole batch from somebody who fell silent. After that it is a suspect.
pub(super) const COMPANY: u64 = 2;

/// The groups in which suspects are processed after that, as parts of a batch; then they are alone. Of a thousand
/// entries that two consumers fell silent with, a hundred are together, then ten.
const GROUPS: [usize; 2] = [10, 100];

/// The bounds that a worker keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most messages in one batch.
    pub batch_messages_max: usize,
    /// About how many bytes a batch may have: fewer messages are read where messages are large.
    pub batch_bytes_max: usize,
    /// Longest wait for the first message of a batch. A shutdown is noticed this late at most.
    pub block: Duration,
    /// How long a consumer may be silent before its entries are taken over.
    pub claim_idle: Duration,
    /// How many messages may wait before the next stage; above it, nothing is read.
    pub downstream_backlog_max: u64,
    /// How many consumers may fall silent with an entry in hand before it is set aside: two with a whole batch, two with
    /// a part of one, the others with it alone. At least 5.
    pub attempts_max: u64,
    /// How long a batch may take. After that its work is left behind and done again on new connections: the way to
    /// Postgres may swallow everything without an error.
    pub processing_max: Duration,
}

impl Limits {
    /// Whether an entry is suspected of killing its consumers, after so many have fallen silent with it.
    pub(super) fn is_suspect(&self, before: u64) -> bool {
        before >= COMPANY
    }

    /// How many suspects to process together.
    pub(super) fn group_len(&self, before: u64) -> usize {
        let parts = usize::try_from(before - COMPANY).ok().and_then(|round| GROUPS.get(round));
        parts.map_or(1, |parts| (self.batch_messages_max / parts).max(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_messages_max: 1_000,
            batch_bytes_max: 16 << 20,
            block: Duration::from_millis(500),
            claim_idle: Duration::from_secs(15),
            downstream_backlog_max: 100_000,
            attempts_max: 7,
            processing_max: Duration::from_secs(60),
        }
    }
}
