//! What stands in messages, as JSON Schema. What a schema cannot say is listed in docs/INTEGRATION.md.

use std::fmt::Display;

use pipeline::{
    domain::{
        CallbackKind, Cents, EventKind, FailureReason, LINES_PER_ORDER_MAX, ORDER_CODE_BYTES_MAX, REFUND_KEY_BYTES_MAX,
        REFUND_REASON_BYTES_MAX, RefundKey, Refusal, TOTAL_CENTS_MAX,
    },
    message::CALLBACK_TEXT_BYTES_MAX,
};
use serde_json::{Value, json};

/// Control characters, as `char::is_control` knows them.
const CONTROL: &str = r"\u0000-\u001f\u007f-\u009f";

/// Blanks, as `char::is_whitespace` knows them; those among the control characters aside.
const BLANK: &str = r"\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

/// Characters that nobody sees, as `pipeline::domain::is_unseen` knows them, control characters and blanks included; those beyond
/// 16 bits aside, which patterns have no portable form for.
const UNSEEN: &str = r"\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff";

/// The words of an enum.
pub(super) fn words<T: Display>(all: &[T]) -> Value {
    json!({ "type": "string", "enum": all.iter().map(ToString::to_string).collect::<Vec<_>>() })
}

/// An amount that we write: with two places.
fn amount_out() -> Value {
    json!({
        "type": "string",
        "pattern": r"^(0|[1-9][0-9]*)\.[0-9]{2}$",
        "description": "A decimal with two places.",
    })
}

/// What fits into a plain decimal with at most two places up to `max`, which must be a power of ten, or the largest
/// amount below one.
fn decimal_up_to(max: Cents) -> String {
    let whole = (max.get() / 100).to_string();
    match whole.bytes().all(|digit| digit == b'9') {
        true => format!(r"^0*[0-9]{{1,{}}}(\.[0-9]{{1,2}})?$", whole.len()),
        false => format!(r"^0*([0-9]{{1,{}}}(\.[0-9]{{1,2}})?|{whole}(\.0{{1,2}})?)$", whole.len() - 1),
    }
}

/// A positive number of 64 bits.
fn id(description: &str) -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": i64::MAX, "description": description })
}

/// A text of at most so many bytes. JSON Schema counts characters, of which no fewer bytes can be.
fn text(bytes_max: usize, not: &str, description: &str) -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": bytes_max,
        "not": { "pattern": not },
        "description": format!("{description} 1 to {bytes_max} bytes of UTF-8."),
    })
}

/// What names from before may not have: control characters anywhere, blanks at the ends.
fn no_known_name() -> String {
    format!("[{CONTROL}]|^[{BLANK}]|[{BLANK}]$")
}

/// What new names may not have: characters that nobody sees, blanks at the ends.
fn no_name() -> String {
    format!(r"[{UNSEEN}]|^\u0020|\u0020$")
}

fn order_code() -> Value {
    text(
        ORDER_CODE_BYTES_MAX,
        &no_name(),
        "The order's name outside: without characters that nobody sees, without blanks at its ends, and in the Unicode normal \
         form NFC.",
    )
}

/// The code of an order that may be from before codes were as strict as they are.
fn known_order_code() -> Value {
    text(
        ORDER_CODE_BYTES_MAX,
        &no_known_name(),
        "The name of an order that is there: without control characters, and without blanks at its ends.",
    )
}

fn total(of: &str) -> Value {
    json!({
        "type": ["string", "null"],
        "pattern": decimal_up_to(Cents::new(TOTAL_CENTS_MAX)),
        "description": format!("May be left out; where it stands, it must be {of}."),
    })
}

fn no_currency() -> Value {
    json!({ "type": "null", "description": "An order has none: all are charged in that of the installation." })
}

