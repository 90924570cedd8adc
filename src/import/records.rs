//! The rows of a file: a line each, or several where a quoted field goes over line breaks.
//!
//! What is inside open quotes is never a row of its own. Where quotes are never closed, or closed in a way that leaves open what
//! is inside and what is not, nothing behind them can be told from text: all of it is handed out line by line, to be rejected.

use std::{io::Read, ops::Range};

use memchr::memchr;
use serde::Serialize;

use super::{
    ahead::{Ahead, Line},
    error::ReadError,
    fields::{Fields, Split},
    header::Shape,
    lines::{LINE_BYTES_MAX, Lines},
    quotes::{self, AmidText, LineEnd, Quotes, Unpaired, ends_with_backslash, has_escape},
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
    /// The last row, if no line break ends it: it may have been cut off.
    pub last_without_end: Option<u64>,
}

/// Splits what a reader yields into rows and their fields.
#[derive(Debug)]
pub(super) struct Records<R> {
    ahead: Ahead<R>,
    fields: Fields,
    delimiter: u8,
    columns: usize,
    /// Up to this line, whatever ends them, lines are rows.
    whole_to: u64,
    /// A row of several lines.
    joined: Vec<u8>,
    /// To the end of the file.
    doubt: Option<Doubt>,
    /// Of the lines in `joined` that are left.
    passing: Option<Doubt>,
    /// Of more lines behind those, as long as quotes that do not pair off are near by; and whether the last of them begins a text.
    spreading: Option<(Doubt, bool)>,
    /// Lines in `joined` that are to be handed out one by one, and the number of the first.
    left: Range<usize>,
    left_number: u64,
    /// The last of them was longer, and had an end.
    left_end: (bool, bool),
    pub(super) oddities: Oddities,
}

/// Where a row is.
enum Found {
    Line(Line),
    Joined { number: u64, text: Range<usize>, too_long: bool, ended: bool },
}

