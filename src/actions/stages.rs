//! Pausing and resuming stages; making free what silent consumers hold.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use pipeline::{
    domain::{ActionOutcome, ActionVerb},
    message::EntryId,
    shutdown::Shutdown,
    streams::Released,
    topology::StageName,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Deed, Effect, Note, Recorder};
use crate::commands::pause::Pauses;

/// Entries that a dry run counts at once.
const COUNT_PAGE: usize = 1_000;

/// Consumers whose entries are counted apart in the log.
const CONSUMERS_NOTED: usize = 50;

/// Pauses a stage, for a while or until it is resumed.
///
/// # Errors
/// When Redis cannot be reached.
pub(crate) async fn pause(
    recorder: &Recorder,
    pauses: &mut Pauses,
    stage: StageName,
    length: Option<Duration>,
    why: &str,
) -> Result<Note> {
    let detail = match length {
        Some(length) => json!({ "seconds": length.as_secs() }),
        None => json!({}),
    };
    let work = async { Ok(pauses.pause(stage, length, why).await?) };
    let effect = |(): &()| Effect { affected: 1, outcome: ActionOutcome::Done, detail };
    let deed = Deed { verb: ActionVerb::Pause, target: stage.to_string(), why };
    Ok(recorder.act(deed, work, effect).await?.1)
}

/// Lets a stage go on; whether it was paused.
///
/// # Errors
/// When Redis cannot be reached.
pub(crate) async fn resume(
    recorder: &Recorder,
    pauses: &mut Pauses,
    stage: StageName,
    why: &str,
) -> Result<(bool, Note)> {
    let work = async { Ok(pauses.resume(stage).await?) };
    let effect = |was_paused: &bool| Effect {
        affected: u64::from(*was_paused),
        outcome: ActionOutcome::Done,
        detail: json!({ "was_paused": was_paused }),
    };
    recorder.act(Deed { verb: ActionVerb::Resume, target: stage.to_string(), why }, work, effect).await
}

/// Which entries are to be made free.
#[derive(Debug, Clone)]
pub(crate) struct ClaimWish {
    /// Of the consumers of this stage.
    pub(crate) stage: StageName,
    /// Of this one alone.
    pub(crate) consumer: Option<String>,
    /// Untouched for at least so long.
    pub(crate) idle: Duration,
    /// Only count them.
    pub(crate) dry_run: bool,
}

/// What was made free.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Claimed {
    /// Nothing was changed: the numbers are what would have been.
    pub(crate) dry_run: bool,
    /// The request took too long: ask again for the rest.
    pub(crate) interrupted: bool,
    /// Messages that others take at once.
    pub(crate) claimed: u64,
    /// Messages that were deleted from the stream: a worker finds them after its own time.
    pub(crate) left: u64,
    /// The same, by the consumer that holds them.
    pub(crate) consumers: BTreeMap<String, Released>,
}

impl Claimed {
    fn add(&mut self, consumer: String, released: Released) {
        self.claimed += released.free;
        self.left += released.left;
        let sum = self.consumers.entry(consumer).or_default();
        sum.free += released.free;
        sum.left += released.left;
    }

    fn effect(&self) -> Effect {
        let outcome = if self.interrupted { ActionOutcome::Interrupted } else { ActionOutcome::Done };
        let consumers: BTreeMap<&str, u64> =
            self.consumers.iter().take(CONSUMERS_NOTED).map(|(name, released)| (&**name, released.free)).collect();
        let detail = json!({ "consumers": consumers, "left": self.left });
        Effect { affected: self.claimed, outcome, detail }
    }
}

/// Makes messages free that a consumer holds and has not touched for a while, up to the signal. A dry run is not noted.
///
/// # Errors
/// When Redis cannot be reached.
pub(crate) async fn claim(
    recorder: &Recorder,
    pauses: &mut Pauses,
    wish: &ClaimWish,
    why: &str,
    stop: &Shutdown,
) -> Result<(Claimed, Option<Note>)> {
    if wish.dry_run {
        return Ok((count(pauses, wish, stop).await?, None));
    }
    let target = match &wish.consumer {
        Some(consumer) => format!("{}, consumer {consumer}", wish.stage),
        None => wish.stage.to_string(),
    };
    let deed = Deed { verb: ActionVerb::Claim, target, why };
    let (claimed, note) = recorder.act(deed, release(pauses, wish, stop), with_idle(wish)).await?;
    Ok((claimed, Some(note)))
}

fn with_idle(wish: &ClaimWish) -> impl FnOnce(&Claimed) -> Effect {
    let idle = wish.idle.as_secs();
    move |claimed| {
        let mut effect = claimed.effect();
        effect.detail["idle_seconds"] = Value::from(idle);
        effect
    }
}

async fn release(pauses: &mut Pauses, wish: &ClaimWish, stop: &Shutdown) -> Result<Claimed> {
    let mut claimed = Claimed::default();
    for partition in 0..pauses.partitions {
        let mut release = pauses.redis.release(partition, wish.stage, wish.consumer.as_deref(), wish.idle);
        while let Some(page) = release.next_page(&mut pauses.connection).await? {
            for (consumer, released) in page {
                claimed.add(consumer, released);
            }
            if stop.has_begun() {
                claimed.interrupted = true;
                return Ok(claimed);
            }
        }
    }
    Ok(claimed)
}

async fn count(pauses: &mut Pauses, wish: &ClaimWish, stop: &Shutdown) -> Result<Claimed> {
    let mut claimed = Claimed { dry_run: true, ..Claimed::default() };
    for partition in 0..pauses.partitions {
        let mut after = EntryId::default();
        loop {
            let page = (wish.idle, after, COUNT_PAGE);
            let Pauses { redis, connection, .. } = &mut *pauses;
            let page = redis.idle_entries(connection, partition, wish.stage, wish.consumer.as_deref(), page).await?;
            let Some(last) = page.last().map(|entry| entry.id) else { break };
            for entry in page {
                claimed.add(entry.consumer, Released { free: 1, left: 0 });
            }
            if stop.has_begun() {
                claimed.interrupted = true;
                return Ok(claimed);
            }
            after = last;
        }
    }
    Ok(claimed)
}
