//! One worker: a consumer of one stage's stream, from its first connection to its last batch.

use std::{
    ops::Range,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;
use tracing::{debug, error, info, warn};

use super::{Counters, batch::Batch};
use crate::{
    message::{DeadReason, Entry, EntryId},
    retry,
    shutdown::Shutdown,
    stage::{Ending, Stage},
    store::{self, ErrorKind},
    streams::{Consumer, Error, Redis},
    topology::StageName,
};

/// The bounds that a worker keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most messages in one batch.
    pub batch_messages_max: usize,
    /// About how many bytes a batch may have: fewer messages are read where messages are large.
    pub batch_bytes_max: usize,
    /// Longest wait for the first message of a batch. A shutdown is noticed this late at most.
    pub block: Duration,
    /// How long a consumer may be silent before its entries are taken over.
    pub claim_idle: Duration,
    /// How many messages may wait before the next stage; above it, nothing is read.
    pub downstream_backlog_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_messages_max: 1_000,
            batch_bytes_max: 16 << 20,
            block: Duration::from_millis(500),
            claim_idle: Duration::from_secs(15),
            downstream_backlog_max: 100_000,
        }
    }
}

/// How many entries are read before anything is known of their size.
const FIRST_READ: usize = 64;

/// How often acknowledged entries are removed from the stream.
const TRIM_EVERY: Duration = Duration::from_millis(500);

/// How long to wait when the next stage has no room.
const NO_ROOM_WAIT: Duration = Duration::from_millis(50);

/// Why a session ended.
enum Stop {
    /// The signal was given.
    Shutdown,
    /// Redis failed.
    Streams(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Streams(error)
    }
}

/// A worker of one stage in one partition.
pub(super) struct Worker<S> {
    pub(super) stage: Arc<S>,
    pub(super) redis: Redis,
    pub(super) partition: u16,
    /// Unique per start of the program: two processes under one name would share their pending entries.
    pub(super) name: String,
    pub(super) limits: Limits,
    pub(super) counters: Arc<Counters>,
    pub(super) shutdown: Shutdown,
}

impl<S: Stage> Worker<S> {
    /// Works until the signal, through any number of lost connections.
    pub(super) async fn run(&self) {
        let mut delays = retry::delays();
        let mut outage: Option<Instant> = None;
        while !self.shutdown.has_begun() {
            let started = Instant::now();
            let error = match self.session(&mut outage).await {
                Ok(()) | Err(Stop::Shutdown) => return,
                Err(Stop::Streams(error)) => error,
            };
            if started.elapsed() > Duration::from_secs(10) {
                delays = retry::delays();
            }
            // Logged once per outage, not once per try.
            if outage.is_none() {
                outage = Some(Instant::now());
                warn!(stage = %S::NAME, partition = self.partition, %error, "Redis failed; trying again until it is back");
            }
            self.shutdown.sleep(delays.next().unwrap_or_default()).await;
        }
    }

    /// From one connection to its loss. Starts with what this consumer was given and never acknowledged: a lost reply
    /// may have delivered entries that nobody else will see.
    async fn session(&self, outage: &mut Option<Instant>) -> Result<(), Stop> {
        let mut consumer = Consumer::join(&self.redis, S::NAME, self.partition, &self.name).await?;
        let mut inspector = self.redis.connect().await?;
        if let Some(since) = outage.take() {
            info!(stage = %S::NAME, partition = self.partition, seconds = since.elapsed().as_secs(), "Redis is back");
        }
        self.finish_own(&mut consumer).await?;

        let mut claims = Claims::new(self.limits.claim_idle);
        let mut trimmed = Instant::now();
        let mut count = FIRST_READ.min(self.limits.batch_messages_max);
        while !self.shutdown.has_begun() {
            if claims.are_due() {
                self.claim(&mut consumer, &mut claims).await?;
            }
            if !self.has_room(&mut inspector).await? {
                self.shutdown.sleep(NO_ROOM_WAIT).await;
                continue;
            }
            let entries = consumer.read_new(count, self.limits.block).await?;
            if !entries.is_empty() {
                count = self.next_count(&entries);
                self.handle(&mut consumer, entries).await?;
            }
            if trimmed.elapsed() > TRIM_EVERY {
                consumer.trim().await?;
                trimmed = Instant::now();
            }
        }
        consumer.trim().await?;
        Ok(consumer.leave().await?)
    }

    async fn finish_own(&self, consumer: &mut Consumer) -> Result<(), Stop> {
        let mut after = EntryId::default();
        let mut count = FIRST_READ.min(self.limits.batch_messages_max);
        loop {
            let entries = consumer.read_own(after, count).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.id;
            count = self.next_count(&entries);
            self.handle(consumer, entries).await?;
        }
    }

    /// Takes over what others left behind, one bounded round at a time.
    async fn claim(&self, consumer: &mut Consumer, claims: &mut Claims) -> Result<(), Stop> {
        let claimed = consumer.claim(self.limits.claim_idle, &claims.cursor, self.limits.batch_messages_max).await?;
        claims.next(claimed.cursor);
        if !claimed.deleted.is_empty() {
            let ids: Vec<String> = claimed.deleted.iter().map(ToString::to_string).collect();
            error!(stage = %S::NAME, partition = self.partition, ?ids, "entries were deleted from the stream while pending: their messages are lost; import the orders again");
        }
        if claimed.entries.is_empty() {
            return Ok(());
        }
        info!(stage = %S::NAME, partition = self.partition, messages = claimed.entries.len(), "took over messages of a silent consumer");
        self.counters.claimed(claimed.entries.len());
        self.handle(consumer, claimed.entries).await
    }

