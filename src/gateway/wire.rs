//! What is said to the provider and what it says, and whether that answers the question.

use pipeline::{
    domain::Cents,
    gateway::{ChargeAnswer, ReturnAnswer},
};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::caller::{CallError, Reply};

/// Most bytes in a provider's id, as in callbacks.
const ID_BYTES_MAX: usize = 256;

/// The body of `POST /charges`.
#[derive(Serialize)]
pub(super) struct ChargeRequest<'a> {
    pub(super) amount: &'a str,
    pub(super) currency: &'a str,
    pub(super) reference: &'a str,
}

/// The body of `POST /refunds`.
#[derive(Serialize)]
pub(super) struct RefundRequest<'a> {
    pub(super) charge: Option<&'a str>,
    pub(super) charge_reference: &'a str,
    pub(super) amount: &'a str,
    pub(super) currency: &'a str,
    pub(super) reference: &'a str,
}

/// A charge or refund as the provider knows it.
#[derive(Deserialize)]
struct Booking<Status> {
    id: String,
    status: Status,
    reference: String,
    amount: String,
    currency: String,
}

/// In the order of their weight: where there are several charges of a reference, the last of these counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChargeStatus {
    Declined,
    Pending,
    Approved,
}

/// See [`ChargeStatus`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefundStatus {
    Failed,
    Pending,
    Succeeded,
}

#[derive(Deserialize)]
struct FoundCharges {
    charges: Vec<Booking<ChargeStatus>>,
}

#[derive(Deserialize)]
struct FoundRefunds {
    refunds: Vec<Booking<RefundStatus>>,
}

/// What was asked for.
pub(super) struct Expected<'a> {
    reference: &'a str,
    amount: Cents,
    currency: &'a str,
}

impl<'a> Expected<'a> {
    pub(super) fn new(reference: &'a str, amount: Cents, currency: &'a str) -> Self {
        Self { reference, amount, currency }
    }

    /// The provider's id, if the booking is of what was asked for.
    fn id_of<Status>(&self, booking: &Booking<Status>) -> Result<String, CallError> {
        let mismatch = |what, found: &str, expected: &str| {
            Err(CallError::Mismatch { what, found: found.chars().take(64).collect(), expected: expected.to_owned() })
        };
        if booking.reference != self.reference {
            return mismatch("the reference", &booking.reference, self.reference);
        }
        if Cents::parse_total(booking.amount.as_bytes()) != Ok(self.amount) {
            return mismatch("the amount", &booking.amount, &self.amount.to_string());
        }
        if booking.currency != self.currency {
            return mismatch("the currency", &booking.currency, self.currency);
        }
        let id = &booking.id;
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
            return mismatch("the id", id, "1 to 256 bytes without control characters");
        }
        Ok(id.clone())
    }

    /// The one that counts, each being of what was asked for: one that is not makes all of them doubtful.
    fn heaviest<Status: Copy + Ord>(
        &self,
        bookings: &[Booking<Status>],
    ) -> Result<Option<(Status, String)>, CallError> {
        let ids = bookings.iter().map(|booking| Ok((booking.status, self.id_of(booking)?)));
        // Of several that weigh the same, always the same.
        Ok(ids.collect::<Result<Vec<_>, CallError>>()?.into_iter().max())
    }
}

/// The answer to `POST /charges`.
pub(super) fn charge_answer(reply: &Reply, expected: &Expected<'_>) -> Result<ChargeAnswer, CallError> {
    let booking: Booking<ChargeStatus> = object(&reply.body)?;
    // 402 is a refusal; together with anything else it is a contradiction.
    if reply.status == StatusCode::PAYMENT_REQUIRED && booking.status != ChargeStatus::Declined {
        return Err(CallError::Status(reply.status));
    }
    Ok(charge(booking.status, expected.id_of(&booking)?))
}

/// The answer to `GET /charges?reference=…`.
pub(super) fn found_charge(reply: &Reply, expected: &Expected<'_>) -> Result<ChargeAnswer, CallError> {
    let found: FoundCharges = listed(reply)?;
    Ok(expected.heaviest(&found.charges)?.map_or(ChargeAnswer::Absent, |(status, id)| charge(status, id)))
}

/// The answer to `POST /refunds`.
pub(super) fn return_answer(reply: &Reply, expected: &Expected<'_>) -> Result<ReturnAnswer, CallError> {
    if reply.status == StatusCode::PAYMENT_REQUIRED {
        return Err(CallError::Status(reply.status));
    }
    let booking: Booking<RefundStatus> = object(&reply.body)?;
    Ok(refund(booking.status, expected.id_of(&booking)?))
}

