//! The command line: every flag with its default and its variable.

pub mod alerts;
pub mod api;
pub mod dead;
pub mod gateway;
pub mod http;
pub mod notify;
pub mod operate;
pub mod payment;
pub mod refund;
mod span;
pub mod top;

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pipeline::{
    domain::{FailureReason, OrderStatus},
    topology::StageName,
};

use self::payment::PaymentArgs;
use crate::config::Globals;

const EXAMPLES: &str = "\
First steps, on a laptop with nothing running:
  orderstream generate orders.csv --rows 100000    make a file of orders
  orderstream import orders.csv                    import and process it, with a private Postgres and Redis
  orderstream kpi                                  what it brought in
  orderstream audit                                prove that the books balance

On a server, with DATABASE_URL and REDIS_URL set:
  orderstream migrate && orderstream load products products.csv && orderstream load customers customers.csv
  orderstream run                                  the workers; one or more processes
  orderstream import orders.csv                    from anywhere

Exit codes:
  0 done            1 failed          2 wrong usage       3 done, but rows were rejected
  4 audit found a difference          5 not found         6 conflict
  7 Postgres or Redis not reachable   8 an alert fires (alerts --check)
  130 interrupted";

/// An order pipeline on Redis Streams: reservation, payment and settlement in batches, with Postgres as the only truth
#[derive(Debug, Parser)]
#[command(name = "orderstream", version, after_help = EXAMPLES, max_term_width = 120)]
pub struct Cli {
    /// What every command may be told.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One per verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import CSV files of orders, or of refunds, and wait until Postgres knows them all
    Import(ImportArgs),
    /// Run the workers until told to stop, or until nothing is left to do
    Run(RunArgs),
    /// Serve the HTTP API alone; `run --http` serves it beside the workers
    Serve(http::ServeArgs),
    /// Make, list and revoke the tokens that open the HTTP API
    Token {
        /// What to do
        #[command(subcommand)]
        what: http::TokenCommand,
    },
    /// Print the description of an interface, for programs that read one
    Api {
        /// Which one
        form: api::ApiDocument,
    },
    /// Run a local stack (a private Postgres and Redis) with all workers, until Ctrl-C or around a command
    Dev(DevArgs),
    /// Show one order: state, lines, payment, refunds, timeline
    Order {
        /// The order's code
        code: String,
    },
    /// List orders, newest first
    Orders(OrdersArgs),
    /// Give money back: a part of an order's payment, or all that is left
    Refund(refund::RefundArgs),
    /// List refunds, newest first
    Refunds(refund::RefundsArgs),
    /// Show revenue, orders and refunds of a day or a range of days
    Kpi(KpiArgs),
    /// Show the best customers or products
    Leaderboard(LeaderboardArgs),
    /// Show what is on hand of products, what open orders hold, and what is free
    Stock(StockArgs),
    /// Show streams, consumer groups, lag and consumers
    Status,
    /// Show the built-in alerts: what fires, since when, and when it would
    Alerts(alerts::AlertsArgs),
    /// Watch the pipeline on the terminal: stages, lag, dead letters; pause, resume and replay from there
    Top(top::TopArgs),
    /// Pause stages, or show what is paused
    Pause(operate::PauseArgs),
    /// Let paused stages go on
    Resume(operate::ResumeArgs),
    /// Make messages free at once that a silent consumer holds
    Claim(operate::ClaimArgs),
    /// List who paused, resumed, claimed, replayed and discarded what, and why
    Actions(operate::ActionsArgs),
    /// Give orders a new message whose message Redis has lost
    Reconcile(operate::ReconcileArgs),
    /// List, replay, discard, export and import the messages that no stage could process
    Dead {
        /// What to do
        #[command(subcommand)]
        what: dead::DeadCommand,
    },
    /// List who was told of what happened to orders, or have what could not be delivered tried again
    Notifications(notify::NotificationsArgs),
    /// Prove from SQL and Redis that the books balance
    Audit(operate::AuditArgs),
    /// Run a payment provider to try the pipeline with: its own ledger, and whatever can go wrong
    Gateway(gateway::GatewayArgs),
    /// Bring the database schema up to this version
    Migrate,
    /// Fill the catalogue with made-up products and customers
    Seed(SeedArgs),
    /// Load a real catalogue from CSV files, inserting or updating by id
    Load {
        /// What the file holds
        #[command(subcommand)]
        what: LoadWhat,
    },
    /// Make a CSV file of orders, the same for the same seed
    Generate(GenerateArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// `orderstream import`
#[derive(Debug, Args)]
#[command(after_help = "\
Columns: order_code, customer_id, product_id, quantity, unit_price; id and total may be there; any order.
The rows of an order may stand anywhere in the file. An order with any bad row is rejected whole, and all its rows go
to the reject file with line, column, value and reason. Importing the same file again is always safe.

With --refunds: refund_key, order_code; amount (empty is all that is left), reason and restock may be there. The same key
is the same refund, however often it is imported. Of different rows with one key the first counts, the others are rejected.

  orderstream import orders.csv
  orderstream import --refunds refunds.csv
  orderstream import --dry-run --json orders.csv
  zcat orders.csv.gz | orderstream import - --rejects rejects.csv")]
pub struct ImportArgs {
    /// Files to import, one after the other; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The files hold requests for refunds, one a row, instead of orders
    #[arg(long, conflicts_with = "strict")]
    pub refunds: bool,
    /// Only read and check; needs no server
    #[arg(long)]
    pub dry_run: bool,
    /// Reject orders whose rows name several customers (else the first row's counts, with a warning)
    #[arg(long)]
    pub strict: bool,
    /// Return once everything is published, without waiting for Postgres to know it
    #[arg(long)]
    pub no_wait: bool,
    /// Where rejected rows go [default: FILE.rejects.csv, written only if there are any]
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
    /// Memory for grouping rows; beyond it, groups spill to temporary files (suffixes K, M, G)
    #[arg(long, default_value = "256M", value_parser = parse_bytes, env = "ORDERSTREAM_IMPORT_MEMORY", hide_env_values = true)]
    pub memory: u64,
    /// Stop publishing while this many orders are on their way through the pipeline, or refunds to their stage
    #[arg(long, default_value_t = 500_000, env = "ORDERSTREAM_MAX_BACKLOG", hide_env_values = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_backlog: u64,
    /// How the workers run that a local stack brings along
    #[command(flatten)]
    pub payment: PaymentArgs,
}

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
    pub http: http::HttpArgs,
    /// Alerts
    #[command(flatten)]
    pub alerts: alerts::AlertArgs,
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
    pub notify: notify::NotifyArgs,
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
            notify: notify::NotifyArgs::none(),
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
  orderstream dev --no-workers -- cargo nextest run")]
pub struct DevArgs {
    /// Only Postgres and Redis
    #[arg(long)]
    pub no_workers: bool,
    /// How the workers work
    #[command(flatten)]
    pub workers: WorkerArgs,
    /// The HTTP API beside them
    #[command(flatten)]
    pub http: http::HttpArgs,
    /// Alerts
    #[command(flatten)]
    pub alerts: alerts::AlertArgs,
    /// Run this command with the stack in its environment, and stop when it ends, with its exit code
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `orderstream orders`
#[derive(Debug, Args)]
pub struct OrdersArgs {
    /// Only orders in this state: reserved, paying, completed, failed
    #[arg(long)]
    pub state: Option<OrderStatus>,
    /// Only orders that failed for this reason: unknown_customer, unknown_product, out_of_stock, payment_declined, payment_expired, abandoned
    #[arg(long)]
    pub reason: Option<FailureReason>,
    /// Only orders taken in since then: 2026-11-22 or 2026-11-22T10:00:00Z
    #[arg(long, value_parser = parse_instant)]
    pub since: Option<DateTime<Utc>>,
    /// Most orders to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on after this id: the last one of the page before
    #[arg(long, value_name = "ID")]
    pub after: Option<i64>,
}

/// `orderstream kpi`
#[derive(Debug, Args)]
pub struct KpiArgs {
    /// One UTC day [default: today]
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub day: Option<NaiveDate>,
    /// First UTC day of a range
    #[arg(long, requires = "to")]
    pub from: Option<NaiveDate>,
    /// Last UTC day of a range
    #[arg(long, requires = "from")]
    pub to: Option<NaiveDate>,
}

/// `orderstream leaderboard`
#[derive(Debug, Args)]
pub struct LeaderboardArgs {
    /// Who is ranked
    pub who: Who,
    /// Only orders of this UTC day
    #[arg(long)]
    pub day: Option<NaiveDate>,
    /// How many
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub top: u32,
}

/// Who is ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Who {
    /// By revenue net of refunds.
    Customers,
    /// By pieces sold.
    Products,
}

/// `orderstream stock`
#[derive(Debug, Args)]
pub struct StockArgs {
    /// Only this product id, this article number, or names with this in them
    pub search: Option<String>,
    /// Only products with at most so many free pieces, those with the fewest first
    #[arg(long, value_name = "PIECES", value_parser = clap::value_parser!(i64).range(0..))]
    pub low: Option<i64>,
    /// Only products whose reserved pieces are not those of open orders
    #[arg(long, conflicts_with_all = ["search", "low", "after"])]
    pub drift: bool,
    /// Most products to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on after the last one of the page before: its id, or with --low its free pieces and its id, as in 3:17
    #[arg(long, value_name = "PLACE", value_parser = parse_place)]
    pub after: Option<(i64, i64)>,
}

/// `orderstream seed`
#[derive(Debug, Args)]
pub struct SeedArgs {
    /// How many products
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(i64).range(0..=1_000_000))]
    pub products: i64,
    /// How many customers
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(i64).range(0..=10_000_000))]
    pub customers: i64,
    /// Pieces of each product
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(0..=1_000_000_000_000))]
    pub stock: i64,
}

