//! Sorted runs one after the other, in memory or in a temporary file, read back as one sorted whole: as often as needed
//! and by several at once.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
};

use super::frame::{self, Payload};

/// Memory for reading all runs at once.
const BUFFERS_BYTES: usize = 4 * 1024 * 1024;

/// Writes runs one after the other. The first number of each frame is its key, which ascends within a run.
#[derive(Debug)]
pub(super) struct RunsWriter {
    store: Store<BufWriter<File>>,
    /// Bytes written.
    end: u64,
    runs: Vec<Range<u64>>,
}

/// Where the bytes are.
#[derive(Debug)]
enum Store<F> {
    Memory(Vec<u8>),
    Disk(F),
}

impl RunsWriter {
    pub(super) fn in_memory() -> Self {
        Self { store: Store::Memory(Vec::new()), end: 0, runs: Vec::new() }
    }

    pub(super) fn on_disk(dir: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(256 * 1024, tempfile::tempfile_in(dir)?);
        Ok(Self { store: Store::Disk(file), end: 0, runs: Vec::new() })
    }

    /// Appends a frame to the current run.
    pub(super) fn push(&mut self, payload: &[u8]) -> io::Result<()> {
        match &mut self.store {
            Store::Memory(bytes) => frame::write(bytes, payload)?,
            Store::Disk(file) => frame::write(file, payload)?,
        }
        self.end += frame::length(payload);
        Ok(())
    }

    /// Ends the current run.
    pub(super) fn end_run(&mut self) {
        let start = self.runs.last().map_or(0, |run| run.end);
        if start < self.end {
            self.runs.push(start..self.end);
        }
    }

    /// Ready to be read.
    pub(super) fn finish(self) -> io::Result<Runs> {
        let store = match self.store {
            Store::Memory(bytes) => Store::Memory(bytes),
            Store::Disk(mut file) => {
                file.flush()?;
                Store::Disk(file.into_inner().map_err(io::IntoInnerError::into_error)?)
            }
        };
        Ok(Runs { store, runs: self.runs })
    }
}

/// Runs that are complete.
#[derive(Debug)]
pub(super) struct Runs {
    store: Store<File>,
    runs: Vec<Range<u64>>,
}

impl Runs {
    /// Whether they are in a temporary file.
    pub(super) fn is_on_disk(&self) -> bool {
        matches!(self.store, Store::Disk(_))
    }

    /// All frames in the order of their keys.
    pub(super) fn merged(&self) -> io::Result<Merged<'_>> {
        let buffer_bytes = (BUFFERS_BYTES / self.runs.len().max(1)).clamp(4 * 1024, 256 * 1024);
        let cursors = self.runs.iter().map(|run| Cursor {
            input: BufReader::with_capacity(buffer_bytes, Section { store: &self.store, rest: run.clone() }),
            payload: Vec::new(),
        });
        let mut merged = Merged { cursors: cursors.collect(), heads: BinaryHeap::new(), current: None };
        for cursor in 0..merged.cursors.len() {
            merged.advance(cursor)?;
        }
        Ok(merged)
    }
}

/// The runs as one.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    cursors: Vec<Cursor<'a>>,
    /// Key and cursor of each run that has more, the lowest on top.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    /// The cursor whose frame was handed out last.
    current: Option<usize>,
}

#[derive(Debug)]
struct Cursor<'a> {
    input: BufReader<Section<'a>>,
    payload: Vec<u8>,
}

impl Merged<'_> {
    /// The next frame.
    pub(super) fn next(&mut self) -> io::Result<Option<Payload<'_>>> {
        if let Some(cursor) = self.current.take() {
            self.advance(cursor)?;
        }
        let Some(Reverse((_, cursor))) = self.heads.pop() else { return Ok(None) };
        self.current = Some(cursor);
        Ok(Some(Payload(&self.cursors[cursor].payload)))
    }

    fn advance(&mut self, number: usize) -> io::Result<()> {
        let cursor = &mut self.cursors[number];
        if frame::read(&mut cursor.input, &mut cursor.payload)? {
            self.heads.push(Reverse((Payload(&cursor.payload).number()?, number)));
        }
        Ok(())
    }
}

/// A part of the whole. It is read by position, so that readers do not move each other's.
#[derive(Debug)]
struct Section<'a> {
    store: &'a Store<File>,
    rest: Range<u64>,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let buffer = &mut buffer[..wanted];
        let read = match self.store {
            Store::Disk(file) => file.read_at(buffer, self.rest.start)?,
            Store::Memory(bytes) => {
                let start = usize::try_from(self.rest.start).map_err(io::Error::other)?;
                buffer.copy_from_slice(&bytes[start..start + wanted]);
                wanted
            }
        };
        self.rest.start += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_merged_and_can_be_read_by_two_at_once() {
        for mut writer in [RunsWriter::in_memory(), RunsWriter::on_disk(&std::env::temp_dir()).expect("writable")] {
            for run in [&[1_u64, 4, 300][..], &[], &[2, 3], &[5, 100_000]] {
                for &key in run {
                    let mut payload = Vec::new();
                    frame::put(&mut payload, key);
                    frame::put_text(&mut payload, &"x".repeat(usize::try_from(key % 1000).expect("small")));
                    writer.push(&payload).expect("writable");
                }
                writer.end_run();
            }
            let runs = writer.finish().expect("writable");
            let (mut one, mut two) = (runs.merged().expect("readable"), runs.merged().expect("readable"));
            for key in [1, 2, 3, 4, 5, 300, 100_000] {
                for merged in [&mut one, &mut two] {
                    assert_eq!(merged.next().expect("readable").expect("more").number().expect("a key"), key);
                }
            }
            assert!(one.next().expect("readable").is_none());
        }
    }
}
