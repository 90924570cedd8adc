//! The lines of a file in bounded memory, whatever ends them, with the fingerprint of its bytes.

use std::{
    io::{self, Read},
    ops::Range,
};

use memchr::memchr2;
use sha2::{Digest, Sha256};

use super::error::ReadError;

/// Most bytes in a line. Of a longer one only this much is kept, the rest is read and forgotten.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes asked of the reader at once.
const BUFFER_BYTES: usize = 1024 * 1024;

/// One physical line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: u64,
    /// At most [`LINE_BYTES_MAX`] bytes.
    pub(super) text: &'a [u8],
    /// The line was longer than `text`.
    pub(super) too_long: bool,
    /// LF, CRLF or CR ended it, not the end of the file.
    pub(super) ended: bool,
}

/// Splits what a reader yields into lines: LF, CRLF and CR all end one, also mixed.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: R,
    hash: Sha256,
    bytes: u64,
    number: u64,
    buffer: Box<[u8]>,
    /// The part of `buffer` that is read and not handed out yet.
    unread: Range<usize>,
    /// The last line ended with CR: an LF that follows belongs to it. Looked at with the next line, because it may
    /// not be read yet.
    after_cr: bool,
    /// The kept part of the last line that was too long.
    prefix: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            hash: Sha256::new(),
            bytes: 0,
            number: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            after_cr: false,
            prefix: Vec::new(),
        }
    }

    /// Bytes read so far; a little ahead of the line that was handed out last.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of all bytes read, in hexadecimal.
    pub(super) fn into_sha256(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digest = self.hash.finalize();
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        digest.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// The next line, blank ones included; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        if self.after_cr {
            if self.unread.is_empty() {
                self.fill()?;
            }
            if self.buffer[self.unread.clone()].first() == Some(&b'\n') {
                self.unread.start += 1;
            }
            self.after_cr = false;
        }
        let mut searched = 0;
        let (length, ended) = loop {
            let unread = &self.buffer[self.unread.clone()];
            match memchr2(b'\n', b'\r', &unread[searched..]) {
                Some(at) => break (searched + at, true),
                None if unread.len() > LINE_BYTES_MAX => break (unread.len(), false),
                None => searched = unread.len(),
            }
            if !self.fill()? {
                if self.unread.is_empty() {
                    return Ok(None);
                }
                break (searched, false);
            }
        };
        self.number += 1;
        if length > LINE_BYTES_MAX {
            return self.skip_long_line().map(Some);
        }
        let start = self.unread.start;
        self.unread.start += length;
        if ended {
            self.take_end();
        }
        Ok(Some(Line { number: self.number, text: &self.buffer[start..start + length], too_long: false, ended }))
    }

    /// Keeps the head of the line at hand and reads on to its end.
    fn skip_long_line(&mut self) -> Result<Line<'_>, ReadError> {
        self.prefix.clear();
        self.prefix.extend_from_slice(&self.buffer[self.unread.clone()][..LINE_BYTES_MAX]);
        let ended = loop {
            match memchr2(b'\n', b'\r', &self.buffer[self.unread.clone()]) {
                Some(at) => {
                    self.unread.start += at;
                    self.take_end();
                    break true;
                }
                None => self.unread = 0..0,
            }
            if !self.fill()? {
                break false;
            }
        };
        Ok(Line { number: self.number, text: &self.prefix, too_long: true, ended })
    }

    /// Takes the CR or LF at hand.
    fn take_end(&mut self) {
        self.after_cr = self.buffer[self.unread.start] == b'\r';
        self.unread.start += 1;
    }

    /// Reads more behind what is unread, of which the buffer always holds less than half; `false` at the file's end.
    fn fill(&mut self) -> Result<bool, ReadError> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let read = loop {
            match self.reader.read(&mut self.buffer[self.unread.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Read { bytes: self.bytes, line: self.number, source }),
                Ok(read) => break read,
            }
        };
        self.hash.update(&self.buffer[self.unread.end..self.unread.end + read]);
        self.unread.end += read;
        self.bytes += read as u64;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
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
            all.push((line.number, String::from_utf8_lossy(line.text).into_owned(), line.ended));
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
        assert_eq!((line.text.len(), line.too_long, line.ended), (LINE_BYTES_MAX, true, true));
        let line = lines.next().expect("readable").expect("a line");
        assert_eq!((line.number, line.text, line.too_long), (2, &b"next"[..], false));
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
