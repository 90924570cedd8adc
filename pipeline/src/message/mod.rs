//! The wire: what stands in a stream entry, read once at the border. The contract is `docs/CONTRACTS.md`.

mod callback;
mod entry_id;
mod order;
mod refund;

pub use callback::{CALLBACK_TEXT_BYTES_MAX, Callback, WEBHOOK_ID, decode_callback, encode_callback};
pub use entry_id::EntryId;
pub use order::{decode_order, encode_order};
pub use refund::{IncomingRefund, decode_refund, encode_refund};

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::domain::{InvalidOrder, Order, OrderId};

/// Most bytes in the `body` of a message.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Most fields that a dead letter keeps of its original. More could not be passed through one script call.
pub const DEAD_FIELDS_MAX: usize = 1_000;

/// The field that holds the JSON of a message.
pub const BODY: &str = "body";

/// The metadata field by which the importer marks its orders.
pub const IMPORT: &str = "import";

/// The metadata field that carries the W3C trace context along.
pub const TRACEPARENT: &str = "traceparent";

/// A trace context longer than this is none: the standard has 55 bytes.
pub const TRACEPARENT_BYTES_MAX: usize = 256;

/// The metadata field that carries what vendors add to the trace context. It goes where [`TRACEPARENT`] goes.
pub const TRACESTATE: &str = "tracestate";

/// A longer state is left behind, as the standard allows.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// The fields that mean something. A reader that keeps one value per name keeps the last one, others the first: an entry
/// that has one of them twice means two things.
const KNOWN_FIELDS: [&str; 5] = [BODY, IMPORT, TRACEPARENT, TRACESTATE, WEBHOOK_ID];

/// A stream entry as Redis has it: bytes from anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the stream.
    pub id: EntryId,
    /// Names and values, in the order of the entry. Names may repeat.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// Names and values together, in bytes.
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// A field that means something and stands there more than once, and how often.
    fn repeated(&self) -> Option<(&'static str, usize)> {
        // Most entries have one field.
        if self.fields.len() < 2 {
            return None;
        }
        let times = |name: &str| self.fields.iter().filter(|(key, _)| key == name.as_bytes()).count();
        KNOWN_FIELDS.into_iter().map(|name| (name, times(name))).find(|(_, times)| *times > 1)
    }

    /// The body, within its bound.
    fn body(&self) -> Result<&[u8], Undecodable> {
        if self.fields.is_empty() {
            return Err(Undecodable::new(DeadReason::Deleted, "the entry was deleted before it was processed"));
        }
        if let Some((name, times)) = self.repeated() {
            let detail = format!("the entry has {times} fields named {name}: which one is meant cannot be told");
            return Err(Undecodable::new(DeadReason::Undecodable, detail));
        }
        match self.field(BODY) {
            None => Err(Undecodable::new(DeadReason::NoBody, "the entry has no field named body")),
            Some(body) if body.len() > BODY_BYTES_MAX => Err(Undecodable::new(
                DeadReason::TooLarge,
                format!("the body has {} bytes, at most {BODY_BYTES_MAX} are read", body.len()),
            )),
            Some(body) => Ok(body),
        }
    }
}

/// Why a message can never be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadReason {
    /// The entry has no `body`.
    NoBody,
    /// The body exceeds [`BODY_BYTES_MAX`].
    TooLarge,
    /// The body is not JSON of the documented shape.
    Undecodable,
    /// The shape is right, the values are not.
    InvalidOrder,
    /// The shape is right, a value of a refund request is not.
    InvalidRefund,
    /// The shape is right, a value of a callback is not.
    InvalidCallback,
    /// The order's code, or the refund's key, is known with other content.
    Conflict,
    /// A message for an order that Postgres does not have: Postgres was restored to an older state.
    UnknownOrder,
    /// The entry was deleted from the stream before it was processed: its content is gone.
    Deleted,
    /// The database refused the values of this message alone (SQLSTATE class 22 or 23).
    RefusedByDatabase,
    /// Workers kept dying with this message in hand, the last ones with it alone.
    AttemptsExhausted,
}