impl<R: Read> Records<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            ahead: Ahead::new(Lines::new(reader)),
            fields: Fields::default(),
            delimiter: b',',
            columns: 0,
            whole_to: 0,
            joined: Vec::new(),
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
        read: impl FnOnce(&mut Lines<R>) -> Result<(Shape, H), ReadError>,
    ) -> Result<H, ReadError> {
        let lines = &mut self.ahead.lines;
        lines.open()?;
        let (Shape { delimiter, columns }, header) = read(lines)?;
        (self.delimiter, self.columns) = (delimiter, columns);
        lines.delimit(delimiter);
        Ok(header)
    }

    /// Bytes of the file read so far; a little ahead of the row that was handed out last.
    pub(super) fn bytes(&self) -> u64 {
        self.ahead.lines.bytes()
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.ahead.lines.encoding()
    }

    /// SHA-256 of all bytes read, in hexadecimal.
    pub(super) fn into_sha256(self) -> String {
        self.ahead.lines.into_sha256()
    }

    /// The next row that is not blank; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        let Some(found) = self.find()? else { return Ok(None) };
        let (number, text, too_long, ended) = match found {
            Found::Line(line) => {
                let text = self.ahead.text(&line);
                (line.place.number, text, line.place.too_long, line.place.ended)
            }
            Found::Joined { number, text, too_long, ended } => (number, &self.joined[text], too_long, ended),
        };
        // What a quote ends is whole.
        if !ended && text.last() != Some(&b'"') {
            self.oddities.last_without_end = Some(number);
        }
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
            if let Some((doubt, begins)) = self.spreading.take() {
                self.joined.clear();
                if self.spread(doubt, begins)? {
                    continue;
                }
            }
            let Some(line) = self.ahead.next()? else { return Ok(None) };
            let place = line.place;
            let text = self.ahead.text(&line);
            if !place.too_long && (is_blank(text) || self.doubt.is_some() && is_vacant(text, self.delimiter)) {
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
                if place.is_torn && place.number > self.whole_to {
                    self.ahead.put_back(line);
                    self.judge_torn(place.number)?;
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
            let amid = quotes.text_amid();
            if end == LineEnd::Closed && !is_broken && amid == AmidText::No {
                return Ok(Some(Found::Line(line)));
            }
            self.joined.clear();
            self.joined.extend_from_slice(text);
            (self.left_number, self.left_end) = (place.number, (place.too_long, place.ended));
            let found = match end {
                LineEnd::Open => self.join(place.number, quotes)?,
                _ if amid != AmidText::No => self.join_note(place.number, amid, is_broken)?,
                _ => self.join_escaped(place.number)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Of the next line, which ends with another line break than the rows of the file: what some programs write within fields. It and
    /// the lines down to the next break of a row are rows if all of them look like rows, and otherwise text.
    fn judge_torn(&mut self, first: u64) -> Result<(), ReadError> {
        let near = self.ahead.look(ROW_LINES_MAX)?;
        let count = self.ahead.seen(near).position(|(place, _)| !place.is_torn).map_or(near, |index| index + 1);
        let mut fields = Fields::default();
        let is_row =
            |text: &[u8]| fields.split(text, self.delimiter).is_none() && fields.view(text).len() == self.columns;
        if self.ahead.seen(count).map(|(_, text)| text).filter(|text| !is_blank(text)).all(is_row) {
            self.whole_to = first + count as u64 - 1;
            return Ok(());
        }
        let is_open = self.ahead.seen(count).any(|(_, text)| quotes::unpaired(text).is_some());
        let doubt = Doubt { line: first, why: Unclosed::OtherBreak };
        self.joined.clear();
        self.doubt_ahead(count, doubt)?;
        self.spreading = is_open.then_some((doubt, true));
        Ok(())
    }

    /// Of a line that ends with a backslash, which is in `joined`: some programs write one before a line break within a field.
    /// What follows may be text up to the line after the last of such lines.
    fn join_escaped(&mut self, first: u64) -> Result<Option<Found>, ReadError> {
        let near = self.ahead.look(ROW_LINES_MAX)?;
        let goes_on = |text: &[u8]| is_blank(text) || ends_with_backslash(text);
        let end = self.ahead.seen(near).position(|(place, text)| place.too_long || !goes_on(text));
        let count = end.map_or(near, |index| index + 1);
        if self.ahead.seen(count).all(|(_, text)| is_blank(text)) {
            return Ok(Some(self.whole(first)));
        }
        // Where quotes begin in the last one, what follows is text of theirs.
        let last = self.ahead.seen(count).next_back();
        let is_over =
            end.is_some() && last.is_some_and(|(place, text)| !place.too_long && quotes::unpaired(text).is_none());
        let doubt = Doubt { line: first, why: Unclosed::EscapedBreak };
        self.doubt_ahead(count, doubt)?;
        self.doubt = self.doubt.or((!is_over).then_some(doubt));
        Ok(None)
    }

    /// Of a row that is in `joined`, in which a quote amid a field begins somebody's text, or may begin one.
    fn join_note(&mut self, first: u64, amid: AmidText, is_broken: bool) -> Result<Option<Found>, ReadError> {
        let doubt = Doubt { line: first, why: Unclosed::AmidText };
        match self.spread(doubt, amid == AmidText::Yes)? {
            true => Ok(None),
            false if is_broken => self.join_escaped(first),
            false => {
                self.fields.split(&self.joined, self.delimiter);
                Ok(Some(self.whole(first)))
            }
        }
    }

    /// Doubts what is in `joined`, and what may be text below it: up to the last line near by with quotes that begin or end one.
    /// Where there is none, a text that `begins` may end with inches, or be as long as a row. Whether there is anything to doubt.
    fn spread(&mut self, doubt: Doubt, begins: bool) -> Result<bool, ReadError> {
        let near = self.ahead.look(ROW_LINES_MAX)?;
        // Of a line that is too long the quotes are not known.
        let unpaired = self
            .ahead
            .seen(near)
            .rposition(|(place, text)| place.too_long || quotes::unpaired(text) == Some(Unpaired::Text));
        let inches = || self.ahead.seen(near).rposition(|(_, text)| quotes::unpaired(text).is_some());
        let count = match unpaired {
            Some(index) => index + 1,
            None if begins => inches().map_or(near, |index| index + 1),
            None => return Ok(false),
        };
        let last = self.ahead.seen(count).next_back().filter(|_| unpaired.is_some());
        self.spreading = last.map(|(_, text)| (doubt, quotes::may_open(text, self.delimiter)));
        self.doubt_ahead(count, doubt)?;
        Ok(true)
    }

    /// A row that is in `joined`.
    fn whole(&self, number: u64) -> Found {
        let (too_long, ended) = self.left_end;
        Found::Joined { number, text: 0..self.joined.len(), too_long, ended }
    }

    /// Doubts what is in `joined` and so many lines that are held; all that follows, too, where one of them that is too long may
    /// end within quotes.
    fn doubt_ahead(&mut self, count: usize, doubt: Doubt) -> Result<(), ReadError> {
        for _ in 0..count {
            let Some(line) = self.ahead.next()? else { break };
            match self.joined.is_empty() {
                true => self.left_number = line.place.number,
                false => self.joined.push(b'\n'),
            }
            self.joined.extend_from_slice(self.ahead.text(&line));
            self.left_end = (line.place.too_long, line.place.ended);
            if line.place.too_long && line.place.end != LineEnd::Closed {
                self.doubt = Some(doubt);
            }
        }
        self.left = 0..self.joined.len();
        self.passing = Some(doubt);
        Ok(())
    }

    /// Reads on to the end of the row that begins in `first`; `None` when there is none, and its lines are handed out one by
    /// one.
    fn join(&mut self, first: u64, mut quotes: Quotes) -> Result<Option<Found>, ReadError> {
        let mut lines = 1;
        let mut has_escapes = has_escape(&self.joined);
        let why = loop {
            let Some(line) = self.ahead.next()? else { break Unclosed::Never };
            let text = self.ahead.text(&line);
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
                LineEnd::Closed => {
                    let amid = quotes.text_amid();
                    if amid != AmidText::No {
                        return self.join_note(first, amid, false);
                    }
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
            if is_vacant(&self.joined[text.clone()], self.delimiter) {
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

/// Nothing but blanks and delimiters.
fn is_vacant(text: &[u8], delimiter: u8) -> bool {
    text.split(|byte| *byte == delimiter).all(is_blank)
}

/// Nothing but blanks.
pub(super) fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte == b' ' || byte == b'\t')
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;

    use super::*;

    /// Yields a few bytes per read.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.len().min(self.1).min(buffer.len());
            buffer[..read].copy_from_slice(&self.0[..read]);
            self.0 = &self.0[read..];
            Ok(read)
        }
    }

    /// Each row with its first line, and whether it is certain to be one.
    fn rows(file: impl Read) -> Vec<(u64, String, bool)> {
        let mut records = Records::new(file);
        let mut rows = Vec::new();
        while let Some(record) = records.next().expect("readable") {
            rows.push((record.number, String::from_utf8_lossy(record.text).into_owned(), record.doubt.is_none()));
        }
        rows
    }

    const LINES: &[&str] = &[
        "A,1,x",
        "A,1,x",
        "EVIL,1,x",
        "",
        "N,1,note: \"please ring",
        "N,1,5\" pipe",
        "N,1,\"please ring",
        "N,1,\"a\nb\"",
        "N,1,\"a\nb\",note: \"c",
        "N,1,a \"b\" c",
        "thanks\" ok",
        "thanks",
        "\"",
        "at 5\"",
        "N,1,x\\",
        "N,1,\"say \\\"",
    ];

    proptest! {
        #[test]
        fn every_line_is_in_one_row_and_no_text_of_an_open_quote_is_a_certain_one(
            lines in prop::collection::vec(prop::sample::select(LINES), 0..40),
            at_once in 1_usize..7,
        ) {
            let file = lines.join("\n");
            let rows = rows(file.as_bytes());
            prop_assert_eq!(&self::rows(Trickle(file.as_bytes(), at_once)), &rows);
            let mut next = 1;
            let expected: Vec<&str> = file.split('\n').collect();
            for (number, text, _) in &rows {
                for line in text.split('\n') {
                    while expected[next - 1].is_empty() && !line.is_empty() {
                        next += 1;
                    }
                    prop_assert!(next as u64 >= *number);
                    prop_assert_eq!(expected[next - 1], line, "line {}", next);
                    next += 1;
                }
            }
            prop_assert!(expected[next - 1..].iter().all(|line| line.is_empty()), "all lines are handed out");
            // Between a text that begins amid a field and the next unpaired quote, nothing is certain.
            let begin = expected.iter().position(|line| line.ends_with("note: \"please ring"));
            if let Some(begin) = begin {
                let end = expected[begin + 1..].iter().position(|line| line.matches('"').count() % 2 == 1);
                let end = end.map_or(expected.len(), |end| begin + 1 + end);
                for (number, text, is_certain) in &rows {
                    let line = usize::try_from(*number).expect("small") - 1;
                    prop_assert!(!(begin..=end).contains(&line) || !is_certain, "line {}: {}", number, text);
                }
            }
        }
    }
}