/// Names that look like these and are others, as far as a pattern can tell: what must be true where it stands is not ignored because it
/// is written otherwise.
fn lookalikes(known: &[&str]) -> Value {
    let any_case = |name: &str| {
        let letter = |letter: char| match letter {
            '_' => "[ -/:-@\\[-`{-~]".to_owned(),
            letter => format!("[{}{letter}]", letter.to_ascii_uppercase()),
        };
        name.chars().map(letter).collect::<String>()
    };
    let names: Vec<String> = known.iter().map(|name| any_case(name)).collect();
    let mark = any_case("_");
    let pattern = format!(
        "^(?!(?:{})$)(?:{mark}*(?:{}|{}){mark}*$|.*{})",
        known.join("|"),
        names.join("|"),
        any_case("ccy"),
        any_case("currency")
    );
    json!({ "not": { "pattern": pattern } })
}

/// An order on its way in.
pub(super) fn order() -> Value {
    json!({
        "type": "object",
        "required": ["order_code", "customer_id", "lines"],
        "properties": {
            "order_code": order_code(),
            "customer_id": id("A customer of the catalogue."),
            "lines": {
                "type": "array",
                "minItems": 1,
                "maxItems": LINES_PER_ORDER_MAX,
                "description": "The same product may stand in several lines: they are summed for the stock.",
                "items": {
                    "type": "object",
                    "required": ["product_id", "quantity", "unit_price"],
                    "properties": {
                        "product_id": id("A product of the catalogue."),
                        "quantity": { "type": "integer", "minimum": 1, "maximum": i32::MAX },
                        "total": total("quantity × unit_price"),
                        "currency": no_currency(),
                        "unit_price": {
                            "type": "string",
                            "pattern": decimal_up_to(Cents::PRICE_MAX),
                            "description": "A decimal in a string: a JSON number would pass through a float somewhere.",
                        },
                    },
                    "propertyNames": lookalikes(&["product_id", "quantity", "unit_price", "total", "currency"]),
                },
            },
            "total": total("the sum of quantity × unit_price"),
            "currency": no_currency(),
        },
        "propertyNames": lookalikes(&["order_code", "customer_id", "lines", "total", "currency"]),
        "description": format!(
            "Fields that are not named here are ignored, unless their name only looks like one of these. The total must not exceed {}.",
            Cents::new(TOTAL_CENTS_MAX)
        ),
    })
}

/// A request for a refund.
pub(super) fn refund() -> Value {
    json!({
        "type": "object",
        "required": ["refund_key", "order_code"],
        "properties": {
            "refund_key": text(
                REFUND_KEY_BYTES_MAX,
                &format!("{}|^{}", no_name(), RefundKey::AUTOMATIC),
                "The name of the refund: the same key is the same refund, however often it is asked for.",
            ),
            "order_code": known_order_code(),
            "amount": {
                "type": ["string", "null"],
                "pattern": decimal_up_to(Cents::new(TOTAL_CENTS_MAX)),
                "description": "A decimal in a string, above 0, or 0 with restock; absent or null for all that is left.",
            },
            "reason": {
                "type": ["string", "null"],
                "maxLength": REFUND_REASON_BYTES_MAX,
                "not": { "type": "string", "pattern": format!("[{CONTROL}]") },
                "description": format!("Why, for people; at most {REFUND_REASON_BYTES_MAX} bytes of UTF-8."),
            },
            "restock": {
                "type": "boolean",
                "default": false,
                "description": "Whether the order's pieces come back to the stock; they do once, however many refunds ask, \
                                also without money where none is left.",
            },
        },
        // Without money there must be something else to bring back.
        "if": { "properties": { "restock": { "const": true } }, "required": ["restock"] },
        "else": { "properties": { "amount": { "not": { "type": "string", "pattern": r"^[0.]+$" } } } },
        "additionalProperties": false,
        "description": "Other fields are refused: a misspelt amount would give everything back.",
    })
}

/// A text of a callback that is no name of ours.
pub(super) fn callback_text(description: &str) -> Value {
    text(CALLBACK_TEXT_BYTES_MAX, &format!("[{CONTROL}]"), description)
}

