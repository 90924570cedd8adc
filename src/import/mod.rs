//! A CSV file into complete orders. No Redis, no Postgres: bytes in, orders and rejected rows out.
//!
//! One row's way, and where it is written:
//!
//! | step | where |
//! |---|---|
//! | bytes become UTF-8, and lines of bounded length | `source`, `lines` |
//! | the first line says what separates fields, and which column stands where | `header` |
//! | lines become rows: one each, or several where quotes go over line breaks | `records`, `quotes`, `fields` |
//! | a row's values, or the reason why not | `row` |
//! | rows are divided by order, in memory, beyond that in temporary files | `partitions`, `frame` |
//! | part by part: the verdict on each order, and its rows if it is bad | `settle`, `table`, `codes`, `sibling` |
//! | good orders in order of first appearance | [`Grouped`], from `held` through `runs` |
//! | an order becomes a message | [`encode_order_into`] |
//! | rejected rows as CSV | [`RejectWriter`] |
//! | the same for requests for refunds, one row each | `refunds` |
//! | the same for the catalogue, row by row | [`read_rows`] |
//!
//! An order with any bad row is rejected whole, because half an order must never ship. `accepted_rows + rejected_rows`
//! is always `rows`.

mod ahead;
mod codes;
mod divided;
mod encode;
mod error;
mod fields;
mod frame;
mod grouped;
mod header;
mod held;
mod lines;
mod partitions;
mod plain;
mod quotes;
mod records;
mod refunds;
mod reject;
mod row;
mod runs;
mod settle;
mod sibling;
mod source;
mod spreadsheet;
mod table;

use std::{
    io::{self, Read},
    ops::ControlFlow,
    path::PathBuf,
};

use serde::Serialize;

use self::{
    divided::Divided,
    header::Header,
    partitions::Partitions,
    records::{Record, Records},
};
pub use self::{
    encode::encode_order_into,
    error::{Lookalike, ReadError},
    grouped::{Frames, Grouped, GroupedOrder},
    lines::LINE_BYTES_MAX,
    plain::{BadValue, PlainRow, read_rows},
    records::{Oddities, ROW_LINES_MAX},
    refunds::{GroupedRefund, GroupedRefunds, ParsedRefunds, read_refunds},
    reject::{Reason, Reject, RejectSink, RejectWriter, Unclosed, VALUE_CHARS_MAX, is_reject_file},
    source::Encoding,
};

/// Bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// How to read a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether an order whose rows name several customers is rejected; otherwise it belongs to the first, with a
    /// warning.
    pub strict: bool,
    /// Memory for rows in bytes; what is beyond waits in temporary files. Buffers of some MiB come on top.
    pub memory_bytes_max: usize,
    /// Where temporary files go. They have no names, so that nothing is left behind whatever ends the process.
    pub spill_dir: PathBuf,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { strict: false, memory_bytes_max: 256 * 1024 * 1024, spill_dir: std::env::temp_dir() }
    }
}

impl ReadOptions {
    /// Numbers of rows and offsets in memory have 32 bits.
    fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max.min(u32::MAX as usize)
    }

    fn spill_failed(&self, source: io::Error) -> ReadError {
        ReadError::Spill { dir: self.spill_dir.clone(), source }
    }
}

/// How far the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the file.
    pub bytes: u64,
    /// Rows, good or bad.
    pub rows: u64,
}

/// A file that was read to its end.
#[derive(Debug)]
pub struct Parsed {
    /// Rows below the header; lines without anything in any field are none.
    pub rows: u64,
    /// Rows of the good orders.
    pub accepted_rows: u64,
    /// All other rows.
    pub rejected_rows: u64,
    /// Good orders.
    pub orders: u64,
    /// Orders of which rows were rejected. A bad row whose order cannot be told counts for none.
    pub rejected_orders: u64,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// How it was read.
    pub form: Form,
    /// What is odd and no error.
    pub warnings: Warnings,
    /// The good orders.
    pub grouped: Grouped,
}

/// How a file was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Form {
    /// What it is written in.
    pub encoding: Encoding,
    /// What separates its fields: a comma, a semicolon, a tab or `|`.
    pub delimiter: char,
    /// What was odd in it.
    #[serde(flatten)]
    pub oddities: Oddities,
}

impl Form {
    fn of<R: Read>(records: &Records<R>) -> Self {
        Self { encoding: records.encoding(), delimiter: char::from(records.delimiter()), oddities: records.oddities }
    }

