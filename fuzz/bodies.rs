//! What every fuzz target does with its bytes. `cargo fuzz` calls these with bytes that it finds, `tests/it/fuzz.rs` with
//! seeds and random bytes on a stable compiler.

use std::{io, ops::ControlFlow};

use orderstream::import::{self, ReadOptions, Reject};
use pipeline::{
    domain::{Cents, Order},
    message::{BODY, Entry, EntryId, Incoming, Message, OrderRef, decode_order, encode_order},
    streams::DeadLetter,
};

/// What a target does with bytes.
type Body = fn(&[u8]);

/// Every target, by its name.
pub(crate) const TARGETS: &[(&str, Body)] = &[("csv", csv), ("message", message), ("money", money), ("entry", entry)];

/// A whole file: never a panic, every row counted once, every good order readable, the same file the same orders.
pub(crate) fn csv(bytes: &[u8]) {
    let strict = bytes.first().is_some_and(|byte| byte % 2 == 0);
    let options = ReadOptions { strict, memory_bytes_max: 1 << 20, ..ReadOptions::default() };
    let mut rejected = 0;
    let mut sink = |reject: &Reject<'_>| -> io::Result<()> {
        assert!(reject.line > 0);
        rejected += 1;
        Ok(())
    };
    let Ok(parsed) = import::read(bytes, &options, &mut sink, &mut |_| ControlFlow::Continue(())) else { return };
    assert_eq!(parsed.accepted_rows + parsed.rejected_rows, parsed.rows);
    assert_eq!(rejected, parsed.rejected_rows);
    let orders: Vec<Order> = parsed.grouped.orders().map(|order| order.expect("in memory").order).collect();
    assert_eq!(orders.len() as u64, parsed.orders);
    assert_eq!(orders.iter().map(|order| order.lines().len() as u64).sum::<u64>(), parsed.accepted_rows);
    for order in &orders {
        assert_eq!(decode_order(&encode_order(order)).as_ref(), Ok(order), "what is published can be read");
    }
}

/// A message of any stage: never a panic, and what was read is written and read again the same.
pub(crate) fn message(bytes: &[u8]) {
    if let Ok(order) = decode_order(bytes) {
        assert_eq!(decode_order(&encode_order(&order)), Ok(order));
    }
    let entry = Entry { id: EntryId { ms: 1, seq: 0 }, fields: vec![(BODY.as_bytes().to_vec(), bytes.to_vec())] };
    if let Ok(incoming) = Incoming::decode(&entry) {
        assert_eq!(incoming.received_ms, 1);
    }
    if let Ok(order) = OrderRef::decode(&entry) {
        let again = Entry { fields: vec![(BODY.as_bytes().to_vec(), order.encode())], ..entry };
        assert_eq!(OrderRef::decode(&again), Ok(order));
    }
}

/// An amount, against a reading of its own: digits, a point, at most two digits.
pub(crate) fn money(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).ok().filter(|text| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits(whole) && digits(fraction) && fraction.len() <= 2
    });
    let expected = text.and_then(|text| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        // Beyond 38 digits nothing fits anyway, unless they are zeros.
        let digits = format!("{}{fraction:0<2}", whole.trim_start_matches('0'));
        if digits.len() > 38 { None } else { digits.parse::<u128>().ok() }
    });
    let expected = expected.and_then(|cents| i64::try_from(cents).ok());
    assert_eq!(Cents::parse_total(bytes).ok().map(Cents::get), expected, "{:?}", String::from_utf8_lossy(bytes));
    if let Ok(cents) = Cents::parse_price(bytes) {
        assert_eq!(Cents::parse_price(cents.to_string().as_bytes()), Ok(cents));
    }
}

/// An entry of a stream with any fields, as a dead letter and as an id.
pub(crate) fn entry(bytes: &[u8]) {
    let mut pieces = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (pieces.next(), pieces.next()) {
        fields.push((name, value));
    }
    let entry = Entry { id: EntryId { ms: 1, seq: 2 }, fields: fields.clone() };
    let letter = DeadLetter::new(0, entry, None);
    let all: Vec<_> = letter.fields().cloned().collect();
    assert_eq!(all, fields, "nothing is lost by taking it apart");
    let read = (letter.reason(), letter.stage(), letter.order_code(), letter.order_ref(), letter.deliveries());
    let again = (letter.reason(), letter.stage(), letter.order_code(), letter.order_ref(), letter.deliveries());
    assert_eq!(read, again);
    assert!(
        letter.replayed_from().is_none() || letter.replays() > 0 || letter.died_at().is_none() || letter.bytes() > 0
    );
    if let Ok((stage, message)) = letter.replay(None) {
        assert!(!message.is_empty(), "{stage}");
    }
    if let Ok(Ok(id)) = std::str::from_utf8(bytes).map(str::parse::<EntryId>) {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
