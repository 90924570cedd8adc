//! Whether a provider is the one that took stored payments: it is asked.

use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use pipeline::{
    gateway::{Charge, ChargeAnswer},
    store::{self, KnownGateway, Store, StoredCharge},
};

use crate::{
    exit::{Exit, Refusal},
    gateway::{CallError, HttpGateway, Key, Settings, described, provider_url, variable_of},
};

/// Most charges of a kind that are asked about: of those that it approved, and of those that it has promised to decide.
const ASKED_MAX: i64 = 5;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What a provider is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It knows so many charges, all that it was asked about, as they are stored.
    Knows(usize),
    /// No payment is stored that it should know, and nobody waits for its answer.
    NothingToAsk,
    /// It was not asked: somebody wants it so.
    NotAsked,
}

impl Verdict {
    /// For people.
    pub(super) fn sentence(self) -> String {
        match self {
            Self::Knows(known) => {
                format!("It was asked about the newest charges, and knows them as they are stored ({known}).")
            }
            Self::NothingToAsk => "It was not asked: no charge is stored that it should know.".to_owned(),
            Self::NotAsked => "It was not asked whether it knows the charges that are stored.".to_owned(),
        }
    }
}

/// Asks a provider, at the address and with the key that are to be recorded, about the newest charges that it approved or has
/// promised to decide.
///
/// # Errors
/// When it does not answer, or does not know one of them as it is stored: a refusal with questions and answers. When there is
/// nothing to ask about, and answers are owed all the same: who does not know what was asked for would be asked for it again.
pub(super) async fn verify(store: &Store, gateway: &KnownGateway, key: Option<&Key>, asks: bool) -> Result<Verdict> {
    if !asks {
        return Ok(Verdict::NotAsked);
    }
    let stored = store::newest_charges(&store.pool(), &gateway.name, ASKED_MAX).await?;
    if stored.is_empty() {
        if store::owes_answers(&store.pool(), &gateway.name).await? {
            let message = format!(
                "payments or refunds wait for an answer of {}, and it has confirmed none yet that it could be known by: whoever does \
                 not know them would be asked for the money again. Wait for the answers. Nothing is recorded; if it is the same \
                 provider and account all the same: --unverified",
                described(gateway),
            );
            return Err(Refusal::new(Exit::Conflict, message).into());
        }
        return Ok(Verdict::NothingToAsk);
    }
    let client = client(gateway, key)?;
    let ask = async |stored: &StoredCharge| {
        let StoredCharge { order_id, code, amount, .. } = stored.clone();
        let answer = client.find_charge(&Charge { order_id, reference: code, amount }).await;
        answer.map_or_else(|error| Knowledge::Silence(error.to_string()), |answer| judge(stored, answer))
    };
    let judged: Vec<Knowledge> = join_all(stored.iter().map(ask)).await;
    if judged.iter().all(|judged| *judged == Knowledge::Same) {
        return Ok(Verdict::Knows(stored.len()));
    }
    let currency = gateway.currency.as_deref().unwrap_or("?");
    let with = match key {
        Some(key) => format!("with the key {} from {}", key.fingerprint, key.variable),
        None => format!("without a key (neither {} nor ORDERSTREAM_GATEWAY_KEY is set)", variable_of(&gateway.name)),
    };
    // Whoever takes the key for a wrong one says so every time.
    if let [Knowledge::Silence(why), _, ..] = &judged[..]
        && judged.iter().all(|other| *other == judged[0])
    {
        let message = format!(
            "{} was asked, {with}, about {} charges that it approved or promised to decide, and did not say whether it knows them: \
             {why}. Nothing is recorded",
            described(gateway),
            stored.len(),
        );
        return Err(Refusal::new(Exit::Conflict, message).into());
    }
    let told: Vec<String> = stored
        .iter()
        .zip(judged)
        .map(|(stored, judged)| {
            let said = match judged {
                Knowledge::Same => "it knows it".to_owned(),
                Knowledge::Nothing => "it does not know it".to_owned(),
                Knowledge::Other(said) | Knowledge::Silence(said) => said,
            };
            format!("{} of {} {currency}: {said}", gateway.reference(&stored.code), stored.amount)
        })
        .collect();
    let message = format!(
        "{} was asked, {with}, about the newest charges that it approved or promised to decide, and does not know them as they are stored. {}. Nothing is \
         recorded; if it is right all the same: --unverified",
        described(gateway),
        told.join("; "),
    );
    Err(Refusal::new(Exit::Conflict, message).into())
}

