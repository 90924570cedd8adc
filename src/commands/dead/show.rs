//! `orderstream dead show`.

use anyhow::Result;
use pipeline::{
    message::DeadReason,
    streams::{DeadLetter, LetterId},
};
use serde::Serialize;

use super::{Desk, Summary, shown, transfer::WireField};
use crate::{
    config::Globals,
    exit::{Exit, Refusal},
    output::{self, inert, thousands},
};

/// Bytes of a value that are shown; `dead export` has all of them.
const SHOWN_BYTES: usize = 16 * 1024;

/// Fields that people are shown.
const SHOWN_FIELDS: usize = 20;

/// Deeper JSON is not indented further.
const DEPTH_MAX: usize = 16;

/// A letter as programs see it.
#[derive(Serialize)]
pub(crate) struct Document<'a> {
    #[serde(flatten)]
    summary: Summary,
    /// The fields of the original.
    fields: Vec<WireField<'a>>,
    /// What to do about it, for people.
    advice: &'static str,
}

/// Describes a letter.
pub(crate) fn document(letter: &DeadLetter) -> Document<'_> {
    let fields = letter.original.iter().map(WireField::of).collect();
    Document { summary: Summary::of(letter), fields, advice: advice(letter.reason()) }
}

/// The letter with this id.
pub(crate) async fn find(desk: &mut Desk, id: LetterId) -> Result<Option<DeadLetter>> {
    match id.partition < desk.partitions {
        true => Ok(desk.redis.dead_letter(&mut desk.connection, id).await?),
        false => Ok(None),
    }
}

pub(super) async fn run(desk: &mut Desk, id: LetterId, globals: &Globals) -> Result<Exit> {
    let Some(letter) = find(desk, id).await? else {
        let message = format!("there is no dead letter {id}; list them with: orderstream dead list");
        return Err(Refusal::new(Exit::NotFound, message).into());
    };
    if globals.json {
        output::json(&document(&letter))?;
        return Ok(Exit::Done);
    }
    let summary = Summary::of(&letter);
    let next = advice(letter.reason());

    let line = |name: &str, value: Option<String>| match value {
        Some(value) => output::text_line(&format!("{name:11} {}", inert(value.as_bytes(), false))),
        None => Ok(()),
    };
    let bytes = thousands(i128::try_from(letter.bytes()).unwrap_or(i128::MAX));
    line("Letter", Some(format!("{id}  ({} fields, {bytes} bytes)", letter.fields().count())))?;
    line("Reason", Some(summary.reason.unwrap_or_else(|| "none: no worker wrote this entry".to_owned())))?;
    line("Error", summary.error)?;
    line("Order", summary.order_code)?;
    line("Given up by", summary.stage)?;
    line("Was", summary.source_stream.zip(summary.source_id).map(|(stream, id)| format!("{id} in {stream}")))?;
    line("Added", summary.first_at)?;
    line("Died", summary.died_at.map(super::time))?;
    line("Deliveries", summary.deliveries.map(|count| count.to_string()))?;
    line("Fields cut", summary.fields_cut)?;
    let first = letter.first_id();
    line("Imported", (first != id.entry).then(|| format!("its first id was {first}")))?;
    let came_back = match summary.replays {
        0 => None,
        1 => Some("once".to_owned()),
        times => Some(format!("{times} times")),
    };
    line(
        "Came back",
        came_back.map(|times| match summary.replayed_from {
            Some(from) => format!("{times}; the letter before was {from}"),
            None => times,
        }),
    )?;
    let replayed = summary.replayed.map(|mark| {
        let edited = if mark.edited { ", with another body" } else { "" };
        let times = if mark.times > 1 { format!(", {} times in all", mark.times) } else { String::new() };
        format!("as {} at {}{edited}{times}", mark.became, mark.at)
    });
    line("Replayed", Some(replayed.unwrap_or_else(|| "no".to_owned())))?;

    for (name, value) in letter.original.iter().filter(|(name, _)| name != b"body").take(SHOWN_FIELDS) {
        let name = shown(&inert(name, false));
        output::text_line(&format!("  {name} = {}", cut_bytes(value, |bytes| inert(bytes, false))))?;
    }
    let further = letter.original.len().saturating_sub(SHOWN_FIELDS + 1);
    if further > 0 {
        output::text_line(&format!("  … and {further} more fields: orderstream dead export {id}"))?;
    }
    if let Some(body) = letter.body() {
        output::text_line("")?;
        output::text_line(&cut_bytes(body, pretty))?;
    }
    output::text_line("")?;
    output::text_line(&format!("What to do  {next}"))?;
    Ok(Exit::Done)
}

