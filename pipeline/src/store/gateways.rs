//! Who takes the money: a fact of the installation, changed by one statement and checked by every one that stores a payment.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::{Error, NewAction, Store, commit, has_confirmed, insert_action};

/// The advisory lock of the function `demand_gateway`: shared by statements that store payments. It spells "gate".
const GATEWAY_LOCK: i64 = 0x67_61_74_65;

/// What a gateway is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GatewayKind {
    /// Nobody is asked for money: a pure function of the order code answers.
    Simulator {
        /// How many of 10,000 codes it approves; an earlier version did not record it.
        approved_of_10_000: Option<u32>,
    },
    /// A payment provider over HTTP.
    Http {
        /// Its base URL; an earlier version did not record it.
        url: Option<String>,
    },
}

impl GatewayKind {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Simulator { .. } => "simulator",
            Self::Http { .. } => "http",
        }
    }
}

/// A gateway that takes payments of this installation, or took some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownGateway {
    /// What payments and refunds are stored under.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: GatewayKind,
    /// In what it charges: three letters; an earlier version did not record it.
    pub currency: Option<String>,
    /// What stands before our codes in the references of its charges.
    pub reference_prefix: String,
    /// Fingerprints of the keys by which its provider knows this installation, all of one account; none before a process
    /// with a key began a payment.
    pub key_fingerprints: Vec<String>,
}

impl KnownGateway {
    /// The provider's base URL, where there is a provider and somebody has said it.
    pub fn url(&self) -> Option<&str> {
        match &self.kind {
            GatewayKind::Http { url } => url.as_deref(),
            GatewayKind::Simulator { .. } => None,
        }
    }

    /// Whether the key with this fingerprint is known to be one of the account.
    pub fn accepts(&self, fingerprint: &str) -> bool {
        self.key_fingerprints.iter().any(|known| known == fingerprint)
    }

    /// The reference under which the provider knows the charge of an order.
    pub fn reference(&self, code: &str) -> String {
        format!("{}{code}", self.reference_prefix)
    }

    /// What names it in variables of the environment.
    pub fn variable_part(&self) -> String {
        variable_part(&self.name)
    }

    /// Whether payments went to a provider that nobody has named yet.
    pub fn is_unlocated(&self) -> bool {
        matches!(self.kind, GatewayKind::Http { url: None })
    }
}

/// A name as it stands in the name of a variable: `stripe-eu` as `STRIPE_EU`.
pub fn variable_part(name: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' };
    name.chars().map(plain).collect()
}

/// A gateway that is to take new payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGateway {
    /// What it should be called; else a name is found.
    pub name: Option<String>,
    /// What it is, with nothing left open.
    pub kind: GatewayKind,
    /// In what it charges: three letters.
    pub currency: String,
    /// The fingerprint of the key that whoever sets it has for it.
    pub key_fingerprint: Option<String>,
}

impl NewGateway {
    /// Whether it is this one, under whatever name. A provider is another one where its references do not begin with the mark
    /// of this installation: those of an earlier version, and in a copy of a database those of the original.
    fn is(&self, known: &KnownGateway, mark: &str) -> bool {
        let may_take_new = known.reference_prefix == mark || matches!(known.kind, GatewayKind::Simulator { .. });
        // Two accounts at one URL are two gateways, by their names.
        let is_named = self.name.as_ref().is_none_or(|name| *name == known.name);
        may_take_new && is_named && self.kind == known.kind && known.currency.as_ref() == Some(&self.currency)
    }
}

/// From when on a gateway took new payments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayTerm {
    /// Its name.
    pub gateway: String,
    /// Since when; until the next one.
    pub from_at: DateTime<Utc>,
}

/// What came of setting a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetGateway {
    /// It takes new payments from now on.
    Set {
        /// It.
        gateway: KnownGateway,
        /// Which one did before.
        before: Option<KnownGateway>,
        /// The number of the action that says so.
        action: i64,
    },
    /// This one does already; of a first gateway, this other one.
    Kept(KnownGateway),
    /// Another gateway has that name.
    NameTaken(KnownGateway),
    /// Its account is known by other keys than the one given. Nothing was changed.
    OtherKey(KnownGateway),
}

/// Who takes the money of an installation, and who took some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Every gateway that ever took a payment, the first one first.
    pub gateways: Vec<KnownGateway>,
    /// The name of the one that takes new payments; none before the first was set.
    pub current: Option<String>,
    /// What stands before codes and keys in references of this installation.
    pub mark: String,
    /// What fingerprints of keys are salted with.
    pub key_salt: String,
}

impl Installed {
    /// The gateway that takes new payments.
    pub fn current(&self) -> Option<&KnownGateway> {
        self.named(self.current.as_deref()?)
    }

    /// The gateway of this name.
    pub fn named(&self, name: &str) -> Option<&KnownGateway> {
        self.gateways.iter().find(|gateway| gateway.name == name)
    }
}