/// What a provider knows of a stored charge.
#[derive(Debug, PartialEq, Eq)]
enum Knowledge {
    /// What is stored, or the decision that it promised.
    Same,
    /// It has no such charge.
    Nothing,
    /// Something else: for people.
    Other(String),
    /// It gave no answer to the question, for this reason.
    Silence(String),
}

fn judge(stored: &StoredCharge, answer: ChargeAnswer) -> Knowledge {
    let id = match answer {
        ChargeAnswer::Approved(id) => id,
        ChargeAnswer::Declined(id) | ChargeAnswer::Pending(id) if !stored.is_approved => id,
        ChargeAnswer::Absent => return Knowledge::Nothing,
        ChargeAnswer::Declined(_) => return Knowledge::Other("it says that it declined it".to_owned()),
        ChargeAnswer::Pending(_) => return Knowledge::Other("it says that it is still to be decided".to_owned()),
        ChargeAnswer::Unknown(why) => return Knowledge::Silence(why),
    };
    match stored.provider_id.as_ref().filter(|known| **known != id) {
        None => Knowledge::Same,
        Some(known) => Knowledge::Other(format!("it knows it as {id}, and {known} is stored")),
    }
}

fn client(gateway: &KnownGateway, key: Option<&Key>) -> Result<HttpGateway> {
    let settings = Settings {
        // Whoever wants it recorded accepted it, plain or not.
        url: provider_url(gateway.url().unwrap_or_default(), true)?,
        key: key.map(|key| key.secret.clone()),
        timeout: ANSWER_MAX,
        calls_max: usize::try_from(ASKED_MAX)?,
        calls_per_second_max: None,
    };
    let client = HttpGateway::new(settings, gateway.currency.as_deref().unwrap_or_default());
    let client = client.map_err(|error| match (error, key) {
        (CallError::Key(error), Some(key)) => {
            Refusal::new(Exit::Usage, format!("{}: the key cannot be sent in a header: {error}", key.variable)).into()
        }
        (error, _) => anyhow::Error::from(error),
    })?;
    Ok(client.stored_as(&gateway.name, &gateway.reference_prefix))
}

#[cfg(test)]
mod tests {
    use pipeline::domain::{Cents, OrderId};

    use super::*;

    #[test]
    fn a_charge_is_known_only_as_it_is_stored() {
        let stored = |provider_id: Option<&str>| StoredCharge {
            order_id: OrderId(1),
            code: "A".to_owned(),
            amount: Cents::new(1),
            provider_id: provider_id.map(str::to_owned),
            is_approved: true,
        };
        let id = || "ch_1".to_owned();
        assert_eq!(judge(&stored(None), ChargeAnswer::Approved(id())), Knowledge::Same);
        assert_eq!(judge(&stored(Some("ch_1")), ChargeAnswer::Approved(id())), Knowledge::Same);
        assert_eq!(judge(&stored(Some("ch_1")), ChargeAnswer::Absent), Knowledge::Nothing);
        assert!(matches!(judge(&stored(Some("ch_2")), ChargeAnswer::Approved(id())), Knowledge::Other(_)));
        for answer in [ChargeAnswer::Declined(id()), ChargeAnswer::Pending(id())] {
            assert!(matches!(judge(&stored(None), answer.clone()), Knowledge::Other(_)), "{answer:?}");
        }
        assert_eq!(
            judge(&stored(None), ChargeAnswer::Unknown("it is busy".to_owned())),
            Knowledge::Silence("it is busy".to_owned())
        );
        let promised = StoredCharge { is_approved: false, ..stored(Some("ch_1")) };
        for answer in [ChargeAnswer::Approved(id()), ChargeAnswer::Declined(id()), ChargeAnswer::Pending(id())] {
            assert_eq!(judge(&promised, answer.clone()), Knowledge::Same, "{answer:?}");
        }
        assert_eq!(judge(&promised, ChargeAnswer::Absent), Knowledge::Nothing);
        let other = ChargeAnswer::Pending("ch_2".to_owned());
        assert!(matches!(judge(&promised, other), Knowledge::Other(_)));
    }
}
