//! The rows of a file: a line each, or several where a quoted field goes over line breaks.
//!
//! What is inside open quotes is never a row of its own. Where quotes are never closed, or closed in a way that leaves open what
//! is inside and what is not, nothing behind them can be told from text: all of it is handed out line by line, to be rejected.

use std::{collections::VecDeque, io::Read, ops::Range};

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
    /// Lines that were read ahead of their turn.
    ahead: VecDeque<Line>,
    /// Their text.
    held: Vec<u8>,
    /// To the end of the file.
    doubt: Option<Doubt>,
    /// Of the lines in `joined` that are left.
    passing: Option<Doubt>,
    /// Lines in `joined` that are to be handed out one by one, and the number of the first.
    left: Range<usize>,
    left_number: u64,
    /// The last of them was longer, and had an end.
    left_end: (bool, bool),
    pub(super) oddities: Oddities,
}

/// A line of the file.
#[derive(Debug)]
struct Line {
    place: Place,
    /// Where its text is, of one that was read ahead.
    held: Option<Range<usize>>,
}

/// The text of a line.
fn text_of<'a, R: Read>(lines: &'a Lines<R>, held: &'a [u8], line: &Line) -> &'a [u8] {
    match &line.held {
        None => lines.text(line.place),
        Some(range) => &held[range.clone()],
    }
}

/// Where a row is.
enum Found {
    Line(Line),
    Joined { number: u64, text: Range<usize>, too_long: bool, ended: bool },
}

