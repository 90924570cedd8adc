//! One worker: a consumer of one stage's stream, from its first connection to its last batch. This file is its life;
//! [`work`](super::work) is what becomes of a batch.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    Counters,
    limits::{COMPANY, Limits},
};
use crate::{
    message::EntryId,
    retry::{Outage, REDIS},
    shutdown::Shutdown,
    stage::Stage,
    streams::{Consumer, DEAD_LETTERS_MAX, Delivery, Error, KeptConnection, Recovered, Redis, Whose},
};

/// How many entries are read before anything is known of their size.
const FIRST_READ: usize = 64;

/// How often acknowledged entries are removed from the stream.
const TRIM_EVERY: Duration = Duration::from_millis(500);

/// How often books are looked at that do not balance and give nothing to be found.
const BALANCE_EVERY: Duration = Duration::from_secs(2);

/// How often dead letters above their bound are removed.
const TRIM_DEAD_EVERY: Duration = Duration::from_secs(60);

/// How long to wait when there is no leave to work.
const NO_LEAVE_WAIT: Duration = Duration::from_millis(50);

/// Consumers that hold nothing are removed when they have been silent for this long, or four times the claim time.
const FORGET_IDLE_MIN: Duration = Duration::from_secs(60);

/// Why a session ended.
pub(super) enum Stop {
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

impl<S: Stage + 'static> Worker<S> {
    /// Works until the signal, through any number of lost connections. `silenced` says that it panicked before.
    pub(super) async fn run(&self, mut silenced: bool) {
        let mut outage = Outage::default();
        while !self.shutdown.has_begun() {
            match self.session(&mut outage, &mut silenced).await {
                Ok(()) | Err(Stop::Shutdown) => return,
                Err(Stop::Streams(error)) => outage.goes_on(&REDIS, &error),
            }
            self.shutdown.sleep(outage.delay()).await;
        }
    }

    /// From one connection to its loss. Starts with what this consumer was given and never acknowledged: a lost reply
    /// may have delivered entries that nobody else will see.
    async fn session(&self, outage: &mut Outage, silenced: &mut bool) -> Result<(), Stop> {
        let mut consumer = Consumer::join(&self.redis, S::NAME, self.partition, &self.name).await?;
        let mut inspector = KeptConnection::new(&self.redis);
        let mut books = Bookkeeping::default();
        self.balance(&mut inspector, &mut books).await?;
        let mut unfinished = true;
        let mut paused = false;
        let mut claims = Claims::new(self.limits.claim_idle);
        let (mut trimmed, mut dead_trimmed) = (Instant::now(), Instant::now());
        let mut count = FIRST_READ.min(self.limits.batch_messages_max);
        while !self.shutdown.has_begun() {
            if !self.has_leave(&mut inspector, &mut paused).await? {
                self.shutdown.sleep(NO_LEAVE_WAIT).await;
                continue;
            }
            if unfinished {
                self.finish_own(&mut consumer, *silenced).await?;
                (unfinished, *silenced) = (false, false);
            }
            if claims.are_due() {
                self.take_over(&mut consumer, &mut claims).await?;
            }
            let deliveries = consumer.read_new(count, self.limits.block).await?;
            // A read of a group writes who has what.
            outage.has_written();
            if !deliveries.is_empty() {
                count = self.next_count(&deliveries);
                self.handle(&mut consumer, deliveries).await?;
            }
            if trimmed.elapsed() > TRIM_EVERY {
                self.trim(&mut consumer, &mut inspector, &mut books).await?;
                trimmed = Instant::now();
            }
            if dead_trimmed.elapsed() > TRIM_DEAD_EVERY {
                let dropped = self.redis.trim_dead(inspector.get().await?, self.partition, DEAD_LETTERS_MAX).await?;
                if dropped > 0 {
                    warn!(letters = dropped, kept = DEAD_LETTERS_MAX, "dropped the oldest dead letters");
                }
                dead_trimmed = Instant::now();
            }
        }
        self.trim(&mut consumer, &mut inspector, &mut books).await?;
        Ok(consumer.leave().await?)
    }

    /// Whether the stage may take work: nobody has paused it, and the next stage has room. Only the way forward counts:
    /// waiting for an earlier stage could wait in a circle.
    async fn has_leave(&self, inspector: &mut KeptConnection, paused: &mut bool) -> Result<bool, Error> {
        let was_paused = *paused;
        let inspector = inspector.get().await?;
        *paused = self.redis.is_paused(inspector, self.partition, S::NAME).await?;
        match (was_paused, *paused) {
            (false, true) => info!(stage = %S::NAME, partition = self.partition, "paused"),
            (true, false) => info!(stage = %S::NAME, partition = self.partition, "resumed"),
            _ => {}
        }
        let Some(next) = S::NAME.targets().iter().find(|target| **target > S::NAME) else { return Ok(!*paused) };
        let backlog = self.redis.backlog(inspector, self.partition, *next).await?;
        Ok(!*paused && backlog < self.limits.downstream_backlog_max)
    }

    async fn finish_own(&self, consumer: &mut Consumer, silenced: bool) -> Result<(), Stop> {
        let mut after = EntryId::default();
        loop {
            let own = consumer.take(Whose::Own { silenced }, after, self.take_count(), COMPANY).await?;
            if !own.deliveries.is_empty() {
                self.counters.redelivered(own.deliveries.len());
                self.handle(consumer, own.deliveries).await?;
            }
            if own.next == EntryId::default() {
                return Ok(());
            }
            after = own.next;
        }
    }

