//! Why a file as a whole cannot be imported.

use std::{io, path::PathBuf};

use super::lines::LINE_BYTES_MAX;

/// A failure of the whole file; nothing of it may be published.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not a single line with text.
    #[error("the file is empty: it has not even a header")]
    Empty,
    /// A byte order mark of UTF-16 or UTF-32.
    #[error("the file is UTF-16 or UTF-32; save it as UTF-8")]
    NotUtf8,
    /// The first line is over the bound.
    #[error("the header is longer than {LINE_BYTES_MAX} bytes")]
    HeaderTooLong,
    /// The first line is not RFC 4180.
    #[error("the header has a quote that is not closed or not at the edge of a name")]
    HeaderQuotes,
    /// A column that every file needs.
    #[error("column {column} is missing in the header, which reads: {found}")]
    MissingColumn {
        /// Its name.
        column: &'static str,
        /// The header, shortened.
        found: String,
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
