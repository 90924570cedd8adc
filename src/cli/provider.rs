//! Who takes the money of the installation.

use clap::{Args, Subcommand};

use super::{operate::parse_why, payment::parse_currency};

/// `orderstream provider`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Who takes the money is a fact of the installation, kept in Postgres: the first `run`, `dev` or `import` sets it, every process
checks it before it charges, and one that was started with another --gateway, --currency or --success-rate is refused.
Payments stay with the provider and currency that began them, for questions, callbacks and refunds.

  orderstream provider                                              show who takes new payments, and who took earlier ones
  orderstream provider set https://pay.example.com/v1 --why 'new contract'
  orderstream provider set https://pay.example.com/v1 --currency USD
  orderstream provider move http https://api.example.com/v2         the same provider has another address
  ORDERSTREAM_GATEWAY_KEY=NEW orderstream provider key http         the same account has another key
  orderstream provider locate http https://pay.example.com/v1 --currency EUR"
)]
pub struct ProviderArgs {
    /// What to do; without anything, shows who takes the money
    #[command(subcommand)]
    pub what: Option<ProviderCommand>,
}

/// What to do about providers.
#[derive(Debug, Subcommand)]
pub enum ProviderCommand {
    /// Have another provider take new payments, or charge in another currency
    #[command(after_help = "\
Takes effect at once, for all processes: payments that were begun stay where they are. Processes that were started with flags
or a key for another provider end with exit code 6 when they would begin the next payment; the others follow.

The key of the provider that takes new payments comes from ORDERSTREAM_GATEWAY_KEY; if this command has it, its fingerprint is
recorded, else that of the first process that begins a payment. Another account at a known URL is another provider: give it a
--name. While earlier payments are open, or may be
refunded, their provider's key comes from ORDERSTREAM_GATEWAY_KEY_NAME, with the name in capitals: no provider is ever sent the
key of another.")]
    Set(SetArgs),
    /// Record which provider took the payments of an earlier version
    #[command(after_help = VERIFIED)]
    Locate(LocateArgs),
    /// Record the new address of a provider
    #[command(after_help = VERIFIED)]
    Move(MoveArgs),
    /// Record another key of a provider's account: that of this command
    #[command(after_help = "\
The key comes from ORDERSTREAM_GATEWAY_KEY_NAME, with the name in capitals, else from ORDERSTREAM_GATEWAY_KEY (or from the file
that the variable with _FILE names). The provider is asked with it about some stored charges; whoever does not know them is
another account, and refused. Of the key a fingerprint is stored.

Keys from before stay accepted, so that processes can be restarted with the new one at leisure. With --only they are not:
processes that still have one end with exit code 6 when they would begin the next payment.")]
    Key(KeyArgs),
}

const VERIFIED: &str = "\
The provider is asked about some stored charges, with the key of this command (ORDERSTREAM_GATEWAY_KEY_NAME, with the name in
capitals, else ORDERSTREAM_GATEWAY_KEY). If it cannot be reached, or does not know one of them with its amount, currency and
id, nothing is recorded; nor while answers are owed and there is nothing that it could be known by. Running processes notice the change by themselves.";

/// `orderstream provider set`
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Base URL of the payment provider (docs/GATEWAY.md)
    #[arg(required_unless_present = "simulator", conflicts_with = "simulator", value_name = "URL")]
    pub url: Option<String>,
    /// Simulate payments: orders complete and nobody is charged
    #[arg(long)]
    pub simulator: bool,
    /// Share of payments that the simulator approves, from 0 to 1 [default: 0.9]
    #[arg(long, requires = "simulator")]
    pub success_rate: Option<f64>,
    /// In what everything is charged, three letters [default: as now, at first as earlier payments, else EUR]
    #[arg(long, value_parser = parse_currency)]
    pub currency: Option<String>,
    /// What payments are stored under: lower-case letters, digits, `.`, `_` and `-` [default: http, http-2, …]
    #[arg(long, value_parser = parse_name)]
    pub name: Option<String>,
    /// Go over to the simulator although a provider took payments before: from now on nobody is charged
    #[arg(long, requires = "simulator")]
    pub uncharged: bool,
    /// Accept a provider whose URL is plain http on another machine
    #[arg(long, env = "ORDERSTREAM_ALLOW_PLAIN_GATEWAY", hide_env_values = true)]
    pub allow_plain_gateway: bool,
    /// Why, for the log of actions
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT", value_parser = parse_why)]
    pub why: String,
}

/// `orderstream provider locate`
#[derive(Debug, Args)]
pub struct LocateArgs {
    /// What the payments are stored under: `http`
    pub name: String,
    /// The provider's base URL
    pub url: String,
    /// In what it charged: three letters
    #[arg(long, value_parser = parse_currency)]
    pub currency: String,
    /// Accept a provider whose URL is plain http on another machine
    #[arg(long, env = "ORDERSTREAM_ALLOW_PLAIN_GATEWAY", hide_env_values = true)]
    pub allow_plain_gateway: bool,
    /// What is common to changes
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `orderstream provider move`
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// What its payments are stored under, as `orderstream provider` shows it
    pub name: String,
    /// The provider's new base URL
    pub url: String,
    /// Accept a provider whose URL is plain http on another machine
    #[arg(long, env = "ORDERSTREAM_ALLOW_PLAIN_GATEWAY", hide_env_values = true)]
    pub allow_plain_gateway: bool,
    /// What is common to changes
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `orderstream provider key`
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// What its payments are stored under, as `orderstream provider` shows it
    pub name: String,
    /// Accept this key alone from now on, and none from before
    #[arg(long)]
    pub only: bool,
    /// What is common to changes
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// What changes of providers have in common.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Record it whatever the provider knows, without asking
    #[arg(long)]
    pub unverified: bool,
    /// Why, for the log of actions
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT", value_parser = parse_why)]
    pub why: String,
}

/// A name that the table takes.
fn parse_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    match begins && text.len() <= 63 && text.bytes().all(plain) {
        // Where nothing is to be paid, and where nobody is charged.
        true if ["none", "simulator"].contains(&text) => Err(format!("{text:?} has a meaning of its own")),
        true => Ok(text.to_owned()),
        false => Err("a name has 1 to 63 lower-case letters, digits, ., _ and -, a letter or digit first".to_owned()),
    }
}
