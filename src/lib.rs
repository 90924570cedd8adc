//! The program `orderstream`: command line, configuration, import, local stack, HTTP. The pipeline itself is the crate
//! `pipeline`.

pub mod actions;
pub mod alerts;
pub mod backends;
pub mod cli;
pub mod commands;
pub mod config;
pub mod contracts;
mod dashboard;
mod decimal;
pub mod exit;
pub mod gateway;
pub mod generate;
pub mod http;
pub mod import;
pub mod intake;
pub mod metrics;
pub mod monitor;
pub mod notify;
pub mod output;
pub mod patience;
pub mod progress;
pub mod provider;
pub mod signals;
pub mod signature;
pub mod stack;
pub mod telemetry;
pub mod tls;