/// All that is recorded of gateways.
///
/// # Errors
/// As any statement.
pub async fn installed(connection: &mut PgConnection) -> Result<Installed, Error> {
    let key_salt =
        sqlx::query_scalar!("SELECT value FROM settings WHERE key = 'key_salt'").fetch_one(&mut *connection).await?;
    let (mark, current) = (reference_mark(connection).await?, current_gateway(connection).await?);
    Ok(Installed { gateways: known_gateways(connection).await?, current, mark, key_salt })
}

/// Every gateway that ever took a payment, the first one first.
///
/// # Errors
/// As any statement.
pub async fn known_gateways(connection: &mut PgConnection) -> Result<Vec<KnownGateway>, Error> {
    let rows = sqlx::query!(
        "SELECT name, kind, url, currency, approved_of_10_000, reference_prefix, key_fingerprints
         FROM gateways ORDER BY added_at, name"
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let kind = match row.kind.as_str() {
                "http" => GatewayKind::Http { url: row.url },
                "simulator" => {
                    let approved_of_10_000 = row.approved_of_10_000.map(i32::cast_unsigned);
                    GatewayKind::Simulator { approved_of_10_000 }
                }
                _ => return Err(Error::Unreadable { what: "a kind of gateway", value: row.kind }),
            };
            let (name, currency, reference_prefix) = (row.name, row.currency, row.reference_prefix);
            Ok(KnownGateway { name, kind, currency, reference_prefix, key_fingerprints: row.key_fingerprints })
        })
        .collect()
}

/// The name of the gateway that takes new payments; none before the first was set.
///
/// # Errors
/// As any statement.
pub async fn current_gateway(connection: &mut PgConnection) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar!("SELECT gateway FROM gateway_terms ORDER BY id DESC LIMIT 1")
        .fetch_optional(connection)
        .await?)
}

/// What stands before codes and keys in references of this installation: the first 12 digits of its id, and a colon.
///
/// # Errors
/// As any statement.
pub async fn reference_mark(connection: &mut PgConnection) -> Result<String, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT reference_mark() AS "mark!""#).fetch_one(connection).await?)
}

/// Which gateway took new payments from when on, the latest first, up to a hundred.
///
/// # Errors
/// As any statement.
pub async fn gateway_terms(pool: &PgPool) -> Result<Vec<GatewayTerm>, Error> {
    Ok(sqlx::query_as!(GatewayTerm, "SELECT gateway, from_at FROM gateway_terms ORDER BY id DESC LIMIT 100")
        .fetch_all(pool)
        .await?)
}

/// Has a gateway take new payments from now on; with `only_first`, only where none does. Waits for the transactions that
/// are storing payments with the one before; those that come later find the new one. `action` says of the gateway, and of the
/// one before it, what is noted in the same transaction: who takes the money changes for nobody unknown.
///
/// # Errors
/// As any statement.
pub async fn set_gateway(
    store: &Store,
    wanted: &NewGateway,
    only_first: bool,
    action: impl FnOnce(&KnownGateway, Option<&KnownGateway>) -> NewAction,
) -> Result<SetGateway, Error> {
    let mut transaction = store.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", GATEWAY_LOCK).execute(&mut *transaction).await?;
    let mark = reference_mark(&mut transaction).await?;
    let known = known_gateways(&mut transaction).await?;
    let current = current_gateway(&mut transaction).await?;
    let before = current.and_then(|name| known.iter().find(|gateway| gateway.name == name)).cloned();
    if let Some(before) = before.as_ref().filter(|_| only_first) {
        return Ok(SetGateway::Kept(before.clone()));
    }
    let fits: Vec<&KnownGateway> = before.iter().chain(&known).filter(|gateway| wanted.is(gateway, &mark)).collect();
    // Of two accounts at one URL the key says which one is meant.
    let of_key = wanted.key_fingerprint.as_ref().and_then(|key| fits.iter().find(|gateway| gateway.accepts(key)));
    let there = of_key.or(fits.first()).copied();
    if there.is_none()
        && let Some(other) = wanted.name.as_ref().and_then(|name| known.iter().find(|gateway| gateway.name == *name))
    {
        return Ok(SetGateway::NameTaken(other.clone()));
    }
    let mut keys = there.map(|gateway| gateway.key_fingerprints.clone()).unwrap_or_default();
    if keys.is_empty() && wanted.name.is_none() {
        keys = keys_at(&wanted.kind, &known);
    }
    if let Some(key) = &wanted.key_fingerprint {
        // Charges that were confirmed without a key are of an account that nobody has named: `provider key` asks.
        let is_unproven = match there.filter(|gateway| gateway.key_fingerprints.is_empty()) {
            Some(gateway) => has_confirmed(&mut transaction, &gateway.name).await?,
            None => false,
        };
        if keys.is_empty() && !is_unproven {
            keys.push(key.clone());
        }
        let of_account = |gateway: &&KnownGateway| gateway.kind == wanted.kind && gateway.key_fingerprints == keys;
        if !keys.is_empty()
            && !keys.contains(key)
            && let Some(other) = known.iter().find(of_account)
        {
            return Ok(SetGateway::OtherKey(other.clone()));
        }
    }
    let gateway = match there {
        Some(gateway) => {
            sqlx::query!("UPDATE gateways SET key_fingerprints = $2 WHERE name = $1", gateway.name, &keys)
                .execute(&mut *transaction)
                .await?;
            KnownGateway { key_fingerprints: keys, ..gateway.clone() }
        }
        None => add_gateway(&mut transaction, wanted, &known, &mark, keys).await?,
    };
    if before.as_ref().is_some_and(|before| before.name == gateway.name) {
        commit(transaction).await?;
        return Ok(SetGateway::Kept(gateway));
    }
    sqlx::query!("INSERT INTO gateway_terms (gateway, from_at) VALUES ($1, clock_timestamp())", gateway.name)
        .execute(&mut *transaction)
        .await?;
    let action = insert_action(&mut *transaction, &action(&gateway, before.as_ref())).await?;
    commit(transaction).await?;
    Ok(SetGateway::Set { gateway, before, action })
}

