//! Everything that the stages' streams need of Redis: the only place, beside the relay, that speaks to it.

mod connection;
mod consumer;
mod inspect;
mod pause;
mod publish;
mod reply;
mod unacknowledged;

/// A connection of one's own; commands go one after the other.
pub use redis::aio::MultiplexedConnection as Connection;

pub use connection::{Error, Redis, SafetyProblem};
pub use consumer::{Consumer, Delivery, HandOff, HandOffCounts, Taken, Whose};
pub use inspect::{ConsumerState, GroupState, StreamState};
pub use pause::Pause;
pub use publish::Publisher;
pub use unacknowledged::Unacknowledged;
