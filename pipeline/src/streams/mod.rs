//! Everything that the stages' streams need of Redis: the only place, beside the relay, that speaks to it.

mod age;
mod alerts;
mod books;
mod connection;
mod consumer;
mod dead_letters;
mod events;
mod history;
mod inspect;
mod kept;
mod letter;
mod mark;
mod memory;
mod owner;
mod pause;
mod pending;
mod processes;
mod publish;
mod refusal;
mod reply;
mod unacknowledged;

/// A connection of one's own; commands go one after the other.
pub use redis::aio::MultiplexedConnection as Connection;

pub use age::AgeUnknown;
pub use books::{BOOKS_CLOSED_MS, Books, Recovered};
pub use connection::{Error, Redis, SafetyProblem};
pub use consumer::{Consumer, Delivery, HandOff, HandedOff, Taken, Whose};
pub use dead_letters::{DEAD_LETTERS_MAX, DeadLetterReasons, Direction, LetterWalk, Replay, Replayed};
pub use events::{EventsReader, NOTIFICATION_GROUP};
pub use inspect::{ConsumerState, GroupState, LagUnknown, StreamState};
pub use kept::KeptConnection;
pub use letter::{DeadLetter, Fields, LetterId, REPLAYED_FROM, REPLAYS, ReplayMark, Unreplayable};
pub use mark::Mark;
pub use pause::Pause;
pub use pending::{PendingEntry, Release, Released};
pub use processes::{ProcessReport, StageReport};
pub use publish::Publisher;
pub use refusal::{Refusal, denied};
pub use unacknowledged::Unacknowledged;
