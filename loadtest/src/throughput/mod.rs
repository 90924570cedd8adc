//! The throughput run: orders go in as fast as they are taken, or at a fixed rate, until all of them are settled.

mod latency;
mod measure;
mod publish;
mod report;
mod watch;

use anyhow::{Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cpu::Roots,
    ending::Ending,
    ledger::Ledger,
    orders::{self, Orders, Shape},
    stream::Stream,
    system::{System, Target},
};
use measure::Measurement;
use report::Report;

/// Options of the throughput run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    shape: Shape,
    /// Orders per second, sent by a timetable whatever the system does; without it, as fast as they are taken
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Without --rate: most orders that may wait to be taken in, so that Redis does not grow
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    ahead: u64,
    /// Pieces of each product, when a private system is started
    #[arg(long, default_value_t = 1_000_000_000)]
    stock: u64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs it, and stops whatever it started, however it ends.
pub(crate) async fn run(options: &Options) -> Result<Ending> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    eprintln!("writing {} orders", options.shape.orders);
    let orders = Orders::generate(&options.shape, orders::unique_prefix())?;
    let mut system = System::open(&options.target)?;
    let ending = tokio::select! {
        ending = drive(options, &orders, &mut system) => ending,
        _ = interrupt.recv() => Ok(Ending::Interrupted),
        _ = terminate.recv() => Ok(Ending::Interrupted),
    };
    let stopped = system.stop().await;
    // A run that failed is the more interesting error.
    let ending = ending?;
    stopped?;
    Ok(ending)
}

async fn drive(options: &Options, orders: &Orders, system: &mut System) -> Result<Ending> {
    if system.is_private() {
        eprintln!("starting a private system");
    }
    system.ready().await?;
    let mut ledger = Ledger::connect(system.database_url()).await?;
    let stream = Stream::connect(system.redis_url()).await?;
    let shape = &options.shape;
    if system.is_private() {
        system.seed(shape.products, shape.customers, options.stock).await?;
    }
    check_catalogue(&mut ledger, shape, options.stock).await?;
    let roots = Roots::new(ledger.backend_pid().await?, stream.process_id().await?, system.program_pids())?;

    let pace = publish::Pace::new(options.rate, options.ahead);
    let measurement = tokio::select! {
        measurement = Measurement::take(orders, pace, &stream, &mut ledger, &roots) => measurement?,
        error = system.ended() => return Err(error),
    };
    eprintln!("auditing");
    let audit = system.audit().await;
    // Whatever became of the audit, the figures are shown.
    let verdict = audit.as_ref().ok().cloned().flatten();
    let report = Report::new(shape.clone(), options.rate, orders.prefix(), &measurement, verdict);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if audit?.is_none_or(|audit| audit.clean) { Ending::Done } else { Ending::Differences })
}

async fn check_catalogue(ledger: &mut Ledger, shape: &Shape, stock: u64) -> Result<()> {
    let (products, customers) = ledger.catalogue(shape.products, shape.customers).await?;
    if products < shape.products || customers < shape.customers {
        bail!(
            "the catalogue has {products} of the {} products and {customers} of the {} customers; \
             `orderstream seed --products {} --customers {} --stock {stock}` makes them",
            shape.products,
            shape.customers,
            shape.products,
            shape.customers,
        );
    }
    Ok(())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number from 0.001 to 10000000 orders per second".to_owned()),
    }
}