    /// What people should know of it; nothing of an ordinary file.
    pub fn notes(&self) -> Vec<String> {
        let Oddities { rows_of_several_lines, first_of_several_lines, empty_rows, last_without_end } = self.oddities;
        let separated = match self.delimiter {
            ',' => String::new(),
            delimiter => {
                let delimiter = if delimiter == '\t' { "tabs".to_owned() } else { delimiter.to_string() };
                format!(", separated by {delimiter} (a comma in an amount is a decimal point)")
            }
        };
        let mut notes = Vec::new();
        match (self.encoding, self.delimiter) {
            (Encoding::Utf8, ',') => {}
            (Encoding::Utf8, _) => notes.push(format!("read as UTF-8{separated}")),
            _ => notes.push(format!("read as UTF-16{separated}")),
        }
        if let Some(line) = first_of_several_lines {
            let have = if rows_of_several_lines == 1 { "row has" } else { "rows have" };
            notes.push(format!(
                "{rows_of_several_lines} {have} a field that goes over several lines, first on line {line}: what stands in \
                 it is text, not rows"
            ));
        }
        if empty_rows > 0 {
            let rows = if empty_rows == 1 { "row" } else { "rows" };
            notes.push(format!("passed over {empty_rows} {rows} with nothing in any column"));
        }
        if let Some(line) = last_without_end {
            notes.push(format!(
                "line {line}, the last one, has no line end: if the file was cut off, so was what stands there"
            ));
        }
        notes
    }
}

/// What is odd and no error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    /// Columns that mean nothing here.
    pub ignored_columns: Vec<String>,
    /// Good orders of which some row names another customer than the first.
    pub orders_with_several_customers: u64,
    /// The first such row.
    pub first_several_customers_line: Option<u64>,
}

/// Reads one file.
///
/// Rejected rows go to `sink` in two parts: first, while the file is read, those that are wrong in themselves, then,
/// when all orders are complete, the good rows of rejected orders; in each part in the order of lines. `progress` is
/// called about once per MiB, and now and then while orders are put together, and may ask to stop.
///
/// # Errors
/// When the file as a whole is not readable (see [`ReadError`]), temporary files fail, `sink` fails, or `progress` asks
/// to stop.
pub fn read(
    reader: impl Read,
    options: &ReadOptions,
    sink: &mut RejectSink<'_>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Parsed, ReadError> {
    let mut records = Records::new(reader);
    let header = records.header(|lines| header::read(lines, header::KNOWN, Header::new))?;
    let mut partitions = Partitions::new(&options.spill_dir, options.memory_bytes_max());
    let mut bad_rows = 0;
    let spilling = |result: io::Result<()>| result.map_err(|error| options.spill_failed(error));

    let rows = each_row(&mut records, progress, |record| {
        let number = record.number;
        match row::parse(&record, &header) {
            Ok((code, row)) => spilling(partitions.push(code, |payload| Divided::Row(row).put(payload))),
            Err(row::BadRow { order_code, column, value, reason }) => {
                bad_rows += 1;
                let column = column.and_then(|column| header.columns.names.get(column)).map(String::as_str);
                let order_code = order_code.as_deref();
                let reject = Reject { line: number, refund_key: None, order_code, column, value, reason };
                sink(&reject).map_err(ReadError::Rejects)?;
                match order_code {
                    Some(code) => spilling(partitions.push(code, |payload| Divided::Bad(number).put(payload))),
                    None => Ok(()),
                }
            }
        }
    })?;
    let bytes = records.bytes();
    let (grouped, tally) =
        settle::settle(partitions, options, sink, &mut || progress(Progress { bytes, rows }).is_break())?;
    let parsed = Parsed {
        rows,
        accepted_rows: tally.accepted_rows,
        rejected_rows: bad_rows + tally.rejected_rows,
        orders: tally.orders,
        rejected_orders: tally.rejected_orders,
        bytes,
        form: Form::of(&records),
        sha256: records.into_sha256(),
        warnings: Warnings {
            ignored_columns: header.columns.ignored(),
            orders_with_several_customers: tally.orders_with_several_customers,
            first_several_customers_line: tally.first_several_customers_line,
        },
        grouped,
    };
    // Both sides are counted where the rows go, not derived from each other.
    assert_eq!(parsed.accepted_rows + parsed.rejected_rows, parsed.rows, "a row was lost or counted twice");
    Ok(parsed)
}

/// Goes through the rows below the header; how many there are.
fn each_row<R: Read>(
    records: &mut Records<R>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    mut visit: impl FnMut(Record<'_>) -> Result<(), ReadError>,
) -> Result<u64, ReadError> {
    let (mut rows, mut reported) = (0, 0);
    while let Some(record) = records.next()? {
        rows += 1;
        visit(record)?;
        if records.bytes() - reported >= PROGRESS_BYTES {
            reported = records.bytes();
            if progress(Progress { bytes: reported, rows }).is_break() {
                return Err(ReadError::Interrupted);
            }
        }
    }
    Ok(rows)
}
