//! A row into a request for a refund, or into the reason why it is none.

use std::{borrow::Cow, str};

use pipeline::domain::{InvalidOrder, InvalidRefund, OrderCode, RefundRequest};

use crate::import::{
    ReadError, Reason,
    fields::Split,
    header::Columns,
    records::Record,
    row::{Fault, check_shape, name_in_bad_row, with_point},
    spreadsheet::is_spoilt,
};

/// Places of the columns of a file of refunds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) columns: Columns,
    refund_key: usize,
    order_code: usize,
    amount: usize,
    reason: Option<usize>,
    restock: Option<usize>,
}

/// Every name with a meaning.
pub(super) const KNOWN: &[&str] = &["refund_key", "order_code", "amount", "reason", "restock"];

impl Header {
    /// Finds the columns.
    ///
    /// # Errors
    /// When a required one is missing.
    pub(super) fn new(columns: Columns) -> Result<Self, ReadError> {
        columns.without_currency()?;
        let (refund_key, order_code) = (columns.required("refund_key")?, columns.required("order_code")?);
        let amount = columns.required("amount").map_err(|error| match error {
            ReadError::MissingColumn { found, .. } => ReadError::MissingAmount { found },
            error => error,
        })?;
        Ok(Self {
            refund_key,
            order_code,
            amount,
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
    pub(super) refund_key: Option<Cow<'a, str>>,
    /// Its order as well as it can be told.
    pub(super) order_code: Option<Cow<'a, str>>,
    /// The column at fault.
    pub(super) column: Option<usize>,
    /// What stands there.
    pub(super) value: &'a [u8],
    /// Why.
    pub(super) reason: Reason,
}

/// Reads a row.
pub(super) fn parse<'a>(record: &Record<'a>, header: &Header) -> Result<RefundRequest, BadRow<'a>> {
    let expected = header.columns.names.len();
    let read = check_shape(record, expected).and_then(|()| {
        // An empty amount gives everything back, and one that was cut off is not empty.
        let is_last = header.amount + 1 == expected;
        if is_last && !record.ended && record.split.get(header.amount).is_empty() {
            return Err((None, record.text, Reason::CutOff { found: expected - 1, expected }));
        }
        parse_values(&record.split, header)
    });
    read.map_err(|(column, value, reason)| {
        let name = |column| name_in_bad_row(record, column, expected).filter(|name| !name.is_empty());
        BadRow { refund_key: name(header.refund_key), order_code: name(header.order_code), column, value, reason }
    })
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
    let asked = restock.map_or(Some(false), yes_or_no);
    let amount = optional(Some(header.amount))?.map(|amount| with_point(amount.as_bytes(), header.columns.delimiter));
    let amount = amount.as_deref().map(|amount| str::from_utf8(amount).unwrap_or_default());
    let request = RefundRequest::new(key, order_code, amount, optional(header.reason)?, asked.unwrap_or(false));
    let request = request.map_err(|why| {
        // A value that is empty or absent is never at fault where it may be.
        let or_key = |column: Option<usize>| column.unwrap_or(header.refund_key);
        match why {
            InvalidRefund::KeyLength
            | InvalidRefund::KeyMalformed
            | InvalidRefund::KeyUnseen(_)
            | InvalidRefund::KeyNotComposed
            | InvalidRefund::KeyReserved => at(header.refund_key, Reason::InvalidRefundKey(why)),
            InvalidRefund::OrderCode => {
                let why = OrderCode::check(order_code).err().unwrap_or(InvalidOrder::CodeMalformed);
                at(header.order_code, Reason::InvalidOrderCode(why))
            }
            InvalidRefund::Amount => at(header.amount, Reason::InvalidAmount),
            InvalidRefund::Reason => at(or_key(header.reason), Reason::InvalidReason),
        }
    })?;
    // A request for an order from before the rule comes by another way; in a file it is one that was mistyped.
    OrderCode::check(order_code).map_err(|why| at(header.order_code, Reason::InvalidOrderCode(why)))?;
    for (column, name) in [(header.refund_key, key), (header.order_code, order_code)] {
        if is_spoilt(name) {
            return Err(at(column, Reason::SpoiltCode));
        }
    }
    match asked {
        Some(_) => Ok(request),
        None => Err(at(header.restock.unwrap_or(header.refund_key), Reason::InvalidRestock)),
    }
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
    use crate::import::{fields::Fields, header, lines::Lines};

    const HEADER: &[u8] = b"refund_key,order_code,amount,reason,restock";

    fn parsed(header: &[u8], text: &str) -> Result<RefundRequest, (&'static str, Option<usize>, Option<String>)> {
        let (_, header) = header::read(&mut Lines::new(header), KNOWN, Header::new).expect("complete");
        let mut fields = Fields::default();
        fields.split(text.as_bytes(), b',');
        let split = fields.view(text.as_bytes());
        let record = Record { number: 2, text: text.as_bytes(), split, too_long: false, ended: true, doubt: None };
        parse(&record, &header).map_err(|bad| (bad.reason.code(), bad.column, bad.refund_key.map(Cow::into_owned)))
    }

    #[test]
    fn a_row_is_a_request() {
        let request = parsed(HEADER, "r-1,ORD-1,10.5,\"damaged, in part\",yes").expect("good");
        assert_eq!((request.amount, request.restock), (Some(Cents::new(1050)), true));
        assert_eq!(request.reason.as_deref(), Some("damaged, in part"));
        let pieces = parsed(HEADER, "r-1,ORD-1,0.00,,yes").expect("good");
        assert_eq!((pieces.amount, pieces.restock), (Some(Cents::ZERO), true));
        let least = parsed(HEADER, "r-1,ORD-1,,,").expect("good");
        assert_eq!((least.amount, least.reason.clone(), least.restock), (None, None, false));
        assert_eq!(parsed(b"ORDER_CODE, Refund_Key ,AMOUNT", "ORD-1,r-1,").expect("good"), least);
    }

    #[test]
    fn a_file_that_does_not_say_how_much_is_refused() {
        for (header, why) in [
            (
                "refund_key,order_code",
                "column amount is missing in the header, which reads: refund_key,order_code. Without it",
            ),
            (
                "refund_key;order_code;Betrag",
                "column amount is missing in the header, which reads: refund_key;order_code;Betrag",
            ),
            ("refund_key,order_code,am\u{200b}ount", "contains U+200B"),
            ("refund_key,order_code,amount,currency", "take the column currency out"),
        ] {
            let refused = header::read(&mut Lines::new(header.as_bytes()), KNOWN, Header::new).expect_err("refused");
            assert!(refused.to_string().contains(why), "{refused}");
        }
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
            ("r\u{200b}-1,A,,,", ("invalid_refund_key", Some(0), key())),
            ("r-1,A\u{200b},,,", ("invalid_order_code", Some(1), key())),
            ("r-1,,,,", ("invalid_order_code", Some(1), key())),
            ("r-1,1.23457E+11,,,", ("spoilt_code", Some(1), key())),
            ("r-1,A,0,,", ("invalid_amount", Some(2), key())),
            ("r-1,A,-1,,", ("invalid_amount", Some(2), key())),
            ("r-1,A, ,,", ("invalid_amount", Some(2), key())),
            ("r-1,A,1e3,,", ("invalid_amount", Some(2), key())),
            ("r-1,A,1,a\u{7}b,", ("invalid_reason", Some(3), key())),
            ("r-1,A,1", ("too_few_columns", None, key())),
            ("r-1,A,1,,,", ("too_many_columns", None, key())),
            ("r-1,\"A,1,,", ("misplaced_quote", Some(1), key())),
        ] {
            assert_eq!(parsed(HEADER, text), Err(expected), "{text:?}");
        }
    }
}
