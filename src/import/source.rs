//! The bytes of a file as UTF-8, with their fingerprint: what it is written in is told by its beginning.

use std::io::{self, Read};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::ReadError;

/// Bytes by which a file is told.
const HEAD_BYTES: usize = 256;

/// Bytes without a mark that must look like UTF-16 to be taken for it: eight letters of a header.
const UTF16_BYTES_MIN: usize = 16;

/// Bytes of UTF-16 that are read at once.
const RAW_BYTES: usize = 64 * 1024;

/// What a file is written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Encoding {
    /// As it should be.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// As spreadsheets write "Unicode text".
    #[serde(rename = "utf-16le")]
    Utf16Le,
    /// The same with the high byte first.
    #[serde(rename = "utf-16be")]
    Utf16Be,
}

/// Reads a file, whatever it is written in, as UTF-8 without byte order mark. What is damaged there becomes bytes that are not
/// UTF-8, so that the row is rejected.
#[derive(Debug)]
pub(super) struct Source<R> {
    reader: R,
    hash: Sha256,
    bytes: u64,
    encoding: Encoding,
    /// The beginning, and how much of it is handed out.
    head: Vec<u8>,
    head_at: usize,
    /// What came of reading the beginning; told when what came before is handed out.
    failed: Option<io::Error>,
    raw: Box<[u8]>,
    /// Of a unit of UTF-16, the byte that is there already.
    half: Option<u8>,
    /// Of a pair, the unit that is there already.
    high: Option<u16>,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            hash: Sha256::new(),
            bytes: 0,
            encoding: Encoding::Utf8,
            head: Vec::new(),
            head_at: 0,
            failed: None,
            raw: Box::default(),
            half: None,
            high: None,
        }
    }

    /// Bytes of the file that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// SHA-256 of all bytes of the file that were read, in hexadecimal.
    pub(super) fn into_sha256(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digest = self.hash.finalize();
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        digest.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// Reads the beginning and tells the file by it. To be called once, before [`Source::read`].
    ///
    /// # Errors
    /// When it is no CSV, but something that is known.
    pub(super) fn open(&mut self) -> Result<(), ReadError> {
        let mut head = vec![0; HEAD_BYTES];
        let mut length = 0;
        while length < HEAD_BYTES {
            match self.take(&mut head[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        head.truncate(length);
        let (encoding, mark) = tell(&head)?;
        (self.encoding, self.head, self.head_at) = (encoding, head, mark);
        if encoding != Encoding::Utf8 {
            self.raw = vec![0; RAW_BYTES].into_boxed_slice();
        }
        Ok(())
    }

    /// Reads on, into a buffer that is never small; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.encoding == Encoding::Utf8 {
            return self.next(buffer);
        }
        let mut raw = std::mem::take(&mut self.raw);
        let decoded = loop {
            // Two bytes become three at most, and up to two units may be waiting.
            let room = (buffer.len() / 3 * 2).saturating_sub(8).clamp(1, raw.len());
            match self.next(&mut raw[..room]) {
                Ok(0) => break Ok(self.finish(buffer)),
                Ok(read) => match self.decode(&raw[..read], buffer) {
                    0 => {}
                    written => break Ok(written),
                },
                Err(error) => break Err(error),
            }
        };
        self.raw = raw;
        decoded
    }

    /// The next bytes of the file.
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = &self.head[self.head_at..];
        if !head.is_empty() {
            let read = head.len().min(buffer.len());
            buffer[..read].copy_from_slice(&head[..read]);
            self.head_at += read;
            return Ok(read);
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.take(buffer),
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }

    fn decode(&mut self, raw: &[u8], out: &mut [u8]) -> usize {
        let mut at = 0;
        for &byte in raw {
            let Some(first) = self.half.take() else {
                self.half = Some(byte);
                continue;
            };
            let pair = [first, byte];
            let unit = match self.encoding {
                Encoding::Utf16Be => u16::from_be_bytes(pair),
                _ => u16::from_le_bytes(pair),
            };
            match (self.high.take(), unit) {
                (Some(high), 0xdc00..=0xdfff) => {
                    let number = 0x1_0000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(unit) - 0xdc00);
                    at += put(number, &mut out[at..]);
                }
                (high, unit) => {
                    if let Some(high) = high {
                        at += put(u32::from(high), &mut out[at..]);
                    }
                    match unit {
                        0xd800..=0xdbff => self.high = Some(unit),
                        unit => at += put(u32::from(unit), &mut out[at..]),
                    }
                }
            }
        }
        at
    }

    /// What is left at the end: half a pair, half a unit.
    fn finish(&mut self, out: &mut [u8]) -> usize {
        let mut at = 0;
        if let Some(high) = self.high.take() {
            at += put(u32::from(high), out);
        }
        if self.half.take().is_some() {
            out[at] = 0xff;
            at += 1;
        }
        at
    }
}

/// Writes a code point in the form of UTF-8; half a pair becomes three bytes that are none.
fn put(number: u32, out: &mut [u8]) -> usize {
    if let Some(character) = char::from_u32(number) {
        return character.encode_utf8(out).len();
    }
    let low = |shift: u32| 0x80 | u8::try_from((number >> shift) & 0x3f).unwrap_or_default();
    out[..3].copy_from_slice(&[0xe0 | u8::try_from(number >> 12).unwrap_or_default(), low(6), low(0)]);
    3
}

