//! `loadtest soak`: half of the speed, all kinds of faults, for as long as it is asked for.

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use rand::{SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;

use super::{
    Field, Workers,
    control::Control,
    kinds::{Injector, Kind},
    producer::Producer,
    proof::Proof,
    report::{Report, Verdict},
    samples::Samples,
    schedule::pause,
    unless_interrupted,
};
use crate::{ending::Ending, ledger::Ledger};

/// Orders by which the speed is measured.
const MEASURED_ORDERS: u64 = 20_000;

/// Longest time for that.
const MEASURED_MAX: Duration = Duration::from_secs(300);

/// What may happen, the common things more often.
const KINDS: [Kind; 14] = [
    Kind::RunKill,
    Kind::RunKill,
    Kind::RunKill,
    Kind::RunStop,
    Kind::RunTerm,
    Kind::RedisKill,
    Kind::RedisKill,
    Kind::PostgresKill,
    Kind::ClientKill,
    Kind::ClientPause,
    Kind::ScriptFlush,
    Kind::TerminateBackends,
    Kind::DeleteStream,
    Kind::DestroyGroup,
];

/// Options of the run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    workers: Workers,
    /// How long there are load and faults
    #[arg(long, default_value_t = 10.0, value_parser = minutes)]
    minutes: f64,
    /// Milliseconds between two faults, on average
    #[arg(long, default_value_t = 3_000)]
    gap_ms: u64,
    /// Redis may also lose everything; orders that Postgres does not know then are sent again
    #[arg(long)]
    flushalls: bool,
    /// Leave out the faults that take messages from between the stages
    #[arg(long, conflicts_with = "flushalls")]
    no_losses: bool,
    /// Orders per second, at most: all of them are held in memory, about 100 bytes each
    #[arg(long, default_value_t = 2_000.0)]
    rate_max: f64,
    /// The same seed makes the same orders and the same faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
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
    let urls = field.urls.clone();
    let supervisor = field.supervise(&options.workers, 0, Vec::new())?;
    let mut producer = Producer::new(&urls, options.seed, "S");
    let speed = measure(&mut producer, &urls.database).await?;
    let rate = (speed / 2.0).min(options.rate_max);
    eprintln!("measured {speed:.0} orders/s, sending {rate:.0} for {} minutes", options.minutes);

    let deadline = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut injector = Injector {
        servers: &mut field.servers,
        supervisor: &supervisor,
        control: Control::new(&urls.redis),
        rng: ChaCha8Rng::seed_from_u64(options.seed),
        tallies: BTreeMap::new(),
        outages: Vec::new(),
        away: Duration::ZERO,
    };
    let (lost, mut samples) = (Cell::new(false), Samples::default());
    let work = async {
        tokio::try_join!(producer.run(rate, deadline, &lost), make_faults(options, &mut injector, deadline, &lost))
    };
    let (_, misses) = tokio::select! {
        done = work => done?,
        () = samples.collect(&urls, &supervisor) => bail!("samples end before the load does"),
    };
    let last_fault = Instant::now();
    if options.flushalls {
        producer.send_unknown().await?;
    }
    let unsettled = producer.sent.orders as i64 - Ledger::connect(&urls.database).await?.last_event().await?;
    let faults = injector.tallies.into_iter().collect();
    let proof = Proof::take(&field.program, &urls, &producer.model, last_fault).await?;
    let workers = supervisor.stop().await?;

    let mut verdict = Verdict::default();
    misses.into_iter().for_each(|miss| verdict.wrong(miss));
    verdict.workers(&workers);
    verdict.proof(&proof, &BTreeMap::new());
    let report = Report {
        seed: options.seed,
        seconds: started.elapsed().as_secs_f64(),
        faults,
        outages: Vec::new(),
        poison: None,
        workers,
        imports: None,
        sent: Some(producer.sent),
        samples: Some(samples),
        unsettled_at_last_fault: unsettled.max(0),
        proof,
        wrong: verdict.into_wrong(),
    };
    report.print(options.json)?;
    if let Some(folder) = options.keep_logs.as_ref().filter(|_| !report.wrong.is_empty()) {
        field.servers.keep_logs(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(report.ending())
}

/// Orders per second without faults.
async fn measure(producer: &mut Producer<'_>, database: &str) -> Result<f64> {
    let mut ledger = Ledger::connect(database).await?;
    let started = Instant::now();
    producer.send(MEASURED_ORDERS).await?;
    while u64::try_from(ledger.last_event().await?)? < producer.sent.orders {
        if started.elapsed() > MEASURED_MAX {
            bail!("{MEASURED_ORDERS} orders are not settled after {} s", MEASURED_MAX.as_secs());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(producer.sent.orders as f64 / started.elapsed().as_secs_f64())
}

/// Makes faults until the deadline; returns those that could not be made, in words.
async fn make_faults(
    options: &Options,
    injector: &mut Injector<'_>,
    deadline: Instant,
    lost: &Cell<bool>,
) -> Result<Vec<String>> {
    let started = Instant::now();
    let mut kinds = KINDS.to_vec();
    kinds.retain(|kind| !options.no_losses || !matches!(kind, Kind::DeleteStream | Kind::DestroyGroup));
    if options.flushalls {
        kinds.push(Kind::FlushAll);
    }
    let mut misses = Vec::new();
    loop {
        let rest = pause(Duration::from_millis(options.gap_ms), &mut injector.rng);
        if Instant::now() + rest >= deadline {
            return Ok(misses);
        }
        sleep(rest).await;
        let kind = *kinds.choose(&mut injector.rng).context("there are kinds of faults")?;
        eprintln!("{:5} s  {kind}", started.elapsed().as_secs());
        if let Err(miss) = injector.make(kind).await {
            eprintln!("{miss:#}");
            misses.push(format!("{miss:#}"));
        }
        if kind == Kind::FlushAll {
            lost.set(true);
        }
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.1..=10_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("minutes are a number from 0.1 to 10000".to_owned()),
    }
}
