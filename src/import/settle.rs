//! When all rows are read: which orders are good, which rows go down with a bad one.

use std::io;

use super::{
    ReadOptions,
    divided::Divided,
    error::ReadError,
    frame,
    grouped::{self, Grouped},
    held::Held,
    partitions::{Partition, Partitions},
    reject::RejectSink,
    runs::RunsWriter,
    sibling::Sibling,
    table::{Group, ROW_BYTES, Table},
};

/// How often a partition is divided again before it is taken as it is. 64 partitions each time: the fourth division
/// would be for files of petabytes.
pub(super) const DEPTH_MAX: u32 = 3;

/// Rows between two looks at whether to stop.
const ROWS_PER_CHECK: u64 = 64 * 1024;

/// What counts of the orders, and of their rows that were good in themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) orders: u64,
    pub(super) accepted_rows: u64,
    pub(super) rejected_orders: u64,
    pub(super) rejected_rows: u64,
    pub(super) orders_with_several_customers: u64,
    pub(super) first_several_customers_line: Option<u64>,
}

impl Tally {
    fn add(&mut self, group: &Group) {
        if group.is_rejected() {
            self.rejected_orders += 1;
            self.rejected_rows += group.rows;
            return;
        }
        self.orders += 1;
        self.accepted_rows += group.rows;
        if let Some(line) = group.other_customer_line() {
            self.orders_with_several_customers += 1;
            let first = self.first_several_customers_line.map_or(line, |first| first.min(line));
            self.first_several_customers_line = Some(first);
        }
    }
}

/// Why settling stopped.
#[derive(Debug)]
pub(super) enum SettleError {
    /// A temporary file.
    Io(io::Error),
    /// The caller could not take a rejected row.
    Rejects(io::Error),
    /// The caller asked to stop.
    Interrupted,
    /// A partition needs more memory than there is; answered by dividing it.
    OverBudget,
}

impl From<io::Error> for SettleError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl SettleError {
    /// What it means for the file.
    pub(super) fn told(self, options: &ReadOptions) -> ReadError {
        match self {
            Self::Io(error) => options.spill_failed(error),
            Self::Rejects(error) => ReadError::Rejects(error),
            Self::Interrupted => ReadError::Interrupted,
            Self::OverBudget => options.spill_failed(io::ErrorKind::OutOfMemory.into()),
        }
    }
}

/// Takes all rows; good orders are kept, good rows of bad ones go to the sink in the order of their lines.
pub(super) fn settle(
    partitions: Partitions,
    options: &ReadOptions,
    sink: &mut RejectSink<'_>,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<(Grouped, Tally), ReadError> {
    settle_all(partitions, options, sink, interrupted).map_err(|error| error.told(options))
}

fn settle_all(
    partitions: Partitions,
    options: &ReadOptions,
    sink: &mut RejectSink<'_>,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<(Grouped, Tally), SettleError> {
    let on_disk = partitions.is_on_disk();
    let writer = || if on_disk { RunsWriter::on_disk(&options.spill_dir) } else { Ok(RunsWriter::in_memory()) };
    let mut settling = Settling {
        options,
        memory_bytes_max: options.memory_bytes_max() / 2,
        orders: writer()?,
        siblings: writer()?,
        tally: Tally::default(),
        payload: Vec::new(),
        rows: 0,
        interrupted,
    };
    settling.settle(partitions, 0)?;

    let siblings = settling.siblings.finish()?;
    let mut merged = siblings.merged()?;
    while let Some(payload) = merged.next()? {
        Sibling::decode(payload)?.reject(sink).map_err(SettleError::Rejects)?;
    }
    Ok((Grouped(settling.orders.finish()?), settling.tally))
}

