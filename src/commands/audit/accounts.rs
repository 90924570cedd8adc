//! Whose ledgers there are: of an account at a provider there is one, whatever the currencies and keys.

use pipeline::store::{Installed, KnownGateway};

use crate::gateway::{Key, Keys};

/// An account at a provider.
pub(super) struct Account {
    pub(super) url: String,
    /// All gateways that charge to it: one for each currency.
    pub(super) gateways: Vec<KnownGateway>,
    /// The key that opens it, if this process has one; else why it must not be opened with the one that it has.
    pub(super) key: Result<Option<Key>, String>,
    /// Of all keys that are known of it, the newest last.
    fingerprints: Vec<String>,
}

/// The accounts that there are: those at one URL that share a key are one.
///
/// # Errors
/// When the file of a key cannot be read.
pub(super) fn accounts(providers: &[&KnownGateway], installed: &Installed) -> anyhow::Result<Vec<Account>> {
    let keys = Keys::from_env()?;
    let mut accounts: Vec<Account> = Vec::new();
    for gateway in providers {
        let Some(url) = gateway.url() else { continue };
        let takes_new = installed.current.as_ref() == Some(&gateway.name);
        let key = keys.of(gateway, installed, takes_new);
        let mut fingerprints = gateway.key_fingerprints.clone();
        // Nothing is recorded, and it is sent this one.
        if let Ok(Some(key)) = &key
            && fingerprints.is_empty()
        {
            fingerprints.push(key.fingerprint.clone());
        }
        let mut account = Account { url: url.to_owned(), gateways: vec![(*gateway).clone()], key, fingerprints };
        for other in accounts.extract_if(.., |other| other.is(&account)).collect::<Vec<_>>() {
            account = other.with(account);
        }
        accounts.push(account);
    }
    // Who has no key of his own is with the only account there is at his URL.
    let (keyless, mut accounts): (Vec<_>, Vec<_>) = accounts.into_iter().partition(Account::is_keyless);
    for account in keyless {
        let mut there = accounts.iter_mut().filter(|other| other.url == account.url && other.key.is_ok());
        match (there.next(), there.next()) {
            (Some(only), None) => only.gateways.extend(account.gateways),
            _ => accounts.push(account),
        }
    }
    accounts.sort_by(|one, other| one.url.cmp(&other.url));
    Ok(accounts)
}

impl Account {
    /// Whether no key of it is known.
    fn is_keyless(&self) -> bool {
        self.fingerprints.is_empty() && self.key.is_ok()
    }

    /// Whether the other one is the same. While a key is changed, an account has several.
    fn is(&self, other: &Self) -> bool {
        let shares_key = self.fingerprints.iter().any(|known| other.fingerprints.contains(known));
        self.url == other.url && (shares_key || (self.is_keyless() && other.is_keyless()))
    }

    /// Both, with the newest key that this process has.
    fn with(mut self, other: Self) -> Self {
        self.gateways.extend(other.gateways);
        for known in other.fingerprints {
            if !self.fingerprints.contains(&known) {
                self.fingerprints.push(known);
            }
        }
        if self.rank(&other.key) > self.rank(&self.key) {
            self.key = other.key;
        }
        self
    }

    /// A newer key before an older one, that before a wrong one, and that before none.
    fn rank(&self, key: &Result<Option<Key>, String>) -> usize {
        match key {
            Ok(Some(key)) => 2 + self.fingerprints.iter().position(|known| *known == key.fingerprint).unwrap_or(0),
            Err(_) => 1,
            Ok(None) => 0,
        }
    }
}