impl DeadReason {
    /// Every reason, in the order of `docs/CONTRACTS.md`.
    pub const ALL: [Self; 11] = [
        Self::NoBody,
        Self::TooLarge,
        Self::Undecodable,
        Self::InvalidOrder,
        Self::InvalidRefund,
        Self::InvalidCallback,
        Self::Conflict,
        Self::UnknownOrder,
        Self::Deleted,
        Self::RefusedByDatabase,
        Self::AttemptsExhausted,
    ];

    /// The word in the dead letter's field `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoBody => "no_body",
            Self::TooLarge => "too_large",
            Self::Undecodable => "undecodable",
            Self::InvalidOrder => "invalid_order",
            Self::InvalidRefund => "invalid_refund",
            Self::InvalidCallback => "invalid_callback",
            Self::Conflict => "conflict",
            Self::UnknownOrder => "unknown_order",
            Self::Deleted => "deleted",
            Self::RefusedByDatabase => "refused_by_database",
            Self::AttemptsExhausted => "attempts_exhausted",
        }
    }
}

impl FromStr for DeadReason {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == word)
            .ok_or_else(|| format!("{word:?} is not one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A message that cannot be read: a permanent failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Undecodable {
    /// The class of failure.
    pub reason: DeadReason,
    /// What exactly, for people.
    pub detail: String,
}

impl Undecodable {
    fn new(reason: DeadReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<serde_json::Error> for Undecodable {
    fn from(error: serde_json::Error) -> Self {
        Self::new(DeadReason::Undecodable, error.to_string())
    }
}

impl From<InvalidOrder> for Undecodable {
    fn from(error: InvalidOrder) -> Self {
        Self::new(DeadReason::InvalidOrder, error.to_string())
    }
}

/// What a stage reads from its stream.
pub trait Message: Sized + Send + Sync {
    /// Reads an entry.
    ///
    /// # Errors
    /// When no later attempt could succeed either.
    fn decode(entry: &Entry) -> Result<Self, Undecodable>;
}

/// An order on its way in: from the importer, over HTTP, or from any program that can `XADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The order, within all bounds.
    pub order: Order,
    /// The import that brought it.
    pub import_id: Option<i64>,
    /// When it entered the stream, in Unix milliseconds of the Redis server's clock.
    pub received_ms: u64,
}

/// A struct that is read from a JSON object only: serde would take an array of its values, too.
#[derive(Serialize)]
#[serde(transparent)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl Message for Incoming {
    fn decode(entry: &Entry) -> Result<Self, Undecodable> {
        let order = decode_order(entry.body()?)?;
        // An import mark that is no number marks nothing: the order itself is good.
        let import_id = entry.field(IMPORT).and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        Ok(Self { order, import_id, received_ms: entry.id.ms })
    }
}

/// Between the stages an order is only named: what it holds and where it stands is read from Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRef {
    /// Our number.
    pub order_id: OrderId,
    /// The outside's name, for whoever reads the stream.
    pub order_code: String,
}

impl OrderRef {
    /// The message's JSON.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and integers are always JSON")
    }
}

