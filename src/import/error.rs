//! Why a file as a whole cannot be imported.

use std::{fmt, io, path::PathBuf};

use pipeline::domain::is_unseen;

use super::lines::LINE_BYTES_MAX;

/// A failure of the whole file; nothing of it may be published.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not a single line with text.
    #[error("the file is empty: it has not even a header")]
    Empty,
    /// A byte order mark of UTF-32.
    #[error("the file is UTF-32; save it as UTF-8")]
    Utf32,
    /// Zeros where names of columns should be, or the beginning of another kind of file.
    #[error("the file is no text: its header is binary, or that of a document; save it as CSV in UTF-8")]
    NotText,
    /// The beginning of a compressed file.
    #[error("the file is compressed with {format}: unpack it first, as in: {tool} FILE | orderstream import -")]
    Compressed {
        /// By what.
        format: &'static str,
        /// The program that unpacks it.
        tool: &'static str,
    },
    /// The beginning of a spreadsheet or an archive.
    #[error("the file is a workbook (.xlsx, .xls, .ods) or an archive, not CSV: open it and save it as CSV in UTF-8")]
    Workbook,
    /// The first line is over the bound.
    #[error("the header is longer than {LINE_BYTES_MAX} bytes")]
    HeaderTooLong,
    /// The first line is not RFC 4180.
    #[error("the header has a quote that is not closed or not at the edge of a name")]
    HeaderQuotes,
    /// A line like `sep=:`.
    #[error(
        "the first line names the delimiter {named:?}, but fields are separated by a comma, a semicolon, a tab or |"
    )]
    UnknownDelimiter {
        /// What it names.
        named: String,
    },
    /// A column that every file needs.
    #[error("column {column} is missing in the header, which reads: {found}")]
    MissingColumn {
        /// Its name.
        column: &'static str,
        /// The header, shortened.
        found: String,
    },
    /// A name that looks like one with a meaning.
    #[error("a name in the header looks like {column}, but contains {lookalike}; type the name anew")]
    Lookalike {
        /// That one.
        column: &'static str,
        /// What keeps it from being that one.
        lookalike: Lookalike,
    },
    /// A column that says in what amounts are.
    #[error(
        "an order has no currency: all are charged in that of the installation. Where it is that of the file, take the column \
         currency out"
    )]
    CurrencyColumn,
    /// A file of refunds that does not say how much.
    #[error(
        "column amount is missing in the header, which reads: {found}. Without it everything would go back; where that is meant, \
         add the column and leave it empty"
    )]
    MissingAmount {
        /// The header, shortened.
        found: String,
    },
    /// Something else than LF, CRLF or CR ends the lines.
    #[error("lines end with U+{:04X}, which is no line break in CSV; save the file with LF or CRLF", u32::from(*line_end))]
    LineEnds {
        /// What does.
        line_end: char,
    },
    /// A column with a meaning, twice.
    #[error("column {column} stands twice in the header")]
    DoubledColumn {
        /// Its name.
        column: &'static str,
    },
    /// The reader failed before the end of the file.
    #[error("reading failed after {bytes} bytes, in the line after line {line}")]
    Read {
        /// Bytes read until then.
        bytes: u64,
        /// The last whole line.
        line: u64,
        /// What the reader says.
        source: io::Error,
    },
    /// Rows that do not fit into memory could not be written to disk, or read back.
    #[error("temporary files in {} failed", dir.display())]
    Spill {
        /// Where they are.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The caller could not take a rejected row.
    #[error("writing the rejected rows failed")]
    Rejects(#[source] io::Error),
    /// The caller's progress function asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A character that nobody sees, or that is shown like another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookalike(pub char);

impl fmt::Display for Lookalike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if is_unseen(self.0) { "which cannot be seen" } else { "which is none of its letters" };
        match self.0 {
            visible @ '!'..='~' => write!(f, "{visible:?}, {how}"),
            other => write!(f, "U+{:04X}, {how}", u32::from(other)),
        }
    }
}
