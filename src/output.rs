//! All that is printed: data on stdout, for people or as JSON, and remarks on stderr. What comes from outside does nothing
//! to a terminal here, whoever prints it; a reader that hangs up early is no error. `tests/it/architecture.rs` keeps
//! others from printing.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use pipeline::domain::is_unseen;
use serde::Serialize;

/// Prints a value as one JSON document.
///
/// # Errors
/// When stdout cannot be written.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = inert_json(serde_json::to_string_pretty(value)?);
    text.push('\n');
    raw(text.as_bytes())?;
    Ok(())
}

/// The same JSON document, of ASCII where a character would do something to a terminal: `"\u202e"` is the text of that
/// character to every reader of JSON.
pub fn inert_json(text: String) -> String {
    let is_harmless = |character: char| character.is_ascii_control() && character != '\u{7f}' || !acts(character);
    if text.chars().all(is_harmless) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_harmless(character) {
            true => escaped.push(character),
            false => escaped.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    escaped
}

/// Prints text for people as a line, or several; what would do something to a terminal is escaped.
///
/// # Errors
/// When stdout cannot be written.
pub fn text_line(text: &str) -> anyhow::Result<()> {
    let mut text = inert(text.as_bytes(), true);
    text.push('\n');
    raw(text.as_bytes())?;
    Ok(())
}

/// Prints bytes for programs as they are; whether anybody still reads.
///
/// # Errors
/// When stdout cannot be written.
pub fn raw(bytes: &[u8]) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        // `orderstream orders | head` ends the reader first.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Prints a remark on stderr, in the form of `format!`.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::write_note(&format!($($text)*)) };
}
pub(crate) use note;

/// Prints a remark on stderr, as [`text_line`] does; that nobody reads it is no reason to stop.
pub fn write_note(text: &str) {
    _ = writeln!(io::stderr(), "{}", inert(text.as_bytes(), true));
}

/// Prints a question on stderr.
pub(crate) fn ask(question: &str) {
    _ = write!(io::stderr(), "{}", inert(question.as_bytes(), true));
}

/// Prints rows under a header; the columns named in `right` are numbers. What would do something to a terminal is escaped.
///
/// # Errors
/// When stdout cannot be written.
pub fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| inert(cell.as_bytes(), false)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    text_line(&text.join("\n"))
}

/// Bytes from anybody, as text that does nothing to a terminal: what cannot be seen (control and format characters, marks that
/// turn the direction of text, blanks that are none) and what is not UTF-8 are written as escapes. Line feeds stay if
/// `lines`; the wide blank between Japanese names does.
pub fn inert(bytes: &[u8], lines: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' if lines => text.push(character),
                _ if character.is_control() => text.extend(character.escape_default()),
                _ if acts(character) => text.extend(character.escape_unicode()),
                _ => text.push(character),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// Whether a character does something to a terminal, or is not seen on one.
pub fn acts(character: char) -> bool {
    is_unseen(character) && character != '\u{3000}'
}

/// The first `most` characters; an ellipsis says that there are more.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if number < 0 { format!("-{grouped}") } else { grouped }
}

/// Money with thousands separators.
pub fn money(cents: pipeline::domain::Cents) -> String {
    let text = cents.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "00"));
    let sign = if whole.starts_with('-') { "-" } else { "" };
    let whole: i128 = whole.trim_start_matches('-').parse().unwrap_or_default();
    format!("{sign}{}.{fraction}", thousands(whole))
}

/// Money with its currency, which may be unknown: empty then.
pub fn amount(cents: pipeline::domain::Cents, currency: &str) -> String {
    format!("{} {currency}", money(cents)).trim_end().to_owned()
}

/// The title of a column of amounts: `TOTAL (EUR)`.
pub fn titled(title: &str, currency: &str) -> String {
    if currency.is_empty() { title.to_owned() } else { format!("{title} ({currency})") }
}

#[cfg(test)]
mod tests {
    use pipeline::domain::Cents;

    use super::*;

    #[test]
    fn hostile_bytes_are_shown_and_do_nothing() {
        assert_eq!(inert(b"\x1b[2J\x07\r\n\xff ok \xc3\xa9", false), "\\u{1b}[2J\\u{7}\\r\\n\\xff ok é");
        assert_eq!(inert("a\u{202e}b\nc\u{9b}".as_bytes(), true), "a\\u{202e}b\nc\\u{9b}");
        assert_eq!((cut("äöü", 3), cut("äöü", 2)), ("äöü".to_owned(), "äö…".to_owned()));
    }

    #[test]
    fn hostile_text_in_json_is_the_same_text_and_does_nothing() {
        let hostile = "\u{7f}\u{9b}2J \u{202e}evas \u{200b}é名\u{3000}😀\u{e0041}";
        let document = serde_json::to_string_pretty(&[hostile]).expect("JSON");
        let inert = inert_json(document);
        assert_eq!(inert, "[\n  \"\\u007f\\u009b2J \\u202eevas \\u200bé名\u{3000}😀\\udb40\\udc41\"\n]");
        assert_eq!(serde_json::from_str::<[String; 1]>(&inert).expect("JSON"), [hostile]);
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(thousands(number), shown);
        }
        for (cents, shown) in [(0, "0.00"), (123_456_789, "1,234,567.89"), (-5, "-0.05")] {
            assert_eq!(money(Cents::new(cents)), shown);
        }
    }
}