/// What a payment provider tells.
pub(super) fn callback() -> Value {
    json!({
        "type": "object",
        "required": ["type", "data"],
        "properties": {
            "type": words(CallbackKind::ALL),
            "data": {
                "type": "object",
                "required": ["id", "reference", "amount", "currency"],
                "properties": {
                    "id": callback_text("The provider's id of the charge or refund."),
                    "reference": callback_text("Ours: the order's code, or the refund's key."),
                    // Wider than 64 bits of minor units by some: there is no digit by which a pattern could tell.
                    "amount": {
                        "type": "string",
                        "pattern": r"^0*[0-9]{1,17}(\.[0-9]{1,2})?$",
                        "description": "A decimal in a string.",
                    },
                    "currency": { "type": "string", "pattern": "^[A-Z]{3}$", "maxLength": 3 },
                },
            },
        },
        "description": "Fields that are not named here are ignored.",
    })
}

/// An event of a kind.
pub(super) fn event(kind: EventKind) -> Value {
    let mut properties = json!({
        "seq": id("The event's number: gap-free, in the order of commits. Events come at least once; their number tells."),
        "kind": { "const": kind.as_str() },
        "order_code": { "type": "string" },
        "customer_id": id("Whose order."),
        "amount": amount_out(),
        "day": {
            "type": "string",
            "format": "date",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
            "description": "The UTC day on which the order was created, under which it stands in the KPIs.",
        },
        "at": {
            "type": "string",
            "format": "date-time",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
            "description": "When it happened, in UTC.",
        },
    });
    let refund_key = json!({ "type": "string", "description": "Which refund." });
    let (description, more, required): (_, Value, &[&str]) = match kind {
        EventKind::Completed => ("An order completed; the amount is its total.", json!({}), &["customer_id"]),
        EventKind::Failed => (
            "An order failed; the amount is its total. Later versions may know more reasons.",
            json!({ "reason": words(FailureReason::ALL) }),
            &["customer_id", "reason"],
        ),
        EventKind::Refunded => (
            "Money went back, or the order's pieces did without any; the amount is the refund's.",
            json!({
                "refund_key": refund_key,
                "restocked": { "const": true, "description": "There if the order's pieces came back to the stock." },
            }),
            &["customer_id", "refund_key"],
        ),
        EventKind::RefundRefused => (
            "A refund came to nothing; the amount is what was asked for, 0.00 for all that was left. Without customer_id \
             where no such order is known. Later versions may know more reasons.",
            json!({ "refund_key": refund_key, "reason": words(Refusal::ALL) }),
            &["refund_key", "reason"],
        ),
    };
    let names = ["seq", "kind", "order_code", "amount", "day", "at"].iter().chain(required).collect::<Vec<_>>();
    if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
        properties.extend(more);
    }
    json!({ "type": "object", "required": names, "properties": properties, "description": description })
}

#[cfg(test)]
mod tests {
    use pipeline::domain::is_unseen;

    use super::*;

    #[test]
    fn the_pattern_of_a_bound_has_as_many_digits_as_the_bound() {
        assert_eq!(decimal_up_to(Cents::PRICE_MAX), r"^0*[0-9]{1,8}(\.[0-9]{1,2})?$");
        assert_eq!(
            decimal_up_to(Cents::new(TOTAL_CENTS_MAX)),
            r"^0*([0-9]{1,11}(\.[0-9]{1,2})?|100000000000(\.0{1,2})?)$"
        );
    }

    #[test]
    fn the_pattern_has_what_nobody_sees() {
        let ranges: Vec<(u32, u32)> = UNSEEN
            .split(r"\u")
            .skip(1)
            .fold(Vec::new(), |mut ranges: Vec<(u32, Option<u32>, bool)>, part| {
                let (number, goes_on) = part.strip_suffix('-').map_or((part, false), |number| (number, true));
                let number = u32::from_str_radix(number, 16).expect("a number");
                match ranges.last_mut() {
                    Some((_, end @ None, true)) => *end = Some(number),
                    _ => ranges.push((number, None, goes_on)),
                }
                ranges
            })
            .into_iter()
            .map(|(start, end, _)| (start, end.unwrap_or(start)))
            .collect();
        for character in ('\0'..='\u{ffff}').filter(|character| *character != ' ') {
            let number = u32::from(character);
            let matches = ranges.iter().any(|(start, end)| (*start..=*end).contains(&number));
            assert_eq!(matches, is_unseen(character), "U+{number:04X}");
        }
    }
}
