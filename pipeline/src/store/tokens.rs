//! Who may use the HTTP API.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::Error;
use crate::domain::ApiRole;

/// A token, without what opens anything.
#[derive(Debug, Clone, Serialize)]
pub struct ApiToken {
    /// Its number.
    pub id: i64,
    /// Who has it, for people.
    pub name: String,
    /// What it allows.
    pub role: ApiRole,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was used last, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Since when it is good for nothing.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Stores a token by its hash; its number.
///
/// # Errors
/// As any statement.
pub async fn insert_token(pool: &PgPool, name: &str, role: ApiRole, hash: &[u8; 32]) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO api_tokens (name, role, hash) VALUES ($1, $2, $3) RETURNING id",
        name,
        role.as_str(),
        &hash[..]
    )
    .fetch_one(pool)
    .await?)
}

/// Every token, oldest first.
///
/// # Errors
/// As any statement.
pub async fn tokens(pool: &PgPool) -> Result<Vec<ApiToken>, Error> {
    let rows = sqlx::query!(
        "SELECT id, name, role, created_at, last_used_at, revoked_at FROM api_tokens ORDER BY id LIMIT 10000"
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ApiToken {
                id: row.id,
                name: row.name,
                role: row.role.parse()?,
                created_at: row.created_at,
                last_used_at: row.last_used_at,
                revoked_at: row.revoked_at,
            })
        })
        .collect()
}

/// Makes a token good for nothing; whether there is one of this number. One that was revoked before keeps its time.
///
/// # Errors
/// As any statement.
pub async fn revoke_token(pool: &PgPool, id: i64) -> Result<bool, Error> {
    let done = sqlx::query!("UPDATE api_tokens SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1", id)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Whom a token lets in.
#[derive(Debug, Clone)]
pub struct UsedToken {
    /// Its number.
    pub id: i64,
    /// What it allows.
    pub role: ApiRole,
    /// Who has it, for people.
    pub name: String,
    /// That it is used has not been noted within the last minute.
    pub is_use_due: bool,
}

/// The token with this hash, unless it is revoked. Only reads: a server that takes no writes knows who may come in.
///
/// # Errors
/// As any statement.
pub async fn find_token(connection: &mut PgConnection, hash: [u8; 32]) -> Result<Option<UsedToken>, Error> {
    let row = sqlx::query!(
        r#"SELECT id, role, name,
                  last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS "is_use_due!"
           FROM api_tokens WHERE hash = $1 AND revoked_at IS NULL"#,
        &hash[..]
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok(UsedToken { id: row.id, role: row.role.parse()?, name: row.name, is_use_due: row.is_use_due }))
        .transpose()
}

/// Notes that a token was used, once a minute at most.
///
/// # Errors
/// As any statement.
pub async fn note_token_use(pool: &PgPool, id: i64) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE api_tokens SET last_used_at = now()
         WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')",
        id
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether any token was ever made, be it revoked since: from then on nobody is let in without one.
///
/// # Errors
/// As any statement.
pub async fn has_tokens(connection: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM api_tokens) AS "any!""#).fetch_one(connection).await?)
}
