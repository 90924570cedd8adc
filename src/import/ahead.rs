//! Lines that may be looked at before their turn, in bounded memory.

use std::{collections::VecDeque, io::Read, ops::Range};

use super::{
    error::ReadError,
    lines::{LINE_BYTES_MAX, Lines, Place},
};

/// The lines of a file, and those of them that were read ahead.
#[derive(Debug)]
pub(super) struct Ahead<R> {
    pub(super) lines: Lines<R>,
    waiting: VecDeque<Line>,
    /// Their text.
    held: Vec<u8>,
}

/// A line of the file.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    /// Where its text is, of one that was read ahead.
    held: Option<Range<usize>>,
}

impl<R: Read> Ahead<R> {
    pub(super) fn new(lines: Lines<R>) -> Self {
        Self { lines, waiting: VecDeque::new(), held: Vec::new() }
    }

    /// The next line: one that was read ahead, or the next of the file.
    pub(super) fn next(&mut self) -> Result<Option<Line>, ReadError> {
        if let Some(line) = self.waiting.pop_front() {
            return Ok(Some(line));
        }
        self.held.clear();
        Ok(self.lines.next()?.map(|place| Line { place, held: None }))
    }

    /// The text of the line that was read last, until the next one is read or looked at.
    pub(super) fn text(&self, line: &Line) -> &[u8] {
        match &line.held {
            None => self.lines.text(line.place),
            Some(range) => &self.held[range.clone()],
        }
    }

    /// Has the line that was read last come again.
    pub(super) fn put_back(&mut self, line: Line) {
        let held = line.held.unwrap_or_else(|| {
            let start = self.held.len();
            self.held.extend_from_slice(self.lines.text(line.place));
            start..self.held.len()
        });
        self.waiting.push_front(Line { place: line.place, held: Some(held) });
    }

    /// Reads so many lines ahead, or as many as the file has; how many these are.
    pub(super) fn look(&mut self, count: usize) -> Result<usize, ReadError> {
        while self.waiting.len() < count {
            let Some(place) = self.lines.next()? else { break };
            let done = self.waiting.front().and_then(|line| line.held.as_ref()).map_or(0, |first| first.start);
            if done > LINE_BYTES_MAX {
                self.held.drain(..done);
                for range in self.waiting.iter_mut().filter_map(|line| line.held.as_mut()) {
                    *range = range.start - done..range.end - done;
                }
            }
            let start = self.held.len();
            self.held.extend_from_slice(self.lines.text(place));
            self.waiting.push_back(Line { place, held: Some(start..self.held.len()) });
        }
        Ok(self.waiting.len().min(count))
    }

    /// Those of the lines that were read ahead.
    pub(super) fn seen(&self, count: usize) -> impl DoubleEndedIterator<Item = (&Place, &[u8])> + ExactSizeIterator {
        self.waiting.iter().take(count).map(|line| (&line.place, self.text(line)))
    }
}
