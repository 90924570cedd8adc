//! A dead letter as it stands in its stream: the fields of the original, then ours. The contract is
//! `docs/CONTRACTS.md`.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    message::{BODY, BODY_BYTES_MAX, DEAD_FIELDS_MAX, DeadReason, Entry, EntryId, Message, OrderRef},
    topology::StageName,
};

/// The first of our fields, in sequence. An original has no say in where they begin: whatever it holds, ours come later.
const OURS_BEGIN: [&str; 5] = ["reason", "error", "stage", "source_stream", "source_id"];

/// Our field with the first id that an imported letter had.
const IMPORTED_FROM: &str = "imported_from";

/// The metadata field of a replayed message: the letter that it was.
pub const REPLAYED_FROM: &str = "replayed_from";

/// The metadata field of a replayed message: how often its order came out of the dead letters, 1 at first.
pub const REPLAYS: &str = "replays";

/// Names and values of an entry, in its order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Where a letter is. Partition 0 goes without saying: `1795382502144-0`, and `3/1795382502144-0` elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// Whose dead letters.
    pub partition: u16,
    /// Its place in them.
    pub entry: EntryId,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            0 => f.pad(&self.entry.to_string()),
            partition => f.pad(&format!("{partition}/{}", self.entry)),
        }
    }
}

impl FromStr for LetterId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, entry) = match text.split_once('/') {
            Some((partition, entry)) => (partition.parse().map_err(|_| "a partition is a number")?, entry),
            None => (0, text),
        };
        Ok(Self { partition, entry: entry.parse()? })
    }
}

impl Serialize for LetterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The note that a letter was sent on its way again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayMark {
    /// The entry that it became in the stream of its stage.
    #[serde(rename = "as")]
    pub became: String,
    /// When: RFC 3339 in UTC.
    pub at: String,
    /// How often this letter was replayed.
    pub times: u64,
    /// Whether the last replay had another body than the letter.
    pub edited: bool,
}

impl ReplayMark {
    /// Reads a mark; one that cannot be read still says that there was a replay.
    pub(super) fn parse(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or(Self { times: 1, ..Self::default() })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and integers are always JSON")
    }
}

/// Why a letter cannot be sent on its way again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreplayable {
    /// Nobody of ours wrote it, or it names a stage that this version does not have.
    #[error("it does not say which stage gave it up")]
    NoStage,
    /// The original was deleted before anybody read it.
    #[error("its original was deleted from the stream: there is no content to replay (--body FILE gives it one)")]
    NoContent,
    /// More than one script call can pass.
    #[error("its original has more than {DEAD_FIELDS_MAX} fields")]
    TooManyFields,
}

/// A dead letter, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it is.
    pub id: LetterId,
    /// The fields of the original, untouched.
    pub original: Fields,
    /// Our fields. Empty in an entry that is no letter of ours: anybody can `XADD`.
    pub ours: Fields,
    /// Whether it was replayed.
    pub replayed: Option<ReplayMark>,
}

impl DeadLetter {
    /// Takes an entry apart.
    pub fn new(partition: u16, entry: Entry, replayed: Option<ReplayMark>) -> Self {
        let Entry { id, mut fields } = entry;
        let begins = |names: &[(Vec<u8>, Vec<u8>)]| {
            names.iter().map(|(name, _)| name.as_slice()).eq(OURS_BEGIN.iter().map(|name| name.as_bytes()))
        };
        let ours = match fields.windows(OURS_BEGIN.len()).rposition(begins) {
            Some(at) => fields.split_off(at),
            None => Vec::new(),
        };
        Self { id: LetterId { partition, entry: id }, original: fields, ours, replayed }
    }

    /// All fields as they stand in the stream.
    pub fn fields(&self) -> impl Iterator<Item = &(Vec<u8>, Vec<u8>)> {
        self.original.iter().chain(&self.ours)
    }

