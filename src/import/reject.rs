//! What is not imported, and why: one record per rejected row, and the file they go to.

use std::{fmt, io};

use pipeline::domain::{Cents, CustomerId, InvalidOrder, InvalidRefund, LINES_PER_ORDER_MAX, is_unseen};

use super::{lines::LINE_BYTES_MAX, records::ROW_LINES_MAX, spreadsheet::as_text};

/// Most characters of an offending value that are shown.
pub const VALUE_CHARS_MAX: usize = 100;

/// Why a row is rejected. In each row the first that applies, in this order, is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A quote is opened and not closed as it should be: this line may be text within it.
    UnbalancedQuote {
        /// The line in which the row begins that has the quote.
        line: u64,
        /// How it is not closed.
        why: Unclosed,
    },
    /// More than [`LINE_BYTES_MAX`] bytes.
    LineTooLong,
    /// A quote stands inside an unquoted field, or text follows a closing one.
    MisplacedQuote,
    /// The file ends amid the row: no line end, and columns are missing.
    CutOff {
        /// Columns of the row.
        found: usize,
        /// Columns of the header.
        expected: usize,
    },
    /// Fewer columns than the header.
    TooFewColumns {
        /// Columns of the row.
        found: usize,
        /// Columns of the header.
        expected: usize,
    },
    /// More columns than the header.
    TooManyColumns {
        /// Columns of the row.
        found: usize,
        /// Columns of the header.
        expected: usize,
    },
    /// A column that is not UTF-8.
    InvalidUtf8,
    /// No order can have this code.
    InvalidOrderCode(InvalidOrder),
    /// What a spreadsheet puts in the place of a code.
    SpoiltCode,
    /// Not a positive 64-bit integer of plain digits.
    InvalidCustomerId,
    /// Not a positive 64-bit integer of plain digits.
    InvalidProductId,
    /// Not a positive 32-bit integer of plain digits.
    InvalidQuantity,
    /// Not a plain amount.
    InvalidUnitPrice,
    /// Not a plain amount.
    InvalidTotal,
    /// The row, or the order up to this row, exceeds what an order may cost.
    TotalTooLarge,
    /// An amount, but not quantity × unit price.
    WrongTotal {
        /// What it should be.
        expected: Cents,
    },
    /// Another customer than in the order's first row; a rejection only when strict.
    SeveralCustomers {
        /// The customer in the first row.
        first: CustomerId,
    },
    /// The row with which the order has too many lines.
    TooManyLines,
    /// The row is good, another of the same order is not: half an order never ships.
    OrderRejected {
        /// The first line that is the cause.
        line: u64,
    },
    /// No refund can have this key.
    InvalidRefundKey(InvalidRefund),
    /// Not a plain amount above zero.
    InvalidAmount,
    /// A reason for a refund that is too long, or has control characters.
    InvalidReason,
    /// Neither yes nor no.
    InvalidRestock,
    /// An earlier row has the same key and asks for something else. The first counts, as it does for messages.
    ConflictingKey {
        /// The first row with the key.
        line: u64,
    },
}

/// How a quote is not closed as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclosed {
    /// To the end of the file.
    Never,
    /// Another quote stands amid text.
    AmidText,
    /// The row is over the bounds of one.
    Endless,
    /// A backslash stands before it, which some programs read as a part of it and others as text.
    Escaped,
    /// The line ends with another line break than the rows of the file, as some programs write it within a field.
    OtherBreak,
    /// A backslash stands at the end of the line, where some programs write one before a line break within a field.
    EscapedBreak,
}

