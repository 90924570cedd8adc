//! When all rows are read: which of several rows with one key counts.
//!
//! The first does, as it does for messages: a row that says the same again is the same refund, one that says something
//! else is rejected. Were the last to count, or none, the outcome would depend on how far an interrupted import came.

use super::{GroupedRefunds, put_rest, take_rest};
use crate::import::{
    ReadError, ReadOptions, Reason, Reject, RejectSink,
    codes::Codes,
    frame::{self, Payload},
    partitions::{Partition, Partitions},
    runs::RunsWriter,
    settle::{DEPTH_MAX, SettleError, count_and_check},
};

/// What counts of the refunds, and of their rows that were good in themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) refunds: u64,
    pub(super) accepted_rows: u64,
    pub(super) conflicting_rows: u64,
}

/// What is known of a key.
#[derive(Debug, Default)]
struct Seen {
    /// Its first row, which counts.
    line: u64,
    /// What that row asks for.
    content_hash: i64,
    /// Rows that ask for that.
    rows: u64,
}

/// Takes all rows; the first of each key is kept, those that contradict it go to the sink in the order of their lines.
pub(super) fn settle(
    partitions: Partitions,
    options: &ReadOptions,
    sink: &mut RejectSink<'_>,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<(GroupedRefunds, Tally), ReadError> {
    settle_all(partitions, options, sink, interrupted).map_err(|error| error.told(options))
}

fn settle_all(
    partitions: Partitions,
    options: &ReadOptions,
    sink: &mut RejectSink<'_>,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<(GroupedRefunds, Tally), SettleError> {
    let on_disk = partitions.is_on_disk();
    let writer = || if on_disk { RunsWriter::on_disk(&options.spill_dir) } else { Ok(RunsWriter::in_memory()) };
    let mut settling = Settling {
        options,
        memory_bytes_max: options.memory_bytes_max() / 2,
        refunds: writer()?,
        conflicts: writer()?,
        tally: Tally::default(),
        payload: Vec::new(),
        rows: 0,
        interrupted,
    };
    settling.settle(partitions, 0)?;
    let conflicts = settling.conflicts.finish()?;
    let mut merged = conflicts.merged()?;
    while let Some(payload) = merged.next()? {
        reject_conflict(payload, sink)?;
    }
    Ok((GroupedRefunds(settling.refunds.finish()?), settling.tally))
}

/// Partition by partition: each is a run of refunds and a run of rejected rows.
struct Settling<'a> {
    options: &'a ReadOptions,
    /// For the keys at hand; as much again is for the rows of a partition that is divided anew.
    memory_bytes_max: usize,
    refunds: RunsWriter,
    conflicts: RunsWriter,
    tally: Tally,
    payload: Vec<u8>,
    rows: u64,
    interrupted: &'a mut dyn FnMut() -> bool,
}

