//! By what webhooks of payment providers are signed, and for whom each secret speaks.

use std::collections::BTreeMap;

use pipeline::store::{KnownGateway, Teller};

use crate::{
    config,
    signature::{self, Secret, SignatureError},
};

/// The secrets of this process.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Of every gateway that has none of its own.
    common: Vec<Secret>,
    /// Of gateways, by what names them in variables.
    own: BTreeMap<String, Vec<Secret>>,
}

/// A webhook as it came.
pub(super) struct Signed<'a> {
    pub(super) id: &'a str,
    pub(super) timestamp: &'a str,
    pub(super) signatures: &'a str,
    pub(super) body: &'a [u8],
}

impl Secrets {
    /// As the environment has them.
    ///
    /// # Errors
    /// When one of them is no secret, or its file cannot be read.
    pub(super) fn from_env() -> anyhow::Result<Self> {
        Ok(Self { common: config::webhook_secrets()?, own: config::own_webhook_secrets()? })
    }

    /// Whether there are none: webhooks are off.
    pub(super) fn is_empty(&self) -> bool {
        self.common.is_empty() && self.own.is_empty()
    }

    /// Variables of secrets that name no gateway: of one that is still to be set, or misspelt.
    pub(super) fn of_nobody(&self, known: &[KnownGateway]) -> Vec<String> {
        let is_known = |name: &String| known.iter().any(|gateway| gateway.variable_part() == *name);
        let others = self.own.keys().filter(|name| !is_known(name));
        others.map(|name| format!("ORDERSTREAM_WEBHOOK_SECRET_{name}")).collect()
    }

    /// For which gateways somebody speaks who signed this at about the time `now`. A gateway with a secret of its own is spoken
    /// for by that one alone. How long it takes says nothing about which secret was right.
    ///
    /// # Errors
    /// When no secret fits, or the time is off.
    pub(super) fn verify(&self, signed: &Signed<'_>, now: i64) -> Result<Teller, SignatureError> {
        let Signed { id, timestamp, signatures, body } = *signed;
        let check = |secrets: &[Secret]| signature::verify(secrets, id, timestamp, signatures, body, now);
        let common = check(&self.common);
        let (fit, others): (Vec<_>, Vec<_>) =
            self.own.iter().map(|(name, secrets)| (name.clone(), check(secrets))).partition(|(_, fits)| fits.is_ok());
        let names = |all: Vec<(String, _)>| all.into_iter().map(|(name, _)| name).collect();
        match common {
            Ok(()) => Ok(Teller { only_for: None, not_for: names(others) }),
            Err(error) if fit.is_empty() => Err(error),
            Err(_) => Ok(Teller { only_for: Some(names(fit)), not_for: Vec::new() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_856_000;

    fn secret(byte: u8) -> Secret {
        use base64::{Engine, engine::general_purpose::STANDARD};
        Secret::parse(&format!("whsec_{}", STANDARD.encode([byte; 32]))).expect("a secret")
    }

    #[test]
    fn a_secret_speaks_for_its_gateways_and_the_common_one_for_those_without() {
        let own = [("A", 1), ("B", 2), ("B_USD", 2)].map(|(name, byte)| (name.to_owned(), vec![secret(byte)]));
        let secrets = Secrets { common: vec![secret(0)], own: own.into() };
        let told = |by: u8| {
            let signatures = signature::sign(&secret(by), "m", NOW, b"{}");
            let timestamp = NOW.to_string();
            secrets.verify(&Signed { id: "m", timestamp: &timestamp, signatures: &signatures, body: b"{}" }, NOW)
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let only = |of: &[&str]| Ok(Teller { only_for: Some(names(of)), not_for: Vec::new() });
        assert_eq!(told(1), only(&["A"]));
        assert_eq!(told(2), only(&["B", "B_USD"]), "two currencies of one account");
        assert_eq!(told(0), Ok(Teller { only_for: None, not_for: names(&["A", "B", "B_USD"]) }));
        assert_eq!(told(3), Err(SignatureError::Mismatch));
    }
}
