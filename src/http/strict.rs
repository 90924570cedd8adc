//! Requests whose frame can be read in two ways: a proxy in front may read the other one, and what it takes for one
//! request is two here. Hyper takes a bare line feed for the end of a line, and settles lengths that contradict each
//! other; here both are spoilt on their way to it, so that it answers 400 and hangs up.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// No line of a head or a trailer may hold it, nor a chunk's size: what has it is refused. A chunk's extension may, so that
/// what is wrong within one is Hyper's to refuse.
const SPOILT: u8 = 0;

/// So much of a line is kept: enough for what says how long a body is.
const LINE_KEPT_MAX: usize = 128;

/// A stream that spoils what is ambiguous in the requests that it brings.
pub(super) struct Strict<S> {
    stream: S,
    place: Place,
}

impl<S> Strict<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, place: Place::Head(Head::default()) }
    }
}

/// Where in a request the next byte stands.
enum Place {
    Head(Head),
    /// In so many bytes that are not lines, which this follows.
    Bytes(u64, After),
    /// In the line with a chunk's size.
    Size(Line),
    /// In what follows the last chunk.
    Trailers(Line),
}

/// What follows a number of bytes.
#[derive(Clone, Copy)]
enum After {
    Request,
    Chunk,
}

impl After {
    fn place(self) -> Place {
        match self {
            Self::Request => Place::Head(Head::default()),
            Self::Chunk => Place::Size(Line::default()),
        }
    }
}

/// A line up to its end.
#[derive(Default)]
struct Line {
    start: Vec<u8>,
    length: usize,
    last: u8,
    /// A control character stands in it, other than tabs and carriage returns.
    is_odd: bool,
}

impl Line {
    fn add(&mut self, bytes: &[u8]) {
        let room = LINE_KEPT_MAX - self.start.len();
        self.start.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.is_odd |= bytes.iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r'));
    }

    /// Whether a carriage return stands before the line feed.
    fn is_whole(&self) -> bool {
        self.length > 0 && self.last == b'\r'
    }

    fn is_blank(&self) -> bool {
        self.length == 1
    }

    /// The value of a header of this name; `None` where the line is another one.
    fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let (start, rest) = self.start.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    }
}

/// What is known of a head so far.
#[derive(Default)]
struct Head {
    line: Line,
    lines: usize,
    length: Option<u64>,
    is_chunked: bool,
}

impl Head {
    /// Takes the line in that has ended; where the body begins, once that was the last one. `Err` for what is ambiguous.
    fn end_line(&mut self) -> Result<Option<Place>, ()> {
        let line = std::mem::take(&mut self.line);
        if !line.is_whole() {
            return Err(());
        }
        if line.is_blank() {
            return match (self.lines, self.length, self.is_chunked) {
                // Before a request line there may be some.
                (0, ..) => Ok(None),
                (_, Some(_), true) => Err(()),
                (_, _, true) => Ok(Some(Place::Size(Line::default()))),
                (_, Some(length), false) => Ok(Some(bytes(length, After::Request))),
                (_, None, false) => Ok(Some(After::Request.place())),
            };
        }
        self.lines += 1;
        let is_long = line.length > LINE_KEPT_MAX;
        if let Some(value) = line.value(b"content-length") {
            let length = digits(value, 10).filter(|_| !is_long && self.length.is_none());
            self.length = Some(length.ok_or(())?);
        }
        if let Some(value) = line.value(b"transfer-encoding") {
            let is_chunked = value.eq_ignore_ascii_case(b"chunked") && !is_long && !self.is_chunked;
            self.is_chunked = is_chunked.then_some(true).ok_or(())?;
        }
        Ok(None)
    }
}

/// So many bytes, and what follows them.
fn bytes(length: u64, after: After) -> Place {
    if length == 0 { after.place() } else { Place::Bytes(length, after) }
}

fn digits(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(text, radix).ok()
}

