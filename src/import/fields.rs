//! One line into its fields: RFC 4180, except that a field never goes beyond its line.

use memchr::{memchr, memchr_iter};

/// What is reused from line to line, so that a line costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Start and end of each field.
    bounds: Vec<(usize, usize)>,
    /// The fields of a line that has quotes, without them.
    unquoted: Vec<u8>,
}

/// A line as fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split<'a> {
    text: &'a [u8],
    bounds: &'a [(usize, usize)],
    /// The first place where the quotes are wrong. Fields before it are as written; from it on they are guesses, made
    /// by cutting at every comma.
    pub(super) fault: Option<QuoteFault>,
}

/// Quotes that RFC 4180 does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QuoteFault {
    /// The field it is in, from 0.
    pub(super) field: usize,
    /// Where that field begins in the line, its quote included.
    pub(super) start: usize,
    /// Opened and never closed, as a quoted line break looks too; otherwise a quote amid a field.
    pub(super) unbalanced: bool,
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
    /// Splits a line.
    pub(super) fn split<'a>(&'a mut self, line: &'a [u8]) -> Split<'a> {
        self.bounds.clear();
        if memchr(b'"', line).is_some() {
            let fault = self.split_quoted(line);
            return Split { text: &self.unquoted, bounds: &self.bounds, fault };
        }
        let mut start = 0;
        for comma in memchr_iter(b',', line) {
            self.bounds.push((start, comma));
            start = comma + 1;
        }
        self.bounds.push((start, line.len()));
        Split { text: line, bounds: &self.bounds, fault: None }
    }

    fn split_quoted(&mut self, line: &[u8]) -> Option<QuoteFault> {
        self.unquoted.clear();
        let mut start = 0;
        loop {
            let begin = self.unquoted.len();
            let end = match unquote(&line[start..], &mut self.unquoted) {
                Ok(length) => start + length,
                Err(unbalanced) => {
                    self.unquoted.truncate(begin);
                    let field = self.bounds.len();
                    self.guess_rest(&line[start..]);
                    return Some(QuoteFault { field, start, unbalanced });
                }
            };
            self.bounds.push((begin, self.unquoted.len()));
            if end == line.len() {
                return None;
            }
            start = end + 1;
        }
    }

    /// Cuts at every comma, and what begins with a quote at the next one: good enough to name the order that must not
    /// ship.
    fn guess_rest(&mut self, rest: &[u8]) {
        for field in rest.split(|&byte| byte == b',') {
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

/// Appends the first field of `text` without its quotes and returns its length as written, which ends at a comma or
/// the line's end; `Err(true)` when a quote is not closed, `Err(false)` when one is where none may be.
fn unquote(text: &[u8], out: &mut Vec<u8>) -> Result<usize, bool> {
    if text.first() != Some(&b'"') {
        let end = memchr(b',', text).unwrap_or(text.len());
        if memchr(b'"', &text[..end]).is_some() {
            return Err(false);
        }
        out.extend_from_slice(&text[..end]);
        return Ok(end);
    }
    let mut at = 1;
    loop {
        let quote = at + memchr(b'"', &text[at..]).ok_or(true)?;
        out.extend_from_slice(&text[at..quote]);
        match text.get(quote + 1) {
            None | Some(b',') => return Ok(quote + 1),
            Some(b'"') => out.push(b'"'),
            Some(_) => return Err(false),
        }
        at = quote + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> (Vec<String>, Option<QuoteFault>) {
        let mut fields = Fields::default();
        let split = fields.split(line.as_bytes());
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
            ("1,\"ORD,7", &["1", "ORD", "7"], QuoteFault { field: 1, start: 2, unbalanced: true }),
            ("1,\"ORD\" ,7", &["1", "ORD", "7"], QuoteFault { field: 1, start: 2, unbalanced: false }),
            ("1,O\"RD,\"7\"", &["1", "O\"RD", "7"], QuoteFault { field: 1, start: 2, unbalanced: false }),
            ("\"1,\"ORD\",7", &["1", "ORD", "7"], QuoteFault { field: 0, start: 0, unbalanced: false }),
            ("\"a,b\",\"c", &["a,b", "c"], QuoteFault { field: 1, start: 6, unbalanced: true }),
            ("\"", &[""], QuoteFault { field: 0, start: 0, unbalanced: true }),
        ];
        for (line, expected, fault) in table {
            assert_eq!(split(line), (expected.iter().map(ToString::to_string).collect(), Some(*fault)), "{line:?}");
        }
    }
}
