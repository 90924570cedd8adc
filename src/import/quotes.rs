//! Whether a line ends within quotes: the part of RFC 4180 that tells a row from the text of a field.
//!
//! Only lines whose quotes are not plainly in order come here. What is inside open quotes is never a row; where wrong quotes
//! leave open whether they are open, that is told, too: other programs read them in other ways, and one of them wrote the file.

/// Follows the quotes of a record through its lines.
#[derive(Debug)]
pub(super) struct Quotes {
    delimiter: u8,
    state: State,
    /// As programs write that double no quotes.
    lenient: Lenient,
    /// As programs write that put a backslash before quotes: MySQL, PHP.
    escaped: Lenient,
    /// A quote stands where RFC 4180 has none and other programs may see one begin or end: behind blanks, or before text.
    broken: bool,
    odd: bool,
    /// A line break was within quotes.
    several: bool,
    amid: Amid,
}

/// Quotes amid bare fields, where RFC 4180 has none: somebody's text may begin with one, and end with the next.
#[derive(Debug, Default)]
struct Amid {
    /// Text was begun, and not ended.
    open: bool,
    /// The character before is a letter or a digit: behind one, a quote stands for inches or is a slip.
    behind_word: bool,
    /// The character before is a quote; another one beside it is the same.
    behind_quote: bool,
}

impl Amid {
    fn take_quote(&mut self) {
        if !self.behind_quote {
            self.open = !self.open && !self.behind_word;
        }
        self.behind_quote = true;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing of the field was read, or nothing but blanks.
    Start {
        blanks: bool,
    },
    Bare,
    Quoted,
    /// Behind a quote within quotes: the end, or the first of two.
    Ended,
}

/// How a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// The record ends with it.
    Closed,
    /// Within quotes: the record goes on.
    Open,
    /// Who knows.
    Doubtful,
}

impl Quotes {
    pub(super) fn new(delimiter: u8) -> Self {
        let lenient = |escapes| Lenient { escapes, state: Place::Start };
        Self {
            delimiter,
            state: State::Start { blanks: false },
            lenient: lenient(false),
            escaped: lenient(true),
            broken: false,
            odd: false,
            several: false,
            amid: Amid::default(),
        }
    }

    /// Whether a quote amid a bare field has begun a text, and none has ended it.
    pub(super) fn is_open_amid(&self) -> bool {
        self.amid.open
    }

    /// Takes a part of a line.
    pub(super) fn take(&mut self, part: &[u8]) {
        self.lenient.take(part, self.delimiter);
        self.escaped.take(part, self.delimiter);
        let mut rest = part;
        while !rest.is_empty() {
            let quote = memchr::memchr(b'"', rest);
            let plain = &rest[..quote.unwrap_or(rest.len())];
            self.take_plain(plain);
            if quote.is_some() {
                self.take_quote();
            }
            rest = &rest[(plain.len() + 1).min(rest.len())..];
        }
    }

    /// Takes text without quotes.
    fn take_plain(&mut self, text: &[u8]) {
        let (Some(first), Some(last)) = (text.first(), text.last()) else { return };
        (self.amid.behind_word, self.amid.behind_quote) = (ends_with_word(text), false);
        if self.state == State::Quoted {
            return;
        }
        if self.state == State::Ended && *first != self.delimiter {
            self.broken = true;
        }
        let field = memchr::memrchr(self.delimiter, text);
        let begun = &text[field.map_or(0, |at| at + 1)..];
        let blank = begun.iter().copied().all(is_blank);
        self.state = match (field, self.state) {
            _ if *last == self.delimiter => State::Start { blanks: false },
            (Some(_), _) | (None, State::Start { .. }) if blank => State::Start { blanks: true },
            _ => State::Bare,
        };
    }

    fn take_quote(&mut self) {
        self.odd = !self.odd;
        self.state = match self.state {
            State::Start { blanks } => {
                self.broken |= blanks;
                State::Quoted
            }
            State::Ended => State::Quoted,
            State::Quoted => State::Ended,
            // Any program takes it for a character.
            State::Bare => {
                self.amid.take_quote();
                State::Bare
            }
        };
    }

    /// How the line ends that was taken. If the record goes on, the break belongs to its field.
    pub(super) fn end_line(&mut self) -> LineEnd {
        let open = self.state == State::Quoted;
        let (lenient, escaped) = (self.lenient.end_line(), self.escaped.end_line());
        let is_doubtful = match self.broken {
            true => open || lenient || escaped || self.odd || self.several,
            // Without a backslash all ways to read it are one.
            false => open != escaped,
        };
        match (is_doubtful, open) {
            (true, _) => LineEnd::Doubtful,
            (false, false) => LineEnd::Closed,
            (false, true) => {
                self.several = true;
                LineEnd::Open
            }
        }
    }
}

