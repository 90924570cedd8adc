//! The first row: what separates the fields, and which column stands where.

use std::io::Read;

use memchr::memchr_iter;
use pipeline::domain::is_like;

use super::{
    error::{Lookalike, ReadError},
    fields::Fields,
    lines::{LINE_BYTES_MAX, Lines},
    records::is_blank,
};

/// What may separate fields, in the order in which it is tried.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// Most lines of a header whose names go over line breaks.
const HEADER_LINES_MAX: usize = 10;

/// The names in a header, and which of them have a meaning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Every name, trimmed, in the file's order.
    pub(super) names: Vec<String>,
    /// What separates them.
    pub(super) delimiter: u8,
    known: &'static [&'static str],
    /// The header, shortened.
    shown: String,
}

impl Columns {
    /// Splits the header; `None` when its quotes are not in order.
    fn split(text: &[u8], delimiter: u8, known: &'static [&'static str]) -> Option<Self> {
        let mut fields = Fields::default();
        if fields.split(text, delimiter).is_some() {
            return None;
        }
        let split = fields.view(text);
        let names = (0..split.len()).map(|index| String::from_utf8_lossy(split.get(index)).trim().to_owned()).collect();
        Some(Self { names, delimiter, known, shown: shown(text) })
    }

    /// Where a column stands that may be absent.
    pub(super) fn optional(&self, known: &'static str) -> Option<usize> {
        self.places(known).next()
    }

    /// Where a column stands that every file needs.
    ///
    /// # Errors
    /// When it is missing.
    pub(super) fn required(&self, column: &'static str) -> Result<usize, ReadError> {
        self.optional(column).ok_or_else(|| ReadError::MissingColumn { column, found: self.shown.clone() })
    }

    fn places(&self, known: &'static str) -> impl Iterator<Item = usize> {
        (0..self.names.len()).filter(move |&index| self.names[index].eq_ignore_ascii_case(known))
    }

    /// Refuses a column that says in what amounts are: nobody heeds it.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn without_currency(&self) -> Result<(), ReadError> {
        match self.names.iter().any(|name| is_like(name, "currency")) {
            true => Err(ReadError::CurrencyColumn),
            false => Ok(()),
        }
    }

    /// How many names have a meaning.
    fn hits(&self) -> usize {
        self.known.iter().filter(|known| self.places(known).next().is_some()).count()
    }

    fn doubled(&self) -> Result<(), ReadError> {
        match self.known.iter().find(|known| self.places(known).count() > 1) {
            Some(column) => Err(ReadError::DoubledColumn { column }),
            None => Ok(()),
        }
    }

    /// Refuses a name that looks like one with a meaning and is another: what stands below it would not be heeded.
    fn without_lookalikes(&self) -> Result<(), ReadError> {
        let is_known = |name: &str| self.known.iter().any(|known| name.eq_ignore_ascii_case(known));
        for name in self.names.iter().filter(|name| !is_known(name)) {
            // Nobody heeds an `id`.
            if let Some(column) = self.known.iter().find(|known| **known != "id" && is_like(name, known))
                && let Some(other) = name.chars().find(|letter| !letter.is_ascii_alphanumeric() && *letter != '_')
            {
                return Err(ReadError::Lookalike { column, lookalike: Lookalike(other) });
            }
        }
        Ok(())
    }

    /// Columns without a meaning here, in the file's order; those without a name are not told of.
    pub(super) fn ignored(&self) -> Vec<String> {
        let is_known = |name: &str| self.known.iter().any(|known| name.eq_ignore_ascii_case(known));
        self.names.iter().filter(|name| !name.is_empty() && !is_known(name)).cloned().collect()
    }
}

/// What the rows of a file have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// What separates fields.
    pub(super) delimiter: u8,
    /// How many there are.
    pub(super) columns: usize,
}

