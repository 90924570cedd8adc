//! A line into a row of an order, or into the reason why it is none.

use std::str;

use pipeline::domain::{Cents, CustomerId, Line as OrderLine, OrderCode, ProductId, TOTAL_CENTS_MAX};

use super::{
    fields::{Fields, Split},
    header::Header,
    lines::Line,
    reject::Reason,
};

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
    pub(super) order_code: Option<&'a str>,
    /// The column at fault.
    pub(super) column: Option<usize>,
    /// What stands there.
    pub(super) value: &'a [u8],
    /// Why.
    pub(super) reason: Reason,
}

/// What is wrong with a row: the column at fault, what stands there, and why.
pub(super) type Fault<'a> = (Option<usize>, &'a [u8], Reason);

/// Whether a line has the shape of a row: as many columns as the header, all of them UTF-8.
pub(super) fn check_shape<'a>(line: Line<'a>, split: &Split<'a>, expected: usize) -> Result<(), Fault<'a>> {
    if line.too_long {
        return Err((None, line.text, Reason::LineTooLong));
    }
    if let Some(fault) = split.fault {
        let reason = if fault.unbalanced { Reason::UnbalancedQuote } else { Reason::MisplacedQuote };
        return Err((Some(fault.field), &line.text[fault.start..], reason));
    }
    let found = split.len();
    if found > expected {
        return Err((None, line.text, Reason::TooManyColumns { found, expected }));
    }
    if found < expected {
        let cut_off = Reason::CutOff { found, expected };
        return Err((None, line.text, if line.ended { Reason::TooFewColumns { found, expected } } else { cut_off }));
    }
    if str::from_utf8(line.text).is_err() {
        let column = (0..found).find(|&index| str::from_utf8(split.get(index)).is_err());
        return Err((column, column.map_or(line.text, |index| split.get(index)), Reason::InvalidUtf8));
    }
    Ok(())
}

/// Reads a line.
pub(super) fn parse<'a>(line: Line<'a>, header: &Header, fields: &'a mut Fields) -> Result<(&'a str, Row), BadRow<'a>> {
    let split = fields.split(line.text);
    check_shape(line, &split, header.columns.names.len())
        .and_then(|()| {
            parse_values(line.number, &split, header)
                .map_err(|(column, reason)| (Some(column), split.get(column), reason))
        })
        .map_err(|(column, value, reason)| BadRow {
            order_code: code_of_bad_row(&line, &split, header),
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

    let column = header.customer_id;
    let customer_id = positive(split.get(column)).ok_or((column, Reason::InvalidCustomerId))?;

    let column = header.product_id;
    let product_id = positive(split.get(column)).ok_or((column, Reason::InvalidProductId))?;

    let column = header.quantity;
    let quantity = positive(split.get(column)).and_then(|quantity| i32::try_from(quantity).ok());
    let quantity = quantity.ok_or((column, Reason::InvalidQuantity))?;

    let column = header.unit_price;
    let unit_price = Cents::parse_price(split.get(column)).map_err(|_| (column, Reason::InvalidUnitPrice))?;

    let amount = unit_price.checked_mul(quantity).filter(|amount| amount.get() <= TOTAL_CENTS_MAX);
    let amount = amount.ok_or((header.total.unwrap_or(column), Reason::TotalTooLarge))?;
    if let Some(column) = header.total {
        let total = Cents::parse_total(split.get(column)).map_err(|_| (column, Reason::InvalidTotal))?;
        if total != amount {
            return Err((column, Reason::WrongTotal { expected: amount }));
        }
    }

    let order_line = OrderLine { product_id: ProductId(product_id), quantity, unit_price };
    Ok((order_code, Row { line: number, customer_id: CustomerId(customer_id), order_line }))
}

/// The order of a row that is rejected, as well as it can be told. Its other rows must not ship without it.
fn code_of_bad_row<'a>(line: &Line<'_>, split: &Split<'a>, header: &Header) -> Option<&'a str> {
    let code = name_in_bad_row(line, split, header.order_code, header.columns.names.len())?;
    OrderCode::check(code).is_ok().then_some(code)
}

/// What stands in a column of a row that is rejected, as well as it can be told.
pub(super) fn name_in_bad_row<'a>(
    line: &Line<'_>,
    split: &Split<'a>,
    column: usize,
    expected: usize,
) -> Option<&'a str> {
    // What nothing follows may be the beginning of a code only: rejecting the order `ORD-1` would not help `ORD-17`.
    let open_ended = line.too_long || (!line.ended && split.len() < expected);
    if column >= split.len() || (open_ended && column + 1 == split.len()) {
        return None;
    }
    let name = str::from_utf8(split.get(column)).ok()?;
    // Blanks make a code invalid; the order meant is the one without them.
    Some(name.trim_matches(|character: char| character.is_whitespace() || character.is_control()))
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
        let line = Line { number: 2, text: text.as_bytes(), too_long: false, ended };
        parse(line, &header, &mut Fields::default()).expect_err("bad").order_code.map(str::to_owned)
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
            ("1,,7,4,1,1.00", true, None),
        ] {
            assert_eq!(poisoned(text, ended).as_deref(), expected, "{text:?}");
        }
    }
}
