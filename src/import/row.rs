//! A row of a file into a row of an order, or into the reason why it is none.

use std::{borrow::Cow, str};

use pipeline::domain::{Cents, CustomerId, Line as OrderLine, OrderCode, ProductId, TOTAL_CENTS_MAX, is_unseen};
use unicode_normalization::UnicodeNormalization;

use super::{fields::Split, header::Header, records::Record, reject::Reason, spreadsheet::is_spoilt};

/// A good row, without the code of its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// Its line in the file.
    pub(super) line: u64,
    pub(super) customer_id: CustomerId,
    pub(super) order_line: OrderLine,
}

impl Row {
    /// Quantity × unit price; that it is within [`TOTAL_CENTS_MAX`] is checked when the row is parsed.
    pub(super) fn amount(&self) -> Cents {
        self.order_line.unit_price.checked_mul(self.order_line.quantity).unwrap_or(Cents::new(i64::MAX))
    }
}

/// A row that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadRow<'a> {
    /// The order that it belongs to: certain, or the best guess, which only ever rejects.
    pub(super) order_code: Option<Cow<'a, str>>,
    /// The column at fault.
    pub(super) column: Option<usize>,
    /// What stands there.
    pub(super) value: &'a [u8],
    /// Why.
    pub(super) reason: Reason,
}

/// What is wrong with a row: the column at fault, what stands there, and why.
pub(super) type Fault<'a> = (Option<usize>, &'a [u8], Reason);

/// Whether a row has the shape of one: as many columns as the header, all of them UTF-8, and certainly a row.
pub(super) fn check_shape<'a>(record: &Record<'a>, expected: usize) -> Result<(), Fault<'a>> {
    let split = &record.split;
    if let Some(doubt) = record.doubt {
        // Where the quotes are wrong in its own first line, that is where to look.
        let fault = split.fault.filter(|_| record.number == doubt.line);
        let value = &record.text[fault.map_or(0, |fault| fault.start)..];
        return Err((
            fault.map(|fault| fault.field),
            value,
            Reason::UnbalancedQuote { line: doubt.line, why: doubt.why },
        ));
    }
    if record.too_long {
        return Err((None, record.text, Reason::LineTooLong));
    }
    if let Some(fault) = split.fault {
        return Err((Some(fault.field), &record.text[fault.start..], Reason::MisplacedQuote));
    }
    let found = split.len();
    if found > expected {
        return Err((None, record.text, Reason::TooManyColumns { found, expected }));
    }
    if found < expected {
        let cut_off = Reason::CutOff { found, expected };
        return Err((
            None,
            record.text,
            if record.ended { Reason::TooFewColumns { found, expected } } else { cut_off },
        ));
    }
    if str::from_utf8(record.text).is_err() {
        let column = (0..found).find(|&index| str::from_utf8(split.get(index)).is_err());
        return Err((column, column.map_or(record.text, |index| split.get(index)), Reason::InvalidUtf8));
    }
    Ok(())
}

/// Reads a row.
pub(super) fn parse<'a>(record: &Record<'a>, header: &Header) -> Result<(&'a str, Row), BadRow<'a>> {
    let split = &record.split;
    check_shape(record, header.columns.names.len())
        .and_then(|()| {
            parse_values(record.number, split, header)
                .map_err(|(column, reason)| (Some(column), split.get(column), reason))
        })
        .map_err(|(column, value, reason)| BadRow {
            order_code: code_of_bad_row(record, header),
            column,
            value,
            reason,
        })
}

/// Reads the columns of a row whose shape is right; the error is the first column at fault.
fn parse_values<'a>(number: u64, split: &Split<'a>, header: &Header) -> Result<(&'a str, Row), (usize, Reason)> {
    let column = header.order_code;
    let order_code = str::from_utf8(split.get(column)).map_err(|_| (column, Reason::InvalidUtf8))?;
    OrderCode::check(order_code).map_err(|why| (column, Reason::InvalidOrderCode(why)))?;
    if is_spoilt(order_code) {
        return Err((column, Reason::SpoiltCode));
    }

    let column = header.customer_id;
    let customer_id = positive(split.get(column)).ok_or((column, Reason::InvalidCustomerId))?;

    let column = header.product_id;
    let product_id = positive(split.get(column)).ok_or((column, Reason::InvalidProductId))?;

    let column = header.quantity;
    let quantity = positive(split.get(column)).and_then(|quantity| i32::try_from(quantity).ok());
    let quantity = quantity.ok_or((column, Reason::InvalidQuantity))?;

    let column = header.unit_price;
    let unit_price =
        Cents::parse_price(&plain_amount(split.get(column), header)).map_err(|_| (column, Reason::InvalidUnitPrice))?;

    let amount = unit_price.checked_mul(quantity).filter(|amount| amount.get() <= TOTAL_CENTS_MAX);
    let amount = amount.ok_or((header.total.unwrap_or(column), Reason::TotalTooLarge))?;
    if let Some(column) = header.total {
        let total =
            Cents::parse_total(&plain_amount(split.get(column), header)).map_err(|_| (column, Reason::InvalidTotal))?;
        if total != amount {
            return Err((column, Reason::WrongTotal { expected: amount }));
        }
    }

    let order_line = OrderLine { product_id: ProductId(product_id), quantity, unit_price };
    Ok((order_code, Row { line: number, customer_id: CustomerId(customer_id), order_line }))
}