/// The answer to `GET /refunds?reference=…`.
pub(super) fn found_return(reply: &Reply, expected: &Expected<'_>) -> Result<ReturnAnswer, CallError> {
    let found: FoundRefunds = listed(reply)?;
    Ok(expected.heaviest(&found.refunds)?.map_or(ReturnAnswer::Absent, |(status, id)| refund(status, id)))
}

fn charge(status: ChargeStatus, id: String) -> ChargeAnswer {
    match status {
        ChargeStatus::Approved => ChargeAnswer::Approved(id),
        ChargeStatus::Declined => ChargeAnswer::Declined(id),
        ChargeStatus::Pending => ChargeAnswer::Pending(id),
    }
}

fn refund(status: RefundStatus, id: String) -> ReturnAnswer {
    match status {
        RefundStatus::Succeeded => ReturnAnswer::Succeeded(id),
        RefundStatus::Failed => ReturnAnswer::Failed(id),
        RefundStatus::Pending => ReturnAnswer::Pending(id),
    }
}

fn listed<T: DeserializeOwned>(reply: &Reply) -> Result<T, CallError> {
    match reply.status {
        StatusCode::OK => object(&reply.body),
        other => Err(CallError::Status(other)),
    }
}

/// Reads a JSON object: serde would take an array of its values, too.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(CallError::Unreadable(serde::de::Error::custom("not an object")));
    }
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected<'static> = Expected { reference: "ORD-1", amount: Cents::new(3998), currency: "EUR" };

    fn reply(status: StatusCode, body: &str) -> Reply {
        Reply { status, body: body.as_bytes().to_vec() }
    }

    fn booking(id: &str, status: &str) -> String {
        format!(r#"{{"id":"{id}","status":"{status}","reference":"ORD-1","amount":"39.98","currency":"EUR","more":1}}"#)
    }

    #[test]
    fn an_answer_counts_only_for_what_was_asked() {
        let answer = |status, body: &str| charge_answer(&reply(status, body), &EXPECTED).ok();
        assert_eq!(
            answer(StatusCode::CREATED, &booking("ch_1", "approved")),
            Some(ChargeAnswer::Approved("ch_1".into()))
        );
        assert_eq!(
            answer(StatusCode::PAYMENT_REQUIRED, &booking("c", "declined")),
            Some(ChargeAnswer::Declined("c".into()))
        );
        let good = booking("ch_1", "approved");
        for (status, body) in [
            (StatusCode::PAYMENT_REQUIRED, good.clone()),
            (StatusCode::OK, booking("", "approved")),
            (StatusCode::OK, booking("a\\u0007", "approved")),
            (StatusCode::OK, booking(&"x".repeat(257), "approved")),
            (StatusCode::OK, booking("c", "APPROVED")),
            (StatusCode::OK, booking("c", "refused")),
            (StatusCode::OK, good.replace("ORD-1", "ORD-2")),
            (StatusCode::OK, good.replace("39.98", "39.97")),
            (StatusCode::OK, good.replace("39.98", "3998")),
            (StatusCode::OK, good.replace(r#""39.98""#, "39.98")),
            (StatusCode::OK, good.replace("EUR", "USD")),
            (StatusCode::OK, r#"["ch_1","approved","ORD-1","39.98","EUR"]"#.into()),
            (StatusCode::OK, format!("{good}x")),
            (StatusCode::OK, String::new()),
            (StatusCode::OK, "null".into()),
        ] {
            assert_eq!(answer(status, &body), None, "{status} {body}");
        }
    }

    #[test]
    fn of_several_charges_the_approved_one_counts_before_a_pending_before_a_declined() {
        let found = |statuses: &[&str]| {
            let all: Vec<String> = statuses.iter().map(|status| booking(status, status)).collect();
            let body = format!(r#"{{"charges":[{}]}}"#, all.join(","));
            found_charge(&reply(StatusCode::OK, &body), &EXPECTED).expect("readable")
        };
        assert_eq!(found(&[]), ChargeAnswer::Absent);
        assert_eq!(found(&["declined", "approved", "pending"]), ChargeAnswer::Approved("approved".into()));
        assert_eq!(found(&["pending", "declined"]), ChargeAnswer::Pending("pending".into()));
        assert_eq!(found(&["declined"]), ChargeAnswer::Declined("declined".into()));
        for body in ["{}", r#"{"charges":null}"#, r#"{"refunds":[]}"#, "[]"] {
            assert!(found_charge(&reply(StatusCode::OK, body), &EXPECTED).is_err(), "{body}");
        }
        let other = booking("a", "approved").replace("39.98", "1.00");
        let body = format!(r#"{{"charges":[{},{other}]}}"#, booking("b", "declined"));
        assert!(found_charge(&reply(StatusCode::OK, &body), &EXPECTED).is_err(), "one of another amount");
    }
}
