//! A batch between reading and hand-off: what could be decoded, and how each entry ended.

use std::{borrow::Cow, ops::Range, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{
    message::{
        BODY, DEAD_FIELDS_MAX, DeadReason, Entry, EntryId, Message, TRACEPARENT, TRACEPARENT_BYTES_MAX, TRACESTATE,
        TRACESTATE_BYTES_MAX,
    },
    metrics::Outcome,
    stage::Ending,
    streams::{Delivery, HandOff},
    topology::StageName,
    trace::TraceContext,
};

/// Entries with their endings, as far as they are known.
pub(super) struct Batch<M> {
    deliveries: Vec<Delivery>,
    endings: Vec<Option<Ending>>,
    /// Shared with the task that processes them, which may outlive our patience.
    messages: Arc<[M]>,
    /// Which entry each message was read from.
    origins: Vec<usize>,
}

impl<M: Message> Batch<M> {
    /// Decodes what can be decoded; the rest has ended as dead letters.
    pub(super) fn decode(deliveries: Vec<Delivery>) -> Self {
        let mut endings = vec![None; deliveries.len()];
        let mut messages = Vec::with_capacity(deliveries.len());
        let mut origins = Vec::with_capacity(deliveries.len());
        for (index, delivery) in deliveries.iter().enumerate() {
            match M::decode(&delivery.entry) {
                Ok(message) => {
                    messages.push(message);
                    origins.push(index);
                }
                Err(error) => endings[index] = Some(Ending::Dead(error.reason, error.detail)),
            }
        }
        Self { deliveries, endings, messages: messages.into(), origins }
    }

    pub(super) fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    pub(super) fn messages(&self) -> &Arc<[M]> {
        &self.messages
    }

    /// Records how a range of messages ended.
    pub(super) fn end(&mut self, messages: Range<usize>, endings: Vec<Ending>) {
        assert_eq!(messages.len(), endings.len(), "one ending per message");
        for (origin, ending) in self.origins[messages].iter().zip(endings) {
            self.endings[*origin] = Some(ending);
        }
    }

    /// How each entry is counted, if nobody else has handed it off.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |ending: &Option<Ending>| match ending {
            Some(Ending::Done) | None => Outcome::Done,
            Some(Ending::Forward(..)) => Outcome::Forwarded,
            Some(Ending::Dead(reason, _)) => Outcome::Dead(*reason),
        };
        self.endings.iter().map(outcome).collect()
    }

    /// Messages that could be read and are set aside nevertheless, with their reasons: their orders may be known.
    pub(super) fn set_aside(&self) -> Vec<(usize, DeadReason)> {
        let ending = |origin: &usize| match self.endings[*origin] {
            Some(Ending::Dead(reason, _)) => Some(reason),
            _ => None,
        };
        self.origins.iter().enumerate().filter_map(|(index, origin)| Some((index, ending(origin)?))).collect()
    }

    /// Why messages became dead letters: the reason that all of them have in common, `_OTHER` where there are several.
    pub(super) fn dead_reason(&self) -> Option<&'static str> {
        let mut reasons = self.endings.iter().flatten().filter_map(|ending| match ending {
            Ending::Dead(reason, _) => Some(reason.as_str()),
            _ => None,
        });
        let first = reasons.next()?;
        Some(if reasons.all(|reason| reason == first) { first } else { "_OTHER" })
    }

    /// What the hand-off script is to do with each entry. Messages carry on the trace context of their originals, or
    /// `fresh` if those have none.
    pub(super) fn into_hand_off(
        self,
        stage: StageName,
        stream: &str,
        fresh: Option<&TraceContext>,
    ) -> Vec<(EntryId, HandOff)> {
        self.deliveries
            .into_iter()
            .zip(self.endings)
            .map(|(delivery, ending)| {
                let id = delivery.entry.id;
                let hand_off = match ending.expect("every entry has ended before its batch is handed off") {
                    Ending::Done => HandOff::Done,
                    Ending::Forward(to, message) => {
                        let mut fields = vec![(BODY.as_bytes().to_vec(), message.encode())];
                        let trace = carried(&delivery.entry, fresh).into_iter().flatten();
                        fields.extend(trace.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())));
                        HandOff::Forward { to, fields }
                    }
                    Ending::Dead(reason, error) => HandOff::Dead {
                        // What was deleted under its group cannot be owned: claiming it would forget it.
                        owned: !delivery.entry.fields.is_empty(),
                        fields: dead_letter(delivery, stage, stream, reason, &error),
                    },
                };
                (id, hand_off)
            })
            .collect()
    }
}

