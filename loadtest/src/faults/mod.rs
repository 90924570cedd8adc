//! Breaking the system from outside, and proving afterwards that nothing was lost.

mod control;
mod drain;
mod importer;
mod kinds;
mod model;
mod poison;
mod producer;
mod proof;
mod report;
mod samples;
mod schedule;
mod servers;
mod supervisor;

pub(crate) mod kills;
pub(crate) mod soak;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    ending::Ending,
    program::{Program, Urls},
};
use servers::Servers;
use supervisor::{Recipe, Supervisor};

/// Products of the catalogue.
const PRODUCTS: u64 = 200;

/// Customers of the catalogue.
const CUSTOMERS: u64 = 1_000;

/// Pieces of each product: no order fails for want of stock.
const STOCK: u64 = 1_000_000_000;

/// The workers under test.
#[derive(Debug, Clone, Args)]
struct Workers {
    /// The program orderstream; by default the one next to this program
    #[arg(long, env = "ORDERSTREAM_BIN")]
    program: Option<PathBuf>,
    /// Processes of `orderstream run`, started again whenever they end
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=16))]
    runs: u64,
    /// Their --batch: small, so that there are many batches to hit
    #[arg(long, default_value_t = 100)]
    batch: u64,
    /// Their --claim-idle, seconds
    #[arg(long, default_value_t = 3)]
    claim_idle: u64,
}

/// Own servers with a schema and a catalogue, and the program under test.
struct Field {
    program: Program,
    urls: Urls,
    servers: Servers,
}

impl Field {
    /// Starts the servers and fills the catalogue.
    async fn prepare(workers: &Workers) -> Result<Self> {
        let program = Program::find(workers.program.as_deref())?;
        eprintln!("starting a private Redis and Postgres");
        let servers = Servers::start().await?;
        let urls = servers.urls();
        program.run(&urls, &["migrate"]).await?;
        program.seed(&urls, PRODUCTS, CUSTOMERS, STOCK).await?;
        Ok(Self { program, urls, servers })
    }

    /// Starts the workers. `latency_ms` is how long the gateway takes for a batch, which bounds their speed.
    fn supervise(&self, workers: &Workers, latency_ms: u64, env: Vec<(String, String)>) -> Result<Supervisor> {
        let options =
            [("--batch", workers.batch), ("--claim-idle", workers.claim_idle), ("--payment-latency-ms", latency_ms)];
        let args = options.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]).collect();
        let recipe = Recipe { program: self.program.clone(), servers: self.urls.clone(), args, env };
        Supervisor::start(&recipe, usize::try_from(workers.runs)?, &self.servers.path("run.log"))
    }
}

/// Runs something to its end, or until somebody stops it; whatever it started ends with it.
async fn unless_interrupted(run: impl Future<Output = Result<Ending>>) -> Result<Ending> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ending = run => ending,
        _ = interrupt.recv() => Ok(Ending::Interrupted),
        _ = terminate.recv() => Ok(Ending::Interrupted),
    }
}
