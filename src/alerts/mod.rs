//! Built-in alerts, for those without Prometheus: rules over the one snapshot, evaluated by the one process that leads.
//!
//! | step | where |
//! |---|---|
//! | what is watched for | `rule` |
//! | what takes more than one look to see | `evidence` |
//! | is it bad now, in a number and a sentence | `judge` |
//! | does that change anything: patience, hysteresis, no floods | `state` |
//! | keep it in Redis, so that nobody is told twice | `watch` |
//! | tell somebody | `deliver` |

mod deliver;
mod evidence;
mod judge;
mod rule;
mod state;
mod watch;

pub(crate) use deliver::Alerting;
pub use deliver::{AlertSecrets, Alerts};
pub use judge::Thresholds;
pub use rule::{Rule, Severity};
pub use watch::stored;
pub(crate) use watch::{Shelf, Watch};
