//! Notifications: flags of the workers, and `orderstream notifications`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lettre::message::Mailbox;
use pipeline::domain::{NotificationChannel, NotificationStatus};

/// Who is told of what happened to orders, and how.
#[derive(Debug, Clone, Args)]
pub struct NotifyArgs {
    /// Channels of notifications, separated by commas: log, mail (needs ORDERSTREAM_SMTP_URL and --mail-from), webhook
    /// (needs --notify-webhook and ORDERSTREAM_NOTIFY_SECRET); none notifies nobody
    #[arg(long, env = "ORDERSTREAM_NOTIFY", hide_env_values = true, value_name = "CHANNELS", value_delimiter = ',', default_value = "none", value_parser = parse_channel)]
    pub notify: Vec<Option<NotificationChannel>>,
    /// Have a channel that is switched on for the first time tell of the last day, too, and not only of what happens from
    /// then on
    #[arg(long, env = "ORDERSTREAM_NOTIFY_LAST_DAY", hide_env_values = true)]
    pub notify_last_day: bool,
    /// Who mails come from: shop@example.com, or 'Shop <shop@example.com>'
    #[arg(long, env = "ORDERSTREAM_MAIL_FROM", hide_env_values = true, value_name = "ADDRESS")]
    pub mail_from: Option<Mailbox>,
    /// Folder of templates that take the place of the program's: completed.subject.j2, completed.txt.j2, …
    #[arg(long, env = "ORDERSTREAM_TEMPLATES", hide_env_values = true, value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// Where the webhook channel posts to
    #[arg(long, env = "ORDERSTREAM_NOTIFY_WEBHOOK", hide_env_values = true, value_name = "URL")]
    pub notify_webhook: Option<String>,
    /// Refusals after which a notification is dead; a server that is away does not count
    #[arg(long, default_value_t = 12, env = "ORDERSTREAM_NOTIFY_ATTEMPTS_MAX", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=50))]
    pub notify_attempts_max: u8,
    /// Seconds that a mail server or a webhook may take for one notification; below --drain-deadline, a stop waits for it
    #[arg(long, default_value_t = 15, env = "ORDERSTREAM_NOTIFY_TIMEOUT", hide_env_values = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    pub notify_timeout: u64,
    /// Mails, and webhooks, that are on their way at once
    #[arg(long, default_value_t = 8, env = "ORDERSTREAM_NOTIFY_CONCURRENCY", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub notify_concurrency: u16,
}

impl NotifyArgs {
    /// Nobody is told.
    pub fn none() -> Self {
        Self {
            notify: Vec::new(),
            notify_last_day: false,
            mail_from: None,
            templates: None,
            notify_webhook: None,
            notify_attempts_max: 12,
            notify_timeout: 15,
            notify_concurrency: 8,
        }
    }

    /// The chosen channels.
    pub fn channels(&self) -> Vec<NotificationChannel> {
        self.notify.iter().copied().flatten().collect()
    }
}

/// A channel, or `none`.
pub(super) fn parse_channel(text: &str) -> Result<Option<NotificationChannel>, String> {
    match text.trim() {
        "none" | "" => Ok(None),
        word => word.parse().map(Some).map_err(|error: pipeline::domain::UnknownWord| error.to_string()),
    }
}

/// `orderstream notifications`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NotificationsArgs {
    /// What to do instead of listing
    #[command(subcommand)]
    pub what: Option<NotificationsCommand>,
    /// Only of this order
    #[arg(long, value_name = "CODE")]
    pub order: Option<String>,
    /// Only in this state: pending, sent, dead
    #[arg(long)]
    pub status: Option<NotificationStatus>,
    /// Most notifications to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on after this id: the last one of the page before
    #[arg(long, value_name = "ID")]
    pub after: Option<i64>,
}

/// `orderstream notifications …`
#[derive(Debug, Subcommand)]
pub enum NotificationsCommand {
    /// Have dead notifications tried again
    Retry(RetryArgs),
}

/// `orderstream notifications retry`
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// These, as `notifications` lists them
    #[arg(value_name = "ID", required_unless_present = "all_dead")]
    pub ids: Vec<i64>,
    /// Every dead one
    #[arg(long, conflicts_with = "ids")]
    pub all_dead: bool,
}
