//! Reading replies by hand: field names and values come from anybody, so nothing here may insist on UTF-8, and one
//! odd entry must not make its neighbours unreadable.

use redis::Value;

use super::Error;
use crate::message::{Entry, EntryId};

/// `[[id, [name, value, …]], …]`.
pub(super) fn entries(command: &'static str, value: Value) -> Result<Vec<Entry>, Error> {
    let Value::Array(items) = value else { return Err(unexpected(command, &value)) };
    items.into_iter().map(|item| entry(command, item)).collect()
}

/// `[id, [name, value, …]]`. An entry that was deleted under its group has no fields.
pub(super) fn entry(command: &'static str, value: Value) -> Result<Entry, Error> {
    match value {
        Value::Array(mut parts) if parts.len() == 2 => {
            let fields = parts.pop().unwrap_or_default();
            let id = id(command, &parts[0])?;
            let fields = match fields {
                Value::Array(values) => pairs(values),
                _ => Vec::new(),
            };
            Ok(Entry { id, fields })
        }
        other => Err(unexpected(command, &other)),
    }
}

fn pairs(values: Vec<Value>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields = Vec::with_capacity(values.len() / 2);
    let mut values = values.into_iter().map(bytes);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        fields.push((name, value));
    }
    fields
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        Value::Int(number) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

/// An entry id.
pub(super) fn id(command: &'static str, value: &Value) -> Result<EntryId, Error> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| unexpected(command, value))
}

/// The entries of the one stream in a reply to `XREADGROUP`; nothing at all is an empty batch.
pub(super) fn read_group(value: Value) -> Result<Vec<Entry>, Error> {
    const COMMAND: &str = "XREADGROUP";
    match value {
        Value::Nil => Ok(Vec::new()),
        Value::Array(mut streams) => match streams.pop() {
            Some(Value::Array(mut stream)) if stream.len() == 2 => entries(COMMAND, stream.pop().unwrap_or_default()),
            other => Err(unexpected(COMMAND, &other.unwrap_or_default())),
        },
        other => Err(unexpected(COMMAND, &other)),
    }
}

pub(super) fn unexpected(command: &'static str, value: &Value) -> Error {
    let mut reply = format!("{value:?}");
    if reply.len() > 200 {
        reply = reply.chars().take(200).collect::<String>() + "…";
    }
    Error::Reply { command, reply }
}
