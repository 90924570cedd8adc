//! What payment providers told us, as it came.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Error, KnownGateway};
use crate::{
    domain::{CallbackKind, CallbackOutcome, Cents},
    failpoint,
    message::Callback,
};

/// What storing a callback came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    /// It is new, and stored.
    Stored,
    /// It was known, and was signed anew since: its sender tells us again. Only the time of that is noted.
    Known,
    /// It was known, and was signed no later: somebody sends again what he recorded. Nothing is changed.
    Replayed,
    /// Another callback has this id. Nothing is changed.
    IdReused,
}

/// For which gateways somebody speaks who tells something: for all of them, unless they have secrets of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Teller {
    /// Only for these, by [`variable_part`](super::variable_part): he signed with a secret of theirs alone.
    pub only_for: Option<Vec<String>>,
    /// For none of these: they have secrets of their own, and he signed with none of those.
    pub not_for: Vec<String>,
}

impl Teller {
    /// Whether he speaks for this gateway.
    pub fn speaks_for(&self, gateway: &KnownGateway) -> bool {
        let name = gateway.variable_part();
        self.only_for.as_ref().is_none_or(|only| only.contains(&name)) && !self.not_for.contains(&name)
    }
}

/// The row that a callback finds.
struct Row {
    id: i64,
    sent_at: DateTime<Utc>,
    body_hash: i64,
}

/// Inserts the callbacks that are new, and notes the time of those that were signed again; what became of each. The
/// same id may be there several times: the first one counts. All of them come from one `teller`.
///
/// # Errors
/// As any statement.
pub async fn insert_callbacks(
    connection: &mut PgConnection,
    callbacks: &[Callback],
    gateway: &str,
    teller: &Teller,
) -> Result<Vec<Insertion>, Error> {
    let ids: Vec<String> = callbacks.iter().map(|callback| callback.event_id.clone()).collect();
    // In the order of their ids: two batches with the same ones wait for each other in one direction.
    let inserted = sqlx::query_scalar!(
        "INSERT INTO payment_callbacks
                (event_id, sent_at, body_hash, kind, reference, provider_id, amount_cents, currency, gateway,
                 told_for, not_told_for)
         SELECT DISTINCT ON (event_id)
                event_id, sent_at, body_hash, kind, reference, provider_id, amount_cents, currency, $9,
                $10::text[], $11::text[]
         FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                     $8::text[]) WITH ORDINALITY
              AS given (event_id, sent_at, body_hash, kind, reference, provider_id, amount_cents, currency, place)
         ORDER BY event_id, place
         ON CONFLICT (event_id) DO NOTHING
         RETURNING event_id",
        &ids,
        &callbacks.iter().map(|callback| callback.sent_at).collect::<Vec<_>>(),
        &callbacks.iter().map(|callback| callback.body_hash).collect::<Vec<_>>(),
        &callbacks.iter().map(|callback| callback.kind.as_str().to_owned()).collect::<Vec<_>>(),
        &callbacks.iter().map(|callback| callback.reference.clone()).collect::<Vec<_>>(),
        &callbacks.iter().map(|callback| callback.provider_id.clone()).collect::<Vec<_>>(),
        &callbacks.iter().map(|callback| callback.amount.get()).collect::<Vec<_>>(),
        &callbacks.iter().map(|callback| callback.currency.clone()).collect::<Vec<_>>(),
        gateway,
        teller.only_for.as_deref(),
        &teller.not_for,
    )
    .fetch_all(&mut *connection)
    .await?;
    failpoint::hit::<Error>("insert_callbacks")?;
    if inserted.len() == callbacks.len() {
        return Ok(vec![Insertion::Stored; callbacks.len()]);
    }

    let mut rows: HashMap<String, Row> = sqlx::query!(
        "SELECT id, event_id, sent_at, body_hash FROM payment_callbacks WHERE event_id = ANY ($1)
         ORDER BY id FOR NO KEY UPDATE",
        &ids
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .map(|row| (row.event_id, Row { id: row.id, sent_at: row.sent_at, body_hash: row.body_hash }))
    .collect();
    let mut inserted: HashSet<String> = inserted.into_iter().collect();
    let mut renewed = HashMap::new();
    let insertions = callbacks
        .iter()
        .map(|callback| {
            if inserted.remove(&callback.event_id) {
                return Insertion::Stored;
            }
            match rows.get_mut(&callback.event_id) {
                Some(row) if row.body_hash != callback.body_hash => Insertion::IdReused,
                Some(row) if row.sent_at < callback.sent_at => {
                    row.sent_at = callback.sent_at;
                    renewed.insert(row.id, row.sent_at);
                    Insertion::Known
                }
                // Without a row it was deleted at this moment; whoever does that wants to see it no more.
                Some(_) | None => Insertion::Replayed,
            }
        })
        .collect();
    let (ids, times): (Vec<i64>, Vec<DateTime<Utc>>) = renewed.into_iter().unzip();
    if !ids.is_empty() {
        sqlx::query!(
            "UPDATE payment_callbacks SET sent_at = renewed.sent_at
             FROM unnest($1::bigint[], $2::timestamptz[]) AS renewed (id, sent_at)
             WHERE payment_callbacks.id = renewed.id",
            &ids,
            &times
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(insertions)
}

/// What callbacks speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbacksOf {
    /// Charges: their reference is an order's code.
    Charges,
    /// Refunds: their reference is a refund's key.
    Refunds,
}

impl CallbacksOf {
    /// How their kinds begin.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Charges => "charge.",
            Self::Refunds => "refund.",
        }
    }
}

