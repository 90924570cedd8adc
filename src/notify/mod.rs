//! The notifier: tells customers and programs of what happened to orders, without anybody waiting for it.
//!
//! The events stream only says that there is something new. What is to be told is put into a queue in Postgres, behind a
//! watermark over the events; from there each channel is served by itself. A mail server that is away fills the queue
//! and delays nobody: not the pipeline, and not the other channels.

mod channels;
mod mail;
mod notice;
mod notifying;
mod outage;
mod sender;
mod templates;
mod webhook;

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use pipeline::{
    domain::NotificationChannel,
    shutdown::Shutdown,
    store::{self, FirstTold, Store},
    streams::{EventsReader, Redis},
};
use tokio::sync::Notify;
use tracing::info;

pub use channels::{Channels, NotifySecrets};
pub(crate) use mail::Mailer;
pub(crate) use notice::one_line;
pub use notifying::Notifying;
use outage::Outage;
use sender::Sender;
pub use templates::TemplateError;
pub(crate) use webhook::Webhook;

/// Most events whose notifications are made in one transaction.
const STEP_EVENTS_MAX: i64 = 5_000;

/// How long to rest after a step that was not full: larger steps are cheaper ones.
const REST: Duration = Duration::from_millis(100);

/// How long to wait for news from the events stream before looking without any: it may be gone, or trimmed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a notifier that is not the active one looks whether it may be.
const STANDBY_WAIT: Duration = Duration::from_secs(1);

/// How long an exchange over the session with the lock may take. A notifier that waits for longer cannot do its work, and
/// another one may be able to.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long making notifications of one step may take.
const STEP_PATIENCE: Duration = Duration::from_secs(60);

/// Why a notification was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody is there to take any: the others will fail alike, and this one is not to blame.
    Away(String),
    /// The other side did not take this one; it may take it later.
    Refused(String),
    /// It will never be taken.
    Hopeless(String),
}

/// Where a notifier stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// It does not know yet whether it is the active one.
    Starting,
    /// Another one is active.
    Standby,
    /// It is the active one.
    Active,
}

/// Notifies while it is the one active notifier.
#[derive(Debug)]
pub struct Notifier {
    store: Store,
    redis: Redis,
    channels: Vec<NotificationChannel>,
    senders: Vec<Sender>,
    state: AtomicU8,
}

impl Notifier {
    /// A notifier on these channels, which are switched on with this: of what happens afterwards they tell, and as far as
    /// they were on before, of what happened meanwhile.
    ///
    /// # Errors
    /// When Postgres cannot tell the installation's name, or cannot write the channels down.
    pub async fn new(store: Store, redis: Redis, channels: Channels, first: FirstTold) -> Result<Self, store::Error> {
        let installation = store::installation(&store.pool()).await?;
        let senders = channels.senders(&store, &installation);
        let channels: Vec<NotificationChannel> = senders.iter().map(Sender::channel).collect();
        let begun = store::switch_notifications_on(&store.pool(), &channels, first).await?;
        if !begun.is_empty() {
            let since = match first {
                FirstTold::News => "of what happens from now on; --notify-last-day tells of the last day, too",
                FirstTold::LastDay => "of the last day, too",
            };
            info!(channels = names(&begun), "switched on for the first time: these channels tell {since}");
        }
        Ok(Self { store, redis, channels, senders, state: AtomicU8::new(State::Starting as u8) })
    }

    /// Notifies until the signal, through any number of lost connections. What is being sent then is sent.
    pub async fn run(&self, shutdown: &Shutdown) {
        let mut outage = Outage::new("Postgres");
        while !shutdown.has_begun() {
            let Err(error) = self.session(shutdown, &mut outage).await else { return };
            self.enter(State::Starting);
            shutdown.sleep(outage.goes_on(&error)).await;
        }
    }

    /// Whether every event has its notifications, and each of them was tried, as far as anybody is there to take it.
    ///
    /// # Errors
    /// As any statement.
    pub async fn is_done(&self) -> Result<bool, store::Error> {
        match self.state.load(Ordering::Acquire) {
            state if state == State::Starting as u8 => return Ok(false),
            state if state == State::Standby as u8 => return Ok(true),
            _ => {}
        }
        let pool = self.store.pool();
        let open: Vec<_> = self.senders.iter().filter(|sender| !sender.is_away()).map(Sender::channel).collect();
        Ok(store::events_without_notifications(&pool, &self.channels).await? <= 0
            && !store::has_untried_notifications(&pool, &open).await?)
    }

