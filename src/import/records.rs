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
    quotes::{self, LineEnd, Quotes, Unpaired, has_escape},
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
    /// Of more lines behind those, as long as quotes that do not pair off are near by.
    spreading: Option<Doubt>,
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
            spreading: None,
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
            if let Some(doubt) = self.spreading.take()
                && let Some(count) = self.unpaired_ahead()?
            {
                self.joined.clear();
                self.doubt_ahead(count, doubt);
                self.spreading = Some(doubt);
                continue;
            }
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
            let is_broken = ends_with_backslash(text);
            if is_plain && !is_broken {
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
            if end == LineEnd::Closed && !is_broken && !quotes.is_open_amid() {
                return Ok(Some(Found::Line(line)));
            }
            self.joined.clear();
            self.joined.extend_from_slice(text);
            (self.left_number, self.left_end) = (place.number, (place.too_long, place.ended));
            let found = match end {
                LineEnd::Open => self.join(place.number, quotes)?,
                _ if quotes.is_open_amid() => self.join_note(place.number)?,
                _ => self.join_escaped(place.number)?,
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
    fn join_escaped(&mut self, first: u64) -> Result<Option<Found>, ReadError> {
        let mut count = 0;
        let mut goes_on = true;
        while goes_on && count < ROW_LINES_MAX && self.hold(count)? {
            let line = &self.ahead[count];
            let text = text_of(&self.lines, &self.held, line);
            goes_on = !line.place.too_long && (is_blank(text) || ends_with_backslash(text));
            count += 1;
        }
        if self.ahead.iter().take(count).all(|line| is_blank(text_of(&self.lines, &self.held, line))) {
            return Ok(Some(self.whole(first)));
        }
        let last = &self.ahead[count - 1];
        // Where quotes begin in it, what follows is text of theirs.
        let is_over =
            !goes_on && !last.place.too_long && quotes::unpaired(text_of(&self.lines, &self.held, last)).is_none();
        let doubt = Doubt { line: first, why: Unclosed::EscapedBreak };
        self.doubt_ahead(count, doubt);
        self.doubt = self.doubt.or((!is_over).then_some(doubt));
        Ok(None)
    }

    /// Of a row that is in `joined`, in which a quote amid a field begins somebody's text: the text may go over the lines below,
    /// up to the last one near by with quotes that do not pair off. Where there is none, it may be as long as a row.
    fn join_note(&mut self, first: u64) -> Result<Option<Found>, ReadError> {
        let doubt = Doubt { line: first, why: Unclosed::AmidText };
        let unpaired = self.unpaired_ahead()?;
        let near = self.ahead.len().min(ROW_LINES_MAX);
        let is_unpaired = |line: &Line| quotes::unpaired(text_of(&self.lines, &self.held, line)).is_some();
        let inches = || self.ahead.iter().take(near).rposition(is_unpaired).map(|index| index + 1);
        let count = unpaired.or_else(inches).unwrap_or(near);
        self.doubt_ahead(count, doubt);
        self.spreading = unpaired.and(Some(doubt));
        Ok(None)
    }

    /// How many lines there are up to the last one, within the bounds of a row, with quotes that begin or end a text.
    fn unpaired_ahead(&mut self) -> Result<Option<usize>, ReadError> {
        let mut count = None;
        for index in 0..ROW_LINES_MAX {
            if !self.hold(index)? {
                break;
            }
            let line = &self.ahead[index];
            // Of a line that is too long the quotes are not known.
            if line.place.too_long || quotes::unpaired(text_of(&self.lines, &self.held, line)) == Some(Unpaired::Text) {
                count = Some(index + 1);
            }
        }
        Ok(count)
    }

    /// A row that is in `joined`.
    fn whole(&self, number: u64) -> Found {
        let (too_long, ended) = self.left_end;
        Found::Joined { number, text: 0..self.joined.len(), too_long, ended }
    }

    /// Doubts what is in `joined` and so many lines that are held; all that follows, too, where one of them that is too long may
    /// end within quotes.
    fn doubt_ahead(&mut self, count: usize, doubt: Doubt) {
        for line in self.ahead.drain(..count) {
            match self.joined.is_empty() {
                true => self.left_number = line.place.number,
                false => self.joined.push(b'\n'),
            }
            self.joined.extend_from_slice(text_of(&self.lines, &self.held, &line));
            self.left_end = (line.place.too_long, line.place.ended);
            if line.place.too_long && line.place.end != LineEnd::Closed {
                self.doubt = Some(doubt);
            }
        }
        self.left = 0..self.joined.len();
        self.passing = Some(doubt);
    }

    /// Reads on to the end of the row that begins in `first`; `None` when there is none, and its lines are handed out one by
    /// one.
    fn join(&mut self, first: u64, mut quotes: Quotes) -> Result<Option<Found>, ReadError> {
        let mut lines = 1;
        let mut has_escapes = has_escape(&self.joined);
        let why = loop {
            let Some(line) = self.next_line()? else { break Unclosed::Never };
            let text = text_of(&self.lines, &self.held, &line);
            lines += 1;
            self.left_end = (line.place.too_long, line.place.ended);
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
                LineEnd::Closed if quotes.is_open_amid() => return self.join_note(first),
                LineEnd::Closed => {
                    self.oddities.rows_of_several_lines += 1;
                    self.oddities.first_of_several_lines.get_or_insert(first);
                    self.fields.split(&self.joined, self.delimiter);
                    return Ok(Some(self.whole(first)));
                }
            }
        };
        self.doubt = Some(Doubt { line: first, why });
        self.left = 0..self.joined.len();
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

/// Whether the last that is seen of a line is a backslash.
fn ends_with_backslash(text: &[u8]) -> bool {
    text.iter().rfind(|&&byte| byte != b' ' && byte != b'\t') == Some(&b'\\')
}

/// Nothing but blanks.
pub(super) fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b' ' || byte == b'\t')
}