/// The trace context for the message that follows from an entry.
fn carried<'a>(entry: &'a Entry, fresh: Option<&'a TraceContext>) -> [Option<(&'static str, &'a [u8])>; 2] {
    let field = |name: &str, bytes_max: usize| entry.field(name).filter(|value| value.len() <= bytes_max);
    let (parent, state) = match (field(TRACEPARENT, TRACEPARENT_BYTES_MAX), fresh) {
        (None, None) => return [None, None],
        (None, Some(fresh)) => (fresh.traceparent.as_bytes(), fresh.tracestate.as_deref().map(str::as_bytes)),
        (Some(parent), _) => (parent, field(TRACESTATE, TRACESTATE_BYTES_MAX)),
    };
    [Some((TRACEPARENT, parent)), state.map(|state| (TRACESTATE, state))]
}

/// The untouched fields of the original, then why and where it died. Ours come last, so that a reader who keeps one
/// value per name keeps ours.
fn dead_letter(
    Delivery { entry, before }: Delivery,
    stage: StageName,
    stream: &str,
    reason: DeadReason,
    error: &str,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let now = Utc::now();
    let added = i64::try_from(entry.id.ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or(now);
    let time = |at: DateTime<Utc>| Cow::Owned(at.to_rfc3339_opts(SecondsFormat::Millis, true));
    let cut = entry.fields.len().saturating_sub(DEAD_FIELDS_MAX);
    let mut fields = entry.fields;
    // Whatever is cut, the body stays: without it nobody could send the message again.
    if let Some(body) = fields.iter().position(|(name, _)| name == BODY.as_bytes()).filter(|at| *at >= DEAD_FIELDS_MAX)
    {
        fields.swap(DEAD_FIELDS_MAX - 1, body);
    }
    fields.truncate(DEAD_FIELDS_MAX);
    let mut ours: Vec<(&str, Cow<'_, str>)> = vec![
        ("reason", reason.as_str().into()),
        ("error", error.into()),
        ("stage", stage.as_str().into()),
        ("source_stream", stream.into()),
        ("source_id", entry.id.to_string().into()),
        ("deliveries", (before + 1).to_string().into()),
        ("first_at", time(added)),
        ("last_at", time(now)),
    ];
    if cut > 0 {
        ours.push(("fields_cut", cut.to_string().into()));
    }
    fields.extend(ours.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields with their values.
    type Pairs<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn a_trace_context_is_carried_whole_or_made_new_where_there_is_none() {
        let fresh = TraceContext { traceparent: "new".to_owned(), tracestate: Some("new=1".to_owned()) };
        let long = "x".repeat(TRACEPARENT_BYTES_MAX + 1);
        let table: [(Pairs<'_>, bool, Pairs<'_>); 8] = [
            (&[], false, &[]),
            (&[], true, &[(TRACEPARENT, "new"), (TRACESTATE, "new=1")]),
            (&[(TRACEPARENT, "old")], false, &[(TRACEPARENT, "old")]),
            // Never a state of one trace beside the parent of another.
            (&[(TRACEPARENT, "old")], true, &[(TRACEPARENT, "old")]),
            (&[(TRACESTATE, "old=1"), (TRACEPARENT, "old")], true, &[(TRACEPARENT, "old"), (TRACESTATE, "old=1")]),
            (&[(TRACESTATE, "old=1")], false, &[]),
            (&[(TRACESTATE, "old=1")], true, &[(TRACEPARENT, "new"), (TRACESTATE, "new=1")]),
            (&[(TRACEPARENT, &long)], false, &[]),
        ];
        for (fields, is_traced, expected) in table {
            let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            let entry = Entry { id: EntryId::default(), fields: fields.collect() };
            let found: Vec<_> = carried(&entry, is_traced.then_some(&fresh)).into_iter().flatten().collect();
            let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            assert_eq!(found, expected);
        }
    }
}
