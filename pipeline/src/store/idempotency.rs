//! Requests that were answered before.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Error;

/// What a request is recognised by.
#[derive(Debug, Clone)]
pub struct RequestKey {
    /// The token that it came with, or 0.
    pub token_id: i64,
    /// What was asked for.
    pub route: &'static str,
    /// The caller's name for it.
    pub key: String,
    /// SHA-256 of the request.
    pub hash: [u8; 32],
}

/// An answer as it is kept.
#[derive(Debug, Clone)]
pub struct KeptAnswer {
    /// The status of HTTP.
    pub status: i16,
    /// The headers, as JSON.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
    /// The import that it began. Once that has failed or was interrupted, the answer is not given again.
    pub import_id: Option<i64>,
}

/// What is known of a key.
#[derive(Debug, Clone)]
pub enum Claim {
    /// Nothing: the caller works on it, up to this instant.
    Ours(DateTime<Utc>),
    /// The same request was answered.
    Answered(KeptAnswer),
    /// The same request is being worked on.
    InProgress,
    /// The key belongs to another request.
    Reused,
}

/// Claims a key that is new, a day old, was left behind by somebody who crashed, or began an import that came to
/// nothing; else tells what is known of it.
///
/// # Errors
/// As any statement.
pub async fn claim_request_key(pool: &PgPool, key: &RequestKey) -> Result<Claim, Error> {
    let claimed = sqlx::query_scalar!(
        "INSERT INTO idempotency_keys AS known (token_id, route, key, request_hash, claimed_until)
         VALUES ($1, $2, $3, $4, now() + interval '2 minutes')
         ON CONFLICT (token_id, route, key) DO UPDATE
         SET request_hash = excluded.request_hash, created_at = now(), claimed_until = excluded.claimed_until,
             status = NULL, headers = NULL, body = NULL, import_id = NULL
         WHERE known.created_at < now() - interval '1 day'
            OR (known.status IS NULL AND known.claimed_until < now() AND known.request_hash = excluded.request_hash)
            OR (known.request_hash = excluded.request_hash AND EXISTS (
                    SELECT FROM imports WHERE id = known.import_id AND status IN ('interrupted', 'failed')))
         RETURNING claimed_until",
        key.token_id,
        key.route,
        key.key,
        &key.hash[..]
    )
    .fetch_optional(pool)
    .await?;
    if let Some(until) = claimed {
        return Ok(Claim::Ours(until));
    }
    let known = sqlx::query!(
        "SELECT request_hash, status, headers, body, import_id FROM idempotency_keys
         WHERE token_id = $1 AND route = $2 AND key = $3",
        key.token_id,
        key.route,
        key.key
    )
    .fetch_optional(pool)
    .await?;
    Ok(match known {
        Some(known) if known.request_hash != key.hash => Claim::Reused,
        Some(known) => match (known.status, known.headers, known.body) {
            (Some(status), Some(headers), Some(body)) => {
                Claim::Answered(KeptAnswer { status, headers, body, import_id: known.import_id })
            }
            _ => Claim::InProgress,
        },
        // Given up at this moment: whoever asks again finds it free.
        None => Claim::InProgress,
    })
}

/// Claims a key that another request was answered under, and comes to nothing; until when. `None` where somebody works under it.
///
/// # Errors
/// As any statement.
pub async fn reclaim_request_key(pool: &PgPool, key: &RequestKey) -> Result<Option<DateTime<Utc>>, Error> {
    let claimed = sqlx::query_scalar!(
        "UPDATE idempotency_keys
         SET request_hash = $4, created_at = now(), claimed_until = now() + interval '2 minutes',
             status = NULL, headers = NULL, body = NULL, import_id = NULL
         WHERE token_id = $1 AND route = $2 AND key = $3 AND status IS NOT NULL
         RETURNING claimed_until",
        key.token_id,
        key.route,
        key.key,
        &key.hash[..]
    )
    .fetch_optional(pool)
    .await?;
    Ok(claimed)
}

/// When a request with this key was first made, within the last day.
///
/// # Errors
/// As any statement.
pub async fn request_key_made_at(
    pool: &PgPool,
    token_id: i64,
    route: &str,
    key: &str,
) -> Result<Option<DateTime<Utc>>, Error> {
    let made_at = sqlx::query_scalar!(
        "SELECT created_at FROM idempotency_keys
         WHERE token_id = $1 AND route = $2 AND key = $3 AND created_at >= now() - interval '1 day'",
        token_id,
        route,
        key
    )
    .fetch_optional(pool)
    .await?;
    Ok(made_at)
}

/// Keeps the answer under a key that is still ours by this claim.
///
/// # Errors
/// As any statement.
pub async fn keep_answer(
    pool: &PgPool,
    key: &RequestKey,
    claimed_until: DateTime<Utc>,
    answer: &KeptAnswer,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE idempotency_keys SET status = $5, headers = $6, body = $7, import_id = $8
         WHERE token_id = $1 AND route = $2 AND key = $3 AND claimed_until = $4 AND status IS NULL",
        key.token_id,
        key.route,
        key.key,
        claimed_until,
        answer.status,
        answer.headers,
        answer.body,
        answer.import_id
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes a key that is still ours by this claim: what was asked for did not happen.
///
/// # Errors
/// As any statement.
pub async fn release_request_key(pool: &PgPool, key: &RequestKey, claimed_until: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM idempotency_keys
         WHERE token_id = $1 AND route = $2 AND key = $3 AND claimed_until = $4 AND status IS NULL",
        key.token_id,
        key.route,
        key.key,
        claimed_until
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes keys that are more than a day old; how many.
///
/// # Errors
/// As any statement.
pub async fn delete_old_request_keys(pool: &PgPool) -> Result<u64, Error> {
    let done =
        sqlx::query!("DELETE FROM idempotency_keys WHERE created_at < now() - interval '1 day'").execute(pool).await?;
    Ok(done.rows_affected())
}