fn cut_bytes(bytes: &[u8], show: impl Fn(&[u8]) -> String) -> String {
    match bytes.len().checked_sub(SHOWN_BYTES) {
        None | Some(0) => show(bytes),
        Some(more) => format!("{}\n… {more} more bytes", inert(&bytes[..SHOWN_BYTES], false)),
    }
}

/// JSON with line breaks, byte for byte the same otherwise: a number or a name twice may be what is wrong with it. What
/// is no JSON stays as it is.
pub(crate) fn pretty(body: &[u8]) -> String {
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
        return inert(body, false);
    }
    let mut text = Vec::with_capacity(body.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let line = |text: &mut Vec<u8>, depth: usize| {
        text.push(b'\n');
        text.resize(text.len() + 2 * depth.min(DEPTH_MAX), b' ');
    };
    for &byte in body {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            text.push(byte);
            continue;
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'{' | b'[' => {
                depth += 1;
                text.push(byte);
                line(&mut text, depth);
            }
            b'}' | b']' => {
                depth -= 1;
                let content = text.trim_ascii_end().len();
                match text[content - 1] {
                    b'{' | b'[' => text.truncate(content),
                    _ => line(&mut text, depth),
                }
                text.push(byte);
            }
            b',' => {
                text.push(byte);
                line(&mut text, depth);
            }
            b':' => text.extend(b": "),
            _ => {
                quoted = byte == b'"';
                text.push(byte);
            }
        }
    }
    inert(&text, true)
}

/// What to do about a letter.
fn advice(reason: Option<&str>) -> &'static str {
    match reason.and_then(|reason| reason.parse().ok()) {
        Some(
            DeadReason::NoBody
            | DeadReason::TooLarge
            | DeadReason::Undecodable
            | DeadReason::InvalidOrder
            | DeadReason::InvalidRefund
            | DeadReason::InvalidCallback,
        ) => {
            "the producer sent something wrong. Put it right there and add the order again, then discard this letter; \
             or replay it with a repaired body: --body FILE"
        }
        Some(DeadReason::Conflict) => {
            "another order has this code (or another refund this key, or another callback this id), and was taken. Find out \
             which is right; give this one a name of its own and replay it with --body FILE, or discard it"
        }
        Some(DeadReason::UnknownOrder) => {
            "Postgres was restored to an older state. When the ledgers of all providers have been compared (\"Postgres was \
             restored\" in docs/OPERATIONS.md), bring the order in again (import its file, or add it), then discard this \
             letter"
        }
        Some(DeadReason::Deleted) => {
            "somebody deleted the message before it was processed: its content is gone. Ask its producer to add the \
             order again, then discard this letter"
        }
        Some(DeadReason::RefusedByDatabase) => {
            "a rule of the schema refused this message alone. Report the error; replay the letter once the cause is put \
             right"
        }
        Some(DeadReason::AttemptsExhausted) => {
            "workers died with this message in hand. Look for the crash in their logs; replay the letter once the cause \
             is put right, or discard it: an order that is parked for it then fails as abandoned"
        }
        None => "no worker of this version wrote it. Export it if you want to keep it, then discard it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gets_line_breaks_and_is_not_changed_otherwise() {
        let body = br#"{"e":[ ],"a":1.0,"a":[{"b":"x,{\"\\"}],"n":99999999999999999999}"#;
        let expected = "{\n  \"e\": [],\n  \"a\": 1.0,\n  \"a\": [\n    {\n      \"b\": \"x,{\\\"\\\\\"\n    }\n  ],\n  \"n\": 99999999999999999999\n}";
        assert_eq!(pretty(body), expected);
        assert_eq!(pretty(b"{\x1b[2J"), "{\\u{1b}[2J");
    }

    #[test]
    fn deep_json_takes_no_more_room_than_it_must() {
        let body = [vec![b'['; 8_000], vec![b']'; 8_000]].concat();
        assert!(pretty(&body).len() < 16_000 * (2 + 2 * DEPTH_MAX));
    }
}