/// Partition by partition: each is a run of orders and a run of rejected rows.
struct Settling<'a> {
    options: &'a ReadOptions,
    /// For the table at hand; as much again is for the rows of a partition that is divided anew.
    memory_bytes_max: usize,
    orders: RunsWriter,
    siblings: RunsWriter,
    tally: Tally,
    payload: Vec<u8>,
    rows: u64,
    interrupted: &'a mut dyn FnMut() -> bool,
}

impl Settling<'_> {
    fn settle(&mut self, partitions: Partitions, depth: u32) -> Result<(), SettleError> {
        for partition in partitions.finish()? {
            match self.judge(&partition, depth < DEPTH_MAX) {
                Ok(table) => self.keep(partition, table)?,
                Err(SettleError::OverBudget) => self.divide(partition, depth)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn divide(&mut self, partition: Partition, depth: u32) -> Result<(), SettleError> {
        let mut parts = Partitions::new(&self.options.spill_dir, self.memory_bytes_max);
        partition.read(|code, payload| {
            self.check()?;
            Ok::<_, SettleError>(parts.push(code, |divided| divided.extend_from_slice(payload.0))?)
        })?;
        // Its space is free again before its parts become runs.
        drop(partition);
        self.settle(parts, depth + 1)
    }

    /// First pass: the verdict on every order, without holding rows.
    fn judge(&mut self, partition: &Partition, divisible: bool) -> Result<Table, SettleError> {
        let mut table = Table::new(self.options.strict);
        // One order alone is never divided: of a bad one no row is held, and a good one is small.
        let over_budget = |table: &Table, rows: u64| {
            let rows_bytes = usize::try_from(rows).unwrap_or(usize::MAX).saturating_mul(ROW_BYTES);
            let bytes = table.bytes().saturating_add(rows_bytes);
            divisible && table.groups.len() > 1 && bytes > self.memory_bytes_max
        };
        partition.read(|code, payload| {
            count_and_check(&mut self.rows, self.interrupted)?;
            match Divided::decode(payload)? {
                Divided::Row(row) => _ = table.note(code, &row),
                Divided::Bad(line) => table.poison(code, line),
            }
            if over_budget(&table, 0) { Err(SettleError::OverBudget) } else { Ok(()) }
        })?;
        let good = table.groups.iter().filter(|(_, group)| !group.is_rejected());
        let good_rows = good.map(|(_, group)| group.rows).sum();
        if over_budget(&table, good_rows) { Err(SettleError::OverBudget) } else { Ok(table) }
    }

    /// Second pass: good orders become a run by first line, the rows of others a run by line.
    fn keep(&mut self, partition: Partition, mut table: Table) -> Result<(), SettleError> {
        table.groups.iter().for_each(|(_, group)| self.tally.add(group));
        partition.read(|code, payload| {
            self.check()?;
            let Divided::Row(row) = Divided::decode(payload)? else { return Ok(()) };
            let group = table.groups.find(code).ok_or_else(frame::damaged)?;
            match table.groups.value(group).reason(row.line) {
                None => table.hold(group, row),
                Some(reason) => {
                    Sibling::new(code, &row, reason).encode(&mut self.payload);
                    self.siblings.push(&self.payload)?;
                }
            }
            Ok::<_, SettleError>(())
        })?;
        self.siblings.end_run();
        drop(partition);
        let held = Held::new(table);
        for nth in 0..held.len() {
            grouped::encode(&held, nth, &mut self.payload);
            self.orders.push(&self.payload)?;
        }
        self.orders.end_run();
        Ok(())
    }

    fn check(&mut self) -> Result<(), SettleError> {
        count_and_check(&mut self.rows, self.interrupted)
    }
}

/// Asks now and then whether to stop: these passes take minutes for files that do not fit into memory.
pub(super) fn count_and_check(rows: &mut u64, interrupted: &mut dyn FnMut() -> bool) -> Result<(), SettleError> {
    *rows += 1;
    if rows.is_multiple_of(ROWS_PER_CHECK) && interrupted() { Err(SettleError::Interrupted) } else { Ok(()) }
}
