//! Money: whole minor units, never a float.

use std::fmt;

/// An amount of money in minor units (cents). One currency per installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cents(i64);

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Anything but `12`, `12.3` or `12.34`: signs, exponents, thousands separators, blanks, more than two places.
    #[error("not a plain amount with at most two decimal places")]
    Malformed,
    /// More than [`Cents::PRICE_MAX`].
    #[error("larger than 99999999.99")]
    TooLarge,
}

impl Cents {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The largest unit price: 99,999,999.99.
    pub const PRICE_MAX: Self = Self(9_999_999_999);

    /// An amount from minor units.
    pub const fn new(cents: i64) -> Self {
        Self(cents)
    }

    /// The amount in minor units.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Reads a unit price: a plain non-negative decimal with at most two places.
    ///
    /// # Errors
    /// When the text has any other shape, or the price exceeds [`Cents::PRICE_MAX`].
    pub fn parse_price(text: &[u8]) -> Result<Self, MoneyError> {
        match parse_decimal(text, 2)? {
            cents if cents <= Self::PRICE_MAX.0 => Ok(Self(cents)),
            _ => Err(MoneyError::TooLarge),
        }
    }

    /// Reads a total: like a price, up to what a signed 64-bit integer of minor units holds.
    ///
    /// # Errors
    /// When the text has any other shape, or does not fit.
    pub fn parse_total(text: &[u8]) -> Result<Self, MoneyError> {
        parse_decimal(text, 2).map(Self)
    }

    /// `self × quantity`, or `None` beyond 64 bits.
    pub fn checked_mul(self, quantity: i32) -> Option<Self> {
        self.0.checked_mul(i64::from(quantity)).map(Self)
    }

    /// `self + other`, or `None` beyond 64 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

/// Digits, optionally a point and one or two digits; the value in units of 10^-`places`.
fn parse_decimal(text: &[u8], places: usize) -> Result<i64, MoneyError> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b"0"[..]),
    };
    if whole.is_empty() || fraction.is_empty() || fraction.len() > places {
        return Err(MoneyError::Malformed);
    }
    let padding = std::iter::repeat_n(&b'0', places - fraction.len());
    let mut value: i64 = 0;
    let mut overflow = false;
    for &byte in whole.iter().chain(fraction).chain(padding) {
        if !byte.is_ascii_digit() {
            return Err(MoneyError::Malformed);
        }
        match value.checked_mul(10).and_then(|tens| tens.checked_add(i64::from(byte - b'0'))) {
            Some(next) => value = next,
            None => overflow = true,
        }
    }
    if overflow { Err(MoneyError::TooLarge) } else { Ok(value) }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        f.pad(&format!("{sign}{}.{:02}", magnitude / 100, magnitude % 100))
    }
}

impl serde::Serialize for Cents {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_parsed_exactly() {
        let table: &[(&str, Result<i64, MoneyError>)] = &[
            ("0", Ok(0)),
            ("10", Ok(1000)),
            ("10.5", Ok(1050)),
            ("10.50", Ok(1050)),
            ("0.07", Ok(7)),
            ("007.10", Ok(710)),
            ("99999999.99", Ok(9_999_999_999)),
            ("100000000.00", Err(MoneyError::TooLarge)),
            ("12345678901234567890", Err(MoneyError::TooLarge)),
            ("123456789012345678901234567890.12", Err(MoneyError::TooLarge)),
            ("", Err(MoneyError::Malformed)),
            (".", Err(MoneyError::Malformed)),
            (".5", Err(MoneyError::Malformed)),
            ("5.", Err(MoneyError::Malformed)),
            ("10.505", Err(MoneyError::Malformed)),
            ("1e3", Err(MoneyError::Malformed)),
            ("+5", Err(MoneyError::Malformed)),
            ("-5", Err(MoneyError::Malformed)),
            (" 5", Err(MoneyError::Malformed)),
            ("1,050.00", Err(MoneyError::Malformed)),
            ("1.2.3", Err(MoneyError::Malformed)),
            ("٥", Err(MoneyError::Malformed)),
            ("NaN", Err(MoneyError::Malformed)),
        ];
        for (text, expected) in table {
            assert_eq!(Cents::parse_price(text.as_bytes()).map(Cents::get), *expected, "{text:?}");
        }
    }

    #[test]
    fn an_amount_is_shown_with_two_places() {
        for (cents, shown) in
            [(0, "0.00"), (7, "0.07"), (1999, "19.99"), (-250, "-2.50"), (i64::MIN, "-92233720368547758.08")]
        {
            assert_eq!(Cents::new(cents).to_string(), shown);
        }
    }
}
