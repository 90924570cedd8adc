//! A CSV file into requests for refunds: a row is a refund.
//!
//! Lines, header, fields and rejected rows are those of a file of orders. What an order is there, a key is here: rows
//! are divided by their key, because the same one may stand anywhere in the file again.

mod row;
mod settle;

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use pipeline::domain::{Cents, OrderCode, RefundKey, RefundRequest};

use super::{
    Form, Frames, Progress, ReadError, ReadOptions, Reject, RejectSink, each_row,
    frame::{self, Payload},
    header,
    partitions::Partitions,
    records::Records,
    runs::Runs,
};
use row::Header;

/// A file of refunds that was read to its end.
#[derive(Debug)]
pub struct ParsedRefunds {
    /// Rows below the header; lines without anything in any field are none.
    pub rows: u64,
    /// Good rows, those included that say the same as an earlier one.
    pub accepted_rows: u64,
    /// All other rows.
    pub rejected_rows: u64,
    /// Keys of the good rows.
    pub refunds: u64,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// How it was read.
    pub form: Form,
    /// Columns that mean nothing here.
    pub ignored_columns: Vec<String>,
    /// The requests.
    pub grouped: GroupedRefunds,
}

/// The requests of a file, in memory or on disk. They can be gone through as often as needed, also by several at once.
#[derive(Debug)]
pub struct GroupedRefunds(Runs);

/// A request, and the rows that make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupedRefund {
    /// The request.
    pub request: RefundRequest,
    /// Its first row in the file.
    pub first_line: u64,
    /// Rows that say the same, this one included.
    pub rows: u64,
}

impl GroupedRefunds {
    /// The requests in the file's order. An error is one of the temporary files, and ends the iteration.
    pub fn refunds(&self) -> Frames<'_, GroupedRefund> {
        Frames::new(&self.0, decode)
    }

    /// Whether the requests outgrew memory and wait in temporary files.
    pub fn is_on_disk(&self) -> bool {
        self.0.is_on_disk()
    }
}

/// Reads one file of refunds.
///
/// Rejected rows go to `sink` in two parts: first, while the file is read, those that are wrong in themselves, then those
/// whose key an earlier row has with another request; in each part in the order of lines. `progress` is as in
/// [`super::read`].
///
/// # Errors
/// As [`super::read`].
pub fn read_refunds(
    reader: impl Read,
    options: &ReadOptions,
    sink: &mut RejectSink<'_>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ParsedRefunds, ReadError> {
    let mut records = Records::new(reader);
    let header = records.header(|lines| header::read(lines, row::KNOWN, Header::new))?;
    let mut partitions = Partitions::new(&options.spill_dir, options.memory_bytes_max());
    let mut bad_rows = 0;
    let rows = each_row(&mut records, progress, |record| {
        let number = record.number;
        match row::parse(&record, &header) {
            Ok(request) => partitions
                .push(request.key.as_str(), |payload| {
                    frame::put(payload, number);
                    put_rest(payload, &request);
                })
                .map_err(|error| options.spill_failed(error)),
            Err(row::BadRow { refund_key, order_code, column, value, reason }) => {
                bad_rows += 1;
                let column = column.and_then(|column| header.columns.names.get(column)).map(String::as_str);
                let (refund_key, order_code) = (refund_key.as_deref(), order_code.as_deref());
                let reject = Reject { line: number, refund_key, order_code, column, value, reason };
                sink(&reject).map_err(ReadError::Rejects)
            }
        }
    })?;
    let bytes = records.bytes();
    let (grouped, tally) =
        settle::settle(partitions, options, sink, &mut || progress(Progress { bytes, rows }).is_break())?;
    let parsed = ParsedRefunds {
        rows,
        accepted_rows: tally.accepted_rows,
        rejected_rows: bad_rows + tally.conflicting_rows,
        refunds: tally.refunds,
        bytes,
        form: Form::of(&records),
        sha256: records.into_sha256(),
        ignored_columns: header.columns.ignored(),
        grouped,
    };
    // Both sides are counted where the rows go, not derived from each other.
    assert_eq!(parsed.accepted_rows + parsed.rejected_rows, parsed.rows, "a row was lost or counted twice");
    Ok(parsed)
}

/// Appends a request without its key.
fn put_rest(payload: &mut Vec<u8>, request: &RefundRequest) {
    frame::put_text(payload, request.order_code.as_str());
    // Nobody asks for nothing: zero stands for all that is left.
    frame::put(payload, request.amount.map_or(0, |amount| amount.get().cast_unsigned()));
    frame::put_text(payload, request.reason.as_deref().unwrap_or_default());
    frame::put(payload, u64::from(request.restock));
}

/// Reads what [`put_rest`] has appended.
fn take_rest(key: &str, payload: &mut Payload<'_>) -> io::Result<RefundRequest> {
    let order_code = OrderCode::new(payload.text()?).map_err(|_| frame::damaged())?;
    let amount = Some(Cents::new(payload.number()?.cast_signed())).filter(|amount| *amount != Cents::ZERO);
    let reason = Some(payload.text()?).filter(|reason| !reason.is_empty()).map(str::to_owned);
    let restock = payload.number()? == 1;
    Ok(RefundRequest { key: RefundKey::new(key).map_err(|_| frame::damaged())?, order_code, amount, reason, restock })
}

/// Reads a request as [`settle`] keeps it.
fn decode(mut payload: Payload<'_>) -> io::Result<GroupedRefund> {
    let first_line = payload.number()?;
    let rows = payload.number()?;
    let key = payload.text()?;
    let request = take_rest(key, &mut payload)?;
    Ok(GroupedRefund { request, first_line, rows })
}
