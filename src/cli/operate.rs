//! Steering what runs: pausing stages, reconciling.

use std::time::Duration;

use clap::Args;
use pipeline::topology::StageName;

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

/// A length of time with its unit.
pub fn parse_length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a length of time such as 90s, 10m, 2h or 1d");
    let split = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    match number.checked_mul(seconds).filter(|seconds| (1..=31_536_000).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(format!("{text:?} is out of bounds: from 1s to 365d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units() {
        assert_eq!(parse_length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_length("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_length("2h"), Ok(Duration::from_secs(7_200)));
        for wrong in ["", "10", "m", "0s", "-1m", "1.5h", "10x", "366d", "99999999999999999999s"] {
            assert!(parse_length(wrong).is_err(), "{wrong}");
        }
    }
}
