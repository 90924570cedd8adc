//! By which key a provider knows this installation. A URL does not say whose account is charged: the key does. Its fingerprint
//! is recorded with the gateway, and a process with another key charges nobody.

use std::{num::NonZeroU32, sync::OnceLock};

use pipeline::store::{Installed, KnownGateway, variable_part};

use super::described;
use crate::config::gateway_key;

/// How often a key is hashed for its fingerprint: some 30 ms, so that a guess costs something where a key is weak.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);

/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 8;

/// A key for a provider.
#[derive(Clone)]
pub struct Key {
    /// What is sent.
    pub secret: String,
    /// What is stored and shown of it: 16 hexadecimal digits.
    pub fingerprint: String,
    /// The variable that it came from.
    pub variable: String,
    /// Whether that variable names the gateway.
    pub is_named: bool,
}

impl std::fmt::Debug for Key {
    // Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Key {
    fn new(secret: String, name: Option<&str>, installed: &Installed) -> Self {
        let fingerprint = fingerprint(&secret, &installed.key_salt);
        let variable = name.map_or_else(|| "ORDERSTREAM_GATEWAY_KEY".to_owned(), variable_of);
        Self { secret, fingerprint, variable, is_named: name.is_some() }
    }

    /// A gateway that is known by this key, other than the one of this name.
    pub fn owner<'a>(&self, name: Option<&str>, installed: &'a Installed) -> Option<&'a KnownGateway> {
        let mut others = installed.gateways.iter().filter(|other| Some(other.name.as_str()) != name);
        others.find(|other| other.accepts(&self.fingerprint))
    }
}

/// PBKDF2 (RFC 8018) with HMAC-SHA256 over the installation's salt, in hexadecimal digits.
fn fingerprint(key: &str, salt: &str) -> String {
    let mut bytes = [0; FINGERPRINT_BYTES];
    ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt.as_bytes(), key.as_bytes(), &mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The keys of this process.
pub struct Keys {
    /// ORDERSTREAM_GATEWAY_KEY: of the provider that takes new payments when this process first hears of one.
    unnamed: Option<String>,
    /// That provider's URL; empty while nobody is charged. No other one gets the key unless it is known to be its own.
    meant_for: OnceLock<String>,
}

impl Keys {
    /// As the environment has them.
    ///
    /// # Errors
    /// When a file of a key cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self { unnamed: gateway_key(None)?, meant_for: OnceLock::new() })
    }

    /// The key to call a provider with; `None` where this process has none for it.
    ///
    /// # Errors
    /// When the key of this process is not one of the provider's account: why, for people.
    pub fn of(&self, gateway: &KnownGateway, installed: &Installed, takes_new: bool) -> Result<Option<Key>, String> {
        // Before anything else: whose key the one without a name is does not hang on who has one with a name.
        let current = installed.current().map(|current| current.url().unwrap_or_default().to_owned());
        let meant_for = current.map(|url| self.meant_for.get_or_init(|| url));
        let given = self.given(Some(&gateway.name), installed).map_err(|error| format!("{error:#}"))?;
        let Some(key) = given else { return Ok(None) };
        if gateway.accepts(&key.fingerprint) {
            return Ok(Some(key));
        }
        if !gateway.key_fingerprints.is_empty() {
            return Err(match takes_new || key.is_named {
                true => other_account(gateway, &key, installed),
                false => {
                    format!("this process has no key for {}: set {}", described(gateway), variable_of(&gateway.name))
                }
            });
        }
        // Nothing is recorded: who names the gateway says that it is the right one.
        if key.is_named {
            return Ok(Some(key));
        }
        let url = gateway.url().unwrap_or_default();
        let owner = key.owner(Some(&gateway.name), installed).filter(|owner| takes_new || owner.url() != Some(url));
        if takes_new && let Some(owner) = owner {
            return Err(format!(
                "new payments are taken by {}, and {}",
                described(gateway),
                of_another(&key, owner, &gateway.name)
            ));
        }
        let is_meant = meant_for.is_none_or(|meant_for| meant_for == url);
        if takes_new && !is_meant {
            return Err(format!(
                "new payments are taken by {} now, and {} of this process was meant for {}: start it again with the key of the \
                 new provider, or set {}",
                described(gateway),
                key.variable,
                meant_for.filter(|url| !url.is_empty()).map_or("another one", String::as_str),
                variable_of(&gateway.name),
            ));
        }
        if owner.is_some() || !is_meant {
            tracing::warn!(
                gateway = gateway.name,
                "a provider of earlier payments is asked without a key: set {}",
                variable_of(&gateway.name)
            );
            return Ok(None);
        }
        Ok(Some(key))
    }

    /// The key that somebody gives a command for a provider: for the one of this name if it has one.
    ///
    /// # Errors
    /// When it is the key of another provider, which is returned with it; when the file of a key cannot be read.
    pub fn offered(
        &self,
        name: Option<&str>,
        url: Option<&str>,
        installed: &Installed,
    ) -> anyhow::Result<Result<Option<Key>, (Key, KnownGateway)>> {
        let Some(key) = self.given(name, installed)? else { return Ok(Ok(None)) };
        let is_its_own = name.and_then(|name| installed.named(name)).is_some_and(|own| own.accepts(&key.fingerprint));
        let owner = key.owner(name, installed).filter(|owner| !key.is_named && !is_its_own && owner.url() != url);
        Ok(match owner.cloned() {
            Some(owner) => Err((key, owner)),
            None => Ok(Some(key)),
        })
    }

    /// What the environment has for a gateway, whosever it is.
    ///
    /// # Errors
    /// When the file of a key cannot be read.
    pub fn given(&self, name: Option<&str>, installed: &Installed) -> anyhow::Result<Option<Key>> {
        let named = match name {
            Some(name) => gateway_key(Some(name))?.map(|secret| Key::new(secret, Some(name), installed)),
            None => None,
        };
        Ok(named.or_else(|| self.unnamed.clone().map(|secret| Key::new(secret, None, installed))))
    }
}

