//! Steering what runs: pausing stages, reconciling.

use std::time::Duration;

use clap::Args;
use pipeline::{
    domain::{ActionOutcome, ActionVerb, ActionVia},
    topology::StageName,
};

use super::span::parse_span;
use crate::actions::WHY_CHARS_MAX;

/// `orderstream pause`
#[derive(Debug, Args)]
#[command(after_help = "\
Batches in hand come to their end; what has arrived waits in its stream, and everything before it goes on until streams
are full. All workers of the stage in all processes pause, and notice it within a second.

  orderstream pause payment --for 10m --why 'gateway in maintenance'
  orderstream pause                     show what is paused
  orderstream resume payment")]
pub struct PauseArgs {
    /// Stages to pause: reservation, payment, settlement; without any, what is paused is shown
    pub stages: Vec<StageName>,
    /// Go on by themselves after this long: 90s, 10m, 2h
    #[arg(long = "for", value_name = "LENGTH", value_parser = parse_length, requires = "stages")]
    pub length: Option<Duration>,
    /// Why, for those who look, and for the log of actions
    #[arg(long, default_value = "", hide_default_value = true, requires = "stages", value_parser = parse_why)]
    pub why: String,
}

/// `orderstream resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Stages to resume; without any, all that are paused
    pub stages: Vec<StageName>,
    /// Why, for the log of actions
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT", value_parser = parse_why)]
    pub why: String,
}

/// `orderstream claim`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For a worker that hangs, or whose machine is gone, with messages in hand: other workers of the stage take them over at
once instead of waiting for --claim-idle. No delivery is counted. A worker that is alive keeps its messages fresh, three
times in --claim-idle, so what has been idle for longer is nobody's; and should a worker come back after all, stages do
nothing twice.

  orderstream claim payment --dry-run
  orderstream claim payment --why 'worker 3 hangs'
  orderstream claim payment --consumer web-1-4711-1795382502-0 --idle 0s")]
pub struct ClaimArgs {
    /// The stage whose messages are held
    pub stage: StageName,
    /// Only what this consumer holds, as `status` names it
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub consumer: Option<String>,
    /// Only what has been idle for at least this long: 90s, 10m, 2h
    #[arg(long, value_name = "LENGTH", default_value = "10s", value_parser = parse_idle)]
    pub idle: Duration,
    /// Only count
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the log of actions
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT", value_parser = parse_why)]
    pub why: String,
}

/// `orderstream actions`
#[derive(Debug, Args)]
pub struct ActionsArgs {
    /// Only this: pause, resume, claim, replay, edit_and_replay, discard, refund, set_provider, locate_provider, move_provider, accept_key
    #[arg(long)]
    pub verb: Option<ActionVerb>,
    /// Only by this way: cli, http, dashboard, top
    #[arg(long)]
    pub via: Option<ActionVia>,
    /// Only with this end: done, refused, failed, interrupted
    #[arg(long)]
    pub outcome: Option<ActionOutcome>,
    /// Only by whoever has exactly this name
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Most actions to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on after this number: the last one of the page before
    #[arg(long, value_name = "ID")]
    pub after: Option<i64>,
}

/// `orderstream audit`
#[derive(Debug, Args)]
#[command(after_help = "\
  orderstream audit                                      also with the ledgers of all providers that show theirs
  orderstream audit --ledgers                            the same; a ledger that cannot be read is an error
  orderstream audit --gateway http://127.0.0.1:9000      with this provider's ledger alone")]
pub struct AuditArgs {
    /// Compare with the ledger of the payment provider at this base URL, one to one
    #[arg(long, value_name = "URL", conflicts_with = "ledgers")]
    pub gateway: Option<String>,
    /// Fail unless the ledger of every payment provider that ever took a payment of this installation can be read
    #[arg(long)]
    pub ledgers: bool,
    /// Ask no payment provider
    #[arg(long, conflicts_with_all = ["ledgers", "gateway"])]
    pub no_ledgers: bool,
    /// Accept a provider whose URL is plain http on another machine
    #[arg(long, env = "ORDERSTREAM_ALLOW_PLAIN_GATEWAY", hide_env_values = true)]
    pub allow_plain_gateway: bool,
}

/// `orderstream reconcile`
#[derive(Debug, Args)]
#[command(after_help = "\
Running workers do this by themselves, every few seconds. A sweep waits until what is in the streams now is worked off;
then every order that was there before and is still open has no message, and gets one.")]
pub struct ReconcileArgs {
    /// Only tell what would be emitted
    #[arg(long, conflicts_with = "history")]
    pub dry_run: bool,
    /// Show what was found before, newest first
    #[arg(long)]
    pub history: bool,
    /// Give up waiting for the streams after this long: they need workers
    #[arg(long, value_name = "LENGTH", value_parser = parse_length, default_value = "60s")]
    pub wait: Duration,
}

/// A time span that somebody can wait for.
fn parse_length(text: &str) -> Result<Duration, String> {
    let length = parse_span(text)?;
    match length.to_std() {
        Ok(length) if (1..=31_536_000).contains(&length.as_secs()) => Ok(length),
        _ => Err(format!("{text:?} is out of bounds: from 1s to 365d")),
    }
}

/// How long something was idle; a day is what a message that was made free looks like.
fn parse_idle(text: &str) -> Result<Duration, String> {
    let length = parse_span(text)?;
    match length.to_std() {
        Ok(length) if length.as_secs() <= 86_400 => Ok(length),
        _ => Err(format!("{text:?} is out of bounds: from 0s to 1d")),
    }
}

/// A reason that the log of actions can hold.
pub(super) fn parse_why(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=WHY_CHARS_MAX => Ok(text.to_owned()),
        more => Err(format!("{more} characters are too many: at most {WHY_CHARS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_bounds() {
        assert_eq!(parse_length("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["0s", "366d", "10", "99999999999999999999s"] {
            assert!(parse_length(wrong).is_err(), "{wrong}");
        }
    }
}
