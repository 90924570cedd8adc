//! An order as it is accepted: every bound checked, every number exact.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{
    money::Cents,
    text::{Lookalike, lookalike},
};

/// Most lines in one order.
pub const LINES_PER_ORDER_MAX: usize = 1_000;

/// Most bytes in an order code.
pub const ORDER_CODE_BYTES_MAX: usize = 128;

/// Largest total of an order in minor units: a hundred billion. Sums of orders must stay exact too: a leaderboard's
/// score is a double, exact up to 2^53, which some 900 orders of this size for one customer reach.
pub const TOTAL_CENTS_MAX: i64 = 10_000_000_000_000;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Our number for an order, given at reservation.
    OrderId
}
id! {
    /// A customer in the catalogue.
    CustomerId
}
id! {
    /// A product in the catalogue.
    ProductId
}

/// The name by which the outside knows an order: 1 to [`ORDER_CODE_BYTES_MAX`] bytes of UTF-8 without control
/// characters and without blanks at its ends. A new one has nothing in it by which it could look like another one:
/// no character that nobody sees, and it is in the normal form NFC. Orders from before that rule keep their codes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct OrderCode(String);

impl OrderCode {
    /// Checks the code of an order that comes in.
    ///
    /// # Errors
    /// When it is empty, too long, padded with blanks, or contains characters that cannot be seen, or is not NFC.
    pub fn new(code: impl Into<String>) -> Result<Self, InvalidOrder> {
        let code = code.into();
        Self::check(&code).map(|()| Self(code))
    }

    /// The rule of [`OrderCode::new`] for a borrowed text.
    ///
    /// # Errors
    /// As there.
    pub fn check(code: &str) -> Result<(), InvalidOrder> {
        Self::check_known(code)?;
        if code.is_ascii() {
            // All rows of ordinary files end here.
            return Ok(());
        }
        match lookalike(code) {
            None => Ok(()),
            Some(Lookalike::Unseen(character)) => Err(InvalidOrder::CodeUnseen(character)),
            Some(Lookalike::NotComposed) => Err(InvalidOrder::CodeNotComposed),
        }
    }

    /// Checks a code that may be of an order from before [`OrderCode::check`] was as strict as it is.
    ///
    /// # Errors
    /// When no order can ever have had it.
    pub fn known(code: impl Into<String>) -> Result<Self, InvalidOrder> {
        let code = code.into();
        Self::check_known(&code).map(|()| Self(code))
    }

    /// The rule of [`OrderCode::known`] for a borrowed text.
    ///
    /// # Errors
    /// As there.
    pub fn check_known(code: &str) -> Result<(), InvalidOrder> {
        if code.is_empty() {
            Err(InvalidOrder::CodeEmpty)
        } else if code.len() > ORDER_CODE_BYTES_MAX {
            Err(InvalidOrder::CodeTooLong)
        } else if is_malformed(code) {
            Err(InvalidOrder::CodeMalformed)
        } else {
            Ok(())
        }
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One line: so many pieces of a product at a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Which product.
    pub product_id: ProductId,
    /// Pieces, at least 1.
    pub quantity: i32,
    /// Price of one piece.
    pub unit_price: Cents,
}

/// Why a text or message is not an order. None of these can ever succeed, so the message becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrder {
    /// No code.
    #[error("the order code is empty")]
    CodeEmpty,
    /// A code over the bound.
    #[error("the order code is longer than {ORDER_CODE_BYTES_MAX} bytes")]
    CodeTooLong,
    /// Control characters, or blanks at the ends.
    #[error("the order code contains control characters or has blanks at its ends")]
    CodeMalformed,
    /// A character that nobody sees: two codes would look alike.
    #[error("the order code contains {}, which cannot be seen: write the code without it", code_point(*.0))]
    CodeUnseen(char),
    /// Not in the normal form NFC: two codes would look alike.
    #[error("the order code is not in the Unicode normal form NFC: write each accented letter as one character")]
    CodeNotComposed,
    /// A customer id below 1.
    #[error("customer_id must be a positive integer")]
    CustomerId,
    /// A product id below 1.
    #[error("product_id must be a positive integer")]
    ProductId,
    /// A quantity below 1 or above 2^31 - 1.
    #[error("quantity must be an integer from 1 to 2147483647")]
    Quantity,
    /// A price that is no plain decimal, or too large.
    #[error("unit_price must be a plain decimal with at most two places, up to 99999999.99")]
    UnitPrice,
    /// No lines.
    #[error("an order needs at least one line")]
    NoLines,
    /// Lines over the bound.
    #[error("an order has at most {LINES_PER_ORDER_MAX} lines")]
    TooManyLines,
    /// A total over [`TOTAL_CENTS_MAX`].
    #[error("the order's total exceeds 100000000000.00")]
    TotalTooLarge,
}

