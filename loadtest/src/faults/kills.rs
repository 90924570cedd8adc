//! `loadtest kills`: workers, Redis and Postgres are killed while an import waits.

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::time::{sleep, timeout_at};

use super::{
    Field, Workers,
    control::Control,
    importer::{Importer, Imports},
    kinds::{Injector, Kind},
    model::Model,
    poison::{self, Poisoned},
    proof::Proof,
    report::{Report, Verdict},
    schedule::{self, Planned},
    unless_interrupted,
};
use crate::{ending::Ending, ledger::Ledger};

/// Rows of generated files for each order, on average.
const ROWS_PER_ORDER: u64 = 5;

/// Options of the run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    workers: Workers,
    /// Rows of the file that is imported; when the faults take longer, further files follow
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(5..))]
    rows: u64,
    /// How often a worker process is killed
    #[arg(long, default_value_t = 200)]
    run_kills: u32,
    /// How often Redis is killed, and started again
    #[arg(long, default_value_t = 50)]
    redis_kills: u32,
    /// How often Postgres is killed, and started again
    #[arg(long, default_value_t = 50)]
    postgres_kills: u32,
    /// How often Redis loses everything
    #[arg(long, default_value_t = 0)]
    flushalls: u32,
    /// Stop Postgres for so many seconds, once
    #[arg(long, value_name = "SECONDS")]
    postgres_away: Option<u64>,
    /// First send a message that kills whoever works on it; needs a program built with --features failpoints
    #[arg(long)]
    poison: bool,
    /// Milliseconds between two faults, on average
    #[arg(long, default_value_t = 1_000)]
    gap_ms: u64,
    /// Most orders that the import has on their way
    #[arg(long, default_value_t = 2_000)]
    backlog: u64,
    /// The same seed makes the same file and the same faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Longest time for faults and import, seconds
    #[arg(long, default_value_t = 1_800)]
    deadline: u64,
    /// Where the logs are kept when something is wrong [default: nowhere]
    #[arg(long, value_name = "FOLDER")]
    keep_logs: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs it, and ends whatever it started, however it ends.
pub(crate) async fn run(options: &Options) -> Result<Ending> {
    unless_interrupted(drive(options)).await
}

async fn drive(options: &Options) -> Result<Ending> {
    let started = Instant::now();
    let mut field = Field::prepare(&options.workers).await?;
    let (program, urls) = (field.program.clone(), field.urls.clone());
    let mut importer = Importer {
        program: &program,
        urls: &urls,
        folder: field.servers.path(""),
        rows: options.rows,
        seed: options.seed,
        backlog: options.backlog,
        model: Model::default(),
        imports: Imports::default(),
    };
    let poison = match options.poison {
        true => Some(poison::run(&field, &options.workers, &mut importer.model).await?),
        false => None,
    };
    let dead_letters = if options.poison { Poisoned::expected_dead_letters() } else { BTreeMap::new() };
    eprintln!("writing {} rows", options.rows);
    let file = importer.prepare().await?;
    let plan = options.plan();
    let supervisor = field.supervise(&options.workers, options.latency_ms(&plan), Vec::new())?;
    let mut injector = Injector {
        servers: &mut field.servers,
        supervisor: &supervisor,
        control: Control::new(&urls.redis),
        rng: ChaCha8Rng::seed_from_u64(options.seed),
        tallies: BTreeMap::new(),
        outages: Vec::new(),
        away: Duration::from_secs(options.postgres_away.unwrap_or(0)),
    };
    let enough = Cell::new(false);
    let deadline = tokio::time::Instant::from_std(started) + Duration::from_secs(options.deadline);
    let faults = async {
        make_faults(&mut injector, &plan).await?;
        enough.set(true);
        let last_fault = Instant::now();
        Ok::<_, anyhow::Error>((last_fault, Ledger::connect(&urls.database).await?.last_event().await?))
    };
    let both = async { tokio::try_join!(faults, importer.run(file, &enough)) };
    let ended = timeout_at(deadline, both).await;
    let (tallies, outages) = (injector.tallies, injector.outages);
    let mut verdict = Verdict::default();
    let (last_fault, settled_then) = match ended {
        Ok(ended) => ended?.0,
        Err(_) => {
            verdict.wrong(format!("faults and import did not end within {} s", options.deadline));
            (Instant::now(), 0)
        }
    };
    let proof = Proof::take(&program, &urls, &importer.model, last_fault).await?;
    let workers = supervisor.stop().await?;
    verdict.imports(&importer.imports);
    verdict.workers(&workers);
    verdict.outages(&outages);
    verdict.proof(&proof, &dead_letters);
    let report = Report {
        seed: options.seed,
        seconds: started.elapsed().as_secs_f64(),
        faults: tallies.into_iter().collect(),
        outages,
        workers,
        poison,
        imports: Some(importer.imports),
        sent: None,
        samples: None,
        unsettled_at_last_fault: (proof.orders as i64 - settled_then).max(0),
        proof,
        wrong: verdict.into_wrong(),
    };
    report.print(options.json)?;
    if let Some(folder) = options.keep_logs.as_ref().filter(|_| !report.wrong.is_empty()) {
        field.servers.keep_logs(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(report.ending())
}

async fn make_faults(injector: &mut Injector<'_>, plan: &[Planned]) -> Result<()> {
    let started = Instant::now();
    for (number, planned) in (1..).zip(plan) {
        sleep(planned.after).await;
        injector.make(planned.kind).await?;
        if number % 10 == 0 || number == plan.len() {
            eprintln!("{:5} s  {number} of {} faults made", started.elapsed().as_secs(), plan.len());
        }
    }
    Ok(())
}

impl Options {
    /// Which fault comes when. The long outage comes half-way.
    fn plan(&self) -> Vec<Planned> {
        let counts = [
            (Kind::RunKill, self.run_kills),
            (Kind::RedisKill, self.redis_kills),
            (Kind::PostgresKill, self.postgres_kills),
            (Kind::FlushAll, self.flushalls),
        ];
        let gap = Duration::from_millis(self.gap_ms);
        let mut plan = schedule::plan(&counts, gap, self.seed);
        if self.postgres_away.is_some() {
            plan.insert(plan.len() / 2, Planned { after: gap, kind: Kind::PostgresAway });
        }
        plan
    }

    /// How long the gateway must take for a batch so that the first file lasts about as long as the faults.
    fn latency_ms(&self, plan: &[Planned]) -> u64 {
        let pauses: Duration = plan.iter().map(|planned| planned.after).sum();
        let batches = self.rows / ROWS_PER_ORDER / self.workers.batch.max(1) / self.workers.runs + 1;
        u64::try_from(pauses.as_millis()).unwrap_or(u64::MAX) / batches
    }
}