/// Whether a backslash stands before a quote: where it makes the quote a character, the line may end otherwise.
pub(super) fn has_escape(line: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', line).any(|at| line.get(at + 1) == Some(&b'"'))
}

/// Whether the last character is a letter or a digit.
fn ends_with_word(text: &[u8]) -> bool {
    let begin = text.iter().rposition(|byte| !matches!(byte, 0x80..=0xBF)).unwrap_or(0);
    str::from_utf8(&text[begin..]).is_ok_and(|last| last.chars().all(char::is_alphanumeric))
}

/// Quotes of a line that do not pair off; some side by side count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpaired {
    /// All stand behind digits.
    Inches,
    /// They begin or end a text.
    Text,
}

/// Whether the quotes of a line do not pair off.
pub(super) fn unpaired(line: &[u8]) -> Option<Unpaired> {
    let quotes = memchr::memchr_iter(b'"', line).map(|at| at.checked_sub(1).map_or(b' ', |before| line[before]));
    let (count, inches) = quotes
        .filter(|before| *before != b'"')
        .fold((0, 0), |(count, inches), before| (count + 1, inches + usize::from(before.is_ascii_digit())));
    (count % 2 == 1).then_some(if count == inches { Unpaired::Inches } else { Unpaired::Text })
}

/// Whether the last quote of a line may begin a text: it stands behind no word and not at the beginning, and does not end a field
/// or a word behind other text.
pub(super) fn may_open(line: &[u8], delimiter: u8) -> bool {
    let Some(last) = memchr::memrchr(b'"', line) else { return false };
    let before = line[..last].iter().rposition(|byte| *byte != b'"').map_or(&[][..], |at| &line[..=at]);
    let is_end = |next: &u8| *next == delimiter || is_blank(*next);
    let ends = line.get(last + 1).is_none_or(is_end) && before.last().is_some_and(|before| !is_end(before));
    !before.is_empty() && !ends_with_word(before) && !ends
}

/// Whether nobody sees that something stands there: a blank, a tab, or a byte of those characters of Unicode that are blanks
/// or show nothing (U+00A0, U+200B, U+FEFF and their like). That other characters have such bytes, too, makes a row doubtful
/// at the most.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0xC2 | 0xA0 | 0xAD | 0xE2 | 0x80..=0x8F | 0xA8..=0xAF | 0xEF | 0xBB | 0xBF)
}

/// Reads quotes that are not doubled: only one that ends its field closes it.
#[derive(Debug)]
struct Lenient {
    /// What follows a backslash within quotes is a character.
    escapes: bool,
    state: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing of the field was read, or nothing but blanks.
    Start,
    Bare,
    Quoted,
    Escaped,
    /// Behind a quote within quotes, which closes them if the field ends.
    Ended {
        blanks: bool,
    },
}

impl Lenient {
    fn take(&mut self, part: &[u8], delimiter: u8) {
        let mut rest = part;
        while !rest.is_empty() {
            // Most of a long text changes nothing.
            let next = match self.state {
                Place::Bare => memchr::memchr(delimiter, rest),
                Place::Quoted if self.escapes => memchr::memchr2(b'"', b'\\', rest),
                Place::Quoted => memchr::memchr(b'"', rest),
                Place::Start | Place::Escaped | Place::Ended { .. } => Some(0),
            };
            let Some(next) = next else { return };
            self.step(rest[next], delimiter);
            rest = &rest[next + 1..];
        }
    }

    fn step(&mut self, byte: u8, delimiter: u8) {
        let is_blank = is_blank(byte);
        self.state = match self.state {
            Place::Start | Place::Bare | Place::Ended { .. } if byte == delimiter => Place::Start,
            Place::Start if byte == b'"' => Place::Quoted,
            Place::Start if is_blank => Place::Start,
            Place::Start | Place::Bare => Place::Bare,
            Place::Ended { .. } if is_blank => Place::Ended { blanks: true },
            Place::Quoted | Place::Ended { blanks: true } if byte == b'"' => Place::Ended { blanks: false },
            Place::Quoted | Place::Ended { .. } if self.escapes && byte == b'\\' => Place::Escaped,
            Place::Quoted | Place::Escaped | Place::Ended { .. } => Place::Quoted,
        };
    }

