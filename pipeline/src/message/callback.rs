//! What payment providers tell: over HTTP, or as a message.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{DeadReason, Entry, Message, Object, Undecodable};
use crate::domain::{CallbackKind, Cents};

/// The metadata field by which the sender of a callback by message names it; else the entry's id does.
pub const WEBHOOK_ID: &str = "webhook-id";

/// Most bytes in each text of a callback: its id, the provider's and our reference.
pub const CALLBACK_TEXT_BYTES_MAX: usize = 256;

/// A provider's word on a charge or a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The sender's id of the message.
    pub event_id: String,
    /// When the sender signed it.
    pub sent_at: DateTime<Utc>,
    /// What happened.
    pub kind: CallbackKind,
    /// Ours: the order's code, or the refund's key.
    pub reference: String,
    /// The provider's id of the charge or refund.
    pub provider_id: String,
    /// How much.
    pub amount: Cents,
    /// In what; three letters.
    pub currency: String,
    /// Fingerprint of the body.
    pub body_hash: i64,
}

#[derive(Serialize, Deserialize)]
struct CallbackBody<'a> {
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    data: Object<DataBody<'a>>,
}

#[derive(Serialize, Deserialize)]
struct DataBody<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    reference: Cow<'a, str>,
    #[serde(borrow)]
    amount: Cow<'a, str>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

impl Message for Callback {
    fn decode(entry: &Entry) -> Result<Self, Undecodable> {
        let body = entry.body()?;
        let event_id = match entry.field(WEBHOOK_ID).and_then(|id| std::str::from_utf8(id).ok()) {
            Some(id) => id.to_owned(),
            None => format!("entry:{}", entry.id),
        };
        let sent_at = i64::try_from(entry.id.ms).ok().and_then(DateTime::from_timestamp_millis);
        decode_callback(body, &event_id, sent_at.unwrap_or_default())
    }
}

/// Reads the JSON of a callback that came under this id and time.
///
/// # Errors
/// When it is no JSON of the documented shape, or a value is out of bounds.
pub fn decode_callback(body: &[u8], event_id: &str, sent_at: DateTime<Utc>) -> Result<Callback, Undecodable> {
    let Object(CallbackBody { r#type, data: Object(data) }) = serde_json::from_slice(body)?;
    let invalid = |what: &str| Undecodable::new(DeadReason::InvalidCallback, what);
    let text = |name: &str, text: &str| match text {
        text if text.is_empty() || text.len() > CALLBACK_TEXT_BYTES_MAX || text.chars().any(char::is_control) => {
            Err(invalid(&format!("{name} must have 1 to {CALLBACK_TEXT_BYTES_MAX} bytes without control characters")))
        }
        text => Ok(text.to_owned()),
    };
    if data.currency.len() != 3 || !data.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(invalid("currency must be three capital letters"));
    }
    Ok(Callback {
        event_id: text("the id", event_id)?,
        sent_at,
        kind: r#type.parse().map_err(|error| invalid(&format!("type: {error}")))?,
        reference: text("reference", &data.reference)?,
        provider_id: text("id", &data.id)?,
        amount: Cents::parse_total(data.amount.as_bytes()).map_err(|error| invalid(&format!("amount: {error}")))?,
        currency: data.currency.into_owned(),
        body_hash: i64::from_be_bytes(*Sha256::digest(body).first_chunk().expect("a digest has 32 bytes")),
    })
}

/// Writes the JSON of a callback, as a provider does.
pub fn encode_callback(kind: CallbackKind, id: &str, reference: &str, amount: Cents, currency: &str) -> Vec<u8> {
    let data = DataBody {
        id: id.into(),
        reference: reference.into(),
        amount: amount.to_string().into(),
        currency: currency.into(),
    };
    let body = CallbackBody { r#type: kind.as_str().into(), data: Object(data) };
    serde_json::to_vec(&body).expect("texts are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_read_as_it_is_written() {
        let body = encode_callback(CallbackKind::ChargeApproved, "ch_1", "ORD-1", Cents::new(3998), "EUR");
        let text =
            r#"{"type":"charge.approved","data":{"id":"ch_1","reference":"ORD-1","amount":"39.98","currency":"EUR"}}"#;
        assert_eq!(String::from_utf8(body).expect("text"), text);
        let callback = decode_callback(text.as_bytes(), "msg_1", DateTime::UNIX_EPOCH).expect("valid");
        assert_eq!((callback.kind, callback.amount), (CallbackKind::ChargeApproved, Cents::new(3998)));
        assert_eq!((callback.reference.as_str(), callback.provider_id.as_str()), ("ORD-1", "ch_1"));
    }

    #[test]
    fn what_is_no_callback_is_refused_with_a_reason() {
        let reason = |body: &str| decode_callback(body.as_bytes(), "m", DateTime::UNIX_EPOCH).expect_err("no").reason;
        for body in ["", "{}", r#"["charge.approved",{}]"#, r#"{"type":"charge.approved","data":["a","b","1","EUR"]}"#]
        {
            assert_eq!(reason(body), DeadReason::Undecodable, "{body}");
        }
        let with = |kind: &str, id: &str, amount: &str, currency: &str| {
            format!(
                r#"{{"type":"{kind}","data":{{"id":"{id}","reference":"A","amount":"{amount}","currency":"{currency}"}}}}"#
            )
        };
        for body in [
            with("charge.lost", "i", "1", "EUR"),
            with("charge.approved", "", "1", "EUR"),
            with("charge.approved", "i", "-1", "EUR"),
            with("charge.approved", "i", "1", "eur"),
            with("charge.approved", "i", "1", "EURO"),
        ] {
            assert_eq!(reason(&body), DeadReason::InvalidCallback, "{body}");
        }
    }
}
