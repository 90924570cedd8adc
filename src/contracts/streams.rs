//! The streams that others write and read, as AsyncAPI 3.0.

use pipeline::{
    domain::EventKind,
    message::{
        BODY, BODY_BYTES_MAX, DEAD_FIELDS_MAX, DeadReason, IMPORT, TRACEPARENT, TRACEPARENT_BYTES_MAX, TRACESTATE,
        TRACESTATE_BYTES_MAX, WEBHOOK_ID,
    },
    relay::EVENTS_KEPT,
    streams::{DEAD_LETTERS_MAX, REPLAYED_FROM, REPLAYS},
    topology::{Keyspace, StageName},
};
use serde_json::{Map, Value, json};

use super::schemas;
use crate::config::DEFAULT_NAMESPACE;

/// What the payloads are written in. AsyncAPI's own schemas are of an older draft.
const SCHEMA_FORMAT: &str = "application/schema+json;version=2020-12";

/// The partition that is there in every installation.
const PARTITION: u16 = 0;

/// The document.
pub fn asyncapi() -> Value {
    let keys = Keyspace::new(DEFAULT_NAMESPACE);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "orderstream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Orders, refund requests and callbacks in; events and dead letters out. Every message is an entry of a \
                 Redis stream. The payload is JSON in the field `{BODY}`; the headers are the entry's other fields. \
                 Messages are delivered at least once. The first part of all keys is the namespace, `{DEFAULT_NAMESPACE}` \
                 unless `--namespace` sets another. See docs/INTEGRATION.md."
            ),
            "license": { "name": "MIT" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "{host}",
                "protocol": "redis",
                "description": "Redis 7.0 or later: REDIS_URL.",
                "variables": { "host": { "default": "127.0.0.1:6379" } },
            },
        },
        "channels": channels(&keys),
        "operations": operations(),
        "components": { "messages": messages(&keys), "schemas": payloads() },
    })
}

fn channels(keys: &Keyspace) -> Value {
    let incoming = |stage: StageName, message: &str, description: &str| {
        let key = keys.stream(PARTITION, stage);
        channel(
            &key,
            &[message],
            description,
            json!({
                "group": stage.as_str(),
                "append": format!("XADD {key} * {BODY} <payload>"),
                "trimmed": "by the workers, below what the group has acknowledged: never by whoever adds",
                "body_bytes_max": BODY_BYTES_MAX,
            }),
        )
    };
    let events: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    json!({
        "orders": incoming(StageName::Reservation, "order", "Orders on their way in; anyone may add."),
        "refunds": incoming(StageName::Refund, "refund", "Requests for refunds; anyone may add."),
        "callbacks": incoming(
            StageName::Callback,
            "callback",
            "What payment providers tell, for gateways that reach Redis and not the webhook. Not signed: whoever may add \
             here is believed.",
        ),
        "events": channel(&keys.events(), &events, "What happened, in the order of its numbers.", json!({
            "read": "XREAD, or XREADGROUP with a group of your own",
            "trimmed": format!("to about the last {EVENTS_KEPT}; older ones stand in the table `events`"),
            "dedupe_by": "seq",
        })),
        "dead": channel(&keys.dead(PARTITION), &["deadLetter"], "Messages that can never be processed.", json!({
            "read": "XRANGE, or `orderstream dead`",
            "trimmed": format!("to about the last {DEAD_LETTERS_MAX}"),
            "original_fields_max": DEAD_FIELDS_MAX,
        })),
    })
}

/// A channel whose address is the key. Braces in a key are the hash tag of Redis Cluster; AsyncAPI takes them for a
/// parameter, which therefore stands for itself.
fn channel(key: &str, messages: &[&str], description: &str, redis: Value) -> Value {
    let tag = key.split(['{', '}']).nth(1).unwrap_or_default();
    let itself = format!("{{{tag}}}");
    let reference = |name: &&str| ((*name).to_owned(), json!({ "$ref": format!("#/components/messages/{name}") }));
    let mut stream = json!({ "key": key, "payload": format!("the field {BODY}"), "headers": "the other fields" });
    if let (Some(stream), Value::Object(redis)) = (stream.as_object_mut(), redis) {
        stream.extend(redis);
    }
    json!({
        "address": key,
        "description": description,
        "parameters": {
            tag: { "enum": [itself], "default": itself, "description": "Stands for itself: the key has these braces." },
        },
        "messages": messages.iter().map(reference).collect::<Map<_, _>>(),
        "x-redis-stream": stream,
    })
}

fn operations() -> Value {
    let operation = |action: &str, channel: &str, summary: &str| json!({ "action": action, "channel": { "$ref": format!("#/channels/{channel}") }, "summary": summary });
    json!({
        "takeOrder": operation("receive", "orders", "Takes an order in."),
        "takeRefund": operation("receive", "refunds", "Takes a request for a refund in."),
        "takeCallback": operation("receive", "callbacks", "Takes in what a payment provider tells."),
        "tellEvent": operation("send", "events", "Tells what happened to an order or refund."),
        "setAside": operation("send", "dead", "Sets a message aside that can never be processed."),
    })
}

