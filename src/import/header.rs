//! The first line: which column stands where.

use super::{
    error::ReadError,
    fields::{Fields, QuoteFault},
};

/// The names in a header, and which of them have a meaning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Every name, trimmed, in the file's order.
    pub(super) names: Vec<String>,
    known: &'static [&'static str],
    /// The header, shortened.
    shown: String,
}

impl Columns {
    /// Reads the header from its line, without byte order mark.
    ///
    /// # Errors
    /// When a column with a meaning stands there twice, or the quotes are not in order.
    pub(super) fn parse(line: &[u8], known: &'static [&'static str]) -> Result<Self, ReadError> {
        let mut fields = Fields::default();
        let split = fields.split(line);
        if let Some(QuoteFault { .. }) = split.fault {
            return Err(ReadError::HeaderQuotes);
        }
        let names: Vec<String> =
            (0..split.len()).map(|index| String::from_utf8_lossy(split.get(index)).trim().to_owned()).collect();
        let columns = Self { names, known, shown: shown(line) };
        match known.iter().find(|known| columns.places(known).count() > 1) {
            Some(column) => Err(ReadError::DoubledColumn { column }),
            None => Ok(columns),
        }
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

    /// Columns without a meaning here, in the file's order.
    pub(super) fn ignored(&self) -> Vec<String> {
        let is_known = |name: &str| self.known.iter().any(|known| name.eq_ignore_ascii_case(known));
        self.names.iter().filter(|name| !is_known(name)).cloned().collect()
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
const KNOWN: &[&str] = &["id", "order_code", "customer_id", "product_id", "quantity", "unit_price", "total"];

impl Header {
    /// Reads the header from its line, without byte order mark.
    ///
    /// # Errors
    /// When a required column is missing, a known one stands there twice, or the quotes are not in order.
    pub(super) fn parse(line: &[u8]) -> Result<Self, ReadError> {
        let columns = Columns::parse(line, KNOWN)?;
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
                "order_code;customer_id;product_id;quantity;unit_price",
                "column order_code is missing in the header, which reads: \
                 order_code;customer_id;product_id;quantity;unit_price",
            ),
            (
                "order_code,customer_id,product_id,quantity,unit_price,Total,total",
                "column total stands twice in the header",
            ),
            ("\"order_code,customer_id", "the header has a quote that is not closed or not at the edge of a name"),
        ];
        for (line, expected) in table {
            assert_eq!(Header::parse(line.as_bytes()).expect_err("refused").to_string(), expected);
        }
    }

    #[test]
    fn a_doubled_column_without_a_meaning_does_no_harm() {
        let line = b"x,x,order_code,customer_id,product_id,quantity,unit_price";
        assert_eq!(Header::parse(line).expect("complete").columns.ignored(), ["x", "x"]);
    }
}