impl Message for OrderRef {
    fn decode(entry: &Entry) -> Result<Self, Undecodable> {
        let Object(order) = serde_json::from_slice(entry.body()?)?;
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Cents;

    fn entry(fields: &[(&str, &[u8])]) -> Entry {
        Entry {
            id: EntryId { ms: 1_700_000_000_000, seq: 3 },
            fields: fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect(),
        }
    }

    fn reason(body: &[u8]) -> DeadReason {
        Incoming::decode(&entry(&[(BODY, body)])).expect_err("refused").reason
    }

    const DOCUMENTED: &str =
        r#"{"order_code":"ORD-1","customer_id":7,"lines":[{"product_id":3,"quantity":2,"unit_price":"19.99"}]}"#;

    #[test]
    fn the_documented_order_is_read_and_written() {
        let incoming = Incoming::decode(&entry(&[(BODY, DOCUMENTED.as_bytes()), (IMPORT, b"12")])).expect("valid");
        assert_eq!(incoming.order.total(), Cents::new(3998));
        assert_eq!(incoming.import_id, Some(12));
        assert_eq!(incoming.received_ms, 1_700_000_000_000);
        assert_eq!(String::from_utf8(encode_order(&incoming.order)).expect("text"), DOCUMENTED);
    }

    #[test]
    fn a_field_that_stands_in_an_entry_twice_makes_it_undecodable_and_is_named() {
        let body = (BODY, DOCUMENTED.as_bytes());
        for name in KNOWN_FIELDS {
            let extra: [(&str, &[u8]); 2] = [(name, b"1"), (name, b"1")];
            let error = Incoming::decode(&entry(&[&[body][..], &extra].concat())).expect_err("refused");
            assert_eq!(error.reason, DeadReason::Undecodable);
            assert!(error.detail.contains(&format!("fields named {name}:")), "{}", error.detail);
        }
        let noted = entry(&[body, ("note", b"1"), ("note", b"2")]);
        assert!(Incoming::decode(&noted).is_ok(), "what nobody reads may repeat");
    }

    #[test]
    fn a_total_may_stand_there_and_has_to_be_true() {
        let order = br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":3,"unit_price":"1.5"}],"total":"4.5"}"#;
        assert_eq!(decode_order(order).expect("valid").total(), Cents::new(450));
    }

    #[test]
    fn unknown_fields_are_ignored_and_escapes_understood() {
        let body = br#"{"note":[[{}]],"order_code":"A\u0042","customer_id":1,"lines":[{"x":1,"product_id":1,"quantity":1,"unit_price":"1"}]}"#;
        assert_eq!(Incoming::decode(&entry(&[(BODY, body)])).expect("valid").order.code().as_str(), "AB");
    }

    #[test]
    fn what_is_not_an_order_is_refused_with_a_reason() {
        assert_eq!(Incoming::decode(&entry(&[("data", b"{}")])).expect_err("refused").reason, DeadReason::NoBody);
        assert_eq!(reason(&vec![b' '; BODY_BYTES_MAX + 1]), DeadReason::TooLarge);
        for body in [
            &b"not json"[..],
            b"",
            b"{}",
            b"[]",
            b"null",
            b"\xff\xfe",
            br#"{"order_code":"A","customer_id":"7","lines":[]}"#,
            br#"{"order_code":"A","customer_id":1.5,"lines":[]}"#,
            br#"{"order_code":"A","order_code":"B","customer_id":1,"lines":[]}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":1.5}]}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":4294967296,"unit_price":"1"}]}"#,
            br#"{"order_code":"\ud800","customer_id":1,"lines":[]}"#,
            br#"["A",1,[{"product_id":1,"quantity":1,"unit_price":"1"}]]"#,
            br#"{"order_code":"A","customer_id":1,"lines":[[1,1,"1"]]}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}],"Currency":"USD"}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}],"TOTAL":"2"}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1","Quantity":3}]}"#,
        ] {
            assert_eq!(reason(body), DeadReason::Undecodable, "{}", String::from_utf8_lossy(body));
        }
        for body in [
            &br#"{"order_code":"A","customer_id":1,"lines":[]}"#[..],
            br#"{"order_code":"A\u0000","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}]}"#,
            br#"{"order_code":"A","customer_id":0,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}]}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":0,"unit_price":"1"}]}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1.005"}]}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}],"total":"1.01"}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}],"total":"x"}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}],"currency":"USD"}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1","currency":"USD"}]}"#,
            br#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":2,"unit_price":"1","total":"1"}]}"#,
        ] {
            assert_eq!(reason(body), DeadReason::InvalidOrder, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn deep_json_is_refused_without_deep_recursion() {
        let mut body = br#"{"x":"#.to_vec();
        body.extend(std::iter::repeat_n(b'[', 100_000));
        assert_eq!(reason(&body), DeadReason::Undecodable);
    }
}
