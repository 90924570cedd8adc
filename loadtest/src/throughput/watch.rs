//! Waiting for the end of a run, cheaply: one row of Postgres, and once a second a glance at Redis.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use tokio::time::sleep;

use crate::{
    ledger::{Ledger, Outcomes},
    orders::Orders,
    stream::{AppendOnlyFile, Stream},
};

/// How often the event counter is read: the end of a run is seen this late at most.
const SETTLED_POLL: Duration = Duration::from_millis(20);

/// How often the board's cursor is read.
const RELAY_POLL: Duration = Duration::from_millis(5);

/// How often Redis is asked how it is.
const GLANCE_EVERY: Duration = Duration::from_secs(1);

/// A run in which nothing has moved for so long will not end.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// What was seen of a run from outside.
#[derive(Debug)]
pub(super) struct Seen {
    /// When the last order was settled.
    pub(super) settled_at: Instant,
    /// How long the board took from then on to show it; `None` when it did not get there.
    pub(super) relay_lag: Option<Duration>,
    /// Most memory that Redis had in use, bytes.
    pub(super) redis_memory_max: u64,
    /// By how much the append-only file grew and how often it was rewritten, if there is one.
    pub(super) append_only_growth: Option<AppendOnlyFile>,
    /// What became of the orders.
    pub(super) outcomes: Outcomes,
}

/// Watches the orders of one run.
pub(super) struct Watch<'a> {
    orders: &'a Orders,
    stream: &'a Stream,
    ledger: &'a mut Ledger,
    sent: &'a Cell<usize>,
    events_before: i64,
    started: Instant,
    glance: Glance,
}

/// The state of Redis at the last glance.
struct Glance {
    at: Instant,
    backlog: u64,
    memory_max: u64,
    file: Option<AppendOnlyFile>,
    file_growth: AppendOnlyFile,
}

impl<'a> Watch<'a> {
    /// Begins to watch, before the first order is sent.
    pub(super) async fn new(
        orders: &'a Orders,
        stream: &'a Stream,
        ledger: &'a mut Ledger,
        sent: &'a Cell<usize>,
    ) -> Result<Self> {
        let events_before = ledger.last_event().await?;
        let glance = Glance {
            at: Instant::now(),
            backlog: stream.backlog().await?,
            memory_max: stream.memory().await?,
            file: stream.append_only_file().await?,
            file_growth: AppendOnlyFile { size: 0, rewrites: 0 },
        };
        Ok(Self { orders, stream, ledger, sent, events_before, started: Instant::now(), glance })
    }

    /// Waits until every order is settled and the board shows it.
    pub(super) async fn until_the_end(mut self) -> Result<Seen> {
        let mut target = self.events_before + i64::try_from(self.orders.len())?;
        let (mut missing_before, mut moved_at) = (u64::MAX, Instant::now());
        let (settled_at, relay_lag, outcomes) = loop {
            let last_event = self.until_event(target).await?;
            let seen_at = Instant::now();
            let relay_lag = self.until_shown(target).await?.map(|shown_at| shown_at - seen_at);
            // Events of other orders count towards the target, so it may be reached early. It must never lie too far:
            // what is missing is therefore added to an event that was read before it was counted.
            let outcomes = self.ledger.outcomes(self.orders.prefix()).await?;
            let missing = (self.orders.len() as u64).saturating_sub(outcomes.settled);
            if missing == 0 {
                break (seen_at, relay_lag, outcomes);
            } else if missing != missing_before {
                (missing_before, moved_at) = (missing, Instant::now());
            } else if moved_at.elapsed() >= STALLED_AFTER {
                return Err(self.stalled(last_event).await?);
            }
            target = last_event + i64::try_from(missing)?;
        };
        self.glance.look(self.stream).await?;
        Ok(Seen {
            settled_at,
            relay_lag,
            redis_memory_max: self.glance.memory_max,
            append_only_growth: self.glance.file.map(|_| self.glance.file_growth),
            outcomes,
        })
    }

    /// The last event, as soon as it is `target` or beyond.
    async fn until_event(&mut self, target: i64) -> Result<i64> {
        let mut position = (0, 0, 0);
        let mut moved_at = Instant::now();
        loop {
            let last_event = self.ledger.last_event().await?;
            if last_event >= target {
                return Ok(last_event);
            }
            if self.glance.at.elapsed() >= GLANCE_EVERY {
                self.glance.look(self.stream).await?;
                self.show_progress(last_event);
            }
            let now_at = (self.sent.get(), last_event, self.glance.backlog);
            if now_at != position {
                position = now_at;
                moved_at = Instant::now();
            } else if moved_at.elapsed() >= STALLED_AFTER {
                return Err(self.stalled(last_event).await?);
            }
            sleep(SETTLED_POLL).await;
        }
    }

    /// When the board shows `event`, or `None` when it does not get nearer to it.
    async fn until_shown(&self, event: i64) -> Result<Option<Instant>> {
        let (mut cursor, mut moved_at) = (-1, Instant::now());
        while moved_at.elapsed() < STALLED_AFTER {
            match self.stream.cursor().await? {
                shown if shown >= event => return Ok(Some(Instant::now())),
                shown if shown != cursor => (cursor, moved_at) = (shown, Instant::now()),
                _ => {}
            }
            sleep(RELAY_POLL).await;
        }
        Ok(None)
    }

    fn show_progress(&self, last_event: i64) {
        eprintln!(
            "{:5} s  sent {:8}  settled {:8}  waiting to be taken in {:7}",
            self.started.elapsed().as_secs(),
            self.sent.get(),
            last_event - self.events_before,
            self.glance.backlog
        );
    }

    async fn stalled(&mut self, last_event: i64) -> Result<anyhow::Error> {
        let outcomes = self.ledger.outcomes(self.orders.prefix()).await?;
        Ok(anyhow!(
            "nothing has moved for {} s: of {} orders {} were sent, {} are known to Postgres, {} are settled; \
             {} wait to be taken in, the dead letters are {}, the last event is {last_event}",
            STALLED_AFTER.as_secs(),
            self.orders.len(),
            self.sent.get(),
            outcomes.known,
            outcomes.settled,
            self.glance.backlog,
            self.stream.dead_letters().await?,
        ))
    }
}

impl Glance {
    /// Looks again. A rewritten file is smaller than before: what it grew by in that second is not counted.
    async fn look(&mut self, stream: &Stream) -> Result<()> {
        self.at = Instant::now();
        self.backlog = stream.backlog().await?;
        self.memory_max = self.memory_max.max(stream.memory().await?);
        let file = stream.append_only_file().await?;
        if let (Some(before), Some(now)) = (self.file, file) {
            self.file_growth.size += now.size.saturating_sub(before.size);
            self.file_growth.rewrites += now.rewrites.saturating_sub(before.rewrites);
        }
        self.file = file;
        Ok(())
    }
}
