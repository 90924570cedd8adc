//! Built-in alerts: flags of the processes that may evaluate them, and `orderstream alerts`.

use clap::Args;
use lettre::message::Mailbox;
use pipeline::domain::NotificationChannel;

use super::notify::parse_channel;
use crate::alerts::Thresholds;

/// When alerts fire, and who is told.
#[derive(Debug, Clone, Args)]
pub struct AlertArgs {
    /// Channels of alerts, separated by commas: log, mail (needs ORDERSTREAM_SMTP_URL, --mail-from and --alert-mail-to),
    /// webhook (needs --alert-webhook and ORDERSTREAM_ALERT_SECRET); none tells nobody
    #[arg(long, env = "ORDERSTREAM_ALERT", hide_env_values = true, value_name = "CHANNELS", value_delimiter = ',', default_value = "log", value_parser = parse_channel)]
    pub alert: Vec<Option<NotificationChannel>>,
    /// Where alerts are posted to
    #[arg(long, env = "ORDERSTREAM_ALERT_WEBHOOK", hide_env_values = true, value_name = "URL")]
    pub alert_webhook: Option<String>,
    /// Who gets mails about alerts, separated by commas
    #[arg(
        long,
        env = "ORDERSTREAM_ALERT_MAIL_TO",
        hide_env_values = true,
        value_name = "ADDRESSES",
        value_delimiter = ','
    )]
    pub alert_mail_to: Vec<Mailbox>,
    /// Seconds that the oldest unread message of a stage may be old; calm again below half of it
    #[arg(long, default_value_t = 30, env = "ORDERSTREAM_ALERT_LAG", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub alert_lag: u32,
    /// From how many dead letters on to alert
    #[arg(long, default_value_t = 1, env = "ORDERSTREAM_ALERT_DEAD_LETTERS", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub alert_dead_letters: u64,
    /// Share of the orders of five minutes that may fail, of 20 at least; calm again below half of it
    #[arg(long, default_value_t = 0.25, env = "ORDERSTREAM_ALERT_FAILED_RATIO", hide_env_values = true, value_name = "SHARE", value_parser = parse_share)]
    pub alert_failed_ratio: f64,
    /// From how many products on whose reserved pieces are wrong to alert
    #[arg(long, default_value_t = 1, env = "ORDERSTREAM_ALERT_DRIFT", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub alert_drift: i64,
}

impl AlertArgs {
    /// When rules fire.
    pub fn thresholds(&self) -> Thresholds {
        Thresholds {
            lag_seconds: f64::from(self.alert_lag),
            dead_letters: self.alert_dead_letters,
            failed_ratio: self.alert_failed_ratio,
            drift: self.alert_drift,
        }
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    match share > 0.0 && share < 1.0 {
        true => Ok(share),
        false => Err("a share is between 0 and 1".to_owned()),
    }
}

/// `orderstream alerts`
#[derive(Debug, Args)]
#[command(after_help = "\
Alerts are evaluated once a second by one process of those that run: run, serve or dev.

  orderstream alerts
  orderstream alerts --check --quiet || mail -s 'orderstream needs you' ops@example.com < /dev/null")]
pub struct AlertsArgs {
    /// End with exit code 8 when something fires, with 1 when nobody evaluates alerts: for cron and CI
    #[arg(long)]
    pub check: bool,
}