impl Reason {
    /// The stable word in the column `reason`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::LineTooLong => "line_too_long",
            Self::UnbalancedQuote { .. } => "unbalanced_quote",
            Self::MisplacedQuote => "misplaced_quote",
            Self::CutOff { .. } => "cut_off",
            Self::TooFewColumns { .. } => "too_few_columns",
            Self::TooManyColumns { .. } => "too_many_columns",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidOrderCode(_) => "invalid_order_code",
            Self::SpoiltCode => "spoilt_code",
            Self::InvalidCustomerId => "invalid_customer_id",
            Self::InvalidProductId => "invalid_product_id",
            Self::InvalidQuantity => "invalid_quantity",
            Self::InvalidUnitPrice => "invalid_unit_price",
            Self::InvalidTotal => "invalid_total",
            Self::TotalTooLarge => "total_too_large",
            Self::WrongTotal { .. } => "wrong_total",
            Self::SeveralCustomers { .. } => "several_customers",
            Self::TooManyLines => "too_many_lines",
            Self::OrderRejected { .. } => "order_rejected",
            Self::InvalidRefundKey(_) => "invalid_refund_key",
            Self::InvalidAmount => "invalid_amount",
            Self::InvalidReason => "invalid_reason",
            Self::InvalidRestock => "invalid_restock",
            Self::ConflictingKey { .. } => "conflicting_key",
        }
    }
}

impl fmt::Display for Reason {
    /// The sentence in the column `message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong => write!(f, "the line is longer than {LINE_BYTES_MAX} bytes"),
            Self::UnbalancedQuote { line, why: Unclosed::EscapedBreak } => {
                write!(
                    f,
                    "line {line} ends with a backslash, which some programs write before a line break within a field: this may be \
                     a row, or text of the one before; put such fields into quotes, without the backslash"
                )
            }
            Self::UnbalancedQuote { line, why: Unclosed::OtherBreak } => {
                write!(
                    f,
                    "line {line} ends with another line break than the first one of the file: from there to the next one of that \
                     kind, this may be rows, or text of one; put fields that go over lines into quotes, or use one kind of line break"
                )
            }
            Self::UnbalancedQuote { line, why } => {
                let how = match why {
                    Unclosed::Never => "is never closed".to_owned(),
                    Unclosed::AmidText => {
                        "is not closed where a field ends (within quotes it is written twice)".to_owned()
                    }
                    Unclosed::Escaped => {
                        "has a backslash before it, which some programs take for a part of it and others for text (within quotes \
                         a quote is written twice, and a backslash does not stand before one)"
                            .to_owned()
                    }
                    Unclosed::EscapedBreak | Unclosed::OtherBreak | Unclosed::Endless => {
                        format!("is not closed within {ROW_LINES_MAX} lines and {LINE_BYTES_MAX} bytes")
                    }
                };
                write!(f, "a quote in the row of line {line} {how}: rows cannot be told from text from there on")
            }
            Self::MisplacedQuote => f.write_str("a quote may only enclose a whole field; inside it is written twice"),
            Self::CutOff { found, expected } => {
                write!(f, "the file ends amid this row, which has {found} of {expected} columns")
            }
            Self::TooFewColumns { found, expected } | Self::TooManyColumns { found, expected } => {
                write!(f, "the row has {found} columns, the header {expected}")
            }
            Self::InvalidUtf8 => f.write_str("the value is not UTF-8: save the file as UTF-8"),
            Self::InvalidOrderCode(why) => why.fmt(f),
            Self::SpoiltCode => f.write_str(
                "a spreadsheet or another program has put this in the place of the code, and of other codes: format the column as text, \
                 and export anew",
            ),
            Self::InvalidCustomerId => InvalidOrder::CustomerId.fmt(f),
            Self::InvalidProductId => InvalidOrder::ProductId.fmt(f),
            Self::InvalidQuantity => InvalidOrder::Quantity.fmt(f),
            Self::InvalidUnitPrice => InvalidOrder::UnitPrice.fmt(f),
            Self::InvalidTotal => f.write_str("total must be a plain decimal with at most two places"),
            Self::TotalTooLarge => InvalidOrder::TotalTooLarge.fmt(f),
            Self::WrongTotal { expected } => write!(f, "total must be quantity × unit_price, which is {expected}"),
            Self::SeveralCustomers { first } => write!(f, "the order's first row names customer {first}"),
            Self::TooManyLines => write!(f, "an order has at most {LINES_PER_ORDER_MAX} lines, this is one more"),
            Self::OrderRejected { line } => write!(f, "line {line} of the same order is rejected"),
            Self::InvalidRefundKey(why) => why.fmt(f),
            Self::InvalidAmount => InvalidRefund::Amount.fmt(f),
            Self::InvalidReason => InvalidRefund::Reason.fmt(f),
            Self::InvalidRestock => f.write_str("restock must be true, false, yes, no, 1, 0 or empty"),
            Self::ConflictingKey { line } => {
                write!(f, "line {line} has the same refund_key with another order, amount, reason or restock")
            }
        }
    }
}

