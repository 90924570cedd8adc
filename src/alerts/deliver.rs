//! Tells somebody: a line in the log at once, mails and signed requests by tasks of their own, so that a receiver that is
//! away delays no look.

use std::{fmt, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use lettre::message::{Mailbox, header::ContentType};
use pipeline::{domain::NotificationChannel, retry, shutdown::Shutdown};
use serde::Serialize;
use tokio::sync::{Mutex, mpsc};
use tracing::{error, info, warn};

use super::{
    evidence::seconds,
    judge::Thresholds,
    rule::{Rule, Severity},
    state::RuleState,
};
use crate::{
    cli::alerts::AlertArgs,
    config,
    exit::{Exit, Refusal},
    notify::{Failure, Mailer, Webhook, one_line},
    signature::Secret,
};

/// Longest try.
const TRY_MAX: Duration = Duration::from_secs(10);

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// A message that nobody has taken for so long is old news.
pub(super) const GIVEN_UP_SECONDS: f64 = 300.0;

/// Messages that wait for a channel. There are twelve rules, and each makes two a minute at most.
const QUEUE_MAX: usize = 128;

/// What the channels need that nobody may read in a list of processes.
#[derive(Clone, Default)]
pub struct AlertSecrets {
    /// How to reach the mail server, with its password.
    pub smtp_url: Option<String>,
    /// What webhooks are signed with.
    pub webhook_secret: Option<String>,
}

impl fmt::Debug for AlertSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AlertSecrets(…)")
    }
}

impl AlertSecrets {
    /// Those of the environment: `ORDERSTREAM_SMTP_URL`, `ORDERSTREAM_ALERT_SECRET`, or files that hold them.
    ///
    /// # Errors
    /// When one is named twice, or its file cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            smtp_url: config::secret("ORDERSTREAM_SMTP_URL")?,
            webhook_secret: config::secret("ORDERSTREAM_ALERT_SECRET")?,
        })
    }
}

/// When to tell, whom, and how: as configured.
#[derive(Debug)]
pub struct Alerts {
    thresholds: Thresholds,
    logs: bool,
    couriers: Vec<Courier>,
    environment: Option<String>,
}

impl Alerts {
    /// As the flags say.
    ///
    /// # Errors
    /// When a channel lacks something, or cannot be used as it is configured.
    pub fn new(
        args: &AlertArgs,
        mail_from: Option<&Mailbox>,
        environment: Option<&str>,
        secrets: &AlertSecrets,
    ) -> anyhow::Result<Self> {
        let wrong = |message: String| Refusal::new(Exit::Usage, message);
        let missing = |channel, what| wrong(format!("--alert {channel} needs {what}"));
        let mut channels: Vec<NotificationChannel> = args.alert.iter().copied().flatten().collect();
        channels.sort_unstable();
        channels.dedup();
        let mut couriers = Vec::new();
        for channel in &channels {
            couriers.push(match channel {
                NotificationChannel::Log => continue,
                NotificationChannel::Mail => {
                    let url = secrets.smtp_url.as_deref();
                    let url =
                        url.ok_or_else(|| missing(channel, "ORDERSTREAM_SMTP_URL, or ORDERSTREAM_SMTP_URL_FILE"))?;
                    let from = mail_from.cloned().ok_or_else(|| missing(channel, "--mail-from"))?;
                    if args.alert_mail_to.is_empty() {
                        return Err(missing(channel, "--alert-mail-to").into());
                    }
                    let mailer = Mailer::new(url, from, 1, TRY_MAX);
                    let mailer = mailer.map_err(|why| wrong(format!("ORDERSTREAM_SMTP_URL cannot be used: {why}")))?;
                    Courier::Mail(Box::new(mailer), args.alert_mail_to.clone())
                }
                NotificationChannel::Webhook => {
                    let url = args.alert_webhook.as_deref().ok_or_else(|| missing(channel, "--alert-webhook"))?;
                    let secret = secrets.webhook_secret.as_deref();
                    let secret = secret.ok_or_else(|| {
                        missing(channel, "ORDERSTREAM_ALERT_SECRET, or ORDERSTREAM_ALERT_SECRET_FILE")
                    })?;
                    let secret = Secret::parse(secret)
                        .map_err(|why| wrong(format!("ORDERSTREAM_ALERT_SECRET cannot be used: {why}")))?;
                    let webhook = Webhook::new(url, secret, TRY_MAX);
                    Courier::Webhook(webhook.map_err(|why| wrong(format!("--alert-webhook cannot be used: {why}")))?)
                }
            });
        }
        Ok(Self {
            thresholds: args.thresholds(),
            logs: channels.contains(&NotificationChannel::Log),
            couriers,
            environment: environment.map(str::to_owned),
        })
    }

