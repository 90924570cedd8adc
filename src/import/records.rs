//! The rows of a file: a line each, or several where a quoted field goes over line breaks.
//!
//! What is inside open quotes is never a row of its own. Where quotes are never closed, or closed in a way that leaves open what
//! is inside and what is not, nothing behind them can be told from text: all of it is handed out line by line, to be rejected.

use std::{io::Read, ops::Range};

use memchr::memchr;
use serde::Serialize;

use super::{
    error::ReadError,
    fields::{Fields, Split},
    lines::{LINE_BYTES_MAX, Lines, Place},
    quotes::{LineEnd, Quotes, has_escape},
    reject::Unclosed,
    source::Encoding,
};

/// Most lines of a row. A note is shorter; a quote that somebody forgot to close should not swallow a file.
pub const ROW_LINES_MAX: usize = 100;

/// Quotes after which nothing can be told from text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The line in which the row begins that they are in.
    pub(super) line: u64,
    pub(super) why: Unclosed,
}

/// A row without its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// Its first line, from 1.
    pub(super) number: u64,
    /// Its line, at most [`LINE_BYTES_MAX`] bytes; several are joined with LF.
    pub(super) text: &'a [u8],
    pub(super) split: Split<'a>,
    /// The line was longer than `text`.
    pub(super) too_long: bool,
    /// LF, CRLF or CR ended it, not the end of the file.
    pub(super) ended: bool,
    /// It may be no row, but text.
    pub(super) doubt: Option<Doubt>,
}

/// What was odd, and could be read all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Oddities {
    /// Rows with a field that goes over several lines.
    pub rows_of_several_lines: u64,
    /// The first such row.
    pub first_of_several_lines: Option<u64>,
    /// Rows of nothing but delimiters, as spreadsheets leave them behind; they are not counted as rows.
    pub empty_rows: u64,
}

/// Splits what a reader yields into rows and their fields.
#[derive(Debug)]
pub(super) struct Records<R> {
    lines: Lines<R>,
    fields: Fields,
    delimiter: u8,
    /// A row of several lines.
    joined: Vec<u8>,
    doubt: Option<Doubt>,
    /// Lines in `joined` that are to be handed out one by one, and the number of the first.
    left: Range<usize>,
    left_number: u64,
    /// The last of them was longer, and had an end.
    left_end: (bool, bool),
    pub(super) oddities: Oddities,
}

/// Where a row is.
enum Found {
    Line(Place),
    Joined { number: u64, text: Range<usize>, too_long: bool, ended: bool },
}

