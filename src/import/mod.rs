//! A CSV file into complete orders. No Redis, no Postgres: bytes in, orders and rejected rows out.
//!
//! One row's way, and where it is written:
//!
//! | step | where |
//! |---|---|
//! | bytes become lines of bounded length | `lines` |
//! | the first line says which column stands where | `header` |
//! | a line becomes fields, and a row or the reason why not | `fields`, `row` |
//! | rows are divided by order, in memory, beyond that in temporary files | `partitions`, `frame` |
//! | part by part: the verdict on each order, and its rows if it is bad | `settle`, `table`, `codes`, `sibling` |
//! | good orders in order of first appearance | [`Grouped`], from `held` through `runs` |
//! | an order becomes a message | [`encode_order_into`] |
//! | rejected rows as CSV | [`RejectWriter`] |
//! | the same for requests for refunds, one row each | `refunds` |
//!
//! An order with any bad row is rejected whole, because half an order must never ship. `accepted_rows + rejected_rows`
//! is always `rows`.

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
mod refunds;
mod reject;
mod row;
mod runs;
mod settle;
mod sibling;
mod table;

use std::{
    io::{self, Read},
    ops::ControlFlow,
    path::PathBuf,
};

use self::{
    divided::Divided,
    fields::Fields,
    header::Header,
    lines::{Line, Lines},
    partitions::Partitions,
};
pub use self::{
    encode::encode_order_into,
    error::ReadError,
    grouped::{Frames, Grouped, GroupedOrder},
    lines::LINE_BYTES_MAX,
    refunds::{GroupedRefund, GroupedRefunds, ParsedRefunds, read_refunds},
    reject::{Reason, Reject, RejectSink, RejectWriter, VALUE_CHARS_MAX},
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
    /// Lines below the header that are not blank.
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
    /// What is odd and no error.
    pub warnings: Warnings,
    /// The good orders.
    pub grouped: Grouped,
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
    let mut lines = Lines::new(reader);
    let header = read_header(&mut lines, Header::parse)?;
    let mut fields = Fields::default();
    let mut partitions = Partitions::new(&options.spill_dir, options.memory_bytes_max());
    let mut bad_rows = 0;
    let spilling = |result: io::Result<()>| result.map_err(|error| options.spill_failed(error));

    let rows = each_row(&mut lines, progress, |line| {
        let number = line.number;
        match row::parse(line, &header, &mut fields) {
            Ok((code, row)) => spilling(partitions.push(code, |payload| Divided::Row(row).put(payload))),
            Err(row::BadRow { order_code, column, value, reason }) => {
                bad_rows += 1;
                let column = column.and_then(|column| header.columns.names.get(column)).map(String::as_str);
                let reject = Reject { line: number, refund_key: None, order_code, column, value, reason };
                sink(&reject).map_err(ReadError::Rejects)?;
                match order_code {
                    Some(code) => spilling(partitions.push(code, |payload| Divided::Bad(number).put(payload))),
                    None => Ok(()),
                }
            }
        }
    })?;
    let bytes = lines.bytes();
    let (grouped, tally) =
        settle::settle(partitions, options, sink, &mut || progress(Progress { bytes, rows }).is_break())?;
    let parsed = Parsed {
        rows,
        accepted_rows: tally.accepted_rows,
        rejected_rows: bad_rows + tally.rejected_rows,
        orders: tally.orders,
        rejected_orders: tally.rejected_orders,
        bytes,
        sha256: lines.into_sha256(),
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

/// The first line with text is the header; a byte order mark may stand before everything.
fn read_header<R: Read, H>(
    lines: &mut Lines<R>,
    parse: impl FnOnce(&[u8]) -> Result<H, ReadError>,
) -> Result<H, ReadError> {
    loop {
        let mut line = lines.next()?.ok_or(ReadError::Empty)?;
        if line.number == 1 {
            if line.text.starts_with(b"\xff\xfe") || line.text.starts_with(b"\xfe\xff") {
                return Err(ReadError::NotUtf8);
            }
            line.text = line.text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line.text);
        }
        if line.too_long {
            return Err(ReadError::HeaderTooLong);
        }
        if !is_blank(line) {
            return parse(line.text);
        }
    }
}

/// Goes through the lines below the header that are not blank; how many there are.
fn each_row<R: Read>(
    lines: &mut Lines<R>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    mut visit: impl FnMut(Line<'_>) -> Result<(), ReadError>,
) -> Result<u64, ReadError> {
    let (mut rows, mut reported) = (0, 0);
    while let Some(line) = lines.next()? {
        if !is_blank(line) {
            rows += 1;
            visit(line)?;
        }
        if lines.bytes() - reported >= PROGRESS_BYTES {
            reported = lines.bytes();
            if progress(Progress { bytes: reported, rows }).is_break() {
                return Err(ReadError::Interrupted);
            }
        }
    }
    Ok(rows)
}

/// Nothing but blanks: not a row.
fn is_blank(line: Line<'_>) -> bool {
    !line.too_long && line.text.iter().all(|&byte| byte == b' ' || byte == b'\t')
}