    /// Starts who delivers, until the shutdown.
    pub(crate) fn start(self, installation: String, shutdown: &Shutdown) -> Alerting {
        let (outcomes, delivered) = mpsc::channel(QUEUE_MAX);
        let queues = self.couriers.into_iter().map(|courier| {
            let (queue, waiting) = mpsc::channel(QUEUE_MAX);
            let channel = courier.channel();
            let postman = Postman { courier, outcomes: outcomes.clone(), shutdown: shutdown.clone() };
            tokio::spawn(postman.run(waiting));
            (channel, queue)
        });
        Alerting {
            queues: queues.collect(),
            delivered: Mutex::new(delivered),
            thresholds: self.thresholds,
            logs: self.logs,
            environment: self.environment,
            installation,
        }
    }
}

/// A process that may evaluate alerts.
#[derive(Debug)]
pub(crate) struct Alerting {
    pub(super) thresholds: Thresholds,
    logs: bool,
    queues: Vec<(NotificationChannel, mpsc::Sender<Message>)>,
    pub(super) delivered: Mutex<mpsc::Receiver<Outcome>>,
    environment: Option<String>,
    installation: String,
}

impl Alerting {
    /// The channels that take their time.
    pub(super) fn channels(&self) -> Vec<NotificationChannel> {
        self.queues.iter().map(|(channel, _)| *channel).collect()
    }

    /// Says in the log where a rule stands, if that is wanted.
    pub(super) fn log(&self, rule: Rule, state: &RuleState) {
        if !self.logs {
            return;
        }
        let (text, runbook) = (state.text(), rule.runbook());
        if state.is_firing() {
            warn!(alert = %rule, runbook, "firing: {text}");
        } else {
            info!(alert = %rule, "calm: {text}");
        }
    }

    /// Puts a rule's last message into the queue of a channel; `false` if there is no room, or no such channel.
    pub(super) fn queue(&self, channel: &str, rule: Rule, state: &RuleState, told_at: DateTime<Utc>) -> bool {
        let Some((_, queue)) = self.queues.iter().find(|(known, _)| known.as_str() == channel) else { return false };
        queue.try_send(Message::new(&self.installation, self.environment.clone(), rule, state, told_at)).is_ok()
    }
}

/// What became of a message.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) rule: Rule,
    pub(super) told_at: DateTime<Utc>,
    pub(super) channel: NotificationChannel,
}

/// What a receiver is told. A part of the contract: docs/OPERATIONS.md.
#[derive(Debug, Serialize)]
struct Message {
    /// The same for every delivery of this message: receivers drop what they have seen.
    id: String,
    rule: &'static str,
    severity: Severity,
    state: &'static str,
    /// The stage, of rules about one.
    stage: Option<String>,
    /// In words.
    message: String,
    value: Option<f64>,
    /// When it fires, in words and as a number.
    threshold: String,
    limit: Option<f64>,
    since: Option<String>,
    runbook: &'static str,
    /// Of `--environment`.
    environment: Option<String>,
    #[serde(skip)]
    of: (Rule, DateTime<Utc>),
}

