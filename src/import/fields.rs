//! One row into its fields, as RFC 4180 has it.

use memchr::{memchr, memchr_iter};

/// What is reused from line to line, so that a line costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Start and end of each field.
    bounds: Vec<(usize, usize)>,
    /// The fields of a row that has quotes, without them.
    unquoted: Vec<u8>,
    has_quotes: bool,
    fault: Option<QuoteFault>,
}

/// A row as fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split<'a> {
    text: &'a [u8],
    bounds: &'a [(usize, usize)],
    /// The first place where the quotes are wrong. Fields before it are as written; from it on they are guesses, made
    /// by cutting at every delimiter.
    pub(super) fault: Option<QuoteFault>,
}

/// Quotes that RFC 4180 does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QuoteFault {
    /// The field it is in, from 0.
    pub(super) field: usize,
    /// Where that field begins in the row, its quote included.
    pub(super) start: usize,
}

impl<'a> Split<'a> {
    /// Number of fields, at least one.
    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    /// A field that exists.
    pub(super) fn get(&self, index: usize) -> &'a [u8] {
        let (start, end) = self.bounds[index];
        &self.text[start..end]
    }
}

impl Fields {
    /// Splits a row; what is wrong with its quotes, if anything is. [`Fields::view`] has the fields.
    pub(super) fn split(&mut self, row: &[u8], delimiter: u8) -> Option<QuoteFault> {
        self.bounds.clear();
        self.has_quotes = memchr(b'"', row).is_some();
        if self.has_quotes {
            self.fault = self.split_quoted(row, delimiter);
            return self.fault;
        }
        self.fault = None;
        let mut start = 0;
        for end in memchr_iter(delimiter, row) {
            self.bounds.push((start, end));
            start = end + 1;
        }
        self.bounds.push((start, row.len()));
        None
    }

    /// Whether there is a quote in the row that was split last.
    pub(super) fn has_quotes(&self) -> bool {
        self.has_quotes
    }

    /// The fields of the row that was split last, which is this one.
    pub(super) fn view<'a>(&'a self, row: &'a [u8]) -> Split<'a> {
        Split { text: if self.has_quotes { &self.unquoted } else { row }, bounds: &self.bounds, fault: self.fault }
    }

    fn split_quoted(&mut self, row: &[u8], delimiter: u8) -> Option<QuoteFault> {
        self.unquoted.clear();
        let mut start = 0;
        loop {
            let begin = self.unquoted.len();
            let Some(length) = unquote(&row[start..], delimiter, &mut self.unquoted) else {
                self.unquoted.truncate(begin);
                let field = self.bounds.len();
                self.guess_rest(&row[start..], delimiter);
                return Some(QuoteFault { field, start });
            };
            self.bounds.push((begin, self.unquoted.len()));
            let end = start + length;
            if end == row.len() {
                return None;
            }
            start = end + 1;
        }
    }

    /// Cuts at every delimiter, and what begins with a quote at the next one: good enough to name the order that must not
    /// ship.
    fn guess_rest(&mut self, rest: &[u8], delimiter: u8) {
        for field in rest.split(|&byte| byte == delimiter) {
            let begin = self.unquoted.len();
            let guess = match field.strip_prefix(b"\"") {
                Some(quoted) => &quoted[..memchr(b'"', quoted).unwrap_or(quoted.len())],
                None => field,
            };
            self.unquoted.extend_from_slice(guess);
            self.bounds.push((begin, self.unquoted.len()));
        }
    }
}

/// Appends the first field of `text` without its quotes and returns its length as written, which ends at a delimiter or the
/// row's end; `None` when a quote is not closed, or is where none may be.
fn unquote(text: &[u8], delimiter: u8, out: &mut Vec<u8>) -> Option<usize> {
    if text.first() != Some(&b'"') {
        let end = memchr(delimiter, text).unwrap_or(text.len());
        if memchr(b'"', &text[..end]).is_some() {
            return None;
        }
        out.extend_from_slice(&text[..end]);
        return Some(end);
    }
    let mut at = 1;
    loop {
        let quote = at + memchr(b'"', &text[at..])?;
        out.extend_from_slice(&text[at..quote]);
        match text.get(quote + 1) {
            None => return Some(quote + 1),
            Some(next) if *next == delimiter => return Some(quote + 1),
            Some(b'"') => out.push(b'"'),
            Some(_) => return None,
        }
        at = quote + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> (Vec<String>, Option<QuoteFault>) {
        let mut fields = Fields::default();
        fields.split(line.as_bytes(), b',');
        let split = fields.view(line.as_bytes());
        let texts = (0..split.len()).map(|index| String::from_utf8_lossy(split.get(index)).into_owned());
        (texts.collect(), split.fault)
    }

    #[test]
    fn quotes_are_read_as_in_rfc_4180() {
        let table: &[(&str, &[&str])] = &[
            ("a,b,c", &["a", "b", "c"]),
            ("", &[""]),
            (",", &["", ""]),
            ("\"a\",b", &["a", "b"]),
            ("\"a,b\",\"\"", &["a,b", ""]),
            ("\"say \"\"hi\"\"\",x", &["say \"hi\"", "x"]),
            ("x,\"\"\"\"", &["x", "\""]),
            ("\"a\",", &["a", ""]),
        ];
        for (line, expected) in table {
            assert_eq!(split(line), (expected.iter().map(ToString::to_string).collect(), None), "{line:?}");
        }
    }

    #[test]
    fn wrong_quotes_are_named_and_the_rest_is_guessed() {
        let table: &[(&str, &[&str], QuoteFault)] = &[
            ("1,\"ORD,7", &["1", "ORD", "7"], QuoteFault { field: 1, start: 2 }),
            ("1,\"ORD\" ,7", &["1", "ORD", "7"], QuoteFault { field: 1, start: 2 }),
            ("1,O\"RD,\"7\"", &["1", "O\"RD", "7"], QuoteFault { field: 1, start: 2 }),
            ("\"1,\"ORD\",7", &["1", "ORD", "7"], QuoteFault { field: 0, start: 0 }),
            ("\"a,b\",\"c", &["a,b", "c"], QuoteFault { field: 1, start: 6 }),
            ("\"", &[""], QuoteFault { field: 0, start: 0 }),
        ];
        for (line, expected, fault) in table {
            assert_eq!(split(line), (expected.iter().map(ToString::to_string).collect(), Some(*fault)), "{line:?}");
        }
    }
}