impl Settling<'_> {
    fn settle(&mut self, partitions: Partitions, depth: u32) -> Result<(), SettleError> {
        for partition in partitions.finish()? {
            match self.judge(&partition, depth < DEPTH_MAX) {
                Ok(keys) => self.keep(&partition, &keys)?,
                Err(SettleError::OverBudget) => {
                    let mut parts = Partitions::new(&self.options.spill_dir, self.memory_bytes_max);
                    partition.read(|key, payload| {
                        count_and_check(&mut self.rows, self.interrupted)?;
                        Ok::<_, SettleError>(parts.push(key, |divided| divided.extend_from_slice(payload.0))?)
                    })?;
                    // Its space is free again before its parts become runs.
                    drop(partition);
                    self.settle(parts, depth + 1)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// First pass: the first row of each key, and how many say the same.
    fn judge(&mut self, partition: &Partition, divisible: bool) -> Result<Codes<Seen>, SettleError> {
        let mut keys = Codes::<Seen>::new();
        partition.read(|key, mut payload| {
            count_and_check(&mut self.rows, self.interrupted)?;
            let line = payload.number()?;
            let content_hash = take_rest(key, &mut payload)?.content_hash();
            let number = keys.intern(key);
            let seen = keys.value_mut(number);
            if seen.rows == 0 {
                *seen = Seen { line, content_hash, rows: 0 };
            }
            seen.rows += u64::from(seen.content_hash == content_hash);
            match divisible && keys.len() > 1 && keys.bytes() > self.memory_bytes_max {
                true => Err(SettleError::OverBudget),
                false => Ok(()),
            }
        })?;
        Ok(keys)
    }

    /// Second pass: first rows become a run of refunds, those that contradict them a run of conflicts.
    fn keep(&mut self, partition: &Partition, keys: &Codes<Seen>) -> Result<(), SettleError> {
        partition.read(|key, mut payload| {
            count_and_check(&mut self.rows, self.interrupted)?;
            let line = payload.number()?;
            let request = take_rest(key, &mut payload)?;
            let seen = keys.value(keys.find(key).ok_or_else(frame::damaged)?);
            self.payload.clear();
            frame::put(&mut self.payload, line);
            if seen.line == line {
                self.tally.refunds += 1;
                self.tally.accepted_rows += seen.rows;
                frame::put(&mut self.payload, seen.rows);
                frame::put_text(&mut self.payload, key);
                put_rest(&mut self.payload, &request);
                self.refunds.push(&self.payload)?;
            } else if seen.content_hash != request.content_hash() {
                self.tally.conflicting_rows += 1;
                frame::put(&mut self.payload, seen.line);
                frame::put_text(&mut self.payload, key);
                frame::put_text(&mut self.payload, request.order_code.as_str());
                self.conflicts.push(&self.payload)?;
            }
            Ok::<_, SettleError>(())
        })?;
        self.refunds.end_run();
        self.conflicts.end_run();
        Ok(())
    }
}

fn reject_conflict(mut payload: Payload<'_>, sink: &mut RejectSink<'_>) -> Result<(), SettleError> {
    let line = payload.number()?;
    let reason = Reason::ConflictingKey { line: payload.number()? };
    let key = payload.text()?;
    let order_code = Some(payload.text()?);
    let column = Some("refund_key");
    let reject = Reject { line, refund_key: Some(key), order_code, column, value: key.as_bytes(), reason };
    sink(&reject).map_err(SettleError::Rejects)
}

#[cfg(test)]
mod tests {
    use std::{io, ops::ControlFlow};

    use super::*;
    use crate::import::{ParsedRefunds, read_refunds};

    /// A file, and line and reason of what was rejected.
    fn read(file: &str, memory_bytes_max: usize) -> (ParsedRefunds, Vec<(u64, &'static str)>) {
        let mut rejected = Vec::new();
        let options = ReadOptions { memory_bytes_max, ..ReadOptions::default() };
        let mut sink = |reject: &Reject<'_>| -> io::Result<()> {
            rejected.push((reject.line, reject.reason.code()));
            Ok(())
        };
        let parsed = read_refunds(file.as_bytes(), &options, &mut sink, &mut |_| ControlFlow::Continue(()));
        (parsed.expect("readable"), rejected)
    }

    #[test]
    fn the_first_row_of_a_key_counts() {
        let file =
            "refund_key,order_code,amount\nk,A,1.1\nother,A,2\nk,A,1.10\nk,A,1.11\nbad key\t,A,1\nk,B,1.1\nk,A,1.1\n";
        let (parsed, rejected) = read(file, usize::MAX);
        assert_eq!(rejected, [(6, "invalid_refund_key"), (5, "conflicting_key"), (7, "conflicting_key")]);
        assert_eq!((parsed.rows, parsed.accepted_rows, parsed.rejected_rows, parsed.refunds), (7, 4, 3, 2));
        let refunds: Vec<_> = parsed.grouped.refunds().map(|refund| refund.expect("readable")).collect();
        let rows: Vec<_> = refunds.iter().map(|it| (it.first_line, it.rows, it.request.key.as_str())).collect();
        assert_eq!(rows, [(2, 3, "k"), (3, 1, "other")]);
    }

    #[test]
    fn what_does_not_fit_into_memory_ends_the_same_way() {
        let mut file = "refund_key,order_code,reason,amount\n".to_owned();
        for number in 0..60_000 {
            let (key, reason) = (number % 25_000, if number < 50_000 { "same" } else { "other" });
            file.push_str(&format!("key-{key},ORD-{key},{reason},\n"));
        }
        let (roomy, rejected) = read(&file, usize::MAX);
        let (tight, rejected_again) = read(&file, 100_000);
        assert!(!roomy.grouped.is_on_disk() && tight.grouped.is_on_disk());
        assert_eq!((rejected.len(), &rejected), (10_000, &rejected_again));
        for parsed in [&roomy, &tight] {
            assert_eq!((parsed.refunds, parsed.accepted_rows, parsed.rejected_rows), (25_000, 50_000, 10_000));
        }
        let lines = |parsed: &ParsedRefunds| -> Vec<(u64, u64)> {
            parsed.grouped.refunds().map(|it| it.map(|it| (it.first_line, it.rows)).expect("readable")).collect()
        };
        assert_eq!(lines(&roomy), lines(&tight));
        assert_eq!(lines(&tight), (2..25_002).map(|line| (line, 2)).collect::<Vec<_>>(), "in the file's order");
    }
}
