//! The payment provider to try the pipeline with.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use super::listen::parse_listen;

/// `orderstream gateway`
#[derive(Debug, Args)]
#[command(after_help = "\
Prints its URL and `ready` on stdout. What it answers is in the ledger before, and there after a crash. It approves as
the simulator does. Faults are shares from 0 to 1 of all references; which ones follows from the seed: see
docs/GATEWAY.md. With ORDERSTREAM_GATEWAY_KEY set, others are refused.

  orderstream gateway --ledger ledger.ndjson --latency 50 --jitter 20
  ORDERSTREAM_WEBHOOK_SECRET=whsec_… orderstream gateway --ledger ledger.ndjson --pending 0.2 --doubled 0.05 \\
      --callback http://127.0.0.1:8080/webhooks/payments")]
pub struct GatewayArgs {
    /// Where to listen, such as localhost:8090; without a host, as in :8090, on every IPv4 address; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Where charges and refunds are kept
    #[arg(long, value_name = "FILE")]
    pub ledger: PathBuf,
    /// Share of charges that are approved
    #[arg(long, default_value_t = 0.9, value_name = "SHARE")]
    pub approve: f64,
    /// How long an answer takes, in milliseconds
    #[arg(long, default_value = "0", value_name = "MS", value_parser = parse_ms)]
    pub latency: Duration,
    /// By how much an answer is faster or slower, in milliseconds
    #[arg(long, default_value = "0", value_name = "MS", value_parser = parse_ms)]
    pub jitter: Duration,
    /// Whom faults hit: the same seed hits the same references
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Answered `pending`, decided later, told by callback
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub pending: f64,
    /// Booked, but the first answer never comes
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub timeouts: f64,
    /// Answered 500 the first time, and not booked
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub errors: f64,
    /// Pending, and no callback comes
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub lost: f64,
    /// Pending, and the callback comes twice
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub doubled: f64,
    /// Pending, and the callback comes before the answer
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub early: f64,
    /// Pending, and decided only after --late-after
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub late: f64,
    /// Refunds that fail
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub refund_failures: f64,
    /// Who is told of what was pending; signed by ORDERSTREAM_WEBHOOK_SECRET
    #[arg(long, value_name = "URL")]
    pub callback: Option<String>,
    /// When what is pending is decided, in milliseconds
    #[arg(long, default_value = "200", value_name = "MS", value_parser = parse_ms)]
    pub callback_after: Duration,
    /// When what is late is decided, in milliseconds
    #[arg(long, default_value = "5000", value_name = "MS", value_parser = parse_ms)]
    pub late_after: Duration,
}

fn parse_ms(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_millis).map_err(|_| format!("{text:?} is no number of milliseconds"))
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share from 0 to 1"))
}