/// Reads the header: the first line with text, or the one below it where that only names the delimiter, as `sep=;`. The
/// delimiter is the first one under which the header has all that `places` asks for.
///
/// # Errors
/// When a required column is missing, one with a meaning stands there twice, or the quotes are not in order.
pub(super) fn read<R: Read, H>(
    lines: &mut Lines<R>,
    known: &'static [&'static str],
    places: impl Fn(Columns) -> Result<H, ReadError>,
) -> Result<(Shape, H), ReadError> {
    let mut text = next_text(lines)?;
    let named = named_delimiter(&text)?;
    if named.is_some() {
        text = next_text(lines)?;
    }
    if let Some(line_end) =
        String::from_utf8_lossy(&text).chars().find(|end| matches!(end, '\u{85}' | '\u{2028}' | '\u{2029}'))
    {
        return Err(ReadError::LineEnds { line_end });
    }
    let tried = named.as_ref().map_or(&DELIMITERS[..], std::slice::from_ref);
    // Where none will do, the one is meant that finds most names.
    let (mut most, mut error) = (0, ReadError::HeaderQuotes);
    let mut is_first = true;
    for &delimiter in tried {
        let Some(columns) = Columns::split(&text, delimiter, known) else { continue };
        let hits = columns.hits();
        let shape = Shape { delimiter, columns: columns.names.len() };
        match columns.without_lookalikes().and_then(|()| columns.doubled()).and_then(|()| places(columns)) {
            Ok(header) => return Ok((shape, header)),
            Err(reason) if is_first || hits > most => (most, error, is_first) = (hits, reason, false),
            Err(_) => {}
        }
    }
    if let (ReadError::MissingColumn { found, .. }, Some(delimiter)) = (&mut error, named) {
        found.push_str(&format!(" (the line above says that {} separates the fields)", char::from(delimiter)));
    }
    Err(error)
}

/// The next line with text, and the lines after it over which its quotes reach.
fn next_text<R: Read>(lines: &mut Lines<R>) -> Result<Vec<u8>, ReadError> {
    loop {
        let place = lines.next()?.ok_or(ReadError::Empty)?;
        if place.too_long {
            return Err(ReadError::HeaderTooLong);
        }
        if is_blank(lines.text(place)) {
            continue;
        }
        let mut text = lines.text(place).to_vec();
        let mut read = 1;
        while memchr_iter(b'"', &text).count() % 2 == 1 {
            let place = lines.next()?.filter(|_| read < HEADER_LINES_MAX).ok_or(ReadError::HeaderQuotes)?;
            text.push(b'\n');
            text.extend_from_slice(lines.text(place));
            if place.too_long || text.len() > LINE_BYTES_MAX {
                return Err(ReadError::HeaderTooLong);
            }
            read += 1;
        }
        return Ok(text);
    }
}

/// What a line like `sep=;` names, which spreadsheets write and read; behind it may stand the delimiters of empty columns.
fn named_delimiter(text: &[u8]) -> Result<Option<u8>, ReadError> {
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let Some(name) = text.get(..4).filter(|name| name.eq_ignore_ascii_case(b"sep=")).map(|_| &text[4..]) else {
        return Ok(None);
    };
    let Some((&delimiter, rest)) = name.split_first() else {
        return Err(ReadError::UnknownDelimiter { named: String::new() });
    };
    let is_alone = rest.iter().all(|byte| *byte == delimiter || b"\" \t,;".contains(byte));
    match DELIMITERS.contains(&delimiter) && is_alone {
        true => Ok(Some(delimiter)),
        false => Err(ReadError::UnknownDelimiter { named: shown(name) }),
    }
}

/// Places of the columns of a file of orders.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) columns: Columns,
    pub(super) order_code: usize,
    pub(super) customer_id: usize,
    pub(super) product_id: usize,
    pub(super) quantity: usize,
    pub(super) unit_price: usize,
    pub(super) total: Option<usize>,
}

/// Every name with a meaning. `id` numbers the rows of the system that wrote the file; nothing here depends on it.
pub(super) const KNOWN: &[&str] = &["id", "order_code", "customer_id", "product_id", "quantity", "unit_price", "total"];

impl Header {
    /// Finds the columns.
    ///
    /// # Errors
    /// When a required one is missing.
    pub(super) fn new(columns: Columns) -> Result<Self, ReadError> {
        columns.without_currency()?;
        Ok(Self {
            order_code: columns.required("order_code")?,
            customer_id: columns.required("customer_id")?,
            product_id: columns.required("product_id")?,
            quantity: columns.required("quantity")?,
            unit_price: columns.required("unit_price")?,
            total: columns.optional("total"),
            columns,
        })
    }

    /// The header that a text is.
    #[cfg(test)]
    pub(super) fn parse(text: &[u8]) -> Result<Self, ReadError> {
        read(&mut Lines::new(text), KNOWN, Self::new).map(|(_, header)| header)
    }
}

