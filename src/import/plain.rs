//! Files that are taken row by row, whole or not at all: the catalogue. Lines, header and fields are those of a file of orders.

use std::{io::Read, str};

use super::{
    Form, ReadError, header,
    header::Columns,
    records::{Record, Records},
    row::{check_shape, with_point},
};

/// A row, with a value for each of the columns that were asked for.
#[derive(Debug)]
pub struct PlainRow<'a> {
    /// Its first line in the file, from 1.
    pub line: u64,
    /// The values, in the sequence in which the columns were asked for, without blanks around them.
    pub values: Vec<&'a str>,
    delimiter: u8,
}

impl PlainRow<'_> {
    /// A value that is an amount, with a point.
    pub fn amount(&self, index: usize) -> String {
        String::from_utf8_lossy(&with_point(self.values[index].as_bytes(), self.delimiter)).into_owned()
    }
}

/// A value that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}{}: {why}", column.as_ref().map(|column| format!(", column {column}")).unwrap_or_default())]
pub struct BadValue {
    /// The line of its row.
    pub line: u64,
    /// Its column, where it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub why: String,
}

/// How a file was read.
#[derive(Debug)]
pub struct PlainFile {
    /// What it is written in, and what was odd.
    pub form: Form,
    /// Columns that mean nothing here.
    pub ignored_columns: Vec<String>,
}

impl PlainFile {
    /// What people should know of it; nothing of an ordinary file.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.form.notes();
        if !self.ignored_columns.is_empty() {
            notes.push(format!("ignored columns: {}", self.ignored_columns.join(", ")));
        }
        notes
    }
}

/// Reads a file of which all `columns` are needed, up to its end or the first row that is bad or that `visit` refuses.
///
/// # Errors
/// When the file as a whole is not readable (outside), or a row is bad (inside).
pub fn read_rows(
    reader: impl Read,
    columns: &'static [&'static str],
    mut visit: impl FnMut(&PlainRow<'_>) -> Result<(), BadValue>,
) -> Result<Result<PlainFile, BadValue>, ReadError> {
    let mut records = Records::new(reader);
    let places = |header: Columns| {
        let places = columns.iter().map(|column| header.required(column)).collect::<Result<Vec<_>, _>>()?;
        Ok((places, header))
    };
    let (places, header) = records.header(|lines| header::read(lines, columns, places))?;
    let delimiter = records.delimiter();
    while let Some(record) = records.next()? {
        let line = record.number;
        let done =
            values(&record, &places, &header.names).and_then(|values| visit(&PlainRow { line, values, delimiter }));
        if let Err(bad) = done {
            return Ok(Err(bad));
        }
    }
    Ok(Ok(PlainFile { form: Form::of(&records), ignored_columns: header.ignored() }))
}

fn values<'a>(record: &Record<'a>, places: &[usize], names: &[String]) -> Result<Vec<&'a str>, BadValue> {
    check_shape(record, names.len()).map_err(|(column, _, reason)| BadValue {
        line: record.number,
        column: column.and_then(|column| names.get(column)).cloned(),
        why: reason.to_string(),
    })?;
    let value = |place: &usize| str::from_utf8(record.split.get(*place)).unwrap_or_default().trim();
    Ok(places.iter().map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[&str] = &["id", "name"];

    fn read(file: &str) -> Result<Vec<(u64, Vec<String>)>, String> {
        let mut rows = Vec::new();
        let read = read_rows(file.as_bytes(), COLUMNS, |row| {
            rows.push((row.line, row.values.iter().map(ToString::to_string).collect()));
            Ok(())
        });
        match read {
            Ok(Ok(_)) => Ok(rows),
            Ok(Err(bad)) => Err(bad.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn rows_have_the_columns_that_were_asked_for() {
        let rows =
            read("sep=;\nNAME;x;id\n \"a; b\nc\" ;;1\n\n\"two\nlines\";;2\n;;\n").expect_err("a quote behind blanks");
        assert!(rows.starts_with("line 3, column NAME: "), "{rows}");
        let rows = read("sep=;\nNAME;x;id\n\"a; b\n c\";;1\n\n\"two\nlines\";; 2 \n;;\n").expect("readable");
        let row = |line, id: &str, name: &str| (line, vec![id.to_owned(), name.to_owned()]);
        assert_eq!(rows, [row(3, "1", "a; b\n c"), row(6, "2", "two\nlines")]);
    }

    #[test]
    fn a_bad_row_is_named() {
        for (file, message) in [
            ("id,name\n1,a\n2\n", "line 3: the row has 1 columns, the header 2"),
            (
                "id,name\n1,a\"b\n",
                "line 2, column name: a quote may only enclose a whole field; inside it is written twice",
            ),
            (
                "id,name\n1,\"a\n2,b\n",
                "line 2, column name: a quote in the row of line 2 is never closed: rows cannot be told from text from there \
                 on",
            ),
            ("id;x\n", "column name is missing in the header, which reads: id;x"),
        ] {
            assert_eq!(read(file).expect_err("refused"), message);
        }
    }
}
