//! Requests for refunds, from any program that can `XADD`, over HTTP, from the command line or a file.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{DeadReason, Entry, IMPORT, Message, Object, Undecodable};
use crate::domain::{InvalidRefund, RefundRequest};

/// A request for a refund on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingRefund {
    /// The request, within all bounds.
    pub request: RefundRequest,
    /// The import that brought it.
    pub import_id: Option<i64>,
}

/// What nobody knows is refused: a misspelt `amount` would give all back.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundBody<'a> {
    #[serde(borrow)]
    refund_key: Cow<'a, str>,
    #[serde(borrow)]
    order_code: Cow<'a, str>,
    /// A decimal in a string; absent or null for all that is left.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    amount: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    restock: bool,
}

impl From<InvalidRefund> for Undecodable {
    fn from(error: InvalidRefund) -> Self {
        Self::new(DeadReason::InvalidRefund, error.to_string())
    }
}

impl Message for IncomingRefund {
    fn decode(entry: &Entry) -> Result<Self, Undecodable> {
        let request = decode_refund(entry.body()?)?;
        let import_id = entry.field(IMPORT).and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        Ok(Self { request, import_id })
    }
}

/// Reads the JSON of a request.
///
/// # Errors
/// When it is no JSON of the documented shape, or a value is out of bounds.
pub fn decode_refund(body: &[u8]) -> Result<RefundRequest, Undecodable> {
    let Object(RefundBody { refund_key, order_code, amount, reason, restock }) = serde_json::from_slice(body)?;
    Ok(RefundRequest::new(&refund_key, &order_code, amount.as_deref(), reason.as_deref(), restock)?)
}

/// Writes the JSON of a request.
pub fn encode_refund(request: &RefundRequest) -> Vec<u8> {
    let body = RefundBody {
        refund_key: request.key.as_str().into(),
        order_code: request.order_code.as_str().into(),
        amount: request.amount.map(|amount| amount.to_string().into()),
        reason: request.reason.as_deref().map(Into::into),
        restock: request.restock,
    };
    serde_json::to_vec(&body).expect("texts are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = r#"{"refund_key":"r-1","order_code":"ORD-1","amount":"10.00","reason":"damaged"}"#;

    #[test]
    fn the_documented_request_is_read_and_written() {
        let request = decode_refund(DOCUMENTED.as_bytes()).expect("valid");
        assert_eq!(String::from_utf8(encode_refund(&request)).expect("text"), DOCUMENTED);
        let whole = decode_refund(br#"{"refund_key":"r","order_code":"A","restock":true}"#).expect("valid");
        assert_eq!((whole.amount, whole.restock), (None, true));
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_reason() {
        let reason = |body: &[u8]| decode_refund(body).expect_err("refused").reason;
        for body in [
            &b""[..],
            b"[]",
            br#"["r","A"]"#,
            br#"{"order_code":"A"}"#,
            br#"{"refund_key":"r","order_code":"A","amount":10}"#,
            br#"{"refund_key":"r","order_code":"A","amount":"1","amount":"2"}"#,
            br#"{"refund_key":"r","order_code":"A","restock":"yes"}"#,
            br#"{"refund_key":"r","order_code":"A","Amount":"1"}"#,
            br#"{"refund_key":"r","order_code":"A","amounts":"1"}"#,
            br#"{"refund_key":"r","order_code":"A","currency":"USD","amount":"1"}"#,
        ] {
            assert_eq!(reason(body), DeadReason::Undecodable, "{}", String::from_utf8_lossy(body));
        }
        for body in [
            &br#"{"refund_key":"","order_code":"A"}"#[..],
            br#"{"refund_key":"r","order_code":"A","amount":"0"}"#,
            br#"{"refund_key":"r","order_code":"A","amount":"-5"}"#,
        ] {
            assert_eq!(reason(body), DeadReason::InvalidRefund, "{}", String::from_utf8_lossy(body));
        }
    }
}