/// A callback that waits to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingCallback {
    /// Our number for it.
    pub id: i64,
    /// What happened.
    pub kind: CallbackKind,
    /// The order's code, or the refund's key.
    pub reference: String,
    /// The provider's id of the charge or refund.
    pub provider_id: String,
    /// How much.
    pub amount: Cents,
    /// In what.
    pub currency: String,
    /// Who told.
    pub gateway: String,
    /// For which gateways he speaks.
    pub teller: Teller,
    /// For how long it has waited, in seconds.
    pub age_s: i64,
}

/// Up to `limit` callbacks of one sort that should be looked at now, in the order in which they came, locked; those that others have
/// in hand are left out.
///
/// # Errors
/// As any statement.
pub async fn lock_waiting_callbacks(
    connection: &mut PgConnection,
    of: CallbacksOf,
    limit: i64,
) -> Result<Vec<WaitingCallback>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, kind, reference, provider_id, amount_cents, currency, gateway,
                  told_for, not_told_for, extract(epoch FROM now() - received_at)::bigint AS "age_s!"
           FROM payment_callbacks
           WHERE outcome = 'waiting' AND look_at <= now() AND starts_with(kind, $1)
           ORDER BY look_at, id LIMIT $2
           FOR UPDATE SKIP LOCKED"#,
        of.prefix(),
        limit,
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit::<Error>("lock_waiting_callbacks")?;
    let mut callbacks = rows
        .into_iter()
        .map(|row| {
            Ok(WaitingCallback {
                id: row.id,
                kind: row.kind.parse()?,
                reference: row.reference,
                provider_id: row.provider_id,
                amount: Cents::new(row.amount_cents),
                currency: row.currency,
                gateway: row.gateway,
                teller: Teller { only_for: row.told_for, not_for: row.not_told_for },
                age_s: row.age_s,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    callbacks.sort_by_key(|callback| callback.id);
    Ok(callbacks)
}

/// Writes down what became of callbacks that this transaction has locked. Those that wait on are looked at again after a
/// tenth of their age, a second at least.
///
/// # Errors
/// As any statement.
pub async fn decide_callbacks(connection: &mut PgConnection, outcomes: &[(i64, CallbackOutcome)]) -> Result<(), Error> {
    let ids: Vec<i64> = outcomes.iter().map(|(id, _)| *id).collect();
    let words: Vec<&str> = outcomes.iter().map(|(_, outcome)| outcome.as_str()).collect();
    sqlx::query!(
        "UPDATE payment_callbacks
         SET outcome = decided.outcome,
             decided_at = CASE WHEN decided.outcome <> 'waiting' THEN now() END,
             look_at = now() + greatest(interval '1 second', (now() - received_at) / 10)
         FROM unnest($1::bigint[], $2::text[]) AS decided (id, outcome)
         WHERE payment_callbacks.id = decided.id",
        &ids,
        &words as &[&str],
    )
    .execute(connection)
    .await?;
    failpoint::hit::<Error>("decide_callbacks")?;
    Ok(())
}

/// What a provider told about an order or a refund, for its timeline.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CallbackRow {
    /// What it told.
    pub kind: String,
    /// What became of it.
    pub outcome: String,
    /// When it came.
    pub received_at: DateTime<Utc>,
}

/// What providers told under these references, in the order in which it came.
///
/// # Errors
/// As any statement.
pub async fn callbacks_of(connection: &mut PgConnection, references: &[&str]) -> Result<Vec<CallbackRow>, Error> {
    Ok(sqlx::query_as!(
        CallbackRow,
        "SELECT kind, outcome, received_at FROM payment_callbacks WHERE reference = ANY ($1) ORDER BY id",
        references as &[&str]
    )
    .fetch_all(connection)
    .await?)
}
