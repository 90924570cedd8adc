//! What a reader is told of an event.

use chrono::SecondsFormat;
use pipeline::{domain::EventKind, store::DueNotification};
use serde::Serialize;

/// Most characters of a text that somebody else wrote.
const TEXT_CHARS_MAX: usize = 300;

/// An event as templates and webhooks see it. A part of the contract: docs/NOTIFICATIONS.md.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Notice {
    /// The same for every delivery of this event: receivers drop what they have seen.
    pub(super) id: String,
    pub(super) kind: EventKind,
    /// The event's number.
    seq: i64,
    /// When it happened.
    at: String,
    pub(super) order_code: String,
    customer_id: i64,
    /// Empty if the customer is not in the catalogue.
    pub(super) customer_name: String,
    /// The order's total, or what went back.
    pub(super) amount: String,
    /// In what both are; empty where an earlier version did not record it.
    currency: String,
    /// The order's total.
    total: String,
    /// Why the order failed.
    reason: Option<String>,
    refund_key: Option<String>,
    refund_reason: Option<String>,
}

impl Notice {
    /// What is told of this event in this installation.
    pub(super) fn new(installation: &str, due: &DueNotification) -> Self {
        Self {
            // The instant, because a Postgres that was restored to an older state gives numbers a second time.
            id: format!("orderstream.{installation}.{}.{}", due.seq, due.at.timestamp_micros()),
            kind: due.kind,
            seq: due.seq,
            at: due.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            order_code: due.order_code.clone(),
            customer_id: due.customer_id,
            customer_name: due.customer_name.clone().unwrap_or_default(),
            amount: due.amount.to_string(),
            currency: due.currency.clone().unwrap_or_default(),
            total: due.total.to_string(),
            reason: due.failure_reason.clone().filter(|_| due.kind == EventKind::Failed),
            refund_key: due.refund_key.clone(),
            refund_reason: due.refund_reason.clone(),
        }
    }

    /// The same for people's eyes: what somebody else wrote as one line each.
    pub(super) fn in_lines(&self) -> Self {
        Self {
            order_code: one_line(&self.order_code),
            customer_name: one_line(&self.customer_name),
            refund_key: self.refund_key.as_deref().map(one_line),
            refund_reason: self.refund_reason.as_deref().map(one_line).filter(|reason| !reason.is_empty()),
            ..self.clone()
        }
    }

    /// One of each kind, with every value there: what templates are tried with.
    pub(super) fn example(kind: EventKind) -> Self {
        let text = || "example".to_owned();
        Self {
            id: text(),
            kind,
            seq: 1,
            at: text(),
            order_code: text(),
            customer_id: 1,
            customer_name: text(),
            amount: "10.00".to_owned(),
            currency: "EUR".to_owned(),
            total: "10.00".to_owned(),
            reason: Some(text()),
            refund_key: Some(text()),
            refund_reason: Some(text()),
        }
    }
}

/// A text of anybody's as one line that does nothing: no line that looks like ours, no header of a mail, no mark that
/// turns the direction of what follows.
pub(crate) fn one_line(text: &str) -> String {
    let does_something = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let inert: String = text.chars().map(|character| if does_something(character) { ' ' } else { character }).collect();
    inert.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_anybodys_becomes_one_line() {
        let table = [
            ("Zoë  Ångström", "Zoë Ångström"),
            ("a\r\nBcc: everybody@example.com", "a Bcc: everybody@example.com"),
            ("a\u{202e}b\u{0}\u{85}c\u{2028}d", "a b c d"),
            (" \t ", ""),
            // Joiners belong to the spelling of some languages and of emoji.
            ("👩\u{200d}🚀", "👩\u{200d}🚀"),
        ];
        for (text, line) in table {
            assert_eq!(one_line(text), line);
        }
        assert_eq!(one_line(&"ä".repeat(1_000)).chars().count(), TEXT_CHARS_MAX);
    }
}
