//! Steering what runs: pausing stages, reconciling.

use std::time::Duration;

use clap::Args;
use pipeline::topology::StageName;

use super::span::parse_span;

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
    /// Why, for those who look
    #[arg(long, default_value = "", hide_default_value = true, requires = "stages")]
    pub why: String,
}

/// `orderstream resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Stages to resume; without any, all that are paused
    pub stages: Vec<StageName>,
}

/// `orderstream audit`
#[derive(Debug, Args)]
#[command(after_help = "\
  orderstream audit
  orderstream audit --gateway http://127.0.0.1:9000      with a provider that shows its ledger, as orderstream gateway does")]
pub struct AuditArgs {
    /// Compare with the ledger of the payment provider at this base URL, one to one
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
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
