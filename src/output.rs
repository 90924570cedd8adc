//! Data on stdout, for people or as JSON; a reader that hangs up early is no error.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// Prints a value as one JSON document.
///
/// # Errors
/// When stdout cannot be written.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    text_line(&text)
}

/// Prints a line.
///
/// # Errors
/// When stdout cannot be written.
pub fn text_line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // `orderstream orders | head` ends the reader first.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints rows under a header; the columns named in `right` are numbers.
///
/// # Errors
/// When stdout cannot be written.
pub fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
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

/// Bytes from anybody, as text that does nothing to a terminal: control characters, marks that turn the direction of
/// text, and what is not UTF-8 are written as escapes. Line feeds stay if `lines`.
pub fn inert(bytes: &[u8], lines: bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' if lines => text.push(character),
                _ if character.is_control() => text.extend(character.escape_default()),
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                    text.extend(character.escape_unicode());
                }
                _ => text.push(character),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
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
    fn numbers_are_grouped() {
        for (number, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(thousands(number), shown);
        }
        for (cents, shown) in [(0, "0.00"), (123_456_789, "1,234,567.89"), (-5, "-0.05")] {
            assert_eq!(money(Cents::new(cents)), shown);
        }
    }
}
