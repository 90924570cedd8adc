//! Drives the stages: read a batch, decode, process, hand off; again. All control flow lives here, once.

mod batch;
mod counters;
mod limits;
mod work;
mod worker;
mod workers;

pub use counters::{Counters, CountersSnapshot};
pub use limits::Limits;
pub use workers::{PipelineConfig, Workers};
