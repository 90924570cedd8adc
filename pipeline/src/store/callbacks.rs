//! What payment providers told us, as it came.

use chrono::{DateTime, Utc};
use rustc_hash::FxHashSet;
use sqlx::PgConnection;

use super::Error;
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
    /// The sender sent it again, signed later: known.
    Known,
    /// The same message as before, with the same or an older time: a replay.
    Replayed,
    /// Another message under an id that is taken.
    IdReused,
}

/// Stores callbacks, each id once; what came of each, in their order. An id that stands in `callbacks` twice is compared
/// with its first.
///
/// # Errors
/// As any statement.
pub async fn insert_callbacks(
    connection: &mut PgConnection,
    callbacks: &[Callback],
    gateway: &str,
) -> Result<Vec<Insertion>, Error> {
    let ids: Vec<&str> = callbacks.iter().map(|callback| callback.event_id.as_str()).collect();
    let sent: Vec<DateTime<Utc>> = callbacks.iter().map(|callback| callback.sent_at).collect();
    let hashes: Vec<i64> = callbacks.iter().map(|callback| callback.body_hash).collect();
    let kinds: Vec<&str> = callbacks.iter().map(|callback| callback.kind.as_str()).collect();
    let references: Vec<&str> = callbacks.iter().map(|callback| callback.reference.as_str()).collect();
    let provider_ids: Vec<&str> = callbacks.iter().map(|callback| callback.provider_id.as_str()).collect();
    let amounts: Vec<i64> = callbacks.iter().map(|callback| callback.amount.get()).collect();
    let currencies: Vec<&str> = callbacks.iter().map(|callback| callback.currency.as_str()).collect();
    let stored = sqlx::query_scalar!(
        "INSERT INTO payment_callbacks (event_id, sent_at, body_hash, kind, reference, provider_id, amount_cents,
                                        currency, gateway)
         SELECT DISTINCT ON (event_id) event_id, sent_at, hash, kind, reference, provider_id, amount, currency, $9
         FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                     $8::text[]) WITH ORDINALITY
              AS new (event_id, sent_at, hash, kind, reference, provider_id, amount, currency, n)
         ORDER BY event_id, n
         ON CONFLICT (event_id) DO NOTHING
         RETURNING event_id",
        &ids as &[&str],
        &sent,
        &hashes,
        &kinds as &[&str],
        &references as &[&str],
        &provider_ids as &[&str],
        &amounts,
        &currencies as &[&str],
        gateway,
    )
    .fetch_all(&mut *connection)
    .await?;
    failpoint::hit::<Error>("insert_callbacks")?;
    let mut stored: FxHashSet<String> = stored.into_iter().collect();
    let mut insertions = Vec::with_capacity(callbacks.len());
    for callback in callbacks {
        insertions.push(match stored.remove(&callback.event_id) {
            true => Insertion::Stored,
            false => repeat(connection, callback).await?,
        });
    }
    Ok(insertions)
}

/// What a callback is whose id is known. A later time can only come from who holds the secret: it is remembered, so that
/// this message cannot be replayed either.
async fn repeat(connection: &mut PgConnection, callback: &Callback) -> Result<Insertion, Error> {
    let moved = sqlx::query!(
        "UPDATE payment_callbacks SET sent_at = $2 WHERE event_id = $1 AND body_hash = $3 AND sent_at < $2",
        callback.event_id,
        callback.sent_at,
        callback.body_hash,
    )
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 1 {
        return Ok(Insertion::Known);
    }
    let known = sqlx::query_scalar!("SELECT body_hash FROM payment_callbacks WHERE event_id = $1", callback.event_id);
    Ok(match known.fetch_optional(connection).await? {
        Some(hash) if hash != callback.body_hash => Insertion::IdReused,
        _ => Insertion::Replayed,
    })
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
    /// For how long it has waited, in seconds.
    pub age_s: i64,
}

/// Up to `limit` callbacks that should be looked at now, in the order in which they came, locked; those that others have
/// in hand are left out.
///
/// # Errors
/// As any statement.
pub async fn lock_waiting_callbacks(connection: &mut PgConnection, limit: i64) -> Result<Vec<WaitingCallback>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, kind, reference, provider_id, amount_cents, currency, gateway,
                  extract(epoch FROM now() - received_at)::bigint AS "age_s!"
           FROM payment_callbacks
           WHERE outcome = 'waiting' AND look_at <= now()
           ORDER BY look_at, id LIMIT $1
           FOR UPDATE SKIP LOCKED"#,
        limit
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