    /// Names and values together, in bytes.
    pub fn bytes(&self) -> usize {
        self.fields().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The text of one of our fields.
    pub fn our(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(last(&self.ours, name)?).ok()
    }

    /// Why it died, as the letter says it; a later version may know more words than [`DeadReason`].
    pub fn reason(&self) -> Option<&str> {
        self.our("reason")
    }

    /// Who gave up.
    pub fn stage(&self) -> Option<StageName> {
        self.our("stage")?.parse().ok()
    }

    /// How often it was given to a worker before it died.
    pub fn deliveries(&self) -> Option<u64> {
        self.our("deliveries")?.parse().ok()
    }

    /// When it died, by the worker's clock; by that of Redis where the letter does not say.
    pub fn died_at(&self) -> Option<DateTime<Utc>> {
        let said = self.our("last_at").and_then(|at| at.parse().ok());
        said.or_else(|| DateTime::from_timestamp_millis(i64::try_from(self.id.entry.ms).ok()?))
    }

    /// The first id that this letter had: another one than now if it was exported and imported.
    pub fn first_id(&self) -> EntryId {
        // Of an entry that is no letter of ours, an import adds the field to what is there.
        let fields = if self.ours.is_empty() { &self.original } else { &self.ours };
        let noted = fields.last().filter(|(name, _)| name == IMPORTED_FROM.as_bytes());
        let noted = noted.and_then(|(_, id)| std::str::from_utf8(id).ok()?.parse().ok());
        noted.unwrap_or(self.id.entry)
    }

    /// The fields of this letter for another place in the stream.
    pub(super) fn into_imported(self) -> Fields {
        let first = self.first_id();
        let mut fields = self.original;
        fields.extend(self.ours);
        if fields.last().is_none_or(|(name, _)| name != IMPORTED_FROM.as_bytes()) {
            fields.push((IMPORTED_FROM.into(), first.to_string().into_bytes()));
        }
        fields
    }

    /// What identifies this letter wherever it stands: its first id and its content.
    pub fn identity(&self) -> (EntryId, Fields) {
        let mut fields: Fields = self.fields().cloned().collect();
        if fields.last().is_some_and(|(name, _)| name == IMPORTED_FROM.as_bytes()) {
            fields.pop();
        }
        (self.first_id(), fields)
    }

    /// How often the original had been replayed when it died: 0 for one that died for the first time.
    pub fn replays(&self) -> u64 {
        let count = last(&self.original, REPLAYS).and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
        count.unwrap_or(0)
    }

    /// The letter that the original had been before it was replayed.
    pub fn replayed_from(&self) -> Option<LetterId> {
        std::str::from_utf8(last(&self.original, REPLAYED_FROM)?).ok()?.parse().ok()
    }

    /// The body, as a stage would read it: the first field of that name.
    pub fn body(&self) -> Option<&[u8]> {
        self.original.iter().find(|(name, _)| name == BODY.as_bytes()).map(|(_, body)| body.as_slice())
    }

    /// The order's code, if the body has one, whatever else is wrong with the body.
    pub fn order_code(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Named {
            order_code: String,
        }
        let body = self.body()?;
        if body.len() <= BODY_BYTES_MAX
            && let Ok(Named { order_code }) = serde_json::from_slice(body)
        {
            return Some(order_code);
        }
        // JSON that is cut off, or far too long: the first text that follows the name.
        const NAME: &[u8] = br#""order_code""#;
        let body = &body[..body.len().min(BODY_BYTES_MAX)];
        let at = body.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
        let value = body[at..].trim_ascii_start().strip_prefix(b":")?;
        serde_json::Deserializer::from_slice(value).into_iter::<String>().next()?.ok()
    }

    /// The order that a message between the stages names; `None` for other messages.
    pub fn order_ref(&self) -> Option<OrderRef> {
        match self.stage()? {
            StageName::Reservation | StageName::Refund | StageName::Callback => None,
            StageName::Payment | StageName::Settlement => {
                OrderRef::decode(&Entry { id: self.id.entry, fields: self.original.clone() }).ok()
            }
        }
    }

    /// The message that a replay adds, and the stage that it is for: the original with another `body` if one is given,
    /// and with the mark of this replay instead of an earlier one.
    ///
    /// # Errors
    /// When there is nothing to add, or nowhere to add it.
    pub fn replay(&self, body: Option<&[u8]>) -> Result<(StageName, Fields), Unreplayable> {
        const MARKS: usize = 2;
        let stage = self.stage().ok_or(Unreplayable::NoStage)?;
        // First, and not last: should the message die again and have too many fields, the last ones are cut.
        let mut fields: Fields = vec![
            (REPLAYED_FROM.into(), self.id.to_string().into_bytes()),
            (REPLAYS.into(), self.replays().saturating_add(1).to_string().into_bytes()),
        ];
        let marks = |name: &[u8]| name == REPLAYED_FROM.as_bytes() || name == REPLAYS.as_bytes();
        fields.extend(self.original.iter().filter(|(name, _)| !marks(name)).cloned());
        if let Some(body) = body {
            let place = fields.iter().position(|(name, _)| name == BODY.as_bytes()).unwrap_or(fields.len());
            // Of a field that stood there twice none is left but this one.
            fields.retain(|(name, _)| name != BODY.as_bytes());
            fields.insert(place.min(fields.len()), (BODY.into(), body.to_vec()));
        }
        if fields.len() == MARKS || (body.is_none() && self.reason() == Some(DeadReason::Deleted.as_str())) {
            return Err(Unreplayable::NoContent);
        }
        if fields.len() > MARKS + DEAD_FIELDS_MAX + 1 {
            return Err(Unreplayable::TooManyFields);
        }
        Ok((stage, fields))
    }
}

/// The last value of a field.
fn last<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields.iter().rev().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Fields {
        fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    const OURS: [(&str, &str); 7] = [
        ("reason", "undecodable"),
        ("error", "it is"),
        ("stage", "reservation"),
        ("source_stream", "s"),
        ("source_id", "5-0"),
        ("first_at", "2026-11-22T10:00:00.000Z"),
        ("last_at", "2026-11-22T10:00:01.000Z"),
    ];

    fn letter(original: &[(&str, &str)], ours: &[(&str, &str)]) -> DeadLetter {
        let fields = fields(&[original, ours].concat());
        DeadLetter::new(0, Entry { id: EntryId { ms: 9, seq: 1 }, fields }, None)
    }

    #[test]
    fn an_original_cannot_pass_its_fields_off_as_ours() {
        let table: [&[(&str, &str)]; 6] = [
            &[("body", "x")],
            &[],
            &[("reason", "mine")],
            &[("body", "x"), ("reason", "mine"), ("error", "mine")],
            &OURS,
            &[("reason", "conflict"), ("stage", "payment"), ("last_at", "never")],
        ];
        for original in table {
            let letter = letter(original, &OURS);
            assert_eq!(letter.original, fields(original));
            assert_eq!(letter.ours, fields(&OURS));
        }
    }

    #[test]
    fn fields_that_a_later_version_adds_are_ours() {
        let mut later = OURS.to_vec();
        later.insert(5, ("deliveries", "12"));
        later.push(("weather", "bad"));
        let letter = letter(&[("body", "x")], &later);
        assert_eq!(letter.original, fields(&[("body", "x")]));
        assert_eq!(letter.deliveries(), Some(12));
        assert_eq!(letter.our("weather"), Some("bad"));
    }

    #[test]
    fn an_entry_that_is_no_letter_has_no_fields_of_ours() {
        let letter = letter(&[("body", "x"), ("stage", "reservation")], &[]);
        assert_eq!(letter.original.len(), 2);
        assert_eq!((letter.reason(), letter.stage()), (None, None));
        assert_eq!(letter.replay(None), Err(Unreplayable::NoStage));
    }

    #[test]
    fn a_replay_counts_on_and_leaves_the_rest_as_it_was() {
        let letter = letter(&[("replays", "x"), ("body", "1"), ("replays", "4"), ("replayed_from", "2-2")], &OURS);
        assert_eq!((letter.replays(), letter.replayed_from()), (4, "2-2".parse().ok()));
        let (stage, message) = letter.replay(Some(b"2")).expect("it can");
        assert_eq!(stage, StageName::Reservation);
        assert_eq!(message, fields(&[("replayed_from", "9-1"), ("replays", "5"), ("body", "2")]));
    }

    #[test]
    fn another_body_takes_the_place_of_all_that_stood_there() {
        let letter = letter(&[("body", "1"), ("note", "n"), ("body", "2")], &OURS);
        let (_, message) = letter.replay(Some(b"3")).expect("it is of ours");
        assert_eq!(message[2..], fields(&[("body", "3"), ("note", "n")]));
    }

    #[test]
    fn the_code_of_an_order_is_found_in_a_broken_body() {
        for (body, code) in [
            (r#"{"order_code":"A","lines":[]}"#, Some("A")),
            (r#"{"x":{"order_code":"B"},"order_code":"A"}"#, Some("A")),
            (r#"{"order_code" : "A\u0042","customer"#, Some("AB")),
            (r#"{"order_code":5}"#, None),
            (r#"{"order_code":"#, None),
            (r#"{"order_code":"A"#, None),
            ("", None),
        ] {
            assert_eq!(letter(&[("body", body)], &OURS).order_code().as_deref(), code, "{body}");
        }
    }

    #[test]
    fn a_letter_keeps_its_identity_through_imports() {
        let first = letter(&[("body", "x")], &OURS);
        let again = |letter: &DeadLetter, id: u64| {
            DeadLetter::new(0, Entry { id: EntryId { ms: id, seq: 0 }, fields: letter.clone().into_imported() }, None)
        };
        let second = again(&first, 20);
        let third = again(&second, 30);
        assert_ne!(third.id, first.id);
        assert_eq!(third.identity(), first.identity());
        assert_eq!(third.original, first.original);
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in ["5-0", "3/5-0"] {
            assert_eq!(text.parse::<LetterId>().expect("an id").to_string(), text);
        }
        for wrong in ["", "5", "/5-0", "-", "x/5-0", "70000/5-0", "5-0/3"] {
            assert!(wrong.parse::<LetterId>().is_err(), "{wrong}");
        }
    }
}