/// What follows the line with a chunk's size. `Err` for what is no size.
fn after_size(line: &Line) -> Result<Place, ()> {
    if !line.is_whole() || line.is_odd {
        return Err(());
    }
    let size = line.start.split(|byte| matches!(byte, b';' | b'\r')).next().unwrap_or_default();
    match digits(size.trim_ascii_end(), 16).ok_or(())? {
        0 => Ok(Place::Trailers(Line::default())),
        // With the end of the line behind it.
        size => Ok(Place::Bytes(size.checked_add(2).ok_or(())?, After::Chunk)),
    }
}

impl Place {
    /// Goes through what has come, and spoils what is ambiguous.
    fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = self.take(bytes);
            bytes = &mut bytes[taken..];
        }
    }

    /// Takes bytes up to the next change of place; how many.
    fn take(&mut self, bytes: &mut [u8]) -> usize {
        let line = match self {
            Self::Bytes(left, after) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    *self = after.place();
                }
                return taken;
            }
            Self::Head(head) => &mut head.line,
            Self::Size(line) | Self::Trailers(line) => line,
        };
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            line.add(bytes);
            return bytes.len();
        };
        line.add(&bytes[..end]);
        let next = match self {
            Self::Head(head) => head.end_line(),
            Self::Size(line) => after_size(line).map(Some),
            Self::Trailers(line) => {
                let line = std::mem::take(line);
                match (line.is_whole(), line.is_blank()) {
                    (false, _) => Err(()),
                    (true, is_last) => Ok(is_last.then(|| After::Request.place())),
                }
            }
            Self::Bytes(..) => Ok(None),
        };
        match (next, &self) {
            (Ok(Some(place)), _) => *self = place,
            (Ok(None), _) => {}
            // Hyper refuses a bare line feed in this line by itself (tests/it/http/frames.rs would see it if it did not).
            (Err(()), Self::Size(line)) if !line.is_whole() => {}
            (Err(()), _) => bytes[end] = SPOILT,
        }
        end + 1
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.place.pass(&mut buffer.filled_mut()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where bytes are spoilt, in pieces of so many.
    fn spoilt(text: &str, piece: usize) -> Vec<usize> {
        let mut bytes = text.as_bytes().to_vec();
        let mut place = Place::Head(Head::default());
        bytes.chunks_mut(piece).for_each(|piece| place.pass(piece));
        (0..bytes.len()).filter(|&at| bytes[at] != text.as_bytes()[at]).collect()
    }

    #[test]
    fn what_is_clear_passes_however_it_is_cut() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let body = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\n\r\n\n\n";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding:  Chunked \r\n\r\n\
                       3;a=b\r\n\n\n\n\r\nA \r\n0123456\n\n\n\r\n0\r\nx: y\r\n\r\n";
        let none = "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
        let all = [get, body, chunked, none, "\r\n", get, chunked, body, get].concat();
        for piece in 1..all.len() {
            assert_eq!(spoilt(&all, piece), Vec::<usize>::new(), "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_spoilt_wherever_it_stands() {
        let before = "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n\n\n";
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let long = format!("POST / HTTP/1.1\r\ncontent-length: {}5\r\n\r\n", "0".repeat(200));
        for text in [
            "GET / HTTP/1.1\n\r\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
            "GET / HTTP/1.1\r\ncontent-length: 1\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: f\r\n\r\n",
            "GET / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
            "GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            &long,
            &format!("{chunked}x\r\n"),
            &format!("{chunked}1;a=\0b\r\n"),
            &format!("{chunked}ffffffffffffffff\r\n"),
            &format!("{chunked}0\r\nx: y\n\r\n"),
            &format!("{chunked}0\r\n\n"),
        ] {
            for piece in [1, 2, 7, 1_000] {
                assert_eq!(spoilt(text, piece).len(), 1, "{text:?} in pieces of {piece}");
                let later = format!("{before}{text}");
                assert_eq!(spoilt(&later, piece).len(), 1, "{text:?} after another request");
            }
        }
    }
}
