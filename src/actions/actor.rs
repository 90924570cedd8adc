//! Who acts, and how that is noted.

use pipeline::{domain::ActionVia, store::NewAction};
use serde_json::{Value, json};

use super::{Deed, Effect, WHY_CHARS_MAX};
use crate::output::{cut, inert};

/// Most characters of what an action was about.
const TARGET_CHARS_MAX: usize = 500;

/// Most bytes of what else is noted: a good deal less than the table takes.
const DETAIL_BYTES_MAX: usize = 16 * 1024;

/// Who acts, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// For people.
    pub name: String,
    /// By which way.
    pub via: ActionVia,
}

impl Actor {
    /// Whoever runs this process: `user@host`.
    pub fn of_this_process(via: ActionVia) -> Self {
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self { name: format!("{user}@{}", host.to_string_lossy()), via }
    }

    /// Whoever came over HTTP: the name of the token, if one was needed.
    pub fn of_token(name: Option<&str>, via: ActionVia) -> Self {
        Self { name: name.unwrap_or("anybody on this machine").to_owned(), via }
    }

    /// What is noted of a deed, as the table takes it.
    pub(crate) fn action(&self, deed: &Deed<'_>, effect: Effect) -> NewAction {
        let Effect { affected, outcome, detail } = effect;
        let plain = |text: &str, most: usize| cut_to(&inert(text.as_bytes(), false), most);
        let detail = without_nul(detail);
        NewAction {
            actor: plain(&self.name, 200),
            via: self.via,
            verb: deed.verb,
            target: plain(&deed.target, TARGET_CHARS_MAX),
            why: plain(deed.why, WHY_CHARS_MAX),
            affected: i64::try_from(affected).unwrap_or(i64::MAX),
            outcome,
            detail: if detail.to_string().len() > DETAIL_BYTES_MAX { json!({ "cut": true }) } else { detail },
        }
    }
}

/// Says in the log of this process what was done.
pub(super) fn logged(action: &NewAction) {
    tracing::info!(
        actor = action.actor, via = %action.via, verb = %action.verb, target = action.target, why = action.why,
        affected = action.affected, outcome = %action.outcome, "action"
    );
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
