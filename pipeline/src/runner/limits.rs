//! The bounds that a worker keeps.

use std::time::Duration;

/// How often an entry may be taken together with others from somebody who fell silent. The third time it is alone.
const COMPANY: u64 = 2;

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
    /// How many consumers may fall silent with an entry in hand before it is set aside. The first two may have had it
    /// in a batch; from then on it is processed alone. At least 3.
    pub attempts_max: u64,
    /// How long a batch may take. After that its work is left behind and done again on new connections: the way to
    /// Postgres may swallow everything without an error.
    pub processing_max: Duration,
}

impl Limits {
    /// How often an entry is taken together with others.
    pub(super) fn company(&self) -> u64 {
        COMPANY
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
            attempts_max: 5,
            processing_max: Duration::from_secs(60),
        }
    }
}