/// Control characters anywhere, or blanks at the ends.
fn is_malformed(code: &str) -> bool {
    match code.is_ascii() {
        true => code.bytes().any(|byte| byte.is_ascii_control()) || code.starts_with(' ') || code.ends_with(' '),
        false => code.chars().any(char::is_control) || code.trim() != code,
    }
}

/// A character by its number.
pub(super) fn code_point(character: char) -> String {
    format!("U+{:04X}", u32::from(character))
}

/// An order within all bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    code: OrderCode,
    customer_id: CustomerId,
    lines: Vec<Line>,
    total: Cents,
}

impl Order {
    /// Checks an order as a whole.
    ///
    /// # Errors
    /// When an id, a quantity, a price, the number of lines or the total is out of bounds.
    pub fn new(code: OrderCode, customer_id: CustomerId, lines: Vec<Line>) -> Result<Self, InvalidOrder> {
        if customer_id.0 < 1 {
            return Err(InvalidOrder::CustomerId);
        }
        if lines.is_empty() {
            return Err(InvalidOrder::NoLines);
        }
        if lines.len() > LINES_PER_ORDER_MAX {
            return Err(InvalidOrder::TooManyLines);
        }
        let mut total = Cents::ZERO;
        for line in &lines {
            if line.product_id.0 < 1 {
                return Err(InvalidOrder::ProductId);
            }
            if line.quantity < 1 {
                return Err(InvalidOrder::Quantity);
            }
            if line.unit_price < Cents::ZERO || line.unit_price > Cents::PRICE_MAX {
                return Err(InvalidOrder::UnitPrice);
            }
            total = line
                .unit_price
                .checked_mul(line.quantity)
                .and_then(|amount| total.checked_add(amount))
                .filter(|sum| sum.get() <= TOTAL_CENTS_MAX)
                .ok_or(InvalidOrder::TotalTooLarge)?;
        }
        Ok(Self { code, customer_id, lines, total })
    }

    /// The name by which the outside knows it.
    pub fn code(&self) -> &OrderCode {
        &self.code
    }

    /// Who ordered.
    pub fn customer_id(&self) -> CustomerId {
        self.customer_id
    }

    /// Its lines, at least one; the same product may stand on several.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The sum of its lines.
    pub fn total(&self) -> Cents {
        self.total
    }