    /// Whether the line ends within quotes.
    fn end_line(&mut self) -> bool {
        let open = matches!(self.state, Place::Quoted | Place::Escaped);
        self.state = if open { Place::Quoted } else { Place::Start };
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How each of the lines ends, up to the first that ends the record.
    fn ends(record: &str) -> Vec<LineEnd> {
        let mut whole = Quotes::new(b',');
        let mut bytes = Quotes::new(b',');
        let mut ends = Vec::new();
        for line in record.split('\n') {
            whole.take(line.as_bytes());
            line.as_bytes().iter().for_each(|byte| bytes.take(&[*byte]));
            let end = whole.end_line();
            assert_eq!(bytes.end_line(), end, "byte by byte: {record:?}");
            ends.push(end);
        }
        ends
    }

    #[test]
    fn a_quote_amid_a_field_begins_a_text_unless_it_stands_behind_a_word() {
        let table = [
            ("a,b", false),
            ("a,\"b\"", false),
            ("a,note: \"please ring", true),
            ("a,note: \"please, ring,x", true),
            ("a,note: \"please\" ring", false),
            ("a,note: \"", true),
            ("a,note: \"\"please ring", true),
            ("a,note: \"\"please ring\"\"", false),
            ("a,thanks\"", false),
            ("a,Größe\" please", false),
            ("a,注：\"please", true),
            ("a,op\"en", false),
            ("a,5\" pipe", false),
            ("a,5\"x7\" pipe", false),
            ("a,5\" pipe,note: \"please", true),
            ("a,see \"size 5\" please", false),
            ("\"5\"\" pipe\",note: \"please", true),
            ("\"a\nb\",note: \"please", true),
        ];
        for (line, expected) in table {
            let mut quotes = Quotes::new(b',');
            for line in line.split('\n') {
                quotes.take(line.as_bytes());
                quotes.end_line();
            }
            assert_eq!(quotes.is_open_amid(), expected, "{line:?}");
        }
        for (line, expected) in [
            ("", None),
            ("say \"hi\"", None),
            ("\"", Some(Unpaired::Text)),
            ("thanks\"\" ok", Some(Unpaired::Text)),
            ("5\"", Some(Unpaired::Inches)),
            ("5\" of \"these\"", Some(Unpaired::Text)),
        ] {
            assert_eq!(unpaired(line.as_bytes()), expected, "{line:?}");
        }
        for begins in ["a,\"b", "a,x: \"b", "a, \"", "a: \"\"b", "(\"b"] {
            assert!(may_open(begins.as_bytes(), b','), "{begins:?}");
        }
        for ends in ["", "\"", "\" ok", "b\"", "b.\"", "b.\",c", "b!\" c", "5\" c"] {
            assert!(!may_open(ends.as_bytes(), b','), "{ends:?}");
        }
    }

    #[test]
    fn what_is_within_quotes_is_told_from_rows() {
        use LineEnd::{Closed, Doubtful, Open};
        let table: &[(&str, &[LineEnd])] = &[
            ("a,b", &[Closed]),
            ("a,\"b\"", &[Closed]),
            ("a,\"please\nring\nthanks\",x", &[Open, Open, Closed]),
            ("a,\"say \"\"hi\nthere\"\"\"", &[Open, Closed]),
            ("\"\"\"", &[Open]),
            ("a,\"", &[Open]),
            // A quote amid a bare field is a character; a later field may open all the same.
            ("a,5\" pipe,b", &[Closed]),
            ("a,5\" pipe,\"note\nEVIL", &[Open, Open]),
            // Text behind a closing quote.
            ("\"a\" ,b", &[Closed]),
            ("\"a\"b,\"c", &[Doubtful]),
            ("1,\"see \"x\" and please", &[Doubtful]),
            ("1,\"see \"x\" and\" y", &[Doubtful]),
            ("1,\"the 5\" and 6\" pipe\",x", &[Closed]),
            ("\"A\"1,b", &[Doubtful]),
            ("1,\"he said \"please", &[Doubtful]),
            ("1,\"open\n2,\"text", &[Open, Doubtful]),
            // A quote behind blanks.
            ("1, \"a\",x", &[Closed]),
            ("1, \"please ring", &[Doubtful]),
            ("1,\u{a0}\"please ring", &[Doubtful]),
            ("1,\u{200b} \"please ring", &[Doubtful]),
            ("\u{feff}\"please ring", &[Doubtful]),
            ("\u{feff}\"a\",\u{a0}\"b\"\u{2009},x", &[Closed]),
            ("é\"a,b", &[Closed]),
            // A backslash before a quote.
            ("1,\"say \\\"hi\\", &[Doubtful]),
            ("1,\"say \\\"", &[Doubtful]),
            ("1,\"say \\\", and", &[Doubtful]),
            ("1,\"say \\\"hi\\\"\",x", &[Doubtful]),
            ("1,\"say \\\"\"hi\\\"\" there\"", &[Closed]),
            ("1,\"open\nsay \\\"", &[Open, Doubtful]),
            ("1,\"C:\\dir\",x", &[Closed]),
            ("1,\"C:\\dir\\\",x", &[Doubtful]),
            ("1,5\\\" pipe", &[Closed]),
        ];
        for (record, expected) in table {
            assert_eq!(&ends(record), expected, "{record:?}");
        }
    }
}
