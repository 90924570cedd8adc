//! One file per command.

mod actions;
mod alerts;
mod api;
mod audit;
mod catalogue;
pub(crate) mod dead;
mod dev;
pub(crate) mod figures;
mod gateway;
mod generate;
pub(crate) mod import;
mod notifications;
pub(crate) mod orders;
pub(crate) mod pause;
pub(crate) mod pending;
mod provider;
mod reconcile;
mod refund;
mod run;
mod serve;
pub(crate) mod status;
pub(crate) mod stock;
mod token;
mod top;

use std::io;

use clap::CommandFactory;

use crate::{
    backends::Backends,
    cli::{Cli, Command},
    exit::{Exit, report_in_log},
    output,
    signals::await_end,
    telemetry::{self, LogFormat},
    tls,
};

pub use crate::signals::shutdown_on_signal;

/// Runs the command on a runtime of its own.
///
/// # Errors
/// Whatever made the command fail; [`crate::exit::report`] turns it into a message and an exit code.
pub fn run(cli: Cli) -> anyhow::Result<Exit> {
    let level = match cli.command {
        // A line across the screen would stay there.
        Command::Top(_) if !cli.globals.json && io::IsTerminal::is_terminal(&io::stderr()) => telemetry::SILENT,
        Command::Run(_) | Command::Dev(_) | Command::Serve(_) | Command::Gateway(_) if !cli.globals.quiet => "info",
        _ => "warn",
    };
    tls::install();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let telemetry = telemetry::start(&cli.globals, level, runtime.handle())?;
    let format = cli.globals.log_format;
    let outcome = runtime.block_on(dispatch(cli));
    await_end();
    let outcome = match (outcome, format) {
        (Err(error), LogFormat::Json) => Ok(report_in_log(&error)),
        (outcome, _) => outcome,
    };
    telemetry.finish();
    // Without waiting for threads: one may read from a pipe that never sends more.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { globals, command } = cli;
    match command {
        Command::Completions { shell } => {
            // Into memory: what writes them panics when the reader hangs up.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "orderstream", &mut script);
            output::raw(&script)?;
            Ok(Exit::Done)
        }
        Command::Api { form } => api::print(form),
        Command::Dev(args) => dev::run(&globals, args).await,
        Command::Run(args) => run::run(&globals, &args).await,
        Command::Serve(args) => serve::run(&globals, &args).await,
        Command::Token { what } => token::run(&Backends::open(&globals).await?, what, &globals).await,
        Command::Migrate => catalogue::migrate(&Backends::open(&globals).await?, &globals).await,
        Command::Seed(args) => catalogue::seed(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Load { what } => catalogue::load(&globals, &what).await,
        Command::Order { code } => orders::show(&Backends::open(&globals).await?, &code, &globals).await,
        Command::Orders(args) => orders::list(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Refund(args) => refund::refund(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Refunds(args) => refund::list(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Kpi(args) => figures::kpi(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Leaderboard(args) => figures::leaderboard(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Stock(args) => stock::run(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Status => status::run(&Backends::open(&globals).await?, &globals).await,
        Command::Alerts(args) => alerts::run(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Top(args) => top::run(&Backends::open(&globals).await?, args, &globals).await,
        Command::Pause(args) => pause::pause(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Resume(args) => pause::resume(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Claim(args) => pause::claim(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Actions(args) => actions::run(&Backends::open(&globals).await?, args, &globals).await,
        Command::Reconcile(args) => reconcile::run(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Notifications(args) => notifications::run(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Dead { what } => dead::run(&Backends::open(&globals).await?, what, &globals).await,
        Command::Audit(args) => audit::run(&Backends::open(&globals).await?, &args, &globals).await,
        Command::Provider(args) => provider::run(&Backends::open(&globals).await?, args, &globals).await,
        Command::Gateway(args) => gateway::run(args).await,
        Command::Import(args) => import::run(&globals, &args).await,
        Command::Generate(args) => generate::run(&args, &globals),
    }
}
