//! The tests of the program, all in one: a file for each subject, and `program`, which they share. `cargo test --test it
//! NAME` runs those whose path has the name in it, `traces::` all of a file.

mod actions;
mod alerts;
mod architecture;
mod browser;
mod catalogue;
mod contract;
mod contracts;
mod currencies;
mod dashboard;
mod dashboard_data;
mod dead;
mod docs;
mod examples;
#[cfg(feature = "failpoints")]
mod failpoints;
mod fuzz;
mod gateway;
#[cfg(feature = "failpoints")]
mod guards;
mod http;
mod import;
mod import_command;
mod json_suite;
mod lookalikes;
mod metrics;
mod monitor;
mod notifications;
mod observability;
mod outages;
mod payments;
mod program;
mod provider;
mod refund_import;
mod run;
mod server_faults;
mod servers;
mod stack;
mod terminal;
mod top;
mod traces;
