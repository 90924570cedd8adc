//! Rows on their way from file order to orders: divided by the hash of their order's code, so that all rows of an order
//! are in the same part, in the file's order. Rows of refunds are divided in the same way, by their key.
//!
//! A part is small enough for the processor's cache, where one table of all orders waits for memory at every row: even
//! when nothing goes to disk, dividing first is twice as fast. And a part holds its rows as bytes, which take half the
//! memory of structs and are what is written when memory runs out.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, BufRead, BufReader, Seek, Write},
    path::{Path, PathBuf},
};

use super::frame::{self, Payload};

/// Parts that rows are divided among.
const PARTS: usize = 64;

/// Buffer for reading a part from disk.
const BUFFER_BYTES: usize = 256 * 1024;

/// Takes rows of any order and number.
#[derive(Debug)]
pub(super) struct Partitions {
    dir: PathBuf,
    memory_bytes_max: usize,
    /// Bytes of all parts in memory.
    memory_bytes: usize,
    parts: [Part; PARTS],
    /// Seeded anew for each division, so that what came together once is divided the next time.
    hasher: RandomState,
    payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct Part {
    memory: Vec<u8>,
    /// What came before, once memory ran out. The file has no name: the system removes it with the process, whatever
    /// ends that.
    file: Option<File>,
}

impl Partitions {
    pub(super) fn new(dir: &Path, memory_bytes_max: usize) -> Self {
        Self {
            dir: dir.to_owned(),
            memory_bytes_max,
            memory_bytes: 0,
            parts: std::array::from_fn(|_| Part::default()),
            hasher: RandomState::new(),
            payload: Vec::new(),
        }
    }

    /// Adds a row of what has this code, after all earlier ones of that; `put` appends all else that is to come back.
    pub(super) fn push(&mut self, code: &str, put: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.payload.clear();
        frame::put_text(&mut self.payload, code);
        put(&mut self.payload);
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are all that is asked for")]
        let part = &mut self.parts[self.hasher.hash_one(code) as usize % PARTS];
        let before = part.memory.len();
        frame::write(&mut part.memory, &self.payload)?;
        self.memory_bytes += part.memory.len() - before;
        if self.memory_bytes > self.memory_bytes_max { self.spill() } else { Ok(()) }
    }

    /// Whether memory ran out.
    pub(super) fn is_on_disk(&self) -> bool {
        self.parts.iter().any(|part| part.file.is_some())
    }

    /// The parts that have rows, all in memory or all on disk.
    pub(super) fn finish(mut self) -> io::Result<Vec<Partition>> {
        if self.is_on_disk() {
            self.spill()?;
        }
        let parts = self.parts.into_iter().map(|part| match part.file {
            Some(file) => Partition::Disk(file),
            None => Partition::Memory(part.memory),
        });
        Ok(parts.filter(|part| !matches!(part, Partition::Memory(bytes) if bytes.is_empty())).collect())
    }

    /// Moves everything to disk.
    fn spill(&mut self) -> io::Result<()> {
        for part in self.parts.iter_mut().filter(|part| !part.memory.is_empty()) {
            let file = match &mut part.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile_in(&self.dir)?),
            };
            file.write_all(&part.memory)?;
            part.memory.clear();
        }
        self.memory_bytes = 0;
        Ok(())
    }
}

/// A part of the rows: whole orders, in the file's order.
#[derive(Debug)]
pub(super) enum Partition {
    Memory(Vec<u8>),
    Disk(File),
}

impl Partition {
    /// Reads from the beginning, as often as needed; `visit` may break off with an error of its own.
    pub(super) fn read<E: From<io::Error>>(
        &self,
        visit: impl FnMut(&str, Payload<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Memory(bytes) => read_all(&bytes[..], visit),
            Self::Disk(file) => {
                let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
                input.rewind()?;
                read_all(input, visit)
            }
        }
    }
}

fn read_all<E: From<io::Error>>(
    mut input: impl BufRead,
    mut visit: impl FnMut(&str, Payload<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut payload = Vec::new();
    while frame::read(&mut input, &mut payload)? {
        let mut payload = Payload(&payload);
        let code = payload.text()?;
        visit(code, payload)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_whole_and_in_order_from_memory_and_from_disk() {
        for memory_bytes_max in [usize::MAX, 1_000] {
            let mut partitions = Partitions::new(&std::env::temp_dir(), memory_bytes_max);
            for line in 1..=10_000 {
                partitions.push(&format!("ORD-{}", line % 100), |payload| frame::put(payload, line)).expect("writable");
            }
            assert_eq!(partitions.is_on_disk(), memory_bytes_max < usize::MAX);
            let mut rows = 0;
            for partition in partitions.finish().expect("writable") {
                let mut last = [0; 100];
                let again = partition.read(|code, mut payload| {
                    let line = payload.number()?;
                    let order = usize::try_from(line % 100).expect("small");
                    assert_eq!(code, format!("ORD-{order}"));
                    assert!(line > std::mem::replace(&mut last[order], line), "in the file's order");
                    rows += 1;
                    Ok::<_, io::Error>(())
                });
                again.expect("readable");
                assert!(last.iter().all(|&last| last == 0 || last > 9_900), "whole orders");
            }
            assert_eq!(rows, 10_000);
        }
    }
}