impl<R: Read> Records<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            lines: Lines::new(reader),
            fields: Fields::default(),
            delimiter: b',',
            joined: Vec::new(),
            ahead: VecDeque::new(),
            held: Vec::new(),
            doubt: None,
            passing: None,
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
            Found::Line(line) => {
                let text = text_of(&self.lines, &self.held, &line);
                (line.place.number, text, line.place.too_long, line.place.ended)
            }
            Found::Joined { number, text, too_long, ended } => (number, &self.joined[text], too_long, ended),
        };
        let split = self.fields.view(text);
        Ok(Some(Record { number, text, split, too_long, ended, doubt: self.passing.or(self.doubt) }))
    }

    /// Finds the next row; its fields are split then.
    fn find(&mut self) -> Result<Option<Found>, ReadError> {
        loop {
            if let Some(found) = self.next_left() {
                return Ok(Some(found));
            }
            self.passing = None;
            let Some(line) = self.next_line()? else { return Ok(None) };
            let place = line.place;
            let text = text_of(&self.lines, &self.held, &line);
            if !place.too_long && is_blank(text) {
                continue;
            }
            let fault = self.fields.split(text, self.delimiter);
            if self.doubt.is_some() {
                return Ok(Some(Found::Line(line)));
            }
            if place.too_long {
                match place.end {
                    LineEnd::Closed => {}
                    LineEnd::Open => self.doubt = Some(Doubt { line: place.number, why: Unclosed::Endless }),
                    LineEnd::Doubtful => self.doubt = Some(Doubt { line: place.number, why: Unclosed::AmidText }),
                }
                return Ok(Some(Found::Line(line)));
            }
            let (has_quotes, has_escape) = (self.fields.has_quotes(), has_escape(text));
            let is_plain = fault.is_none() && !(has_quotes && has_escape);
            if is_plain && text.last() != Some(&b'\\') {
                if self.is_empty(text) {
                    self.oddities.empty_rows += 1;
                    continue;
                }
                return Ok(Some(Found::Line(line)));
            }
            let mut quotes = Quotes::new(self.delimiter);
            quotes.take(text);
            let end = quotes.end_line();
            if end == LineEnd::Doubtful {
                let why = if has_escape { Unclosed::Escaped } else { Unclosed::AmidText };
                self.doubt = Some(Doubt { line: place.number, why });
                return Ok(Some(Found::Line(line)));
            }
            let begins_note = fault.is_some() && begins_note(text, self.delimiter);
            let is_broken = text.last() == Some(&b'\\');
            self.joined.clear();
            self.joined.extend_from_slice(text);
            let found = match end {
                LineEnd::Open => self.join(place, quotes)?,
                _ if is_broken => self.join_escaped(place)?,
                _ if begins_note => self.join_note(place)?,
                _ => Some(Found::Line(line)),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// The next line: one that was read ahead, or the next of the file.
    fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        if let Some(line) = self.ahead.pop_front() {
            return Ok(Some(line));
        }
        self.held.clear();
        Ok(self.lines.next()?.map(|place| Line { place, held: None }))
    }

    /// Reads ahead, so that this many lines and one are held; `false` where the file has no more.
    fn hold(&mut self, index: usize) -> Result<bool, ReadError> {
        while self.ahead.len() <= index {
            let Some(place) = self.lines.next()? else { return Ok(false) };
            let done = self.ahead.front().and_then(|line| line.held.as_ref()).map_or(0, |first| first.start);
            if done > LINE_BYTES_MAX {
                self.held.drain(..done);
                for range in self.ahead.iter_mut().filter_map(|line| line.held.as_mut()) {
                    *range = range.start - done..range.end - done;
                }
            }
            let start = self.held.len();
            self.held.extend_from_slice(self.lines.text(place));
            self.ahead.push_back(Line { place, held: Some(start..self.held.len()) });
        }
        Ok(true)
    }

    /// Of a line that ends with a backslash, which is in `joined`: some programs write one before a line break within a field.
    /// What follows may be text up to the line after the last of such lines.
    fn join_escaped(&mut self, first: Place) -> Result<Option<Found>, ReadError> {
        let mut count = 0;
        let mut passes = true;
        while passes && self.hold(count)? {
            let line = &self.ahead[count];
            let text = text_of(&self.lines, &self.held, line);
            count += 1;
            if text.last() == Some(&b'\\') && !line.place.too_long {
                passes = count < ROW_LINES_MAX;
                continue;
            }
            // Where quotes begin in it, what follows is text of theirs.
            passes = !line.place.too_long && !is_odd(text);
            break;
        }
        if count == 0 {
            return Ok(Some(self.whole(first)));
        }
        self.doubt_ahead(first, count, Unclosed::EscapedBreak, passes);
        Ok(None)
    }

    /// Of a line in which a quote begins amid a field and does not end, which is in `joined`: where a quote ends a field further
    /// down, before another one begins, somebody's text goes over the lines in between.
    fn join_note(&mut self, first: Place) -> Result<Option<Found>, ReadError> {
        let mut bytes = self.joined.len();
        for index in 0..ROW_LINES_MAX {
            if !self.hold(index)? {
                break;
            }
            let line = &self.ahead[index];
            let text = text_of(&self.lines, &self.held, line);
            bytes += text.len() + 1;
            if line.place.too_long || bytes > LINE_BYTES_MAX {
                break;
            }
            if !is_odd(text) {
                continue;
            }
            if !ends_note(text, self.delimiter) {
                break;
            }
            let mut quotes = Quotes::new(self.delimiter);
            quotes.take(text);
            let is_closed = quotes.end_line() == LineEnd::Closed;
            self.doubt_ahead(first, index + 1, Unclosed::AmidText, is_closed);
            return Ok(None);
        }
        Ok(Some(self.whole(first)))
    }

    /// A line that is in `joined`, as a row.
    fn whole(&self, line: Place) -> Found {
        Found::Joined { number: line.number, text: 0..self.joined.len(), too_long: false, ended: line.ended }
    }

    /// Doubts the line in `joined` and so many that are held, and all that follows them unless it `passes`.
    fn doubt_ahead(&mut self, first: Place, count: usize, why: Unclosed, passes: bool) {
        let mut last = (first.too_long, first.ended);
        for line in self.ahead.drain(..count) {
            self.joined.push(b'\n');
            self.joined.extend_from_slice(text_of(&self.lines, &self.held, &line));
            last = (line.place.too_long, line.place.ended);
        }
        let doubt = Some(Doubt { line: first.number, why });
        if passes {
            self.passing = doubt;
        } else {
            self.doubt = doubt;
        }
        (self.left, self.left_number, self.left_end) = (0..self.joined.len(), first.number, last);
    }

    /// Reads on to the end of the row that begins in `first`; `None` when there is none, and its lines are handed out one by
    /// one.
    fn join(&mut self, first: Place, mut quotes: Quotes) -> Result<Option<Found>, ReadError> {
        let mut lines = 1;
        let mut last = (first.too_long, first.ended);
        let mut has_escapes = has_escape(&self.joined);
        let why = loop {
            let Some(line) = self.next_line()? else { break Unclosed::Never };
            let text = text_of(&self.lines, &self.held, &line);
            lines += 1;
            last = (line.place.too_long, line.place.ended);
            has_escapes |= has_escape(text);
            self.joined.push(b'\n');
            self.joined.extend_from_slice(text);
            if line.place.too_long || lines > ROW_LINES_MAX || self.joined.len() > LINE_BYTES_MAX {
                break Unclosed::Endless;
            }
            quotes.take(text);
            match quotes.end_line() {
                LineEnd::Open => {}
                LineEnd::Doubtful if has_escapes => break Unclosed::Escaped,
                LineEnd::Doubtful => break Unclosed::AmidText,
                LineEnd::Closed => {
                    self.oddities.rows_of_several_lines += 1;
                    self.oddities.first_of_several_lines.get_or_insert(first.number);
                    self.fields.split(&self.joined, self.delimiter);
                    let text = 0..self.joined.len();
                    return Ok(Some(Found::Joined {
                        number: first.number,
                        text,
                        too_long: false,
                        ended: line.place.ended,
                    }));
                }
            }
        };
        self.doubt = Some(Doubt { line: first.number, why });
        (self.left, self.left_number, self.left_end) = (0..self.joined.len(), first.number, last);
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

/// Whether the last quote of a line begins somebody's text, rather than ending it or standing for inches: it is one too many,
/// and text follows it.
fn begins_note(text: &[u8], delimiter: u8) -> bool {
    let next = memchr::memrchr(b'"', text).and_then(|at| text.get(at + 1));
    is_odd(text) && next.is_some_and(|next| *next != delimiter && !is_blank(&[*next]))
}

/// Whether the first quote of a line ends somebody's text: text stands before it, and the field ends with it.
fn ends_note(text: &[u8], delimiter: u8) -> bool {
    let Some(at) = memchr(b'"', text) else { return false };
    let (before, after) = (text[..at].last(), text.get(at + 1));
    before.is_some_and(|before| *before != delimiter) && after.is_none_or(|after| *after == delimiter)
}

/// Whether a line has a quote without another one.
fn is_odd(text: &[u8]) -> bool {
    memchr::memchr_iter(b'"', text).count() % 2 == 1
}

/// Nothing but blanks.
pub(super) fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b' ' || byte == b'\t')
}
