//! Drives orderstream from outside, as a foreign system would, and measures it.
//!
//! Nothing here shares code with the pipeline: orders are written to the documented stream by another Redis client,
//! and what became of them is read from the documented tables.

mod cpu;
mod ending;
mod faults;
mod ledger;
mod orders;
mod program;
mod stream;
mod system;
mod throughput;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Drives orderstream from outside and measures it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send orders and measure rate, latency and cost of their whole way.
    Throughput(throughput::Options),
    /// Kill workers, Redis and Postgres during an import, and prove that nothing was lost.
    Kills(faults::kills::Options),
    /// Load at half of the measured speed and random faults of all kinds, for a long time.
    Soak(faults::soak::Options),
}

// One thread: the generator shares the machine with what it measures, and must not wake a second core for itself.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ending = match Cli::parse().command {
        Command::Throughput(options) => throughput::run(&options).await,
        Command::Kills(options) => faults::kills::run(&options).await,
        Command::Soak(options) => faults::soak::run(&options).await,
    };
    match ending {
        Ok(ending) => ending.exit_code(),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
