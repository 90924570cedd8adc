//! The command line: every flag with its default and its variable.

pub mod alerts;
pub mod api;
pub mod dead;
pub mod gateway;
pub mod http;
mod listen;
pub mod notify;
pub mod operate;
pub mod payment;
pub mod provider;
pub mod refund;
mod run;
mod span;
pub mod top;

use std::{env, path::PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, builder::Resettable};
use clap_complete::Shell;
use pipeline::domain::{FailureReason, OrderStatus};

use self::payment::PaymentArgs;
pub use self::run::{DevArgs, Role, RunArgs, WorkerArgs};
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

impl Cli {
    /// Reads the command line and the variables. An empty variable is one that is not set.
    ///
    /// # Errors
    /// When they are wrong, or help is asked for.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = without_empty_variables(Self::command());
        let mut matches = command.try_get_matches_from_mut(env::args_os())?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// The command without those variables that are set to nothing: services and containers can often only empty them.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg });
    command.mut_subcommands(without_empty_variables)
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
    /// Show who takes the money of the installation, or have another provider take new payments
    Provider(provider::ProviderArgs),
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

With --refunds: refund_key, order_code and amount (empty is all that is left); reason and restock may be there. The same key
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
    /// Only orders of this customer
    #[arg(long, value_name = "ID")]
    pub customer: Option<i64>,
    /// Only orders that this import brought
    #[arg(long, value_name = "NUMBER")]
    pub import: Option<i64>,
    /// Most orders to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on after the order with this id: the last one of the page before
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
    /// Write over the file if it is there
    #[arg(long)]
    pub force: bool,
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
