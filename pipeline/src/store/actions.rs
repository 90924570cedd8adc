//! What people did to the running pipeline.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};

use super::Error;
use crate::domain::{ActionOutcome, ActionVerb, ActionVia};

/// An action that is to be noted.
#[derive(Debug, Clone)]
pub struct NewAction {
    /// Who did it: 1 to 200 characters.
    pub actor: String,
    /// By which way.
    pub via: ActionVia,
    /// What was done.
    pub verb: ActionVerb,
    /// To what: 1 to 500 characters.
    pub target: String,
    /// Why, as far as it was said: up to 500 characters.
    pub why: String,
    /// How many stages, messages or letters it changed.
    pub affected: i64,
    /// How it ended.
    pub outcome: ActionOutcome,
    /// More about it: an object of up to 64 KiB.
    pub detail: Value,
}

/// An action as it was noted.
#[derive(Debug, Clone, Serialize)]
pub struct Action {
    /// Its number; later ones have higher numbers.
    pub id: i64,
    /// When it had ended.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub actor: String,
    /// By which way.
    pub via: ActionVia,
    /// What was done.
    pub verb: ActionVerb,
    /// To what.
    pub target: String,
    /// Why; empty where nobody said it.
    pub why: String,
    /// How many stages, messages or letters it changed.
    pub affected: i64,
    /// How it ended.
    pub outcome: ActionOutcome,
    /// More about it.
    pub detail: Value,
}

/// Which actions. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct ActionFilter {
    /// Only this was done.
    pub verb: Option<ActionVerb>,
    /// Only by this way.
    pub via: Option<ActionVia>,
    /// Only with this end.
    pub outcome: Option<ActionOutcome>,
    /// Only by whoever has exactly this name.
    pub actor: Option<String>,
    /// Only those below this number.
    pub before_id: Option<i64>,
}

/// Notes an action, in a transaction or by itself; its number.
///
/// # Errors
/// As any statement.
pub async fn insert_action(executor: impl PgExecutor<'_>, action: &NewAction) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        "INSERT INTO actions (actor, via, verb, target, why, affected, outcome, detail)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb) RETURNING id",
        action.actor,
        action.via.as_str(),
        action.verb.as_str(),
        action.target,
        action.why,
        action.affected,
        action.outcome.as_str(),
        action.detail.to_string()
    )
    .fetch_one(executor)
    .await?)
}

/// A page of actions, newest first.
///
/// # Errors
/// As any statement.
pub async fn list_actions(pool: &PgPool, filter: &ActionFilter, limit: i64) -> Result<Vec<Action>, Error> {
    read_actions(pool, None, filter, limit).await
}

/// The action of this number, if there is one.
///
/// # Errors
/// As any statement.
pub async fn find_action(pool: &PgPool, id: i64) -> Result<Option<Action>, Error> {
    Ok(read_actions(pool, Some(id), &ActionFilter::default(), 1).await?.pop())
}

async fn read_actions(pool: &PgPool, id: Option<i64>, filter: &ActionFilter, limit: i64) -> Result<Vec<Action>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, at, actor, via, verb, target, why, affected, outcome, detail::text AS "detail!"
           FROM actions
           WHERE ($1::bigint IS NULL OR id = $1)
             AND ($2::text IS NULL OR verb = $2)
             AND ($3::text IS NULL OR via = $3)
             AND ($4::text IS NULL OR outcome = $4)
             AND ($5::text IS NULL OR actor = $5)
             AND id < coalesce($6, 9223372036854775807)
           ORDER BY id DESC LIMIT $7"#,
        id,
        filter.verb.map(ActionVerb::as_str),
        filter.via.map(ActionVia::as_str),
        filter.outcome.map(ActionOutcome::as_str),
        filter.actor,
        filter.before_id,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let unreadable = |_| Error::Unreadable { what: "a detail of an action", value: row.detail.clone() };
            Ok(Action {
                id: row.id,
                at: row.at,
                via: row.via.parse()?,
                verb: row.verb.parse()?,
                outcome: row.outcome.parse()?,
                detail: serde_json::from_str(&row.detail).map_err(unreadable)?,
                actor: row.actor,
                target: row.target,
                why: row.why,
                affected: row.affected,
            })
        })
        .collect()
}