    /// Inner stages ask for room before they read, never after they worked. Only the way forward counts: waiting for an
    /// earlier stage could wait in a circle.
    async fn has_room(&self, inspector: &mut MultiplexedConnection) -> Result<bool, Error> {
        let Some(next) = S::NAME.targets().iter().find(|target| **target > S::NAME) else { return Ok(true) };
        let backlog = self.redis.backlog(inspector, self.partition, *next).await?;
        Ok(backlog < self.limits.downstream_backlog_max)
    }

    /// How many entries to read next, so that a batch stays within its bytes.
    fn next_count(&self, entries: &[Entry]) -> usize {
        let bytes: usize = entries.iter().map(Entry::bytes).sum();
        let average = (bytes / entries.len()).max(1);
        (self.limits.batch_bytes_max / average).clamp(1, self.limits.batch_messages_max)
    }

    /// Takes one batch from entries to hand-off.
    async fn handle(&self, consumer: &mut Consumer, entries: Vec<Entry>) -> Result<(), Stop> {
        let started = self.counters.batch_started();
        let mut batch = Batch::<S::Message>::decode(entries);
        self.process(consumer, &mut batch).await?;

        let messages = batch.entries().len();
        let forwarded = batch.count(|ending| matches!(ending, Ending::Forward(..)));
        let dead = batch.count(|ending| matches!(ending, Ending::Dead(..)));
        let stream = self.redis.keys().stream(self.partition, S::NAME);
        let counts = consumer.hand_off(batch.into_hand_off(S::NAME, &stream)).await?;
        self.counters.batch_ended(started, messages, forwarded, dead, counts.already);
        if dead > 0 {
            warn!(stage = %S::NAME, partition = self.partition, messages = dead, "dead letters");
        }
        Ok(())
    }

    /// Has the stage process the batch. Where the database refuses values, the batch is split until the refused
    /// message stands alone, so that its neighbours go on.
    async fn process(&self, consumer: &mut Consumer, batch: &mut Batch<S::Message>) -> Result<(), Stop> {
        let mut parts = Vec::from([Range { start: 0, end: batch.messages().len() }]);
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.process_part(consumer, batch, part.clone()).await? {
                Ok(endings) => batch.end(part, endings),
                Err(refusal) if part.len() == 1 => {
                    batch.end(part, vec![Ending::Dead(DeadReason::RefusedByDatabase, refusal)]);
                }
                Err(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
            }
        }
        Ok(())
    }

    /// Tries until Postgres answers: its absence is no failure of the messages. `Err` is a refusal of values.
    async fn process_part(
        &self,
        consumer: &mut Consumer,
        batch: &Batch<S::Message>,
        part: Range<usize>,
    ) -> Result<Result<Vec<Ending>, String>, Stop> {
        let mut delays = retry::delays();
        let mut outage: Option<Instant> = None;
        loop {
            let endings = self.process_fresh(consumer, batch.entries(), &batch.messages()[part.clone()]).await;
            let error = match endings {
                Ok(endings) => {
                    if let Some(since) = outage {
                        info!(stage = %S::NAME, partition = self.partition, seconds = since.elapsed().as_secs(), "Postgres is back");
                    }
                    return Ok(Ok(endings));
                }
                Err(error) => error,
            };
            self.counters.retried();
            match error.kind() {
                ErrorKind::Values => return Ok(Err(error.to_string())),
                ErrorKind::Contention => {}
                ErrorKind::Unavailable if outage.is_none() => {
                    outage = Some(Instant::now());
                    warn!(stage = %S::NAME, partition = self.partition, %error, "Postgres failed; trying again until it is back");
                }
                ErrorKind::Unavailable => {}
            }
            if !self.shutdown.sleep(delays.next().unwrap_or_default()).await {
                return Err(Stop::Shutdown);
            }
            consumer.keep_fresh(batch.entries()).await?;
        }
    }

    /// Lets the stage work while this consumer's entries stay fresh, so that nobody takes them for abandoned.
    async fn process_fresh(
        &self,
        consumer: &mut Consumer,
        entries: &[Entry],
        messages: &[S::Message],
    ) -> Result<Vec<Ending>, store::Error> {
        // Polled to its end whatever happens: a transaction that is dropped half-way poisons its connection.
        let mut work = pin!(self.stage.process(messages));
        loop {
            tokio::select! {
                endings = &mut work => return endings,
                () = tokio::time::sleep(self.limits.claim_idle / 3) => {
                    // Another worker would at worst do the same work again; the next exchange reports the loss.
                    if let Err(error) = consumer.keep_fresh(entries).await {
                        debug!(stage = %S::NAME, %error, "cannot keep entries fresh");
                    }
                }
            }
        }
    }

    /// The stage that this worker works for.
    pub(super) const fn stage_name(&self) -> StageName {
        S::NAME
    }
}

/// When to claim, and where in the list of pending entries.
struct Claims {
    every: Duration,
    due: Instant,
    cursor: String,
}

impl Claims {
    const START: &'static str = "0-0";

    /// The first round comes at once: a restart finds what the last run left behind.
    fn new(idle: Duration) -> Self {
        Self { every: idle / 4, due: Instant::now(), cursor: Self::START.to_owned() }
    }

    fn are_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// One scan examines a bounded number of entries; until it has come round, it goes on without waiting.
    fn next(&mut self, cursor: String) {
        if cursor == Self::START {
            self.due = Instant::now() + self.every;
        }
        self.cursor = cursor;
    }
}