    /// A fingerprint of customer and lines: the same code with the same fingerprint is the same order sent again. The
    /// first eight bytes of SHA-256 over fixed-width numbers, so that writing `19.9` for `19.90` changes nothing.
    pub fn content_hash(&self) -> i64 {
        let mut bytes = Vec::with_capacity(8 + self.lines.len() * 20);
        bytes.extend_from_slice(&self.customer_id.0.to_le_bytes());
        for line in &self.lines {
            bytes.extend_from_slice(&line.product_id.0.to_le_bytes());
            bytes.extend_from_slice(&line.quantity.to_le_bytes());
            bytes.extend_from_slice(&line.unit_price.get().to_le_bytes());
        }
        let digest = Sha256::digest(&bytes);
        let mut head = [0; 8];
        head.copy_from_slice(&digest[..8]);
        i64::from_le_bytes(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(quantity: i32, cents: i64) -> Line {
        Line { product_id: ProductId(1), quantity, unit_price: Cents::new(cents) }
    }

    fn order(lines: Vec<Line>) -> Result<Order, InvalidOrder> {
        Order::new(OrderCode::new("ORD-1").expect("a code"), CustomerId(7), lines)
    }

    #[test]
    fn the_total_is_the_sum_of_the_lines() {
        assert_eq!(order(vec![line(2, 1999), line(1, 1)]).expect("valid").total(), Cents::new(3999));
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        assert_eq!(order(vec![]), Err(InvalidOrder::NoLines));
        assert_eq!(order(vec![line(1, 1); LINES_PER_ORDER_MAX + 1]), Err(InvalidOrder::TooManyLines));
        assert_eq!(order(vec![line(0, 1)]), Err(InvalidOrder::Quantity));
        assert_eq!(order(vec![line(1, -1)]), Err(InvalidOrder::UnitPrice));
        assert_eq!(order(vec![line(i32::MAX, 9_999_999_999)]), Err(InvalidOrder::TotalTooLarge));
        assert_eq!(order(vec![line(900_719, 9_999_999_999); 2]), Err(InvalidOrder::TotalTooLarge));
    }

    #[test]
    fn codes_are_bounded_and_printable() {
        assert!(OrderCode::new("'; DROP TABLE orders;--").is_ok());
        assert!(OrderCode::new("Übergröße-🦀").is_ok());
        assert_eq!(OrderCode::new(""), Err(InvalidOrder::CodeEmpty));
        assert_eq!(OrderCode::new("x".repeat(129)), Err(InvalidOrder::CodeTooLong));
        for code in [" x", "x ", "a\0b", "a\r\nXADD", "\u{85}"] {
            assert_eq!(OrderCode::new(code), Err(InvalidOrder::CodeMalformed), "{code:?}");
            assert_eq!(OrderCode::known(code), Err(InvalidOrder::CodeMalformed), "{code:?}");
        }
    }

    #[test]
    fn codes_that_look_like_others_are_refused_and_stay_readable() {
        for unseen in ['\u{200b}', '\u{ad}', '\u{feff}', '\u{a0}', '\u{202e}', '\u{2060}', '\u{fe0f}'] {
            for code in [format!("A{unseen}1"), format!("A1{unseen}x"), format!("Ä{unseen}1")] {
                assert_eq!(OrderCode::new(code.clone()), Err(InvalidOrder::CodeUnseen(unseen)), "{code:?}");
                assert_eq!(OrderCode::known(code.clone()).expect("known").as_str(), code);
            }
        }
        assert_eq!(OrderCode::new("Caf\u{e9}").expect("composed").as_str(), "Café");
        assert_eq!(OrderCode::new("Cafe\u{301}"), Err(InvalidOrder::CodeNotComposed));
        assert!(OrderCode::known("Cafe\u{301}").is_ok());
        let told = InvalidOrder::CodeUnseen('\u{200b}').to_string();
        assert_eq!(told, "the order code contains U+200B, which cannot be seen: write the code without it");
    }

    #[test]
    fn the_fingerprint_sees_every_number_and_the_sequence_of_lines() {
        let base = order(vec![line(1, 100), line(2, 200)]).expect("valid").content_hash();
        assert_eq!(order(vec![line(1, 100), line(2, 200)]).expect("valid").content_hash(), base);
        for other in [vec![line(2, 200), line(1, 100)], vec![line(1, 100)], vec![line(1, 101), line(2, 200)]] {
            assert_ne!(order(other).expect("valid").content_hash(), base);
        }
    }
}
