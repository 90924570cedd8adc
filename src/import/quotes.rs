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

/// Quotes amid bare fields, where RFC 4180 has none: somebody's text may begin with one, and end with another.
#[derive(Debug, Default)]
struct Amid {
    /// So many texts were begun, one within the other, and not ended.
    depth: u32,
    /// One was ended by what may stand for inches, or something ended that had not begun.
    is_doubtful: bool,
    /// What stands before a quote that is not judged yet; some side by side are one.
    pending: Option<Before>,
    last: Before,
}

/// What stands before a quote.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing, a blank or a delimiter.
    #[default]
    Gap,
    /// A mark.
    Mark,
    Letter,
    Digit,
}

impl Before {
    fn of(text: &[u8], delimiter: u8) -> Self {
        let begin = text.iter().rposition(|byte| !matches!(byte, 0x80..=0xBF)).unwrap_or(0);
        let last = str::from_utf8(&text[begin..]).ok().and_then(|last| last.chars().next());
        match (text.last(), last) {
            (None, _) => Self::Gap,
            (Some(last), _) if *last == delimiter || is_blank(*last) && last.is_ascii() => Self::Gap,
            (_, Some(last)) if last.is_numeric() => Self::Digit,
            (_, Some(last)) if last.is_alphabetic() => Self::Letter,
            (_, Some(last)) if last.is_whitespace() => Self::Gap,
            _ => Self::Mark,
        }
    }
}

/// Whether a text that was begun amid a field goes on below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AmidText {
    No,
    /// If there is an end to it.
    Perhaps,
    Yes,
}

impl Amid {
    fn take_quote(&mut self) {
        self.pending.get_or_insert(self.last);
    }

    fn take_plain(&mut self, text: &[u8], delimiter: u8) {
        self.judge(text.first().is_some_and(|next| *next != delimiter && !is_blank(*next)));
        self.last = Before::of(text, delimiter);
    }

    /// Judges the quote before by whether text follows it at once.
    fn judge(&mut self, is_followed: bool) {
        let Some(before) = self.pending.take() else { return };
        match (self.depth, before) {
            // Inches, or a slip.
            (0, Before::Digit | Before::Letter) => {}
            (0, Before::Mark) if !is_followed => self.is_doubtful = true,
            (0, Before::Gap | Before::Mark) => self.depth = 1,
            (_, Before::Gap | Before::Mark) if is_followed => self.depth += 1,
            (_, before) => {
                self.is_doubtful |= before == Before::Digit;
                self.depth -= 1;
            }
        }
    }

    fn end(&mut self) -> AmidText {
        self.judge(false);
        match (self.depth, self.is_doubtful) {
            (1.., _) => AmidText::Yes,
            (0, true) => AmidText::Perhaps,
            (0, false) => AmidText::No,
        }
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

    /// Whether a quote amid a bare field of the record, which has ended, has begun a text that none has ended.
    pub(super) fn text_amid(&mut self) -> AmidText {
        self.amid.end()
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
        self.amid.take_plain(text, self.delimiter);
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
    let Some(before) = line[..last].iter().rposition(|byte| *byte != b'"') else { return false };
    let is_end = |next: &u8| *next == delimiter || is_blank(*next);
    match Before::of(&line[..=before], delimiter) {
        Before::Gap => true,
        Before::Mark => !line.get(last + 1).is_none_or(is_end),
        Before::Letter | Before::Digit => false,
    }
}

/// Whether the last that is seen of a line is a backslash.
pub(super) fn ends_with_backslash(text: &[u8]) -> bool {
    text.iter().rfind(|&&byte| byte != b' ' && byte != b'\t') == Some(&b'\\')
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
        use AmidText::{No, Perhaps, Yes};
        let table = [
            ("a,b", No),
            ("a,\"b\"", No),
            ("a,note: \"please ring", Yes),
            ("a,note: \"please, ring,x", Yes),
            ("a,note: \"please\" ring", No),
            ("a,note: \"", Yes),
            ("a,note:\"", Perhaps),
            ("a,note: \"\"please ring", Yes),
            ("a,note: \"\"please ring\"\"", No),
            ("a,thanks\"", No),
            ("a,thanks.\"", Perhaps),
            ("a,Größe\" please", No),
            ("a,注：\"please", Yes),
            ("a,op\"en", No),
            ("a,5\" pipe", No),
            ("a,5\"x7\" pipe", No),
            ("a,5\" pipe,note: \"please", Yes),
            // What stands for inches may end a text, too.
            ("a,see \"size 5\" please", Perhaps),
            ("a,note: \"mount the 5\" pipe", Perhaps),
            ("a,note: \"5\" and 6\" pipes", Perhaps),
            // Quotes within quotes.
            ("a,note: \"call \"Bob", Yes),
            ("a,note: \"call \"Bob\" now", Yes),
            ("a,note: \"call \"Bob\" now\"", No),
            ("\"5\"\" pipe\",note: \"please", Yes),
            ("\"a\nb\",note: \"please", Yes),
        ];
        for (line, expected) in table {
            let mut quotes = Quotes::new(b',');
            for line in line.split('\n') {
                quotes.take(line.as_bytes());
                quotes.end_line();
            }
            assert_eq!(quotes.text_amid(), expected, "{line:?}");
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
