//! The log for people: a line for each event, which does nothing to a terminal whatever stands in it.

use std::io::{self, Write};

use crate::output::inert;

/// Writes events to stderr, each in one piece, as the layer that formats them does.
pub(super) struct PlainLines {
    /// Events have colours. What stands in their fields has its escape characters escaped already then; those that are
    /// left are the colours.
    pub(super) colours: bool,
}

impl Write for PlainLines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(harmless(event, self.colours).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// An event as one line.
fn harmless(event: &[u8], colours: bool) -> String {
    let (line, end) = event.strip_suffix(b"\n").map_or((event, ""), |line| (line, "\n"));
    if !colours {
        return inert(line, false) + end;
    }
    let pieces: Vec<String> = line.split(|byte| *byte == 0x1b).map(|piece| inert(piece, false)).collect();
    pieces.join("\u{1b}") + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_stands_in_it() {
        let event = "WARN \u{1b}[2J a\nERROR forged \u{202e}b\n".as_bytes();
        assert_eq!(harmless(event, false), "WARN \\u{1b}[2J a\\nERROR forged \\u{202e}b\n");
        let coloured = "\u{1b}[33mWARN\u{1b}[0m a\nb\u{202e}\n".as_bytes();
        assert_eq!(harmless(coloured, true), "\u{1b}[33mWARN\u{1b}[0m a\\nb\\u{202e}\n");
    }
}
