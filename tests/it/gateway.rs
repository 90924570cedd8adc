//! The client of payment providers, against `orderstream gateway` and against servers that mean no good.

mod audit;
mod bounds;
mod callbacks;
mod faults;
mod free;
mod hostile;
mod ledger;
mod raw;