/// The keys of the account that a provider without a name of its own charges to: those that are known at its URL, if they are
/// of one account.
fn keys_at(kind: &GatewayKind, known: &[KnownGateway]) -> Vec<String> {
    let mut there = known.iter().filter(|gateway| gateway.kind == *kind && !gateway.key_fingerprints.is_empty());
    let Some(first) = there.next() else { return Vec::new() };
    match there.all(|other| other.key_fingerprints == first.key_fingerprints) {
        true => first.key_fingerprints.clone(),
        false => Vec::new(),
    }
}

async fn add_gateway(
    connection: &mut PgConnection,
    wanted: &NewGateway,
    known: &[KnownGateway],
    mark: &str,
    key_fingerprints: Vec<String>,
) -> Result<KnownGateway, Error> {
    let kind = wanted.kind.as_str();
    let (url, approved) = match &wanted.kind {
        GatewayKind::Simulator { approved_of_10_000 } => (None, approved_of_10_000.map(u32::cast_signed)),
        GatewayKind::Http { url } => (url.as_deref(), None),
    };
    // The names of two gateways must not lead to one variable for their keys.
    let is_free = |name: &str| known.iter().all(|gateway| gateway.variable_part() != variable_part(name));
    let found = || (2..).map(|number| format!("{kind}-{number}")).find(|name| is_free(name)).unwrap_or_default();
    let name = match &wanted.name {
        Some(name) => name.clone(),
        None if is_free(kind) => kind.to_owned(),
        None => found(),
    };
    sqlx::query!(
        "INSERT INTO gateways (name, kind, url, currency, approved_of_10_000, reference_prefix, key_fingerprints)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        name,
        kind,
        url,
        wanted.currency,
        approved,
        mark,
        &key_fingerprints,
    )
    .execute(connection)
    .await?;
    let (kind, currency, reference_prefix) = (wanted.kind.clone(), Some(wanted.currency.clone()), mark.to_owned());
    Ok(KnownGateway { name, kind, currency, reference_prefix, key_fingerprints })
}

/// Records the first key of a gateway; whether it was the first.
///
/// # Errors
/// As any statement.
pub async fn record_key(pool: &PgPool, name: &str, fingerprint: &str) -> Result<bool, Error> {
    let recorded = sqlx::query!(
        "UPDATE gateways SET key_fingerprints = ARRAY[$2::text] WHERE name = $1 AND key_fingerprints = '{}'",
        name,
        fingerprint,
    )
    .execute(pool)
    .await?;
    Ok(recorded.rows_affected() == 1)
}

/// Changes address, currency and keys of providers, all of them or none, and notes it in the same transaction; the number of the
/// action, if they still were what stands first.
///
/// # Errors
/// As any statement.
pub async fn change_gateways(
    store: &Store,
    changes: &[(KnownGateway, KnownGateway)],
    action: &NewAction,
) -> Result<Option<i64>, Error> {
    let mut transaction = store.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", GATEWAY_LOCK).execute(&mut *transaction).await?;
    let known = known_gateways(&mut transaction).await?;
    if changes.iter().any(|(before, _)| !known.contains(before)) {
        return Ok(None);
    }
    for (before, after) in changes {
        sqlx::query!(
            "UPDATE gateways SET url = $2, currency = $3, key_fingerprints = $4 WHERE name = $1 AND kind = 'http'",
            before.name,
            after.url(),
            after.currency,
            &after.key_fingerprints,
        )
        .execute(&mut *transaction)
        .await?;
    }
    let action = insert_action(&mut *transaction, action).await?;
    commit(transaction).await?;
    Ok(Some(action))
}
