//! What becomes of a batch: decoded, processed, handed off. Three kinds of failure, told apart by type:
//!
//! - **permanent**: the message cannot be read, breaks a rule, or Postgres refuses its values: a dead letter at once;
//! - **transient**: a server is away or in the way: again, for as long as it takes, and never counted;
//! - **suspect**: consumers fall silent with the message in hand: in ever smaller groups, alone in the end, and set
//!   aside when that does not help.

use std::{ops::Range, panic::resume_unwind, sync::Arc, time::Instant};

use futures::{FutureExt, future::BoxFuture};
use tracing::{Instrument, Span, debug, warn};

use super::{
    batch::Batch,
    worker::{Stop, Worker},
};
use crate::{
    failpoint,
    message::{DeadReason, Entry},
    metrics::Outcome,
    retry::{Outage, POSTGRES},
    stage::{Ending, Stage},
    store::{self, ErrorKind},
    streams::{self, Consumer, Delivery},
    trace,
};

impl<S: Stage + 'static> Worker<S> {
    /// Takes one batch from entries to hand-off.
    pub(super) async fn work(&self, consumer: &mut Consumer, deliveries: Vec<Delivery>) -> Result<(), Stop> {
        failpoint::hit::<streams::Error>(&format!("{}.read", S::NAME))?;
        let span = self.span(&deliveries);
        let work = async {
            let mut batch = Batch::<S::Message>::decode(deliveries);
            let started = self.counters.batch_started();
            self.process(consumer, &mut batch).await?;
            self.hand_off(consumer, batch, started).await
        };
        work.instrument(span).await
    }

    /// Processes suspects apart from the others; sets one aside that has killed too many.
    pub(super) async fn work_apart(&self, consumer: &mut Consumer, suspects: Vec<Delivery>) -> Result<(), Stop> {
        let Some(Delivery { entry, before }) = suspects.first() else { return Ok(()) };
        let (id, before) = (entry.id, *before);
        if before < self.limits.attempts_max {
            let messages = suspects.len();
            warn!(stage = %S::NAME, partition = self.partition, %id, messages, attempt = before + 1, "consumers fell silent with these messages: processing them apart");
            consumer.count(&suspects).await?;
            self.counters.suspected(messages);
            return self.work(consumer, suspects).await;
        }
        let span = self.span(&suspects);
        let mut batch = Batch::<S::Message>::decode(suspects);
        let started = self.counters.batch_started();
        let error = format!("{before} consumers fell silent with this message in hand, the last ones with it alone");
        let messages = batch.messages().len();
        batch.end(0..messages, vec![Ending::Dead(DeadReason::AttemptsExhausted, error); messages]);
        self.hand_off(consumer, batch, started).instrument(span).await
    }

    /// The span of a batch; disabled, and free, while nobody exports traces.
    fn span(&self, deliveries: &[Delivery]) -> Span {
        trace::process(S::NAME, self.partition, &self.name, deliveries.iter().map(|delivery| &delivery.entry))
    }

    /// Ends a batch. An order whose message is set aside is marked in Postgres first: the reconciler leaves it alone.
    async fn hand_off(&self, consumer: &mut Consumer, batch: Batch<S::Message>, started: Instant) -> Result<(), Stop> {
        for (index, reason) in batch.set_aside() {
            let (stage, messages) = (Arc::clone(&self.stage), Arc::clone(batch.messages()));
            let parked = move || {
                let (stage, messages) = (Arc::clone(&stage), Arc::clone(&messages));
                async move { stage.park(&messages[index], reason).await }.boxed()
            };
            if let Err(refusal) = self.until_answered(consumer, &batch, parked).await? {
                warn!(stage = %S::NAME, partition = self.partition, error = refusal, "cannot mark an order as parked");
            }
        }
        let mut outcomes = batch.outcomes();
        if let Some(reason) = batch.dead_reason() {
            trace::failed(&Span::current(), reason);
        }
        let count = |which: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| which(outcome)).count();
        let forwarded = count(|outcome| matches!(outcome, Outcome::Forwarded));
        let dead = count(|outcome| matches!(outcome, Outcome::Dead(_)));
        let spans = trace::HandOff::begin(S::NAME, self.partition, outcomes.len(), forwarded, dead);
        let stream = self.redis.keys().stream(self.partition, S::NAME);
        let endings = batch.into_hand_off(S::NAME, &stream, spans.context().as_ref());
        let handed = consumer.hand_off(endings).instrument(spans.settle.clone()).await.inspect_err(|_| {
            spans.failed("redis");
            trace::failed(&Span::current(), "redis");
        })?;
        for index in handed.already {
            if let Some(outcome) = outcomes.get_mut(index) {
                *outcome = Outcome::Already;
            }
        }
        self.counters.batch_ended(started, &outcomes);
        let dead = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Dead(_))).count();
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

    async fn process_part(
        &self,
        consumer: &mut Consumer,
        batch: &Batch<S::Message>,
        part: Range<usize>,
    ) -> Result<Result<Vec<Ending>, String>, Stop> {
        let (stage, messages) = (Arc::clone(&self.stage), Arc::clone(batch.messages()));
        failpoint::hit_batch("stage.process", |text| batch.deliveries().iter().any(|it| has(&it.entry, text)));
        let process = move || {
            let (stage, messages, part) = (Arc::clone(&stage), Arc::clone(&messages), part.clone());
            async move { stage.process(&messages[part]).await }.boxed()
        };
        self.until_answered(consumer, batch, process).await
    }

    /// Tries until Postgres answers: its absence is no failure of the messages. `Err` is a refusal of values. When the
    /// signal comes first, the batch goes back untouched, for others to take at once.
    async fn until_answered<T: Send + 'static>(
        &self,
        consumer: &mut Consumer,
        batch: &Batch<S::Message>,
        attempt: impl Fn() -> BoxFuture<'static, Result<T, store::Error>> + Send + Sync + 'static,
    ) -> Result<Result<T, String>, Stop> {
        let mut outage = Outage::default();
        loop {
            let error = match self.in_time(consumer, batch.deliveries(), attempt()).await {
                Ok(answer) => {
                    outage.has_written();
                    return Ok(Ok(answer));
                }
                Err(error) => error,
            };
            self.counters.retried();
            match error.kind() {
                ErrorKind::Values => return Ok(Err(error.to_string())),
                ErrorKind::Contention => {
                    debug!(stage = %S::NAME, partition = self.partition, %error, "another transaction was in the way");
                }
                ErrorKind::Unavailable => outage.goes_on(&POSTGRES, &error),
            }
            if !self.shutdown.sleep(outage.delay().min(self.limits.claim_idle / 3)).await {
                consumer.hand_back(batch.deliveries()).await?;
                return Err(Stop::Shutdown);
            }
            consumer.keep_fresh(batch.deliveries()).await?;
        }
    }

    /// Waits for `work` while this consumer's entries stay fresh, so that nobody takes them for abandoned. The work is
    /// a task of its own and is never cancelled: a transaction that is dropped half-way poisons its connection. What
    /// takes too long is left behind, with its connection.
    async fn in_time<T: Send + 'static>(
        &self,
        consumer: &mut Consumer,
        deliveries: &[Delivery],
        work: BoxFuture<'static, Result<T, store::Error>>,
    ) -> Result<T, store::Error> {
        let started = Instant::now();
        let mut work = tokio::spawn(work);
        loop {
            tokio::select! {
                done = &mut work => return match done {
                    Ok(answer) => answer,
                    Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                    // The runtime is shutting down, and this task with it.
                    Err(_) => std::future::pending().await,
                },
                () = tokio::time::sleep(self.limits.claim_idle / 3) => {
                    if started.elapsed() > self.limits.processing_max {
                        self.stage.renew_connections();
                        return Err(store::Error::NoAnswer { seconds: started.elapsed().as_secs() });
                    }
                    // Another worker would at worst do the same work again; the next exchange reports the loss.
                    if let Err(error) = consumer.keep_fresh(deliveries).await {
                        debug!(stage = %S::NAME, partition = self.partition, %error, "cannot keep entries fresh");
                    }
                }
            }
        }
    }
}

/// Whether an entry's body contains a text.
fn has(entry: &Entry, text: &[u8]) -> bool {
    entry.field(crate::message::BODY).is_some_and(|body| body.windows(text.len().max(1)).any(|window| window == text))
}
