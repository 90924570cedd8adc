//! `orderstream notifications`: who was told of what, and who could not be.

use anyhow::Result;
use pipeline::store::{self, NotificationFilter, NotificationRow, WorkerSettings};
use serde::Serialize;

use super::orders::time;
use crate::{
    backends::Backends,
    cli::notify::{NotificationsArgs, NotificationsCommand, RetryArgs},
    config::Globals,
    exit::{Exit, Refusal},
    output::{self, cut, inert},
};

/// Most characters of an error in the table; `--json` has all.
const ERROR_CHARS_MAX: usize = 80;

pub(super) async fn run(backends: &Backends, args: &NotificationsArgs, globals: &Globals) -> Result<Exit> {
    match &args.what {
        Some(NotificationsCommand::Retry(retry)) => self::retry(backends, retry, globals).await,
        None => list(backends, args, globals).await,
    }
}

async fn list(backends: &Backends, args: &NotificationsArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let filter = NotificationFilter { order_code: args.order.clone(), status: args.status, before_id: args.after };
    let found = store::list_notifications(&store.pool(), &filter, i64::from(args.limit)).await?;
    let next = (found.len() == args.limit as usize).then(|| found.last().map(|row| row.id)).flatten();
    if globals.json {
        #[derive(Serialize)]
        struct Document<'a> {
            notifications: &'a [NotificationRow],
            /// Give it to --after for the next page; null on the last.
            next: Option<i64>,
        }
        output::json(&Document { notifications: &found, next })?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        crate::output::note!("no notifications match");
        return Ok(Exit::Done);
    }
    let rows = found.into_iter().map(|row| {
        let when = row.sent_at.or(row.next_at).map(time).unwrap_or_default();
        let error = cut(&inert(row.last_error.unwrap_or_default().as_bytes(), false), ERROR_CHARS_MAX);
        vec![
            row.id.to_string(),
            row.order_code,
            row.kind,
            row.channel,
            row.status,
            row.attempts.to_string(),
            when,
            error,
        ]
    });
    output::table(
        &["ID", "ORDER", "KIND", "CHANNEL", "STATUS", "REFUSED", "SENT OR DUE", "LAST ERROR"],
        &[0, 5],
        rows.collect(),
    )?;
    if let Some(next) = next {
        crate::output::note!("more: add --after {next}");
    }
    Ok(Exit::Done)
}

async fn retry(backends: &Backends, args: &RetryArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let ids = (!args.all_dead).then_some(&*args.ids);
    let requeued = store::requeue_dead_notifications(&store.pool(), ids).await?;
    if globals.json {
        #[derive(Serialize)]
        struct Document<'a> {
            requeued: &'a [i64],
        }
        output::json(&Document { requeued: &requeued })?;
    } else {
        output::text_line(&format!("{} to be tried again", requeued.len()))?;
    }
    let others: Vec<String> = args.ids.iter().filter(|id| !requeued.contains(id)).map(ToString::to_string).collect();
    match others.is_empty() {
        true => Ok(Exit::Done),
        false => Err(Refusal::new(Exit::NotFound, format!("not among the dead: {}", others.join(", "))).into()),
    }
}
