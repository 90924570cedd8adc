//! A line into a request for a refund, or into the reason why it is none.

use std::str;

use pipeline::domain::{InvalidOrder, InvalidRefund, OrderCode, RefundRequest};

use crate::import::{
    ReadError, Reason,
    fields::{Fields, Split},
    header::Columns,
    lines::Line,
    row::{Fault, check_shape, name_in_bad_row},
};

/// Places of the columns of a file of refunds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) columns: Columns,
    refund_key: usize,
    order_code: usize,
    amount: Option<usize>,
    reason: Option<usize>,
    restock: Option<usize>,
}

/// Every name with a meaning.
const KNOWN: &[&str] = &["refund_key", "order_code", "amount", "reason", "restock"];

impl Header {
    /// Reads the header from its line, without byte order mark.
    ///
    /// # Errors
    /// When a required column is missing, a known one stands there twice, or the quotes are not in order.
    pub(super) fn parse(line: &[u8]) -> Result<Self, ReadError> {
        let columns = Columns::parse(line, KNOWN)?;
        Ok(Self {
            refund_key: columns.required("refund_key")?,
            order_code: columns.required("order_code")?,
            amount: columns.optional("amount"),
            reason: columns.optional("reason"),
            restock: columns.optional("restock"),
            columns,
        })
    }
}

/// A row that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadRow<'a> {
    /// Its key as well as it can be told.
    pub(super) refund_key: Option<&'a str>,
    /// Its order as well as it can be told.
    pub(super) order_code: Option<&'a str>,
    /// The column at fault.
    pub(super) column: Option<usize>,
    /// What stands there.
    pub(super) value: &'a [u8],
    /// Why.
    pub(super) reason: Reason,
}

/// Reads a line.
pub(super) fn parse<'a>(line: Line<'a>, header: &Header, fields: &'a mut Fields) -> Result<RefundRequest, BadRow<'a>> {
    let split = fields.split(line.text);
    let expected = header.columns.names.len();
    check_shape(line, &split, expected).and_then(|()| parse_values(&split, header)).map_err(
        |(column, value, reason)| {
            let name = |column| name_in_bad_row(&line, &split, column, expected).filter(|name| !name.is_empty());
            BadRow { refund_key: name(header.refund_key), order_code: name(header.order_code), column, value, reason }
        },
    )
}

/// Reads the columns of a row whose shape is right.
fn parse_values<'a>(split: &Split<'a>, header: &Header) -> Result<RefundRequest, Fault<'a>> {
    let at = |column: usize, reason| (Some(column), split.get(column), reason);
    let text = |column: usize| str::from_utf8(split.get(column)).map_err(|_| at(column, Reason::InvalidUtf8));
    // An empty column says nothing, as one that the file does not have.
    let optional = |column: Option<usize>| match column {
        Some(column) => text(column).map(|text| Some(text).filter(|text| !text.is_empty())),
        None => Ok(None),
    };
    let (key, order_code) = (text(header.refund_key)?, text(header.order_code)?);
    let restock = optional(header.restock)?;
    let request = RefundRequest::new(key, order_code, optional(header.amount)?, optional(header.reason)?, false);
    let request = request.map_err(|why| {
        // A value that is empty or absent is never at fault where it may be.
        let or_key = |column: Option<usize>| column.unwrap_or(header.refund_key);
        match why {
            InvalidRefund::KeyLength | InvalidRefund::KeyMalformed | InvalidRefund::KeyReserved => {
                at(header.refund_key, Reason::InvalidRefundKey(why))
            }
            InvalidRefund::OrderCode => {
                let why = OrderCode::check(order_code).err().unwrap_or(InvalidOrder::CodeMalformed);
                at(header.order_code, Reason::InvalidOrderCode(why))
            }
            InvalidRefund::Amount => at(or_key(header.amount), Reason::InvalidAmount),
            InvalidRefund::Reason => at(or_key(header.reason), Reason::InvalidReason),
        }
    })?;
    let restock = match restock {
        None => false,
        Some(text) => yes_or_no(text).ok_or_else(|| {
            let column = header.restock.unwrap_or(header.refund_key);
            at(column, Reason::InvalidRestock)
        })?,
    };
    Ok(RefundRequest { restock, ..request })
}

/// A yes or a no in one of the words that programs write, whatever their case.
fn yes_or_no(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["true", "yes", "1"]) {
        Some(true)
    } else if is_one_of(["false", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use pipeline::domain::Cents;

    use super::*;

    const HEADER: &[u8] = b"refund_key,order_code,amount,reason,restock";

    fn parsed(header: &[u8], text: &str) -> Result<RefundRequest, (&'static str, Option<usize>, Option<String>)> {
        let header = Header::parse(header).expect("complete");
        let line = Line { number: 2, text: text.as_bytes(), too_long: false, ended: true };
        parse(line, &header, &mut Fields::default())
            .map_err(|bad| (bad.reason.code(), bad.column, bad.refund_key.map(str::to_owned)))
    }

    #[test]
    fn a_row_is_a_request() {
        let request = parsed(HEADER, "r-1,ORD-1,10.5,\"damaged, in part\",yes").expect("good");
        assert_eq!((request.amount, request.restock), (Some(Cents::new(1050)), true));
        assert_eq!(request.reason.as_deref(), Some("damaged, in part"));
        let least = parsed(HEADER, "r-1,ORD-1,,,").expect("good");
        assert_eq!((least.amount, least.reason.clone(), least.restock), (None, None, false));
        assert_eq!(parsed(b"ORDER_CODE, Refund_Key ", "ORD-1,r-1").expect("good"), least);
    }

    #[test]
    fn restock_is_said_in_several_words() {
        for (text, expected) in
            [("true", true), ("YES", true), ("1", true), ("False", false), ("no", false), ("0", false)]
        {
            assert_eq!(parsed(HEADER, &format!("r,A,,,{text}")).expect("good").restock, expected, "{text}");
        }
        for text in ["y", "2", " yes", "nein", "-"] {
            assert_eq!(parsed(HEADER, &format!("r,A,,,{text}")).expect_err("bad").0, "invalid_restock", "{text}");
        }
    }

    #[test]
    fn a_bad_row_names_its_column_and_its_refund() {
        let key = || Some("r-1".to_owned());
        for (text, expected) in [
            (",A,,,", ("invalid_refund_key", Some(0), None)),
            ("auto:1,A,,,", ("invalid_refund_key", Some(0), Some("auto:1".to_owned()))),
            (" r-1,A,,,", ("invalid_refund_key", Some(0), key())),
            ("r-1,,,,", ("invalid_order_code", Some(1), key())),
            ("r-1,A,0,,", ("invalid_amount", Some(2), key())),
            ("r-1,A,-1,,", ("invalid_amount", Some(2), key())),
            ("r-1,A, ,,", ("invalid_amount", Some(2), key())),
            ("r-1,A,1e3,,", ("invalid_amount", Some(2), key())),
            ("r-1,A,1,a\u{7}b,", ("invalid_reason", Some(3), key())),
            ("r-1,A,1", ("too_few_columns", None, key())),
            ("r-1,A,1,,,", ("too_many_columns", None, key())),
            ("r-1,\"A,1,,", ("unbalanced_quote", Some(1), key())),
        ] {
            assert_eq!(parsed(HEADER, text), Err(expected), "{text:?}");
        }
    }
}