/// The line as an error message shows it: enough to see a wrong delimiter or a headless file.
fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().filter(|character| !character.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let header =
            Header::parse(b" Total ,unit_price,\"quantity\",PRODUCT_ID,note,customer_id,order_code").expect("complete");
        assert_eq!(header.total, Some(0));
        assert_eq!((header.unit_price, header.quantity, header.product_id), (1, 2, 3));
        assert_eq!((header.customer_id, header.order_code), (5, 6));
        assert_eq!(header.columns.ignored(), ["note"]);
    }

    #[test]
    fn the_error_names_the_column() {
        let table = [
            (
                "order_code,customer_id,product_id,unit_price",
                "column quantity is missing in the header, which reads: order_code,customer_id,product_id,unit_price",
            ),
            (
                "order_code;customer_id;product_id;unit_price",
                "column quantity is missing in the header, which reads: order_code;customer_id;product_id;unit_price",
            ),
            (
                "order_code:customer_id:product_id:quantity:unit_price",
                "column order_code is missing in the header, which reads: \
                 order_code:customer_id:product_id:quantity:unit_price",
            ),
            (
                "order_code,customer_id,product_id,quantity,unit_price,Total,total",
                "column total stands twice in the header",
            ),
            (
                "order_code,customer_id,product_id,quan\u{200b}tity,unit_price",
                "a name in the header looks like quantity, but contains U+200B, which cannot be seen; type the name anew",
            ),
            (
                "order_code,customer_id,product_id,quantity,unit_price,\"total\u{ad}\"",
                "a name in the header looks like total, but contains U+00AD, which cannot be seen; type the name anew",
            ),
            (
                "order_code,customer_id,product_id,quantity,unit_price,Ｔotal",
                "a name in the header looks like total, but contains U+FF34, which is none of its letters; type the name anew",
            ),
            (
                "sep=:\norder_code:customer_id",
                "the first line names the delimiter \":\", but fields are separated by a comma, a semicolon, a tab or |",
            ),
            (
                "order_code,customer_id,product_id,quantity,unit_price, Curr\u{200b}ency",
                "an order has no currency: all are charged in that of the installation. Where it is that of the file, take the \
                 column currency out",
            ),
            (
                "order_code,customer_id\u{2028}A,1",
                "lines end with U+2028, which is no line break in CSV; save the file with LF or CRLF",
            ),
            (
                "sep=;\norder_code,customer_id",
                "column order_code is missing in the header, which reads: order_code,customer_id (the line above says that ; \
                 separates the fields)",
            ),
            ("\"order_code,customer_id", "the header has a quote that is not closed or not at the edge of a name"),
        ];
        for (line, expected) in table {
            assert_eq!(Header::parse(line.as_bytes()).expect_err("refused").to_string(), expected);
        }
    }

    #[test]
    fn the_delimiter_is_the_one_that_finds_every_name() {
        let names = ["order_code", "customer_id", "product_id", "quantity", "unit_price"];
        for (delimiter, head) in [(',', ""), (';', ""), ('\t', ""), ('|', ""), (';', "sep=;\r\n"), ('\t', "SEP=\t\n")] {
            let text = format!("{head}{}{delimiter}\"no,te;\n|\"", names.join(&delimiter.to_string()));
            let header = Header::parse(text.as_bytes()).expect("complete");
            assert_eq!(char::from(header.columns.delimiter), delimiter, "{text:?}");
            assert_eq!((header.unit_price, header.columns.ignored()), (4, vec!["no,te;\n|".to_owned()]));
        }
        // A named one is not doubted.
        assert!(Header::parse(format!("sep=;\n{}", names.join(",")).as_bytes()).is_err());
        for head in ["sep=;;;;\n", "\"sep=;\"\n", "sep=;,,,\n"] {
            assert!(Header::parse(format!("{head}{}", names.join(";")).as_bytes()).is_ok(), "{head:?}");
        }
    }

    #[test]
    fn a_doubled_column_without_a_meaning_does_no_harm() {
        let line = b"x,x,,#id,order_code,customer_id,product_id,quantity,unit_price,,";
        assert_eq!(Header::parse(line).expect("complete").columns.ignored(), ["x", "x", "#id"]);
    }
}
