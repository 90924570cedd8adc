//! A refund as it is asked for: every bound checked.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{
    Cents, OrderCode, TOTAL_CENTS_MAX,
    order::code_point,
    text::{Lookalike, lookalike},
};

/// Most bytes in a refund's key.
pub const REFUND_KEY_BYTES_MAX: usize = 128;

/// Most bytes in a refund's reason.
pub const REFUND_REASON_BYTES_MAX: usize = 500;

/// The name under which somebody asks for a refund: the same key is the same refund, however often it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct RefundKey(String);

impl RefundKey {
    /// Keys of the refunds that nobody asked for begin so.
    pub const AUTOMATIC: &'static str = "auto:";

    /// Checks a key: 1 to [`REFUND_KEY_BYTES_MAX`] bytes without characters that cannot be seen and without blanks at
    /// its ends, in the normal form NFC.
    ///
    /// # Errors
    /// When it breaks these rules, or begins like one of our own.
    pub fn new(key: impl Into<String>) -> Result<Self, InvalidRefund> {
        let key = Self::known(key)?;
        match lookalike(key.as_str()) {
            None => Ok(key),
            Some(Lookalike::Unseen(character)) => Err(InvalidRefund::KeyUnseen(character)),
            Some(Lookalike::NotComposed) => Err(InvalidRefund::KeyNotComposed),
        }
    }

    /// Checks a key that may be of a refund from before [`RefundKey::new`] was as strict as it is.
    ///
    /// # Errors
    /// When no refund that was asked for can ever have had it.
    pub fn known(key: impl Into<String>) -> Result<Self, InvalidRefund> {
        let key = key.into();
        if key.is_empty() || key.len() > REFUND_KEY_BYTES_MAX {
            Err(InvalidRefund::KeyLength)
        } else if key.chars().any(char::is_control) || key.trim() != key {
            Err(InvalidRefund::KeyMalformed)
        } else if key.starts_with(Self::AUTOMATIC) {
            Err(InvalidRefund::KeyReserved)
        } else {
            Ok(Self(key))
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RefundKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a text or message is no request for a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRefund {
    /// No key, or a key over the bound.
    #[error("refund_key must have 1 to {REFUND_KEY_BYTES_MAX} bytes")]
    KeyLength,
    /// Control characters, or blanks at the ends.
    #[error("refund_key contains control characters or has blanks at its ends")]
    KeyMalformed,
    /// A character that nobody sees: two keys would look alike.
    #[error("refund_key contains {}, which cannot be seen: write the key without it", code_point(*.0))]
    KeyUnseen(char),
    /// Not in the normal form NFC: two keys would look alike.
    #[error("refund_key is not in the Unicode normal form NFC: write each accented letter as one character")]
    KeyNotComposed,
    /// Like a key of a refund that nobody asks for.
    #[error("refund_key must not begin with auto:")]
    KeyReserved,
    /// No order can have this code.
    #[error("order_code is empty, longer than 128 bytes, contains control characters or has blanks at its ends")]
    OrderCode,
    /// No amount, or one that no order can have.
    #[error(
        "amount must be a plain decimal above 0 (or 0 with restock) with at most two places, up to 100000000000.00"
    )]
    Amount,
    /// Too long.
    #[error("reason is longer than {REFUND_REASON_BYTES_MAX} bytes or contains control characters")]
    Reason,
}

/// A request for a refund within all bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    /// The name of the request.
    pub key: RefundKey,
    /// Which order.
    pub order_code: OrderCode,
    /// How much; `None` is all that is left. Nothing where only pieces come back.
    pub amount: Option<Cents>,
    /// Why, for people.
    pub reason: Option<String>,
    /// Whether the order's pieces come back to the stock.
    pub restock: bool,
}

impl RefundRequest {
    /// Checks a request's parts. The order may be one from before codes were as strict as they are: it can be refunded,
    /// too.
    ///
    /// # Errors
    /// When a part is out of bounds.
    pub fn new(
        key: &str,
        order_code: &str,
        amount: Option<&str>,
        reason: Option<&str>,
        restock: bool,
    ) -> Result<Self, InvalidRefund> {
        // Without money there must be something else to bring back.
        let least = i64::from(!restock);
        let in_bounds = |amount: &Cents| (least..=TOTAL_CENTS_MAX).contains(&amount.get());
        let parse =
            |text: &str| Cents::parse_total(text.as_bytes()).ok().filter(in_bounds).ok_or(InvalidRefund::Amount);
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
        if reason.is_some_and(|text| text.len() > REFUND_REASON_BYTES_MAX || text.chars().any(char::is_control)) {
            return Err(InvalidRefund::Reason);
        }
        Ok(Self {
            key: RefundKey::new(key)?,
            order_code: OrderCode::known(order_code).map_err(|_| InvalidRefund::OrderCode)?,
            amount: amount.map(parse).transpose()?,
            reason: reason.map(str::to_owned),
            restock,
        })
    }

