//! What runs: the workers, and a local stack with them.

use clap::{Args, ValueEnum};
use pipeline::topology::StageName;

use super::{alerts::AlertArgs, http::HttpArgs, notify::NotifyArgs, payment::PaymentArgs};

/// `orderstream run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Only these, separated by commas: stages, `relay` (carries events to KPIs and leaderboards), `collector` (sees to
    /// money that is owed), `reconciler` (repairs what Redis lost), `notifier` (tells customers and programs), `monitor`
    /// (keeps history, evaluates alerts)
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "reservation,payment,settlement,refund,callback,relay,collector,reconciler,notifier,monitor",
        value_name = "STAGES"
    )]
    pub stages: Vec<Role>,
    /// Return when nothing is left to do: for scripts and cron
    #[arg(long)]
    pub until_drained: bool,
    /// How the workers work
    #[command(flatten)]
    pub workers: WorkerArgs,
    /// The HTTP API beside them
    #[command(flatten)]
    pub http: HttpArgs,
    /// Alerts
    #[command(flatten)]
    pub alerts: AlertArgs,
}

/// The bounds of the workers.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    /// Workers of each stage in each partition; with one, orders get scarce stock in the order of their arrival
    #[arg(long, default_value_t = 1, env = "ORDERSTREAM_WORKERS", hide_env_values = true, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Most messages in a batch
    #[arg(long, default_value_t = 1000, env = "ORDERSTREAM_BATCH", hide_env_values = true, value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub batch: u16,
    /// Seconds of silence after which another consumer takes over a worker's messages
    #[arg(long, default_value_t = 15, env = "ORDERSTREAM_CLAIM_IDLE", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub claim_idle: u64,
    /// How many consumers may fall silent with a message in hand before it becomes a dead letter: two with a batch, two
    /// with a part of it, the others with it alone
    #[arg(long, default_value_t = 7, env = "ORDERSTREAM_ATTEMPTS_MAX", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u64).range(5..=100))]
    pub attempts_max: u64,
    /// Seconds that Postgres may take for a batch before it is tried again on new connections; above the 30 s after which
    /// Postgres ends what a lost connection left open
    #[arg(long, default_value_t = 60, env = "ORDERSTREAM_PROCESSING_LIMIT", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(40..=3_600))]
    pub processing_limit: u64,
    /// Seconds between two sweeps of the reconciler
    #[arg(long, default_value_t = 5, env = "ORDERSTREAM_RECONCILE_EVERY", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub reconcile_every: u64,
    /// Seconds that a stop may take for the batches in hand
    #[arg(
        long,
        default_value_t = 20,
        env = "ORDERSTREAM_DRAIN_DEADLINE",
        hide_env_values = true,
        value_name = "SECONDS"
    )]
    pub drain_deadline: u64,
    /// The gateway
    #[command(flatten)]
    pub payment: PaymentArgs,
    /// Notifications
    #[command(flatten)]
    pub notify: NotifyArgs,
}

impl WorkerArgs {
    /// The defaults of the flags, with this gateway and without notifications.
    pub fn with(payment: &PaymentArgs) -> Self {
        Self {
            workers: 1,
            batch: 1_000,
            claim_idle: 15,
            attempts_max: 7,
            processing_limit: 60,
            reconcile_every: 5,
            drain_deadline: 20,
            payment: payment.clone(),
            notify: NotifyArgs::none(),
        }
    }
}

/// What a process of `run` can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The stage of that name.
    Reservation,
    /// The stage of that name.
    Payment,
    /// The stage of that name.
    Settlement,
    /// The stage of that name.
    Refund,
    /// The stage of that name.
    Callback,
    /// KPIs, leaderboards, events.
    Relay,
    /// What gateways owe: answers, callbacks, refunds.
    Collector,
    /// New messages for orders whose message is lost.
    Reconciler,
    /// Customers and programs are told what happened.
    Notifier,
    /// History for charts, alerts.
    Monitor,
}

impl Role {
    /// Everything that there is to run.
    pub const ALL: &'static [Self] = &[
        Self::Reservation,
        Self::Payment,
        Self::Settlement,
        Self::Refund,
        Self::Callback,
        Self::Relay,
        Self::Collector,
        Self::Reconciler,
        Self::Notifier,
        Self::Monitor,
    ];

    /// The stage, if it is one.
    pub fn stage(self) -> Option<StageName> {
        match self {
            Self::Reservation => Some(StageName::Reservation),
            Self::Payment => Some(StageName::Payment),
            Self::Settlement => Some(StageName::Settlement),
            Self::Refund => Some(StageName::Refund),
            Self::Callback => Some(StageName::Callback),
            Self::Relay | Self::Collector | Self::Reconciler | Self::Notifier | Self::Monitor => None,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reservation => "reservation",
            Self::Payment => "payment",
            Self::Settlement => "settlement",
            Self::Refund => "refund",
            Self::Callback => "callback",
            Self::Relay => "relay",
            Self::Collector => "collector",
            Self::Reconciler => "reconciler",
            Self::Notifier => "notifier",
            Self::Monitor => "monitor",
        }
    }
}

/// `orderstream dev`
#[derive(Debug, Args)]
#[command(after_help = "\
Prints DATABASE_URL, REDIS_URL and `ready` on stdout once everything runs. Other commands find the stack by its state
folder.

  orderstream dev                     in one terminal; `orderstream import orders.csv` in another
  orderstream --no-sync dev --no-workers -- cargo nextest run")]
pub struct DevArgs {
    /// Only Postgres and Redis
    #[arg(long)]
    pub no_workers: bool,
    /// How the workers work
    #[command(flatten)]
    pub workers: WorkerArgs,
    /// The HTTP API beside them
    #[command(flatten)]
    pub http: HttpArgs,
    /// Alerts
    #[command(flatten)]
    pub alerts: AlertArgs,
    /// Run this command with the stack in its environment, and stop when it ends, with its exit code
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