impl<R: Read> Records<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            lines: Lines::new(reader),
            fields: Fields::default(),
            delimiter: b',',
            joined: Vec::new(),
            doubt: None,
            left: 0..0,
            left_number: 0,
            left_end: (false, true),
            oddities: Oddities::default(),
        }
    }

    /// Tells the file by its beginning, reads its header, and goes on with the rows below it.
    ///
    /// # Errors
    /// When it is no CSV, or `read` finds no header.
    pub(super) fn header<H>(
        &mut self,
        read: impl FnOnce(&mut Lines<R>) -> Result<(u8, H), ReadError>,
    ) -> Result<H, ReadError> {
        self.lines.open()?;
        let (delimiter, header) = read(&mut self.lines)?;
        self.delimiter = delimiter;
        self.lines.delimit(delimiter);
        Ok(header)
    }

    /// Bytes of the file read so far; a little ahead of the row that was handed out last.
    pub(super) fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.lines.encoding()
    }

    /// SHA-256 of all bytes read, in hexadecimal.
    pub(super) fn into_sha256(self) -> String {
        self.lines.into_sha256()
    }

    /// The next row that is not blank; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        let Some(found) = self.find()? else { return Ok(None) };
        let (number, text, too_long, ended) = match found {
            Found::Line(place) => (place.number, self.lines.text(place), place.too_long, place.ended),
            Found::Joined { number, text, too_long, ended } => (number, &self.joined[text], too_long, ended),
        };
        let split = self.fields.view(text);
        Ok(Some(Record { number, text, split, too_long, ended, doubt: self.doubt }))
    }

    /// Finds the next row; its fields are split then.
    fn find(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            if let Some(found) = self.next_left() {
                return Ok(Some(found));
            }
            let Some(place) = self.lines.next()? else { return Ok(None) };
            let text = self.lines.text(place);
            if !place.too_long && is_blank(text) {
                continue;
            }
            let fault = self.fields.split(text, self.delimiter);
            if self.doubt.is_some() {
                return Ok(Some(Found::Line(place)));
            }
            if place.too_long {
                match place.end {
                    LineEnd::Closed => {}
                    LineEnd::Open => self.doubt = Some(Doubt { line: place.number, why: Unclosed::Endless }),
                    LineEnd::Doubtful => self.doubt = Some(Doubt { line: place.number, why: Unclosed::AmidText }),
                }
                return Ok(Some(Found::Line(place)));
            }
            if fault.is_none() && !(self.fields.has_quotes() && has_escape(text)) {
                if self.is_empty(text) {
                    self.oddities.empty_rows += 1;
                    continue;
                }
                return Ok(Some(Found::Line(place)));
            }
            let mut quotes = Quotes::new(self.delimiter);
            quotes.take(text);
            match quotes.end_line() {
                LineEnd::Closed => return Ok(Some(Found::Line(place))),
                LineEnd::Doubtful => {
                    self.doubt = Some(Doubt { line: place.number, why: Unclosed::AmidText });
                    return Ok(Some(Found::Line(place)));
                }
                LineEnd::Open => {}
            }
            self.joined.clear();
            self.joined.extend_from_slice(text);
            if let Some(found) = self.join(place, quotes)? {
                return Ok(Some(found));
            }
        }
    }

    /// Reads on to the end of the row that begins in `first`; `None` when there is none, and its lines are handed out one by
    /// one.
    fn join(&mut self, first: Place, mut quotes: Quotes) -> Result<Option<Found>, ReadError> {
        let mut lines = 1;
        let mut last = first;
        let why = loop {
            let Some(place) = self.lines.next()? else { break Unclosed::Never };
            let text = self.lines.text(place);
            lines += 1;
            last = place;
            self.joined.push(b'\n');
            self.joined.extend_from_slice(text);
            if place.too_long || lines > ROW_LINES_MAX || self.joined.len() > LINE_BYTES_MAX {
                break Unclosed::Endless;
            }
            quotes.take(text);
            match quotes.end_line() {
                LineEnd::Open => {}
                LineEnd::Doubtful => break Unclosed::AmidText,
                LineEnd::Closed => {
                    self.oddities.rows_of_several_lines += 1;
                    self.oddities.first_of_several_lines.get_or_insert(first.number);
                    self.fields.split(&self.joined, self.delimiter);
                    let text = 0..self.joined.len();
                    return Ok(Some(Found::Joined { number: first.number, text, too_long: false, ended: place.ended }));
                }
            }
        };
        self.doubt = Some(Doubt { line: first.number, why });
        (self.left, self.left_number) = (0..self.joined.len(), first.number);
        self.left_end = (last.too_long, last.ended);
        Ok(None)
    }

    /// The next line that is not blank of a row that came to no end.
    fn next_left(&mut self) -> Option<Found> {
        while !self.left.is_empty() {
            let rest = &self.joined[self.left.clone()];
            let length = memchr(b'\n', rest);
            let text = self.left.start..self.left.start + length.unwrap_or(rest.len());
            let number = self.left_number;
            self.left = length.map_or(0..0, |_| text.end + 1..self.left.end);
            self.left_number += 1;
            if is_blank(&self.joined[text.clone()]) {
                continue;
            }
            self.fields.split(&self.joined[text.clone()], self.delimiter);
            let (too_long, ended) = if length.is_some() { (false, true) } else { self.left_end };
            return Some(Found::Joined { number, text, too_long, ended });
        }
        None
    }

    /// Whether a row that was split has nothing in any field.
    fn is_empty(&self, text: &[u8]) -> bool {
        // Nearly all rows are told by their first byte.
        let may_be = text.first().is_none_or(|first| *first == self.delimiter || b" \t\"".contains(first));
        may_be && {
            let split = self.fields.view(text);
            (0..split.len()).all(|index| is_blank(split.get(index)))
        }
    }
}

/// Nothing but blanks.
pub(super) fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b' ' || byte == b'\t')
}
