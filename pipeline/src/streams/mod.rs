//! Everything that the stages' streams need of Redis: the only place, beside the relay, that speaks to it.

mod connection;
mod consumer;
mod inspect;
mod publish;
mod reply;
mod unacknowledged;

/// A connection of one's own; commands go one after the other.
pub use redis::aio::MultiplexedConnection as Connection;

pub use connection::{Error, Redis, SafetyProblem};
pub use consumer::{Claimed, Consumer, HandOff, HandOffCounts};
pub use inspect::{ConsumerState, GroupState, StreamState};
pub use publish::Publisher;
pub use unacknowledged::Unacknowledged;
