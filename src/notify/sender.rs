//! Serves the queue of one channel.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use pipeline::{
    domain::NotificationChannel,
    retry,
    shutdown::Shutdown,
    store::{self, DueNotification, NextTry, Store},
};
use tokio::sync::Notify;
use tracing::warn;

use super::{Failure, channels::Courier, notice::Notice, outage::Outage};

/// Most lines of the log at once; they cost nothing but the marking.
const LINES_MAX: usize = 1_000;

/// Longest wait for something to send, whatever is said of news: another process may have put something in.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Shortest wait, so that a clock that is behind does not make a busy loop.
const WAIT_MIN: Duration = Duration::from_millis(20);

/// How much longer than a try a notification stays in the hands of whoever took it.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// Wait before the second try of what was refused; four times that before the third, and so on.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest wait before another try.
const RETRY_MAX: Duration = Duration::from_secs(3_600);

/// Wait before another try of what found nobody there. It goes behind those that were not tried.
const AWAY_WAIT: Duration = Duration::from_secs(1);

/// How patiently and how much at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Longest try.
    pub(super) timeout: Duration,
    /// Most tries at once.
    pub(super) concurrency: usize,
    /// Refusals after which a notification is dead.
    pub(super) attempts_max: i32,
}

/// Serves the queue of one channel.
#[derive(Debug)]
pub(super) struct Sender {
    store: Store,
    courier: Arc<Courier>,
    bounds: Bounds,
    installation: String,
    away: AtomicBool,
}

impl Sender {
    pub(super) fn new(store: Store, courier: Arc<Courier>, bounds: Bounds, installation: String) -> Self {
        Self { store, courier, bounds, installation, away: AtomicBool::new(false) }
    }

    pub(super) fn channel(&self) -> NotificationChannel {
        self.courier.channel()
    }

    /// Whether nobody was there to take the last one.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    /// Sends what is due until the signal.
    pub(super) async fn run(&self, news: &Notify, stop: &Shutdown) {
        let mut receiver = Outage::new(match self.channel() {
            NotificationChannel::Log => "The log",
            NotificationChannel::Mail => "The mail server",
            NotificationChannel::Webhook => "The webhook's receiver",
        });
        // The session that we are a part of says that Postgres is away, and ends us.
        let mut delays = retry::delays();
        while !stop.has_begun() {
            // Made before the look, so that what is put in after it is not missed.
            let notified = news.notified();
            let wait = match self.round(stop, &mut receiver).await {
                Ok(Round::Full) => continue,
                Ok(Round::Idle(wait)) => wait,
                Ok(Round::Away(wait)) => {
                    stop.sleep(wait).await;
                    continue;
                }
                Err(_) => {
                    stop.sleep(delays.next().unwrap_or(LOOK_EVERY)).await;
                    continue;
                }
            };
            delays = retry::delays();
            tokio::select! {
                () = notified => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.begun() => {}
            }
        }
    }

    async fn round(&self, stop: &Shutdown, receiver: &mut Outage) -> Result<Round, store::Error> {
        let pool = self.store.pool();
        // Of a receiver that was away, one is asked.
        let limit = match self.channel() {
            _ if self.is_away() => 1,
            NotificationChannel::Log => LINES_MAX,
            NotificationChannel::Mail | NotificationChannel::Webhook => self.bounds.concurrency,
        };
        let lease = self.bounds.timeout + LEASE_MARGIN;
        let due =
            store::take_due_notifications(&pool, self.channel(), i64::try_from(limit).unwrap_or(1), lease).await?;
        if due.is_empty() {
            let next = store::next_due_notification(&pool, self.channel()).await?;
            return Ok(Round::Idle(next.unwrap_or(LOOK_EVERY).clamp(WAIT_MIN, LOOK_EVERY)));
        }
        if self.channel() == NotificationChannel::Log {
            return self.write_lines(&due).await.map(|()| Round::Full);
        }
        let tries = stream::iter(due).map(|due| self.try_one(due, stop)).buffer_unordered(self.bounds.concurrency);
        let met: Vec<Meeting> = tries.collect().await;
        let absence = met.iter().find_map(|met| match met {
            Meeting::Absent(error) => Some(error),
            Meeting::Met | Meeting::Unneeded => None,
        });
        if let Some(error) = absence {
            self.away.store(true, Ordering::Release);
            return Ok(Round::Away(receiver.goes_on(error)));
        }
        if met.contains(&Meeting::Met) {
            self.away.store(false, Ordering::Release);
            receiver.is_over();
        }
        Ok(Round::Full)
    }