    /// Fingerprint of all but the key: a request with the same key and another fingerprint is a conflict.
    pub fn content_hash(&self) -> i64 {
        let mut hasher = Sha256::new();
        let mut add = |part: &[u8]| {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        };
        add(self.order_code.as_str().as_bytes());
        // Nothing is another request than all that is left, which was 0 before 0 could be asked for.
        let amount = self.amount.map_or(0, |amount| if amount == Cents::ZERO { -1 } else { amount.get() });
        add(&amount.to_be_bytes());
        add(self.reason.as_deref().unwrap_or_default().as_bytes());
        add(&[u8::from(self.restock)]);
        let digest = hasher.finalize();
        i64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_all_its_bounds() {
        let request = RefundRequest::new("r-1", "ORD-1", Some("10.5"), Some(" damaged "), true).expect("valid");
        assert_eq!((request.amount, request.reason.as_deref()), (Some(Cents::new(1050)), Some("damaged")));
        let pieces = RefundRequest::new("r-1", "ORD-1", Some("0.00"), None, true).expect("valid");
        assert_eq!(pieces.amount, Some(Cents::ZERO));
        let long = "x".repeat(501);
        let table = [
            (("", "A", None, None), InvalidRefund::KeyLength),
            ((&long[..129], "A", None, None), InvalidRefund::KeyLength),
            (("a\n", "A", None, None), InvalidRefund::KeyMalformed),
            ((" a", "A", None, None), InvalidRefund::KeyMalformed),
            (("auto:1", "A", None, None), InvalidRefund::KeyReserved),
            (("a\u{200b}", "A", None, None), InvalidRefund::KeyUnseen('\u{200b}')),
            (("a\u{a0}1", "A", None, None), InvalidRefund::KeyUnseen('\u{a0}')),
            (("e\u{301}", "A", None, None), InvalidRefund::KeyNotComposed),
            (("a", "", None, None), InvalidRefund::OrderCode),
            (("a", "A", Some("0"), None), InvalidRefund::Amount),
            (("a", "A", Some("0.00"), None), InvalidRefund::Amount),
            (("a", "A", Some("-1"), None), InvalidRefund::Amount),
            (("a", "A", Some("1.005"), None), InvalidRefund::Amount),
            (("a", "A", Some("1e3"), None), InvalidRefund::Amount),
            (("a", "A", Some("100000000000.01"), None), InvalidRefund::Amount),
            (("a", "A", Some("99999999999999999999"), None), InvalidRefund::Amount),
            (("a", "A", None, Some(&long[..])), InvalidRefund::Reason),
            (("a", "A", None, Some("a\u{7}b")), InvalidRefund::Reason),
        ];
        for ((key, code, amount, reason), error) in table {
            assert_eq!(RefundRequest::new(key, code, amount, reason, false), Err(error), "{key:?} {amount:?}");
        }
    }

    #[test]
    fn every_part_but_the_key_is_in_the_fingerprint() {
        let request = |key: &str, code: &str, amount: Option<&str>, reason: Option<&str>, restock: bool| {
            RefundRequest::new(key, code, amount, reason, restock).expect("valid").content_hash()
        };
        let hash = request("k", "A", Some("1.10"), Some("r"), false);
        assert_eq!(request("other", "A", Some("1.1"), Some("r"), false), hash);
        for other in [
            request("k", "B", Some("1.10"), Some("r"), false),
            request("k", "A", Some("1.11"), Some("r"), false),
            request("k", "A", None, Some("r"), false),
            request("k", "A", Some("1.10"), None, false),
            request("k", "A", Some("1.10"), Some("r"), true),
        ] {
            assert_ne!(other, hash);
        }
        assert_ne!(request("k", "A", Some("0"), None, true), request("k", "A", None, None, true));
    }
}
