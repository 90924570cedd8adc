//! The pipeline: orders on Redis Streams, through reservation, payment and settlement, into Postgres.
//!
//! One order's way, and where it is written:
//!
//! | step | where |
//! |---|---|
//! | the message is read | [`message`] decodes, [`streams`] fetches, [`runner`] drives |
//! | stock is held, all lines or none | [`stage::Reservation`] |
//! | the money is asked for | [`stage::Payment`], [`gateway`] |
//! | stock leaves, or is free again | [`stage::Settlement`] |
//! | KPIs and leaderboards follow | [`relay`] |
//! | what Redis lost is emitted again | [`reconciler`] |
//! | somebody checks | [`audit`] |
//!
//! Imports point one way: `runner` → `stage`, `streams`; `stage` → `store`, `domain`, `message`; `domain` → nothing.
//! SQL stands in [`store`] only, Redis commands in [`streams`] and [`relay`] only.

pub mod audit;
pub mod collector;
pub mod domain;
pub mod failpoint;
pub mod gateway;
pub mod message;
pub mod metrics;
pub mod payments;
pub mod reconciler;
pub mod relay;
pub mod retry;
pub mod runner;
pub mod shutdown;
pub mod stage;
pub mod store;
pub mod streams;
pub mod topology;
pub mod trace;