    async fn write_lines(&self, due: &[DueNotification]) -> Result<(), store::Error> {
        for due in due {
            // Writing a line does not fail.
            drop(self.courier.deliver(&Notice::new(&self.installation, due), None).await);
        }
        let ids: Vec<i64> = due.iter().map(|due| due.id).collect();
        store::mark_notifications_sent(&self.store.pool(), &ids).await
    }

    /// Tries one and writes down what came of it.
    async fn try_one(&self, due: DueNotification, stop: &Shutdown) -> Meeting {
        let notice = Notice::new(&self.installation, &due);
        let delivery = self.courier.deliver(&notice, due.customer_email.as_deref());
        let delivered = tokio::time::timeout(self.bounds.timeout, delivery).await.unwrap_or_else(|_| {
            let error = format!("no answer in {} s", self.bounds.timeout.as_secs());
            Err(match self.channel() {
                // A program may choke on one of them. A mail server that is silent is so to all.
                NotificationChannel::Webhook => Failure::Refused(error),
                NotificationChannel::Log | NotificationChannel::Mail => Failure::Away(error),
            })
        });
        let (next, error) = match &delivered {
            Ok(()) => (None, ""),
            Err(Failure::Away(error)) => (Some(NextTry::Uncounted(AWAY_WAIT)), &**error),
            Err(Failure::Hopeless(error)) => (Some(NextTry::Never), &**error),
            Err(Failure::Refused(error)) if due.attempts + 1 >= self.bounds.attempts_max => {
                (Some(NextTry::Never), &**error)
            }
            Err(Failure::Refused(error)) => (Some(NextTry::Counted(delay(due.id, due.attempts))), &**error),
        };
        if next == Some(NextTry::Never) {
            warn!(notification = due.id, channel = %self.channel(), error, "a notification is dead; see orderstream notifications --status dead");
        }
        self.write_down(due.id, next, error, stop).await;
        match delivered {
            Ok(()) | Err(Failure::Refused(_)) => Meeting::Met,
            Err(Failure::Hopeless(_)) => Meeting::Unneeded,
            Err(Failure::Away(error)) => Meeting::Absent(error),
        }
    }

    /// Tries for as long as it takes: what was sent and is not marked so is sent again.
    async fn write_down(&self, id: i64, next: Option<NextTry>, error: &str, stop: &Shutdown) {
        let mut delays = retry::delays();
        loop {
            let pool = self.store.pool();
            let written = match next {
                None => store::mark_notifications_sent(&pool, &[id]).await,
                Some(next) => store::mark_notification_failed(&pool, id, next, error).await,
            };
            match written {
                Ok(()) => return,
                Err(failure) if stop.has_begun() => {
                    warn!(notification = id, error = %failure, "what became of a notification is not recorded; it may be sent twice");
                    return;
                }
                Err(_) => {
                    stop.sleep(delays.next().unwrap_or(LOOK_EVERY)).await;
                }
            }
        }
    }
}

/// Whether somebody was there to take a notification.
#[derive(Debug, PartialEq, Eq)]
enum Meeting {
    Met,
    /// Perhaps nobody was asked: the address alone may have been hopeless.
    Unneeded,
    Absent(String),
}

enum Round {
    /// There may be more.
    Full,
    /// Nothing is due for so long.
    Idle(Duration),
    /// Nobody was there; wait so long.
    Away(Duration),
}

/// How long what was refused so often waits. Longer by up to a half, differently for each, so that what was refused
/// together does not come again together.
fn delay(id: i64, attempts: i32) -> Duration {
    let factor = 4_u32.saturating_pow(u32::try_from(attempts).unwrap_or(0));
    let plain = RETRY_MIN.saturating_mul(factor).min(RETRY_MAX);
    let chance = f64::from(crc32fast::hash(format!("{id} {attempts}").as_bytes())) / f64::from(u32::MAX);
    plain.mul_f64(1.0 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_more_often_waits_longer_within_bounds() {
        for id in 0..100 {
            let waits: Vec<Duration> = (0..100).map(|attempts| delay(id, attempts)).collect();
            assert!(waits[0] >= RETRY_MIN && waits[0] <= RETRY_MIN * 2);
            assert!(waits[..6].is_sorted() && waits.iter().all(|wait| *wait <= RETRY_MAX.mul_f64(1.5)));
        }
        assert_ne!(delay(1, 0), delay(2, 0));
    }
}
