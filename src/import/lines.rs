//! The lines of a file in bounded memory, whatever ends them.

use std::{io::Read, ops::Range};

use memchr::memchr2;

use super::{
    error::ReadError,
    quotes::{AmidText, LineEnd, Quotes},
    source::{Encoding, Source},
};

/// Most bytes in a line, and in a row of several. Of a longer line only this much is kept, the rest is read and forgotten.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes asked of the reader at once.
const BUFFER_BYTES: usize = 1024 * 1024;

/// One physical line without its end. [`Lines::text`] has its text until the next one is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// From 1.
    pub(super) number: u64,
    /// Where it is in the buffer; not for one that was too long.
    start: usize,
    length: usize,
    /// The line was longer than [`LINE_BYTES_MAX`], which is all that is kept.
    pub(super) too_long: bool,
    /// LF, CRLF or CR ended it, not the end of the file.
    pub(super) ended: bool,
    /// By another line break than the first line of the file has: some programs write one within fields.
    pub(super) is_torn: bool,
    /// How it ends if it is too long and begins outside of quotes.
    pub(super) end: LineEnd,
}

/// A line break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    Lf,
    CrLf,
    Cr,
}

/// Splits what a reader yields into lines: LF, CRLF and CR all end one, also mixed.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: Source<R>,
    number: u64,
    /// For the quotes of lines that are too long.
    delimiter: u8,
    buffer: Box<[u8]>,
    /// The part of `buffer` that is read and not handed out yet.
    unread: Range<usize>,
    /// What ended the first line.
    first_break: Option<Break>,
    /// The kept part of the last line that was too long.
    prefix: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            source: Source::new(reader),
            number: 0,
            delimiter: b',',
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            first_break: None,
            prefix: Vec::new(),
        }
    }

    /// Bytes read so far; a little ahead of the line that was handed out last.
    pub(super) fn bytes(&self) -> u64 {
        self.source.bytes()
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.source.encoding()
    }

    /// Tells the file by its beginning; to be called before anything is read.
    ///
    /// # Errors
    /// When it is no CSV.
    pub(super) fn open(&mut self) -> Result<(), ReadError> {
        self.source.open()
    }

    /// What separates fields from here on.
    pub(super) fn delimit(&mut self, delimiter: u8) {
        self.delimiter = delimiter;
    }

    /// The text of the line that was read last.
    pub(super) fn text(&self, place: Place) -> &[u8] {
        if place.too_long { &self.prefix } else { &self.buffer[place.start..place.start + place.length] }
    }

    /// SHA-256 of all bytes read, in hexadecimal.
    pub(super) fn into_sha256(self) -> String {
        self.source.into_sha256()
    }

    /// The next line, blank ones included; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Place>, ReadError> {
        let (mut searched, mut at_end) = (0, false);
        let (length, ended) = loop {
            let unread = &self.buffer[self.unread.clone()];
            match memchr2(b'\n', b'\r', &unread[searched..]).map(|at| searched + at) {
                // An LF that follows belongs to it, and may not be read yet.
                Some(at) if at + 1 == unread.len() && unread[at] == b'\r' && !at_end => searched = at,
                Some(at) => break (at, true),
                None if unread.len() > LINE_BYTES_MAX => break (unread.len(), false),
                None => searched = unread.len(),
            }
            if !self.fill()? {
                if self.unread.is_empty() {
                    return Ok(None);
                }
                if searched == self.unread.len() {
                    break (searched, false);
                }
                // Nothing follows the CR.
                at_end = true;
            }
        };
        self.number += 1;
        if length > LINE_BYTES_MAX {
            return self.skip_long_line().map(Some);
        }
        let start = self.unread.start;
        self.unread.start += length;
        let is_torn = ended && self.take_end();
        Ok(Some(Place { number: self.number, start, length, too_long: false, ended, is_torn, end: LineEnd::Closed }))
    }

    /// Keeps the head of the line at hand and reads on to its end.
    fn skip_long_line(&mut self) -> Result<Place, ReadError> {
        self.prefix.clear();
        self.prefix.extend_from_slice(&self.buffer[self.unread.clone()][..LINE_BYTES_MAX]);
        let mut quotes = Quotes::new(self.delimiter);
        let ended = loop {
            let unread = &self.buffer[self.unread.clone()];
            let end = memchr2(b'\n', b'\r', unread);
            quotes.take(&unread[..end.unwrap_or(unread.len())]);
            match end {
                Some(at) => {
                    self.unread.start += at;
                    if self.unread.len() == 1 {
                        self.fill()?;
                    }
                    self.take_end();
                    break true;
                }
                None => self.unread = 0..0,
            }
            if !self.fill()? {
                break false;
            }
        };
        let end = quotes.end_line();
        let end = if quotes.text_amid() == AmidText::No { end } else { LineEnd::Doubtful };
        Ok(Place { number: self.number, start: 0, length: 0, too_long: true, ended, is_torn: false, end })
    }

    /// Takes the line break at hand; whether it is none of those that end rows of this file.
    fn take_end(&mut self) -> bool {
        let unread = &self.buffer[self.unread.clone()];
        let (kind, length) = match unread {
            [b'\r', b'\n', ..] => (Break::CrLf, 2),
            [b'\r', ..] => (Break::Cr, 1),
            _ => (Break::Lf, 1),
        };
        self.unread.start += length;
        kind != *self.first_break.get_or_insert(kind)
    }

    /// Reads more behind what is unread, of which the buffer always holds less than half; `false` at the file's end.
    fn fill(&mut self) -> Result<bool, ReadError> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let read = self.source.read(&mut self.buffer[self.unread.end..]);
        let read = read.map_err(|source| ReadError::Read { bytes: self.source.bytes(), line: self.number, source })?;
        self.unread.end += read;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Yields one byte per read, so that every boundary falls between two reads.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.len().min(1);
            buffer[..read].copy_from_slice(&self.0[..read]);
            self.0 = &self.0[read..];
            Ok(read)
        }
    }

    fn all(reader: impl Read) -> Vec<(u64, String, bool)> {
        let mut lines = Lines::new(reader);
        let mut all = Vec::new();
        while let Some(line) = lines.next().expect("readable") {
            all.push((line.number, String::from_utf8_lossy(lines.text(line)).into_owned(), line.ended));
        }
        all
    }

    #[test]
    fn every_kind_of_line_end_ends_one_line() {
        let table: &[(&str, &[(&str, bool)])] = &[
            ("", &[]),
            ("a", &[("a", false)]),
            ("a\n", &[("a", true)]),
            ("a\nb\r\nc\rd", &[("a", true), ("b", true), ("c", true), ("d", false)]),
            ("a\r\r\nb\n\r", &[("a", true), ("", true), ("b", true), ("", true)]),
            ("\n\n", &[("", true), ("", true)]),
            ("a\r", &[("a", true)]),
            ("a\r\n", &[("a", true)]),
        ];
        for (text, expected) in table {
            let expected: Vec<_> = (1..).zip(*expected).map(|(n, (text, end))| (n, (*text).to_owned(), *end)).collect();
            assert_eq!(all(text.as_bytes()), expected, "{text:?}");
            assert_eq!(all(Trickle(text.as_bytes())), expected, "{text:?} byte by byte");
        }
    }

    #[test]
    fn a_line_of_a_gigabyte_is_skipped_in_one_buffer() {
        let tail = &b"\r\nnext\n"[..];
        let mut lines = Lines::new(io::repeat(b'x').take(1 << 30).chain(tail));
        let line = lines.next().expect("readable").expect("a line");
        assert_eq!((lines.text(line).len(), line.too_long, line.ended), (LINE_BYTES_MAX, true, true));
        assert_eq!(line.end, LineEnd::Closed);
        let line = lines.next().expect("readable").expect("a line");
        assert_eq!((line.number, lines.text(line), line.too_long), (2, &b"next"[..], false));
        assert_eq!(lines.next().expect("readable"), None);
        assert_eq!(lines.buffer.len(), BUFFER_BYTES);
    }

    #[test]
    fn the_bound_itself_is_not_too_long() {
        for (bytes, too_long) in [(LINE_BYTES_MAX, false), (LINE_BYTES_MAX + 1, true)] {
            for end in ["", "\n"] {
                let text = "x".repeat(bytes) + end;
                let mut lines = Lines::new(text.as_bytes());
                let line = lines.next().expect("readable").expect("a line");
                assert_eq!((line.too_long, line.ended), (too_long, !end.is_empty()), "{bytes}");
            }
        }
    }

    #[test]
    fn the_fingerprint_is_of_the_raw_bytes() {
        let mut lines = Lines::new(&b"abc"[..]);
        while lines.next().expect("readable").is_some() {}
        assert_eq!(lines.bytes(), 3);
        assert_eq!(lines.into_sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