/// The variable of the key for a gateway.
pub fn variable_of(name: &str) -> String {
    format!("ORDERSTREAM_GATEWAY_KEY_{}", variable_part(name))
}

/// The key is that of another gateway: nobody else is sent it in passing.
pub fn of_another(key: &Key, owner: &KnownGateway, name: &str) -> String {
    format!(
        "{} of this process (fingerprint {}) is the key for {}. Give it the key of {name} as {}; if both have the same one, say so: \
         orderstream provider key {name}",
        key.variable,
        key.fingerprint,
        described(owner),
        variable_of(name),
    )
}

/// The key is none of the account's.
pub fn other_account(gateway: &KnownGateway, key: &Key, installed: &Installed) -> String {
    let owner = key.owner(Some(&gateway.name), installed).map(|owner| format!(" (the key for {})", described(owner)));
    format!(
        "{} of this process has the fingerprint {}{}, and {} knows this installation by the key {}. Another account is another \
         provider: orderstream provider set {} --name NEW. If it is a new key of the same account, give it to this command: \
         orderstream provider key {}",
        key.variable,
        key.fingerprint,
        owner.unwrap_or_default(),
        described(gateway),
        gateway.key_fingerprints.join(" or "),
        gateway.url().unwrap_or("URL"),
        gateway.name,
    )
}

/// There is no key, and the provider wants one.
pub(super) fn no_key(gateway: &KnownGateway) -> String {
    format!(
        "this process has no key, and {} knows this installation by the key with the fingerprint {}: set ORDERSTREAM_GATEWAY_KEY, \
         or ORDERSTREAM_GATEWAY_KEY_FILE",
        described(gateway),
        gateway.key_fingerprints.join(" or "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_a_slow_hash_of_salt_and_key() {
        // Python: hashlib.pbkdf2_hmac("sha256", b"sk_test", b"salt", 100_000, 8).hex()
        assert_eq!(fingerprint("sk_test", "salt"), "ccb770721d11ee56");
        assert_ne!(fingerprint("sk_test", "salt"), fingerprint("sk_test", "pepper"));
        assert_ne!(fingerprint("sk_test", "salt"), fingerprint("sk_live", "salt"));
    }
}
