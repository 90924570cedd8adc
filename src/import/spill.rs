//! Rows that do not fit into memory, in temporary files: all rows of an order in the same one, in the file's order.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, BufReader, BufWriter, Seek},
    path::{Path, PathBuf},
};

use super::{
    frame::{self, Payload},
    row::Row,
    table::Table,
};

/// Files that rows are divided among. With a table of 256 MiB a file of some 20 GB needs no second division.
const PARTITIONS: usize = 64;

/// Buffer of each file.
const BUFFER_BYTES: usize = 64 * 1024;

/// Takes rows of any order and number.
#[derive(Debug)]
pub(super) struct Spill {
    dir: PathBuf,
    /// Seeded anew for each division, so that what came together once is divided the next time.
    hasher: RandomState,
    /// Without names: the system removes them with the process, whatever ends it.
    files: [Option<BufWriter<File>>; PARTITIONS],
    payload: Vec<u8>,
}

/// What comes back from a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spilled {
    /// A good row.
    Row(Row),
    /// The line of a bad row.
    Bad(u64),
}

impl Spill {
    pub(super) fn new(dir: &Path) -> Self {
        let files = [const { None }; PARTITIONS];
        Self { dir: dir.to_owned(), hasher: RandomState::new(), files, payload: Vec::new() }
    }

    /// Moves all that a table holds.
    pub(super) fn of_table(dir: &Path, table: &Table) -> io::Result<Self> {
        let mut spill = Self::new(dir);
        for (code, line) in table.poisoned() {
            spill.push(code, &Spilled::Bad(line))?;
        }
        for held in &table.rows {
            spill.push(table.groups.code(held.group), &Spilled::Row(held.row))?;
        }
        Ok(spill)
    }

    /// Adds a row of an order, after all earlier ones of that order.
    pub(super) fn push(&mut self, code: &str, spilled: &Spilled) -> io::Result<()> {
        self.payload.clear();
        frame::put_text(&mut self.payload, code);
        match spilled {
            Spilled::Row(row) => {
                frame::put(&mut self.payload, row.line);
                frame::put_customer(&mut self.payload, row.customer_id);
                frame::put_line(&mut self.payload, &row.order_line);
            }
            Spilled::Bad(line) => frame::put(&mut self.payload, *line),
        }
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are all that is asked for")]
        let partition = self.hasher.hash_one(code) as usize % PARTITIONS;
        let file = match &mut self.files[partition] {
            Some(file) => file,
            none => none.insert(BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(&self.dir)?)),
        };
        frame::write(file, &self.payload)
    }

    /// The partitions that have rows.
    pub(super) fn finish(self) -> io::Result<Vec<Partition>> {
        let files = self.files.into_iter().flatten();
        files.map(|file| Ok(Partition(file.into_inner().map_err(io::IntoInnerError::into_error)?))).collect()
    }
}

/// A part of the rows: whole orders, in the file's order.
#[derive(Debug)]
pub(super) struct Partition(File);

impl Partition {
    /// Reads from the beginning, as often as needed; `visit` may break off with an error of its own.
    pub(super) fn read<E: From<io::Error>>(
        &self,
        mut visit: impl FnMut(&str, Spilled) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, &self.0);
        input.rewind()?;
        let mut payload = Vec::new();
        while frame::read(&mut input, &mut payload)? {
            let mut payload = Payload(&payload);
            let code = payload.text()?;
            let line = payload.number()?;
            let spilled = if payload.is_empty() {
                Spilled::Bad(line)
            } else {
                Spilled::Row(Row { line, customer_id: payload.customer()?, order_line: payload.line()? })
            };
            visit(code, spilled)?;
        }
        Ok(())
    }
}
