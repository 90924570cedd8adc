//! `orderstream token`.

use anyhow::Result;
use pipeline::store::{self, WorkerSettings};
use serde_json::json;

use super::orders::time;
use crate::{
    backends::Backends,
    cli::http::TokenCommand,
    config::Globals,
    exit::{Exit, Refusal},
    http, output,
};

/// Most characters in the name of a token.
const NAME_CHARS_MAX: usize = 100;

pub(super) async fn run(backends: &Backends, command: TokenCommand, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let pool = store.pool();
    match command {
        TokenCommand::Create { role, name } => {
            if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
                let message = format!("--name has 1 to {NAME_CHARS_MAX} characters, none of them a control character");
                return Err(Refusal::new(Exit::Usage, message).into());
            }
            let (token, hash) = http::new_token()?;
            let id = store::insert_token(&pool, &name, role, &hash).await?;
            if globals.json {
                output::json(&json!({ "id": id, "name": name, "role": role, "token": token }))?;
            } else {
                crate::output::note!("Token {id}, {role}, for {name}. It is shown this once:");
                output::text_line(&token)?;
            }
        }
        TokenCommand::List => {
            let tokens = store::tokens(&pool).await?;
            if globals.json {
                output::json(&json!({ "tokens": tokens }))?;
                return Ok(Exit::Done);
            }
            let when = |at: Option<chrono::DateTime<chrono::Utc>>| at.map_or_else(|| "-".to_owned(), time);
            let rows = tokens.into_iter().map(|token| {
                let (role, name) = (token.role.to_string(), output::inert(token.name.as_bytes(), false));
                let times = [time(token.created_at), when(token.last_used_at), when(token.revoked_at)];
                [vec![token.id.to_string(), role, name], times.to_vec()].concat()
            });
            output::table(&["ID", "ROLE", "NAME", "CREATED", "LAST USED", "REVOKED"], &[0], rows.collect())?;
        }
        TokenCommand::Revoke { id } => {
            if !store::revoke_token(&pool, id).await? {
                return Err(Refusal::new(Exit::NotFound, format!("there is no token {id}")).into());
            }
            if globals.json {
                output::json(&json!({ "revoked": id }))?;
            } else {
                output::text_line(&format!("Token {id} is good for nothing within seconds."))?;
            }
        }
    }
    Ok(Exit::Done)
}
