//! `orderstream serve`.

use std::net::{Ipv4Addr, SocketAddr};

use super::shutdown_on_signal;
use crate::{
    alerts::{AlertSecrets, Alerts},
    backends::Backends,
    cli::http::ServeArgs,
    config::Globals,
    exit::Exit,
    http::Server,
    metrics::ProcessMetrics,
    monitor::{Monitor, MonitorOptions, Work},
};

/// Where HTTP is served unless another address is named.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

pub(super) async fn run(globals: &Globals, args: &ServeArgs) -> anyhow::Result<Exit> {
    let shutdown = shutdown_on_signal()?;
    let (mail_from, environment) = (args.mail_from.as_ref(), args.http.environment.as_deref());
    let alerts = Alerts::new(&args.alerts, mail_from, environment, &AlertSecrets::from_env()?)?;
    let backends = Backends::open(globals).await?;
    if !backends.await_servers(&shutdown).await? {
        return Ok(Exit::Done);
    }
    let address = args.http.address.unwrap_or(ADDRESS);
    let monitor = Monitor::start(&backends, MonitorOptions::of_viewer(), Work::server(), &shutdown).await?;
    monitor.alert(alerts, &shutdown).await?;
    let server = Server::start(&backends, &args.http, address, &monitor, &ProcessMetrics::new()?, &shutdown).await?;
    server.announce()?;
    server.stopped().await?;
    monitor.farewell().await;
    Ok(Exit::Done)
}
