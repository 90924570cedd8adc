//! Everything that the stages' streams need of Redis: the only place, beside the relay, that speaks to it.

mod alerts;
mod connection;
mod consumer;
mod dead_letters;
mod events;
mod history;
mod inspect;
mod letter;
mod memory;
mod pause;
mod pending;
mod processes;
mod publish;
mod reply;
mod unacknowledged;

/// A connection of one's own; commands go one after the other.
pub use redis::aio::MultiplexedConnection as Connection;

pub use connection::{Error, Redis, SafetyProblem};
pub use consumer::{Consumer, Delivery, HandOff, HandedOff, Taken, Whose};
pub use dead_letters::{DEAD_LETTERS_MAX, DeadLetterReasons, Direction, LetterWalk, Replay, Replayed};
pub use events::{EventsReader, NOTIFICATION_GROUP};
pub use inspect::{ConsumerState, GroupState, LagUnknown, StreamState};
pub use letter::{DeadLetter, Fields, LetterId, REPLAYED_FROM, REPLAYS, ReplayMark, Unreplayable};
pub use pause::Pause;
pub use pending::{PendingEntry, Release, Released};
pub use processes::{ProcessReport, StageReport};
pub use publish::Publisher;
pub use unacknowledged::Unacknowledged;
