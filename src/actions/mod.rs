//! Acting on the running pipeline: whoever does it, by whichever way, comes through here, so that it is known afterwards
//! who did what to how many, and why.
//!
//! An action is noted after its effect, with its result. The effect does not wait for the note: a stage can be paused
//! while Postgres is away, and whoever did it is told that nobody will know.

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
pub(crate) use letters::{discard, replay};
pub(crate) use stages::{ClaimWish, claim, pause, resume};

use crate::{
    exit::{Refusal, chain},
    output::{cut, inert},
};

/// How long a note may take. It must not hold up a pause while Postgres is what is being repaired.
const NOTE_MAX: Duration = Duration::from_secs(3);

/// Most characters of a reason.
pub(crate) const WHY_CHARS_MAX: usize = 500;

/// Most characters of what an action was about.
const TARGET_CHARS_MAX: usize = 500;

/// Most bytes of what else is noted: a good deal less than the table takes.
const DETAIL_BYTES_MAX: usize = 16 * 1024;

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
        let note = self.note(deed, effect).await;
        Ok((done?, note))
    }

    async fn note(&self, Deed { verb, target, why }: Deed<'_>, effect: Effect) -> Note {
        let Effect { affected, outcome, detail } = effect;
        let plain = |text: &str, most: usize| cut_to(&inert(text.as_bytes(), false), most);
        let detail = without_nul(detail);
        let action = NewAction {
            actor: plain(&self.actor.name, 200),
            via: self.actor.via,
            verb,
            target: plain(&target, TARGET_CHARS_MAX),
            why: plain(why, WHY_CHARS_MAX),
            affected: i64::try_from(affected).unwrap_or(i64::MAX),
            outcome,
            detail: if detail.to_string().len() > DETAIL_BYTES_MAX { json!({ "cut": true }) } else { detail },
        };
        tracing::info!(
            actor = action.actor, via = %action.via, %verb, target = action.target, why = action.why, affected, %outcome,
            "action"
        );
        let pool = self.store.pool();
        let noted = tokio::time::timeout(NOTE_MAX, store::insert_action(&pool, &action)).await;
        let reason = match noted {
            Ok(Ok(id)) => return Note { action: Some(id), not_recorded: None },
            Ok(Err(error)) => chain(&error.into()),
            Err(_) => format!("Postgres did not answer within {} s", NOTE_MAX.as_secs()),
        };
        tracing::warn!(
            actor = action.actor, via = %action.via, %verb, target = action.target, why = action.why, affected, %outcome,
            error = reason, "an action could not be recorded"
        );
        Note { action: None, not_recorded: Some(format!("done, but it could not be recorded: {reason}")) }
    }
}

impl Note {
    /// Tells people on stderr what is not in the log.
    pub(crate) fn warn(&self) {
        if let Some(reason) = &self.not_recorded {
            eprintln!("warning: {reason}");
        }
    }
}

/// The first `most` characters, with an ellipsis among them if there are more.
fn cut_to(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => cut(text, most - 1),
        None => text.to_owned(),
    }
}

/// The document without what `jsonb` does not take.
fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(values) => Value::Array(values.into_iter().map(without_nul).collect()),
        Value::Object(fields) => Value::Object(
            fields.into_iter().map(|(name, value)| (name.replace('\0', "\u{fffd}"), without_nul(value))).collect(),
        ),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_within_its_bound() {
        assert_eq!(cut_to("äöü", 3), "äöü");
        assert_eq!(cut_to("äöüß", 3), "äö…");
    }

    #[test]
    fn details_have_no_nul() {
        assert_eq!(without_nul(json!({ "a\0": ["\0"] })), json!({ "a\u{fffd}": ["\u{fffd}"] }));
    }
}
