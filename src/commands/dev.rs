//! `orderstream dev`: the local stack in the foreground, or around a command.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pipeline::store::WorkerSettings;
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use tracing::info;

use super::{
    run::{Crew, demand_no_refusal},
    shutdown_on_signal,
};
use crate::{
    alerts::{AlertSecrets, Alerts},
    backends::Backends,
    cli::{DevArgs, Role},
    config::{Globals, servers_from_env},
    exit::{Exit, Refusal},
    gateway::{self, Begins, gateways},
    http::Server,
    metrics::ProcessMetrics,
    monitor::{Monitor, MonitorOptions, Work},
    output,
    signals::{hangups, next_of},
};

pub(super) async fn run(globals: &Globals, args: DevArgs) -> anyhow::Result<Exit> {
    if servers_from_env()?.is_some() {
        let message = "dev runs servers of its own, but DATABASE_URL and REDIS_URL name others: unset them, or use run";
        return Err(Refusal::new(Exit::Usage, message).into());
    }
    let shutdown = shutdown_on_signal()?;
    let (mail_from, environment) = (args.workers.notify.mail_from.as_ref(), args.http.environment.as_deref());
    let alerts = Alerts::new(&args.alerts, mail_from, environment, &AlertSecrets::from_env()?)?;
    let backends = Backends::open(globals).await?;
    let stack = backends.stack().context("dev always has a local stack")?;
    let metrics = ProcessMetrics::new()?;
    let crew = match args.no_workers {
        true => {
            // Others will charge: what was said of it here is true for them, too.
            let gateways = gateways(&args.workers.payment, &metrics.gateway, Begins::Nothing)?;
            let store = backends.store(WorkerSettings::Report, 1)?;
            gateway::load(&gateways, &store).await?;
            store.close().await;
            None
        }
        false => Some(
            Crew::start(&backends, Role::ALL, &args.workers, &metrics, args.http.address.is_some(), &shutdown).await?,
        ),
    };
    let monitor = match &crew {
        Some(crew) => Some(crew.monitor().clone()),
        None if args.http.address.is_some() => {
            Some(Monitor::start(&backends, MonitorOptions::of_viewer(), Work::default(), &shutdown).await?)
        }
        None => None,
    };
    if let Some(monitor) = &monitor {
        monitor.alert(alerts, &shutdown).await?;
    }
    let server = match args.http.address.zip(monitor) {
        Some((address, monitor)) => {
            Some(Server::start(&backends, &args.http, address, &monitor, &metrics, &shutdown).await?)
        }
        None => None,
    };
    // From here on its servers may die and come back.
    info!(folder = %stack.path().display(), "the local stack runs");

    let outcome = match args.command.split_first() {
        Some((program, rest)) => {
            let mut child = Command::new(program)
                .args(rest)
                .env("DATABASE_URL", &backends.servers().database_url)
                .env("REDIS_URL", &backends.servers().redis_url)
                .env("ORDERSTREAM_STACK", stack.path())
                .envs(server.as_ref().map(|server| ("ORDERSTREAM_URL", format!("http://{}", server.address))))
                .stdin(Stdio::inherit())
                .spawn()
                .with_context(|| format!("cannot run {program}"))?;
            let status = wait_passing_on(&mut child).await?;
            // The command's own exit code is what its caller wants to know; the stack still has to stop.
            Ok(Exit::Command(code(status)))
        }
        None => {
            let servers = backends.servers();
            if let Some(server) = &server {
                server.announce()?;
            }
            // Whoever started us may have stopped reading.
            output::text_line(&format!(
                "DATABASE_URL={}\nREDIS_URL={}\nready",
                servers.database_url, servers.redis_url
            ))?;
            shutdown.begun().await;
            Ok(Exit::Done)
        }
    };
    if let Some(server) = server {
        shutdown.begin();
        server.stopped().await?;
    }
    if let Some(crew) = crew {
        let gateways = crew.gateways().clone();
        crew.stop().await;
        demand_no_refusal(&gateways)?;
    }
    outcome
}

/// Waits for the command. A terminal sends Ctrl-C to it as well as to us; a request to end reaches us alone, and so may
/// the word that the terminal is closed.
async fn wait_passing_on(child: &mut Child) -> anyhow::Result<ExitStatus> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = hangups()?;
    loop {
        let passed_on = tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = terminate.recv() => Signal::SIGTERM,
            () = next_of(&mut hangup) => Signal::SIGHUP,
        };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), passed_on)?;
        }
    }
}

/// The exit code of a command; of one that a signal ended, what shells say: 128 and the signal's number.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Failed.code())
}
