//! Acting on the running pipeline: whoever does it, by whichever way, comes through here, so that it is known afterwards
//! who did what to how many, and why.
//!
//! An action is noted after its effect, with its result. The effect does not wait for the note: a stage can be paused
//! while Postgres is away, and whoever did it is told that nobody will know. Who takes the money changes in the transaction
//! that notes it.

mod actor;
mod letters;
mod stages;

use std::time::Duration;

use anyhow::Result;
use pipeline::{
    domain::{ActionOutcome, ActionVerb},
    store::{self, NewAction, Store},
};
use serde::Serialize;
use serde_json::{Value, json};

pub use actor::Actor;
use actor::logged;
pub(crate) use letters::{discard, replay};
pub(crate) use stages::{ClaimWish, claim, pause, resume};

use crate::{
    exit::{Refusal, chain},
    output::cut,
};

/// How long a note may take. It must not hold up a pause while Postgres is what is being repaired.
const NOTE_MAX: Duration = Duration::from_secs(3);

/// Most characters of a reason.
pub(crate) const WHY_CHARS_MAX: usize = 500;

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Deed<'a> {
    /// What.
    pub(crate) verb: ActionVerb,
    /// To what, for people.
    pub(crate) target: String,
    /// Why, as far as it was said.
    pub(crate) why: &'a str,
}

/// What an action changed.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    /// How many stages, messages or letters.
    pub(crate) affected: u64,
    /// How it ended.
    pub(crate) outcome: ActionOutcome,
    /// More about it: an object.
    pub(crate) detail: Value,
}

/// Where an action is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Its number in the log of actions; null where it could not be noted.
    pub action: Option<i64>,
    /// Why it could not be noted, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_recorded: Option<String>,
}

/// Notes what is done, under one name.
#[derive(Debug, Clone)]
pub struct Recorder {
    store: Store,
    actor: Actor,
}

impl Recorder {
    /// For the actions of this actor.
    pub fn new(store: &Store, actor: Actor) -> Self {
        Self { store: store.clone(), actor }
    }

    /// Does something, and notes what came of it: the one way to act. What was refused or went wrong is noted as well.
    ///
    /// # Errors
    /// As the work. That it could not be noted is no error.
    pub(crate) async fn act<T>(
        &self,
        deed: Deed<'_>,
        work: impl Future<Output = Result<T>>,
        effect: impl FnOnce(&T) -> Effect,
    ) -> Result<(T, Note)> {
        let done = work.await;
        let effect = match &done {
            Ok(done) => effect(done),
            Err(error) => {
                let refused = error.downcast_ref::<Refusal>().is_some();
                let outcome = if refused { ActionOutcome::Refused } else { ActionOutcome::Failed };
                Effect { affected: 0, outcome, detail: json!({ "error": cut(&chain(error), 1_000) }) }
            }
        };
        let note = self.note(&deed, effect).await;
        Ok((done?, note))
    }

    /// The same, of work that notes itself where it changes something, in one transaction: it brings the number of the action.
    ///
    /// # Errors
    /// As the work.
    pub(crate) async fn act_in_one<T>(
        &self,
        deed: Deed<'_>,
        work: impl Future<Output = Result<(T, Option<i64>)>>,
        effect: impl FnOnce(&T) -> Effect,
    ) -> Result<(T, Note)> {
        match work.await {
            Ok((done, Some(id))) => {
                logged(&self.action(&deed, effect(&done)));
                Ok((done, Note { action: Some(id), not_recorded: None }))
            }
            done => self.act(deed, async { done.map(|(done, _)| done) }, effect).await,
        }
    }

    /// What is noted of a deed, for whoever notes it in a transaction of its own.
    pub(crate) fn action(&self, deed: &Deed<'_>, effect: Effect) -> NewAction {
        self.actor.action(deed, effect)
    }

    async fn note(&self, deed: &Deed<'_>, effect: Effect) -> Note {
        let action = self.action(deed, effect);
        logged(&action);
        let pool = self.store.pool();
        let noted = tokio::time::timeout(NOTE_MAX, store::insert_action(&pool, &action)).await;
        let reason = match noted {
            Ok(Ok(id)) => return Note { action: Some(id), not_recorded: None },
            Ok(Err(error)) => chain(&error.into()),
            Err(_) => format!("Postgres did not answer within {} s", NOTE_MAX.as_secs()),
        };
        tracing::warn!(
            actor = action.actor, via = %action.via, verb = %action.verb, target = action.target, why = action.why,
            affected = action.affected, outcome = %action.outcome, error = reason, "an action could not be recorded"
        );
        Note { action: None, not_recorded: Some(format!("done, but it could not be recorded: {reason}")) }
    }
}

impl Note {
    /// Tells people on stderr what is not in the log.
    pub(crate) fn warn(&self) {
        if let Some(reason) = &self.not_recorded {
            crate::output::note!("warning: {reason}");
        }
    }
}