/// A rejected row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject<'a> {
    /// Its line in the file, from 1.
    pub line: u64,
    /// Its refund, as far as it can be told; only in files of refunds.
    pub refund_key: Option<&'a str>,
    /// Its order, as far as it can be told; from a broken row it may be a guess.
    pub order_code: Option<&'a str>,
    /// The column at fault, where it is one.
    pub column: Option<&'a str>,
    /// What stands there, or the row where no column is at fault; empty for [`Reason::OrderRejected`].
    pub value: &'a [u8],
    /// Why.
    pub reason: Reason,
}

impl Reject<'_> {
    /// The sentence in the column `message`. A value that looks right and is not is told by what nobody sees in it.
    pub fn message(&self) -> String {
        let message = self.reason.to_string();
        let value = self.column.and_then(|_| std::str::from_utf8(self.value).ok()).unwrap_or_default();
        match value.chars().take(VALUE_CHARS_MAX).find(|&character| is_unseen(character)) {
            Some(unseen) if !message.contains("U+") => {
                format!("{message} (the value contains U+{:04X}, which cannot be seen)", u32::from(unseen))
            }
            _ => message,
        }
    }
}

/// Takes rejected rows, one by one.
pub type RejectSink<'a> = dyn FnMut(&Reject<'_>) -> io::Result<()> + 'a;

/// Columns of a reject file.
const COLUMNS: [&str; 8] = ["file", "line", REFUND_KEY, "order_code", "column", "value", "reason", "message"];

/// The column that only files of refunds have.
const REFUND_KEY: &str = "refund_key";

fn columns(has_keys: bool) -> impl Iterator<Item = &'static str> {
    COLUMNS.into_iter().filter(move |name| has_keys || *name != REFUND_KEY)
}

/// Whether a file that begins like this is a reject file, as we write it or a spreadsheet does after us.
pub fn is_reject_file(start: &[u8]) -> bool {
    let start = String::from_utf8_lossy(start);
    let line = start.trim_start_matches('\u{feff}').lines().next().unwrap_or_default();
    let names: Vec<&str> = line.split([',', ';', '\t']).map(|name| name.trim_matches('"')).collect();
    [false, true].into_iter().any(|has_keys| columns(has_keys).eq(names.iter().copied()))
}

/// Writes rejected rows as CSV: `file,line,order_code,column,value,reason,message`; of refunds with the column
/// `refund_key` before `order_code`.
#[derive(Debug)]
pub struct RejectWriter<W: io::Write> {
    out: csv::Writer<W>,
    has_keys: bool,
    line: String,
}

impl<W: io::Write> RejectWriter<W> {
    /// Begins with the header, for rows of orders.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn new(out: W) -> io::Result<Self> {
        Self::with(out, false)
    }

    /// Begins with the header, for rows of refunds.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn of_refunds(out: W) -> io::Result<Self> {
        Self::with(out, true)
    }

    fn with(out: W, has_keys: bool) -> io::Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(columns(has_keys))?;
        Ok(Self { out, has_keys, line: String::new() })
    }

    /// Adds a row of the file named `file`.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(&mut self, file: &str, reject: &Reject<'_>) -> io::Result<()> {
        use fmt::Write as _;
        self.line.clear();
        // Writing to a String cannot fail; the result is handled all the same.
        write!(self.line, "{}", reject.line).map_err(io::Error::other)?;
        self.text_field(file)?;
        self.out.write_field(&self.line)?;
        if self.has_keys {
            self.text_field(reject.refund_key.unwrap_or_default())?;
        }
        self.text_field(reject.order_code.unwrap_or_default())?;
        self.text_field(reject.column.unwrap_or_default())?;
        self.text_field(&shortened(reject.value))?;
        self.out.write_field(reject.reason.code())?;
        self.text_field(&reject.message())?;
        Ok(self.out.write_record(None::<&[u8]>)?)
    }

    /// Writes out what is buffered and gives `out` back.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.out.into_inner().map_err(csv::IntoInnerError::into_error)
    }

    /// A field from outside.
    fn text_field(&mut self, text: &str) -> csv::Result<()> {
        self.out.write_field(&*as_text(text))
    }
}

