//! The ways of telling somebody, as they are configured.

use std::{fmt, sync::Arc, time::Duration};

use pipeline::{domain::NotificationChannel, store::Store};

use super::{
    Failure,
    mail::{Mail, Mailer},
    notice::Notice,
    sender::{Bounds, Sender},
    templates::Templates,
    webhook::Webhook,
};
use crate::{
    cli::notify::NotifyArgs,
    config,
    exit::{Exit, Refusal},
    signature::Secret,
};

/// What the channels need that nobody may read in a list of processes.
#[derive(Clone, Default)]
pub struct NotifySecrets {
    /// How to reach the mail server, with its password.
    pub smtp_url: Option<String>,
    /// What webhooks are signed with.
    pub webhook_secret: Option<String>,
}

impl fmt::Debug for NotifySecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NotifySecrets(…)")
    }
}

impl NotifySecrets {
    /// Those of the environment: `ORDERSTREAM_SMTP_URL`, `ORDERSTREAM_NOTIFY_SECRET`, or files that hold them.
    ///
    /// # Errors
    /// When one is named twice, or its file cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            smtp_url: config::secret("ORDERSTREAM_SMTP_URL")?,
            webhook_secret: config::secret("ORDERSTREAM_NOTIFY_SECRET")?,
        })
    }
}

/// Who takes a notice.
#[derive(Debug)]
pub(super) enum Courier {
    Log,
    Mail(Box<Mail>),
    Webhook(Webhook),
}

impl Courier {
    /// Delivers a notice; `email` is the customer's.
    pub(super) async fn deliver(&self, notice: &Notice, email: Option<&str>) -> Result<(), Failure> {
        match self {
            Self::Log => {
                let Notice { kind, order_code, amount, .. } = notice.in_lines();
                tracing::info!(%kind, order = order_code, amount, "notification");
                Ok(())
            }
            Self::Mail(mail) => mail.send(notice, email).await,
            Self::Webhook(webhook) => webhook.post(&notice.id, notice).await,
        }
    }

    pub(super) fn channel(&self) -> NotificationChannel {
        match self {
            Self::Log => NotificationChannel::Log,
            Self::Mail(_) => NotificationChannel::Mail,
            Self::Webhook(_) => NotificationChannel::Webhook,
        }
    }
}

/// The chosen channels, ready to be used.
#[derive(Debug, Clone)]
pub struct Channels {
    couriers: Vec<Arc<Courier>>,
    bounds: Bounds,
}

impl Channels {
    /// Those that the flags choose; `None` if they choose none.
    ///
    /// # Errors
    /// When a channel lacks something, or cannot be used as it is configured.
    pub fn new(args: &NotifyArgs, secrets: &NotifySecrets) -> anyhow::Result<Option<Self>> {
        let wrong = |message: String| Refusal::new(Exit::Usage, message);
        let missing = |channel, what| wrong(format!("--notify {channel} needs {what}"));
        let timeout = Duration::from_secs(args.notify_timeout);
        let mut chosen = args.channels();
        chosen.sort_unstable();
        chosen.dedup();
        let mut couriers = Vec::new();
        for channel in chosen {
            couriers.push(Arc::new(match channel {
                NotificationChannel::Log => Courier::Log,
                NotificationChannel::Mail => {
                    let url = secrets.smtp_url.as_deref();
                    let url =
                        url.ok_or_else(|| missing(channel, "ORDERSTREAM_SMTP_URL, or ORDERSTREAM_SMTP_URL_FILE"))?;
                    let from = args.mail_from.clone().ok_or_else(|| missing(channel, "--mail-from"))?;
                    let templates = Templates::new(args.templates.as_deref())
                        .map_err(|error| wrong(format!("--templates: {error}")))?;
                    let mailer = Mailer::new(url, from, u32::from(args.notify_concurrency), timeout);
                    let mailer = mailer.map_err(|why| wrong(format!("ORDERSTREAM_SMTP_URL cannot be used: {why}")))?;
                    Courier::Mail(Box::new(Mail::new(mailer, templates)))
                }
                NotificationChannel::Webhook => {
                    let url = args.notify_webhook.as_deref().ok_or_else(|| missing(channel, "--notify-webhook"))?;
                    let secret = secrets.webhook_secret.as_deref();
                    let secret = secret.ok_or_else(|| {
                        missing(channel, "ORDERSTREAM_NOTIFY_SECRET, or ORDERSTREAM_NOTIFY_SECRET_FILE")
                    })?;
                    let secret = Secret::parse(secret)
                        .map_err(|why| wrong(format!("ORDERSTREAM_NOTIFY_SECRET cannot be used: {why}")))?;
                    let webhook = Webhook::new(url, secret, timeout);
                    Courier::Webhook(webhook.map_err(|why| wrong(format!("--notify-webhook cannot be used: {why}")))?)
                }
            }));
        }
        let bounds = Bounds {
            timeout,
            concurrency: usize::from(args.notify_concurrency),
            attempts_max: i32::from(args.notify_attempts_max),
        };
        Ok((!couriers.is_empty()).then_some(Self { couriers, bounds }))
    }

    /// One sender for each.
    pub(super) fn senders(&self, store: &Store, installation: &str) -> Vec<Sender> {
        let sender = |courier| Sender::new(store.clone(), Arc::clone(courier), self.bounds, installation.to_owned());
        self.couriers.iter().map(sender).collect()
    }
}
