//! The HTTP API: its flags, and the tokens that open it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use lettre::message::Mailbox;
use pipeline::domain::ApiRole;

use super::{alerts::AlertArgs, listen::parse_listen, parse_bytes};

/// `orderstream serve`
#[derive(Debug, Args)]
#[command(after_help = "\
Without any token only the loopback address is served, and whoever can reach it may do everything. See docs/HTTP.md.

  orderstream serve
  orderstream token create --role operator --name shop
  orderstream serve --http 0.0.0.0:8080")]
pub struct ServeArgs {
    /// The API
    #[command(flatten)]
    pub http: HttpArgs,
    /// Alerts
    #[command(flatten)]
    pub alerts: AlertArgs,
    /// Who mails about alerts come from: shop@example.com, or 'Shop <shop@example.com>'
    #[arg(long, env = "ORDERSTREAM_MAIL_FROM", hide_env_values = true, value_name = "ADDRESS")]
    pub mail_from: Option<Mailbox>,
}

/// How HTTP is served.
#[derive(Debug, Clone, Args)]
pub struct HttpArgs {
    /// Serve the HTTP API on this address and port, such as localhost:8080; without a host, as in :8080, on every IPv4
    /// address; port 0 takes a free one [default of serve: 127.0.0.1:8080]
    #[arg(long = "http", value_name = "ADDR", env = "ORDERSTREAM_HTTP", hide_env_values = true, value_parser = parse_listen)]
    pub address: Option<SocketAddr>,
    /// Most connections at once; others are turned away
    #[arg(long, default_value_t = 1024, env = "ORDERSTREAM_HTTP_CONNECTIONS", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub http_connections: u32,
    /// Most requests a second from one client address
    #[arg(long, default_value_t = 5000, env = "ORDERSTREAM_HTTP_RATE", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub http_rate: u32,
    /// Seconds for a request, from its headers to the answer; uploads have their own time
    #[arg(long, default_value_t = 30, env = "ORDERSTREAM_HTTP_TIMEOUT", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub http_timeout: u64,
    /// Seconds for the headers of a request, and for which a connection may be idle
    #[arg(long, default_value_t = 10, env = "ORDERSTREAM_HTTP_HEADER_TIMEOUT", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    pub http_header_timeout: u64,
    /// Seconds between failing /readyz and turning new connections away when the process is to end
    #[arg(long, default_value_t = 1, env = "ORDERSTREAM_HTTP_NOTICE", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=300))]
    pub http_notice: u64,
    /// Let browsers use the API from pages of this origin (such as `https://shop.example`); may be given several times
    #[arg(long, env = "ORDERSTREAM_CORS_ORIGIN", hide_env_values = true, value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
    /// Largest file that can be uploaded (suffixes K, M, G)
    #[arg(long, default_value = "1G", value_parser = parse_bytes, env = "ORDERSTREAM_UPLOAD_MAX", hide_env_values = true)]
    pub upload_max: u64,
    /// Most uploads and imports at once
    #[arg(long, default_value_t = 2, env = "ORDERSTREAM_UPLOADS", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub uploads: u32,
    /// Folder in which uploads are kept until they are imported [default: uploads in the folder of --state-dir]
    #[arg(long, env = "ORDERSTREAM_UPLOAD_DIR", hide_env_values = true, value_name = "DIR")]
    pub upload_dir: Option<PathBuf>,
    /// What the dashboard says it shows, such as production or staging
    #[arg(long, env = "ORDERSTREAM_ENVIRONMENT", hide_env_values = true, value_name = "NAME", value_parser = parse_environment)]
    pub environment: Option<String>,
    /// Turn orders away while this many are on their way through the pipeline
    #[arg(long, default_value_t = 500_000, env = "ORDERSTREAM_MAX_BACKLOG", hide_env_values = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_backlog: u64,
}

/// Most characters of the name of an environment.
const ENVIRONMENT_CHARS_MAX: usize = 32;

pub(super) fn parse_environment(name: &str) -> Result<String, String> {
    match name.chars().count() {
        0..=ENVIRONMENT_CHARS_MAX => Ok(name.to_owned()),
        _ => Err(format!("at most {ENVIRONMENT_CHARS_MAX} characters")),
    }
}

/// `orderstream token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create {
        /// What it allows: viewer looks, operator adds orders and refunds and steers, admin does everything
        #[arg(long)]
        role: ApiRole,
        /// Who has it
        #[arg(long)]
        name: String,
    },
    /// List tokens, without what opens anything
    List,
    /// Make a token good for nothing, within seconds
    Revoke {
        /// Its number in the list
        id: i64,
    },
}
