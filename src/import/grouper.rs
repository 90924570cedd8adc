//! Rows as they are read: in memory while they fit, from then on into temporary files.

use std::io;

use super::{
    ReadOptions,
    error::ReadError,
    grouped::Grouped,
    reject::RejectSink,
    row::Row,
    settle::{self, Bounds, SettleError, Tally},
    spill::{Spill, Spilled},
    table::Table,
};

/// Takes the rows of a file in its order.
#[derive(Debug)]
pub(super) struct Grouper<'a> {
    options: &'a ReadOptions,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Table),
    /// Large: it has a buffered file for each partition.
    Disk(Box<Spill>),
}

impl<'a> Grouper<'a> {
    pub(super) fn new(options: &'a ReadOptions) -> Self {
        Self { options, place: Place::Memory(Table::new(options.strict)) }
    }

    /// Adds a good row.
    pub(super) fn add(&mut self, code: &str, row: Row) -> Result<(), ReadError> {
        match &mut self.place {
            Place::Memory(table) => {
                let group = table.note(code, &row);
                table.hold(group, row);
                self.keep_within_budget()
            }
            Place::Disk(spill) => spill.push(code, &Spilled::Row(row)).map_err(|error| self.failed(error)),
        }
    }

    /// Rejects the order of a bad row.
    pub(super) fn poison(&mut self, code: &str, line: u64) -> Result<(), ReadError> {
        match &mut self.place {
            Place::Memory(table) => {
                table.poison(code, line);
                self.keep_within_budget()
            }
            Place::Disk(spill) => spill.push(code, &Spilled::Bad(line)).map_err(|error| self.failed(error)),
        }
    }

    /// The verdicts: good orders are kept, good rows of bad ones go to the sink in the order of their lines.
    pub(super) fn finish(
        self,
        sink: &mut RejectSink<'_>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<(Grouped, Tally), ReadError> {
        let Self { options, place } = self;
        let settled = match place {
            Place::Memory(table) => settle::in_memory(table, sink),
            Place::Disk(spill) => {
                let memory_bytes_max = options.memory_bytes_max();
                let bounds = Bounds { dir: &options.spill_dir, memory_bytes_max, strict: options.strict };
                settle::on_disk(*spill, bounds, sink, interrupted)
            }
        };
        settled.map_err(|error| match error {
            SettleError::Io(error) => options.spill_failed(error),
            SettleError::Rejects(error) => ReadError::Rejects(error),
            SettleError::Interrupted => ReadError::Interrupted,
            SettleError::OverBudget => options.spill_failed(io::ErrorKind::OutOfMemory.into()),
        })
    }

    fn keep_within_budget(&mut self) -> Result<(), ReadError> {
        if let Place::Memory(table) = &self.place
            && table.bytes() > self.options.memory_bytes_max()
        {
            let spill = Spill::of_table(&self.options.spill_dir, table).map_err(|error| self.failed(error))?;
            self.place = Place::Disk(Box::new(spill));
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> ReadError {
        self.options.spill_failed(error)
    }
}