fn messages(keys: &Keyspace) -> Value {
    let mut messages = json!({
        "order": message("order", "An order", metadata(&[TRACEPARENT, TRACESTATE, IMPORT]), &json!({
            "order_code": "ORD-1",
            "customer_id": 7,
            "lines": [{ "product_id": 3, "quantity": 2, "unit_price": "19.99" }],
        })),
        "refund": message("refund", "A request for a refund", metadata(&[TRACEPARENT, TRACESTATE, IMPORT]), &json!({
            "refund_key": "r-1",
            "order_code": "ORD-1",
            "amount": "10.00",
            "reason": "damaged",
        })),
        "callback": message("callback", "A payment provider's word", metadata(&[TRACEPARENT, TRACESTATE, WEBHOOK_ID]), &json!({
            "type": "charge.approved",
            "data": { "id": "ch_1", "reference": "ORD-1", "amount": "39.98", "currency": "EUR" },
        })),
        "deadLetter": dead_letter(keys),
    });
    for (seq, kind) in (1..).zip(EventKind::ALL) {
        let mut event = json!({
            "seq": seq,
            "kind": kind.as_str(),
            "order_code": "ORD-1",
            "customer_id": 7,
            "amount": "39.98",
            "day": "2026-11-22",
            "at": "2026-11-22T10:00:00.123456Z",
        });
        match kind {
            EventKind::Completed => {}
            EventKind::Failed => event["reason"] = json!("out_of_stock"),
            EventKind::Refunded => event["refund_key"] = json!("r-1"),
            EventKind::RefundRefused => {
                event["refund_key"] = json!("r-2");
                event["reason"] = json!("exceeds_paid");
            }
        }
        let name = kind.as_str();
        messages[name] = message(name, &format!("An event: {}", name.replace('_', " ")), Value::Null, &event);
    }
    messages
}

fn message(name: &str, title: &str, headers: Value, example: &Value) -> Value {
    let mut message = json!({
        "name": name,
        "title": title,
        "contentType": "application/json",
        "payload": { "$ref": format!("#/components/schemas/{name}") },
        "examples": [{ "payload": example }],
    });
    if !headers.is_null() {
        message["headers"] = headers;
    }
    message
}

/// The metadata fields of a message that others may add, and those of a replay.
fn metadata(names: &[&str]) -> Value {
    let field = |name: &str| match name {
        TRACEPARENT => json!({
            "type": "string",
            "maxLength": TRACEPARENT_BYTES_MAX,
            "description": "W3C trace context; carried from stream to stream.",
        }),
        TRACESTATE => json!({
            "type": "string",
            "maxLength": TRACESTATE_BYTES_MAX,
            "description": "What vendors add to the trace context; carried with it.",
        }),
        IMPORT => json!({
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "The number of an import. It belongs to the importer: leave it out.",
        }),
        WEBHOOK_ID => schemas::callback_text("The sender's id of the message; without it the entry's id counts."),
        REPLAYED_FROM => json!({
            "type": "string",
            "pattern": "^([0-9]+/)?[0-9]+-[0-9]+$",
            "description": "The dead letter that was replayed. Written by `orderstream dead replay`.",
        }),
        _ => json!({
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "How often the message came out of the dead letters. Written by `orderstream dead replay`.",
        }),
    };
    let all = names.iter().chain(&[REPLAYED_FROM, REPLAYS]);
    json!({
        "type": "object",
        "properties": all.map(|name| ((*name).to_owned(), field(name))).collect::<Map<_, _>>(),
        "description": "None is required; others are ignored.",
    })
}

fn dead_letter(keys: &Keyspace) -> Value {
    let count = |description: &str| json!({ "type": "string", "pattern": "^[1-9][0-9]*$", "description": description });
    let entry =
        |description: &str| json!({ "type": "string", "pattern": "^[0-9]+-[0-9]+$", "description": description });
    let time = |description: &str| {
        json!({
            "type": "string",
            "format": "date-time",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
            "description": description,
        })
    };
    let mut reason = schemas::words(&DeadReason::ALL);
    reason["description"] = json!("Why. Later versions may know more words.");
    json!({
        "name": "deadLetter",
        "title": "A dead letter",
        "contentType": "application/octet-stream",
        "summary": "The fields of the original, untouched, then ours. Where both have a name, the last one is ours.",
        "payload": { "$ref": "#/components/schemas/deadLetter" },
        "headers": {
            "type": "object",
            "required": ["reason", "error", "stage", "source_stream", "source_id", "deliveries", "first_at", "last_at"],
            "properties": {
                "reason": reason,
                "error": { "type": "string", "minLength": 1, "description": "What exactly, for people." },
                "stage": schemas::words(&StageName::ALL),
                "source_stream": { "type": "string", "description": "The key of the stream where the message was." },
                "source_id": entry("Its id there."),
                "deliveries": count("How often it was given to a worker."),
                "first_at": time("When it was added there."),
                "last_at": time("When it was given up."),
                "fields_cut": count("How many fields of the original did not fit; usually absent."),
                "imported_from": entry("The first id of a letter that was exported and imported; usually absent."),
            },
        },
        "examples": [{
            "payload": "{}",
            "headers": {
                "reason": DeadReason::Undecodable.as_str(),
                "error": "missing field `order_code` at line 1 column 2",
                "stage": StageName::Reservation.as_str(),
                "source_stream": keys.stream(PARTITION, StageName::Reservation),
                "source_id": "1795382502144-0",
                "deliveries": "1",
                "first_at": "2026-11-22T10:00:00.123Z",
                "last_at": "2026-11-22T10:00:00.200Z",
            },
        }],
    })
}

fn payloads() -> Value {
    let mut payloads = json!({
        "order": schemas::order(),
        "refund": schemas::refund(),
        "callback": schemas::callback(),
        "deadLetter": { "type": "string", "description": "The body of the original, whatever it was; absent if it had none." },
    });
    for kind in EventKind::ALL {
        payloads[kind.as_str()] = schemas::event(*kind);
    }
    if let Some(payloads) = payloads.as_object_mut() {
        for schema in payloads.values_mut() {
            schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
            *schema = json!({ "schemaFormat": SCHEMA_FORMAT, "schema": schema.take() });
        }
    }
    payloads
}