fn plain_amount<'a>(text: &'a [u8], header: &Header) -> Cow<'a, [u8]> {
    with_point(text, header.columns.delimiter)
}

/// An amount with a point: where a comma separates no fields, it may stand for it, as in most of Europe. A comma between
/// thousands is none of both: it has three digits behind it, and an amount two at most.
pub(super) fn with_point(text: &[u8], delimiter: u8) -> Cow<'_, [u8]> {
    if delimiter == b',' {
        return Cow::Borrowed(text);
    }
    match memchr::memchr(b',', text) {
        Some(comma) if !text.contains(&b'.') => {
            let mut text = text.to_vec();
            text[comma] = b'.';
            Cow::Owned(text)
        }
        _ => Cow::Borrowed(text),
    }
}

/// The order of a row that is rejected, as well as it can be told. Its other rows must not ship without it.
fn code_of_bad_row<'a>(record: &Record<'a>, header: &Header) -> Option<Cow<'a, str>> {
    let code = name_in_bad_row(record, header.order_code, header.columns.names.len())?;
    OrderCode::check(&code).is_ok().then_some(code)
}

/// What stands in a column of a row that is rejected, as well as it can be told.
pub(super) fn name_in_bad_row<'a>(record: &Record<'a>, column: usize, expected: usize) -> Option<Cow<'a, str>> {
    let split = &record.split;
    // What nothing follows may be the beginning of a code only: rejecting the order `ORD-1` would not help `ORD-17`.
    let open_ended = record.too_long || (!record.ended && split.len() < expected);
    if column >= split.len() || (open_ended && column + 1 == split.len()) {
        return None;
    }
    let name = str::from_utf8(split.get(column)).ok()?;
    // Blanks and what nobody sees make a code invalid; the order meant is the one without them.
    let trimmed = name.trim_matches(|character: char| character.is_whitespace() || character.is_control());
    if trimmed.is_ascii() && !trimmed.bytes().any(|byte| byte.is_ascii_control()) {
        return Some(Cow::Borrowed(trimmed));
    }
    let seen: String = trimmed.chars().filter(|&character| !is_unseen(character)).nfc().collect();
    Some(Cow::Owned(seen))
}

/// A positive integer of nothing but ASCII digits.
fn positive(text: &[u8]) -> Option<i64> {
    let mut value: i64 = 0;
    for &byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i64::from(byte - b'0'))?;
    }
    (value > 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::fields::Fields;

    #[test]
    fn only_plain_digits_are_numbers() {
        for (text, expected) in [
            ("1", Some(1)),
            ("007", Some(7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("12345678901234567890", None),
            ("", None),
            ("0", None),
            ("-1", None),
            ("+5", None),
            (" 5", None),
            ("5 ", None),
            ("1.5", None),
            ("1e3", None),
            ("0x10", None),
            ("1_000", None),
            ("NaN", None),
            ("٥", None),
        ] {
            assert_eq!(positive(text.as_bytes()), expected, "{text:?}");
        }
    }

    /// The code that a bad row poisons.
    fn poisoned(text: &str, ended: bool) -> Option<String> {
        let header = Header::parse(b"id,order_code,customer_id,product_id,quantity,unit_price").expect("complete");
        let mut fields = Fields::default();
        fields.split(text.as_bytes(), b',');
        let split = fields.view(text.as_bytes());
        let record = Record { number: 2, text: text.as_bytes(), split, too_long: false, ended, doubt: None };
        parse(&record, &header).expect_err("bad").order_code.map(Cow::into_owned)
    }

    #[test]
    fn the_order_of_a_broken_row_is_known_as_well_as_it_can_be() {
        for (text, ended, expected) in [
            ("1,A-1,x,1,1,1.00", true, Some("A-1")),
            ("1,A-1,7", true, Some("A-1")),
            ("1,A-1", true, Some("A-1")),
            ("1,A-1,", false, Some("A-1")),
            ("1,A-1", false, None),
            ("1", true, None),
            ("1,A-1,7,4,1,1,050.00", true, Some("A-1")),
            ("1,A-1,7,4,\"1,1.00", true, Some("A-1")),
            ("1,\"A-1,7,4,1,1.00", true, Some("A-1")),
            ("\"1,A-1,7,4,1,1.00", true, Some("A-1")),
            ("1,\"A-1", true, Some("A-1")),
            ("1,\"A-1", false, None),
            ("1,\"A-1\" ,7,4,1,1.00", true, Some("A-1")),
            ("1, A-1\t,7,4,1,1.00", true, Some("A-1")),
            ("1,A\u{200b}-1,7,4,1,1.00", true, Some("A-1")),
            ("1,A\u{ad}-1\u{feff},7,4,1,1.00", true, Some("A-1")),
            ("1,Cafe\u{301},7,4,1,1.00", true, Some("Café")),
            ("1,,7,4,1,1.00", true, None),
        ] {
            assert_eq!(poisoned(text, ended).as_deref(), expected, "{text:?}");
        }
    }
}
