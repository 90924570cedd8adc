//! The client of payment providers, against `orderstream gateway` and against servers that mean no good.

#[path = "gateway/audit.rs"]
mod audit;
#[path = "gateway/bounds.rs"]
mod bounds;
#[path = "gateway/callbacks.rs"]
mod callbacks;
#[path = "gateway/faults.rs"]
mod faults;
#[path = "gateway/hostile.rs"]
mod hostile;
#[path = "gateway/ledger.rs"]
mod ledger;
mod program;
#[path = "gateway/provider.rs"]
mod provider;
#[path = "gateway/raw.rs"]
mod raw;