/// The value as text, at most [`VALUE_CHARS_MAX`] characters of it; what is not UTF-8 is replaced.
fn shortened(value: &[u8]) -> String {
    // No character has more than four bytes: a value of 64 KiB need not be converted whole.
    let head = &value[..value.len().min(4 * (VALUE_CHARS_MAX + 1))];
    let text = String::from_utf8_lossy(head);
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(order_code: &str, value: &[u8], reason: Reason) -> String {
        let mut writer = RejectWriter::new(Vec::new()).expect("in memory");
        let order_code = Some(order_code);
        let reject = Reject { line: 7, refund_key: None, order_code, column: Some("quantity"), value, reason };
        writer.write("orders.csv", &reject).expect("in memory");
        let text = String::from_utf8(writer.finish().expect("in memory")).expect("UTF-8");
        text.strip_prefix("file,line,order_code,column,value,reason,message\n").expect("the header").to_owned()
    }

    #[test]
    fn a_reject_is_one_row_of_csv() {
        assert_eq!(
            written("ORD-1", b"1e3", Reason::InvalidQuantity),
            "orders.csv,7,ORD-1,quantity,1e3,invalid_quantity,quantity must be an integer from 1 to 2147483647\n"
        );
        assert_eq!(
            written("a,\"b\"", b"", Reason::OrderRejected { line: 3 }),
            "orders.csv,7,\"a,\"\"b\"\"\",quantity,,order_rejected,line 3 of the same order is rejected\n"
        );
    }

    #[test]
    fn a_reject_file_is_known_by_its_header() {
        for has_keys in [false, true] {
            let written = RejectWriter::with(Vec::new(), has_keys).and_then(RejectWriter::finish).expect("in memory");
            assert!(is_reject_file(&written));
            let text = String::from_utf8(written).expect("UTF-8");
            assert!(is_reject_file(format!("\u{feff}{}\"a\";1", text.replace(',', ";")).as_bytes()));
        }
        for other in ["", "file,line\n", "order_code,customer_id\n", "\n", "file,line,order_code,column,value,reason\n"]
        {
            assert!(!is_reject_file(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn a_value_that_looks_right_is_told_by_what_nobody_sees() {
        assert_eq!(
            written("ORD-1", "7\u{200b}".as_bytes(), Reason::InvalidQuantity),
            "orders.csv,7,ORD-1,quantity,7\u{200b},invalid_quantity,\"quantity must be an integer from 1 to 2147483647 (the \
             value contains U+200B, which cannot be seen)\"\n"
        );
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_made_text() {
        let reason = Reason::InvalidUtf8;
        for value in ["=1+1", "+5", "-1", "@SUM(A1)", "＝1+1", "＋5", "－1", "＠SUM(A1)", " =1"] {
            assert_eq!(
                written("=cmd", value.as_bytes(), reason),
                format!(
                    "orders.csv,7,'=cmd,quantity,'{value},invalid_utf8,the value is not UTF-8: save the file as UTF-8\n"
                )
            );
        }
        assert!(written("x", b"\r=1", reason).contains("\"'\r=1\""));
    }

    #[test]
    fn long_and_broken_values_are_shortened() {
        assert_eq!(shortened("ü".repeat(100).as_bytes()), "ü".repeat(100));
        assert_eq!(shortened("🦀".repeat(30_000).as_bytes()), "🦀".repeat(100) + "…");
        assert_eq!(shortened(b"Gr\xf6\xdfe"), "Gr\u{fffd}\u{fffd}e");
    }
}