    /// A statement without an answer may have left its connection in the middle of something.
    fn leave_behind(&self, error: &store::Error) {
        if matches!(error, store::Error::NoAnswer { .. }) {
            self.store.renew();
        }
    }

    fn enter(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    async fn session(&self, shutdown: &Shutdown, outage: &mut Outage) -> Result<(), store::Error> {
        // The lock lasts as long as this session, and so must our belief in it.
        let mut lock = self.store.session().await?;
        while !in_time(PATIENCE, store::try_become_notifier(&mut lock)).await? {
            self.enter(State::Standby);
            outage.is_over();
            if !shutdown.sleep(STANDBY_WAIT).await {
                return Ok(());
            }
        }
        self.enter(State::Active);
        info!(channels = names(&self.channels), "notifying");

        let (news, stop) = (Notify::new(), Shutdown::default());
        let filling = async {
            let mut stream = Trigger::new(&self.redis);
            let filled = async {
                while !shutdown.has_begun() {
                    // Fails when the connection, and with it the lock, is gone.
                    in_time(PATIENCE, store::last_event_seq(&mut lock)).await?;
                    let mut passed = 0;
                    while !shutdown.has_begun() {
                        let step = store::enqueue_notifications(&self.store, &self.channels, STEP_EVENTS_MAX);
                        let step = in_time(STEP_PATIENCE, step).await.inspect_err(|error| self.leave_behind(error))?;
                        passed += step;
                        if step < STEP_EVENTS_MAX {
                            break;
                        }
                        news.notify_waiters();
                    }
                    outage.is_over();
                    if passed > 0 {
                        news.notify_waiters();
                        shutdown.sleep(REST).await;
                    }
                    stream.wait(shutdown).await;
                }
                Ok(())
            };
            let filled = filled.await;
            stop.begin();
            filled
        };
        let sending = futures::future::join_all(self.senders.iter().map(|sender| sender.run(&news, &stop)));
        // Nobody else may become active while something is being sent: both come to their end before the lock goes.
        let (filled, _) = futures::future::join(filling, sending).await;
        filled
    }
}

fn names(channels: &[NotificationChannel]) -> String {
    channels.iter().map(|channel| channel.as_str()).collect::<Vec<_>>().join(",")
}

/// What Postgres answers in time.
async fn in_time<T>(
    patience: Duration,
    question: impl Future<Output = Result<T, store::Error>>,
) -> Result<T, store::Error> {
    let silence = |_| store::Error::NoAnswer { seconds: patience.as_secs() };
    tokio::time::timeout(patience, question).await.map_err(silence)?
}

/// The events stream, as far as it matters here: it ends a wait. While Redis is away, time does.
struct Trigger<'a> {
    redis: &'a Redis,
    reader: Option<EventsReader>,
    outage: Outage,
}

impl<'a> Trigger<'a> {
    fn new(redis: &'a Redis) -> Self {
        Self { redis, reader: None, outage: Outage::new("Redis, as the notifier sees it,") }
    }

    /// Waits until there is news, or it is time to look anyway.
    async fn wait(&mut self, shutdown: &Shutdown) {
        tokio::select! {
            read = self.read() => if let Err(error) = read {
                self.reader = None;
                let delay = self.outage.goes_on(&error).min(LOOK_EVERY);
                shutdown.sleep(delay).await;
            },
            () = shutdown.begun() => {}
        }
    }

    async fn read(&mut self) -> Result<(), pipeline::streams::Error> {
        let Some(reader) = &mut self.reader else {
            // What came before is seen by the look that follows.
            self.reader = Some(EventsReader::join(self.redis).await?);
            self.outage.is_over();
            return Ok(());
        };
        let news = reader.read_new(LOOK_EVERY).await?;
        // Before the look that they call for: Postgres knows what has no notification yet, whatever becomes of these.
        reader.acknowledge(&news).await
    }
}