impl Message {
    fn new(
        installation: &str,
        environment: Option<String>,
        rule: Rule,
        state: &RuleState,
        told_at: DateTime<Utc>,
    ) -> Self {
        Self {
            id: format!("orderstream.{installation}.alert.{rule}.{}", told_at.timestamp_micros()),
            rule: rule.as_str(),
            severity: rule.severity(),
            state: state.state.as_str(),
            stage: state.stage.clone(),
            message: state.text(),
            value: state.value,
            threshold: state.threshold.clone(),
            limit: state.limit,
            since: state.since.map(|since| since.to_rfc3339_opts(SecondsFormat::Millis, true)),
            runbook: rule.runbook(),
            environment,
            of: (rule, told_at),
        }
    }

    fn subject(&self) -> String {
        let place = self.environment.as_deref().map_or_else(String::new, |name| format!("[{name}] "));
        one_line(&format!("{place}orderstream {} {}: {}", self.rule, self.state, self.message))
    }

    fn plain(&self) -> String {
        let since = self.since.as_deref().unwrap_or("–");
        format!(
            "{}\n\nRule:       {} ({})\nState:      {} since {since}\nFires when: {}\nRunbook:    {}\n",
            one_line(&self.message),
            self.rule,
            self.severity.as_str(),
            self.state,
            self.threshold,
            self.runbook
        )
    }
}

/// Who takes a message.
#[derive(Debug)]
enum Courier {
    Mail(Box<Mailer>, Vec<Mailbox>),
    Webhook(Webhook),
}

impl Courier {
    fn channel(&self) -> NotificationChannel {
        match self {
            Self::Mail(..) => NotificationChannel::Mail,
            Self::Webhook(_) => NotificationChannel::Webhook,
        }
    }

    async fn deliver(&self, message: &Message) -> Result<(), Failure> {
        match self {
            Self::Mail(mailer, to) => {
                let mail = mailer.message(&message.id, message.subject());
                let mail = to.iter().fold(mail, |mail, to| mail.to(to.clone()));
                let mail = mail.header(ContentType::TEXT_PLAIN).body(message.plain());
                mailer.send(mail.map_err(|error| Failure::Hopeless(format!("no mail could be made: {error}")))?).await
            }
            Self::Webhook(webhook) => webhook.post(&message.id, message).await,
        }
    }
}

/// Serves the queue of one channel, one message after the other.
struct Postman {
    courier: Courier,
    outcomes: mpsc::Sender<Outcome>,
    shutdown: Shutdown,
}

impl Postman {
    async fn run(self, mut queue: mpsc::Receiver<Message>) {
        loop {
            let message = tokio::select! {
                message = queue.recv() => message,
                () = self.shutdown.begun() => None,
            };
            let Some(message) = message else { return };
            // What is not delivered at the end is, by whoever evaluates next.
            if !self.deliver(&message).await {
                return;
            }
            let (rule, told_at) = message.of;
            let outcome = Outcome { rule, told_at, channel: self.courier.channel() };
            if self.outcomes.send(outcome).await.is_err() {
                return;
            }
        }
    }

    /// Tries until somebody takes it, or nobody will; `false` if the shutdown came first.
    async fn deliver(&self, message: &Message) -> bool {
        let channel = self.courier.channel();
        let mut delays = retry::delays_up_to(PAUSE_MAX);
        let mut is_first = true;
        loop {
            let tried = tokio::time::timeout(TRY_MAX, self.courier.deliver(message)).await;
            let (why, is_hopeless) = match tried {
                Ok(Ok(())) => return true,
                Ok(Err(Failure::Hopeless(why))) => (why, true),
                Ok(Err(Failure::Away(why) | Failure::Refused(why))) => (why, false),
                Err(_) => (format!("no answer in {} s", TRY_MAX.as_secs()), false),
            };
            if is_hopeless || seconds(Utc::now() - message.of.1) >= GIVEN_UP_SECONDS {
                error!(alert = message.rule, state = message.state, %channel, error = why, "nobody was told of an alert");
                return true;
            }
            if std::mem::take(&mut is_first) {
                warn!(alert = message.rule, state = message.state, %channel, error = why, "telling of an alert is tried again");
            }
            if !self.shutdown.sleep(delays.next().unwrap_or(PAUSE_MAX)).await {
                return false;
            }
        }
    }
}