/// Tells a file by its beginning: what it is written in, and the length of its byte order mark.
fn tell(head: &[u8]) -> Result<(Encoding, usize), ReadError> {
    let compressed = |format, tool| Err(ReadError::Compressed { format, tool });
    match head {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err(ReadError::Utf32),
        [0xff, 0xfe, ..] => return Ok((Encoding::Utf16Le, 2)),
        [0xfe, 0xff, ..] => return Ok((Encoding::Utf16Be, 2)),
        [0xef, 0xbb, 0xbf, ..] => return Ok((Encoding::Utf8, 3)),
        [0x1f, 0x8b, ..] => return compressed("gzip", "zcat"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => return compressed("bzip2", "bzcat"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return compressed("xz", "xzcat"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return compressed("zstd", "zstdcat"),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => return Err(ReadError::Workbook),
        [0xd0, 0xcf, 0x11, 0xe0, ..] | [b'7', b'z', 0xbc, 0xaf, ..] => return Err(ReadError::Workbook),
        [b'R', b'a', b'r', b'!', 0x1a, ..] => return Err(ReadError::Workbook),
        [b'%', b'P', b'D', b'F', b'-', ..] => return Err(ReadError::NotText),
        _ => {}
    }
    // Names of columns are ASCII: as UTF-16, every other byte of theirs is zero.
    let is_ascii = |byte: u8| byte != 0 && byte.is_ascii();
    if let Some(head) = head.get(..UTF16_BYTES_MIN) {
        if head.chunks_exact(2).all(|pair| is_ascii(pair[0]) && pair[1] == 0) {
            return Ok((Encoding::Utf16Le, 0));
        }
        if head.chunks_exact(2).all(|pair| pair[0] == 0 && is_ascii(pair[1])) {
            return Ok((Encoding::Utf16Be, 0));
        }
    }
    let line = head.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
    if line.contains(&0) { Err(ReadError::NotText) } else { Ok((Encoding::Utf8, 0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields one byte per read.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.len().min(1);
            buffer[..read].copy_from_slice(&self.0[..read]);
            self.0 = &self.0[read..];
            Ok(read)
        }
    }

    fn all(reader: impl Read) -> (Vec<u8>, Encoding) {
        let mut source = Source::new(reader);
        source.open().expect("text");
        let (mut all, mut buffer) = (Vec::new(), vec![0; 1_000]);
        loop {
            match source.read(&mut buffer).expect("readable") {
                0 => return (all, source.encoding()),
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[test]
    fn utf_16_is_read_with_and_without_its_mark() {
        let text = "order_code;Größe;🦀\r\n".repeat(2_000);
        let units: Vec<u16> = text.encode_utf16().collect();
        let bytes = |mark: bool, to: fn(u16) -> [u8; 2]| -> Vec<u8> {
            mark.then_some(0xfeff).into_iter().chain(units.iter().copied()).flat_map(to).collect()
        };
        for mark in [false, true] {
            for (bytes, encoding) in
                [(bytes(mark, u16::to_le_bytes), Encoding::Utf16Le), (bytes(mark, u16::to_be_bytes), Encoding::Utf16Be)]
            {
                assert_eq!(all(&bytes[..]), (text.clone().into_bytes(), encoding), "with a mark: {mark}");
                assert_eq!(all(Trickle(&bytes)), (text.clone().into_bytes(), encoding), "byte by byte");
            }
        }
    }

    #[test]
    fn damaged_utf_16_does_not_become_utf_8() {
        for damage in
            [&b"\xff\xfea\0\x00\xd8b\0"[..], b"\xff\xfea\0\x00\xdcb\0", b"\xff\xfea\0\x00\xd8", b"\xff\xfea\0b"]
        {
            let (bytes, _) = all(damage);
            assert!(bytes.starts_with(b"a") && std::str::from_utf8(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn other_kinds_of_files_are_known_by_their_beginning() {
        for (head, message) in [
            (&b"\x1f\x8b\x08\0"[..], "compressed with gzip: unpack it first, as in: zcat FILE |"),
            (b"\x28\xb5\x2f\xfd\0", "zstd"),
            (b"\xfd7zXZ\0\0", "xz"),
            (b"BZh91AY&SY", "bzip2"),
            (b"PK\x03\x04xl/", "save it as CSV"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1", "save it as CSV"),
            (b"\xff\xfe\0\0o\0\0\0", "UTF-32"),
            (b"\0\0\0\0", "its header is binary"),
            (b"%PDF-1.7", "save it as CSV"),
            (b"7z\xbc\xaf\x27\x1c", "save it as CSV"),
            (b"Rar!\x1a\x07", "save it as CSV"),
        ] {
            let error = Source::new(head).open().expect_err("no CSV").to_string();
            assert!(error.contains(message), "{error}");
        }
        for head in [&b""[..], b"o", b"PK,order_code", b"BZh1,a", b"id\n\0\0", b"\xef\xbb\xbf"] {
            Source::new(head).open().expect("perhaps CSV");
        }
    }
}
