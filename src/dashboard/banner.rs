//! What became of an action, above the page that it led to.

use minijinja::{Value, context};
use pipeline::{
    domain::{ActionOutcome, ActionVerb},
    store::{self, Action},
};

use super::fields::Fields;
use crate::{
    actions::Note,
    http::App,
    output::{cut, thousands},
};

/// Characters of why a letter was refused.
const REFUSAL_CHARS: usize = 300;

/// What is said of the action that the address names: `action` is its number in the log, `unrecorded` how many an action
/// changed that is not in there. Nothing otherwise.
pub(super) async fn banner(app: &App, fields: &Fields) -> Value {
    if let Ok(changed) = fields.get("unrecorded").parse::<u64>() {
        let text = format!(
            "Done: {} changed. It could not be recorded in the log of actions, as Postgres did not answer.",
            thousands(changed)
        );
        return context! { tone => "warn", text };
    }
    let Ok(id) = fields.get("action").parse::<i64>() else { return Value::from(()) };
    match store::find_action(&app.reports.pool(), id).await {
        Ok(Some(action)) => context! { tone => tone(action.outcome, &action), text => sentence(&action) },
        // The page itself will say that Postgres is away.
        Ok(None) | Err(_) => Value::from(()),
    }
}

/// The address of the banner that tells of an action, without its question mark.
pub(super) fn told_of(note: &Note, changed: u64) -> String {
    match note.action {
        Some(id) => format!("action={id}"),
        None => format!("unrecorded={changed}"),
    }
}

fn tone(outcome: ActionOutcome, action: &Action) -> &'static str {
    let refused = action.detail["outcomes"]["refused"].as_u64().unwrap_or_default();
    match outcome {
        ActionOutcome::Done if refused == 0 => "good",
        ActionOutcome::Failed => "bad",
        ActionOutcome::Done | ActionOutcome::Refused | ActionOutcome::Interrupted => "warn",
    }
}

/// An action in words.
pub(super) fn sentence(action: &Action) -> String {
    let many = |noun: &str| match action.affected {
        1 => format!("1 {noun}"),
        more => format!("{} {noun}s", thousands(more)),
    };
    let mut text = match action.verb {
        ActionVerb::Pause => format!("Paused {}", action.target),
        ActionVerb::Resume => format!("Resumed {}", action.target),
        ActionVerb::Claim => format!("Made {} of {} free for others", many("message"), action.target),
        ActionVerb::Replay => format!("Replayed {} ({})", many("letter"), action.target),
        ActionVerb::EditAndReplay => format!("Replayed {} with another body", action.target),
        ActionVerb::Discard => format!("Discarded {} ({})", many("letter"), action.target),
        ActionVerb::Refund => format!("Asked for a refund of {}", action.target),
        ActionVerb::SetProvider => format!("Had {} take new payments", action.target),
        ActionVerb::LocateProvider => format!("Recorded {} for earlier payments", action.target),
        ActionVerb::MoveProvider => format!("Moved the provider {}", action.target),
        ActionVerb::AcceptKey => format!("Recorded another key for the provider {}", action.target),
    };
    let others: Vec<String> = [("refused", "refused"), ("already", "replayed before"), ("gone", "gone meanwhile")]
        .iter()
        .filter_map(|(outcome, words)| {
            let count = action.detail["outcomes"][outcome].as_u64().filter(|count| *count > 0)?;
            Some(format!("{} {words}", thousands(count)))
        })
        .collect();
    if !others.is_empty() {
        text.push_str(&format!("; {}", others.join(", ")));
    }
    if let Some(refusal) = action.detail["refusal"].as_str() {
        text.push_str(&format!(" ({})", cut(refusal, REFUSAL_CHARS)));
    }
    match action.outcome {
        ActionOutcome::Done => text.push('.'),
        ActionOutcome::Refused => text = format!("Refused, nothing was changed: {text}."),
        ActionOutcome::Failed => text = format!("It failed: {text}."),
        ActionOutcome::Interrupted => text.push_str(", then stopped: there is more to do."),
    }
    if !action.why.is_empty() {
        text.push_str(&format!(" Why: {}.", action.why.trim_end_matches('.')));
    }
    text.push_str(&format!(" By {}, entry {} of the log.", action.actor, action.id));
    text
}

#[cfg(test)]
mod tests {
    use pipeline::domain::ActionVia;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_action_is_said_in_a_sentence() {
        let action = Action {
            id: 7,
            at: chrono::DateTime::UNIX_EPOCH,
            actor: "shop".into(),
            via: ActionVia::Dashboard,
            verb: ActionVerb::Replay,
            target: "letters with group 3f".into(),
            why: "bad deploy.".into(),
            affected: 412,
            outcome: ActionOutcome::Done,
            detail: json!({ "outcomes": { "replayed": 412, "refused": 3 } }),
        };
        assert_eq!(
            sentence(&action),
            "Replayed 412 letters (letters with group 3f); 3 refused. Why: bad deploy. By shop, entry 7 of the log."
        );
        assert_eq!(tone(action.outcome, &action), "warn");
    }
}