    /// Takes over what others left behind, one bounded round at a time, and removes consumers that have left.
    async fn take_over(&self, consumer: &mut Consumer, claims: &mut Claims) -> Result<(), Stop> {
        let idle = Whose::Idle(self.limits.claim_idle);
        let taken = consumer.take(idle, claims.after, self.take_count(), COMPANY).await?;
        if claims.next(taken.next) {
            consumer.forget_silent(FORGET_IDLE_MIN.max(self.limits.claim_idle * 4)).await?;
        }
        if taken.deliveries.is_empty() {
            return Ok(());
        }
        info!(stage = %S::NAME, partition = self.partition, messages = taken.deliveries.len(), "took over messages of a silent consumer");
        self.counters.redelivered(taken.deliveries.len());
        self.counters.claimed(taken.deliveries.len());
        self.handle(consumer, taken.deliveries).await
    }

    /// Works on what was delivered. What nobody is known to have died of is one batch. Entries that two consumers fell
    /// silent with are suspected of having killed them: they are processed in smaller and smaller groups, alone in the
    /// end, so that the one that kills is found and the others go on. It is set aside when it has killed too often.
    async fn handle(&self, consumer: &mut Consumer, deliveries: Vec<Delivery>) -> Result<(), Stop> {
        let deleted = deliveries.iter().filter(|delivery| delivery.entry.fields.is_empty()).count();
        if deleted > 0 {
            self.counters.deleted(deleted);
            error!(stage = %S::NAME, partition = self.partition, messages = deleted, "entries were deleted from the stream before they were processed: see the dead letters");
        }
        let (suspects, company): (Vec<_>, Vec<_>) =
            deliveries.into_iter().partition(|delivery| self.limits.is_suspect(delivery.before));
        let mut rest = VecDeque::from(suspects);
        let mut worked = match company.is_empty() {
            true => Ok(()),
            false => self.work(consumer, company).await,
        };
        let mut fresh = Instant::now();
        while let Some(first) = rest.front() {
            // Whose turn has not come goes back untouched, for others to take at once.
            if self.shutdown.has_begun() {
                consumer.hand_back(rest.make_contiguous()).await?;
                return Err(Stop::Shutdown);
            }
            worked?;
            let before = first.before;
            let alike = rest.iter().take_while(|suspect| suspect.before == before).count();
            let group: Vec<_> = rest.drain(..alike.min(self.limits.group_len(before))).collect();
            worked = self.work_apart(consumer, group).await;
            if fresh.elapsed() > self.limits.claim_idle / 3 {
                consumer.keep_fresh(rest.make_contiguous()).await?;
                fresh = Instant::now();
            }
        }
        worked
    }

    /// Removes what is acknowledged, once it is sure that nothing else would go with it.
    async fn trim(
        &self,
        consumer: &mut Consumer,
        inspector: &mut KeptConnection,
        books: &mut Bookkeeping,
    ) -> Result<(), Stop> {
        if consumer.trim(false).await?.is_none() && books.are_due() && self.balance(inspector, books).await? {
            consumer.trim(true).await?;
        }
        Ok(())
    }

    /// Puts the books right; whether it is certain that they are, with nothing to be given out again.
    async fn balance(&self, inspector: &mut KeptConnection, books: &mut Bookkeeping) -> Result<bool, Stop> {
        let found = self.redis.recover(inspector.get().await?, self.partition, S::NAME, &self.name).await?;
        let Recovered { is_certain, redriven, gone } = found;
        books.note(redriven + gone > 0);
        if redriven > 0 {
            error!(stage = %S::NAME, partition = self.partition, messages = redriven, "messages were delivered to nobody (their consumer was deleted, or the group was moved): they are given out again");
        }
        if gone > 0 {
            error!(stage = %S::NAME, partition = self.partition, messages = gone, "messages were removed from the stream before they were acknowledged: those that had not been processed are lost, and have to be added again");
        }
        Ok(is_certain && redriven == 0)
    }

    /// How many entries to read next, so that a batch stays within its bytes.
    fn next_count(&self, deliveries: &[Delivery]) -> usize {
        let bytes: usize = deliveries.iter().map(|delivery| delivery.entry.bytes()).sum();
        let average = (bytes / deliveries.len()).max(1);
        (self.limits.batch_bytes_max / average).clamp(1, self.limits.batch_messages_max)
    }

    /// How many entries of unknown size to take.
    fn take_count(&self) -> usize {
        self.limits.batch_messages_max.min(self.limits.batch_bytes_max / crate::message::BODY_BYTES_MAX).max(1)
    }
}

/// When to look at the books again that did not seem to balance.
#[derive(Default)]
struct Bookkeeping {
    looked: Option<Instant>,
}

impl Bookkeeping {
    fn are_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() > BALANCE_EVERY)
    }

    /// What was looked at in vain need not be looked at again at once: that takes counting.
    fn note(&mut self, has_found: bool) {
        self.looked = (!has_found).then(Instant::now);
    }
}

/// When to look for what others left behind, and where in the list of pending entries.
struct Claims {
    every: Duration,
    due: Instant,
    after: EntryId,
}

impl Claims {
    /// The first round comes at once: a restart finds what the last run left behind.
    fn new(idle: Duration) -> Self {
        Self { every: (idle / 4).min(Duration::from_secs(1)), due: Instant::now(), after: EntryId::default() }
    }

    fn are_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// One scan takes a bounded number of entries; until it has come round, it goes on without waiting. Whether it has.
    fn next(&mut self, after: EntryId) -> bool {
        self.after = after;
        let round = after == EntryId::default();
        if round {
            self.due = Instant::now() + self.every;
        }
        round
    }
}