/// `orderstream load`
#[derive(Debug, Subcommand)]
pub enum LoadWhat {
    /// Products: id,sku,name,unit_price,stock
    Products {
        /// The file; - is standard input
        file: PathBuf,
    },
    /// Customers: id,name,email
    Customers {
        /// The file; - is standard input
        file: PathBuf,
    },
}

/// `orderstream generate`
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The file to write; - is standard output
    pub file: PathBuf,
    /// Data rows; a fifth as many order codes are drawn at random, so the rows of an order are scattered
    #[arg(long, default_value_t = 100_000)]
    pub rows: u64,
    /// The same seed makes the same file
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How unevenly products sell: the exponent of a Zipf distribution; 0 is evenly
    #[arg(long, default_value_t = 0.0)]
    pub skew: f64,
    /// Customers to draw from
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(1..))]
    pub customers: u64,
    /// Products to draw from
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub products: u64,
    /// Draw the customer for each row, as the original generator does: orders then name several
    #[arg(long)]
    pub mixed_customers: bool,
}

/// A number of bytes, with an optional suffix K, M or G (powers of 1024).
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 1 << 10),
        Some(digits) if text.ends_with('M') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a size such as 64M or 2G"))?;
    number.checked_mul(unit).filter(|bytes| *bytes >= 1 << 20).ok_or_else(|| "at least 1M is needed".to_owned())
}

/// A place in a list of products: free pieces and id, or an id alone.
pub(crate) fn parse_place(text: &str) -> Result<(i64, i64), String> {
    let (available, id) = text.split_once(':').unwrap_or(("0", text));
    let place = available.parse().ok().zip(id.parse().ok());
    place.ok_or_else(|| format!("{text:?} is no place such as 17 or 3:17"))
}

/// A day or an instant.
pub(crate) fn parse_instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    text.parse().map_err(|_| format!("{text:?} is neither a day (2026-11-22) nor an instant (2026-11-22T10:00:00Z)"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(parse_bytes("256M"), Ok(256 << 20));
        assert_eq!(parse_bytes("2G"), Ok(2 << 30));
        assert_eq!(parse_bytes("1048576"), Ok(1 << 20));
        for wrong in ["", "M", "1", "12X", "-1M", "99999999999999999999G"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
