//! `orderstream dead`: what no stage could process, and what to do with it.

pub(crate) mod discard;
pub(crate) mod groups;
mod prospect;
pub(crate) mod replay;
pub(crate) mod selection;
pub(crate) mod show;
pub(crate) mod tally;
pub(crate) mod transfer;

use anyhow::Result;
use chrono::{DateTime, Utc};
use pipeline::{
    store::{Store, WorkerSettings},
    streams::{Connection, DeadLetter, Direction, LetterId, Redis, ReplayMark},
};
use serde::Serialize;

use self::selection::Selection;
use super::orders::time;
use crate::{
    backends::Backends,
    cli::dead::{DeadCommand, ListArgs},
    config::Globals,
    exit::{Exit, Refusal},
    output::{self, cut, inert},
};

/// Characters of an error, or of an order's code, in a list.
const SHOWN_CHARS: usize = 60;

/// What the commands work with.
pub(crate) struct Desk {
    pub(crate) store: Store,
    redis: Redis,
    connection: Connection,
    partitions: u16,
}

impl Desk {
    pub(crate) async fn open(backends: &Backends) -> Result<Self> {
        // As a worker: what is discarded may end an order, and waits for locks as workers do.
        let store = backends.store(WorkerSettings::Worker, 1)?;
        let partitions = store.partitions().await?;
        let redis = backends.redis()?;
        let connection = redis.connect().await?;
        Ok(Self { store, redis, connection, partitions })
    }

    /// Over connections that are there.
    pub(crate) fn over(store: &Store, redis: &Redis, connection: Connection, partitions: u16) -> Self {
        Self { store: store.clone(), redis: redis.clone(), connection, partitions }
    }
}

pub(super) async fn run(backends: &Backends, command: DeadCommand, globals: &Globals) -> Result<Exit> {
    let mut desk = Desk::open(backends).await?;
    match command {
        DeadCommand::List(args) => list(&mut desk, args, globals).await,
        DeadCommand::Groups(args) => groups::run(&mut desk, args, globals).await,
        DeadCommand::Show { id } => show::run(&mut desk, id, globals).await,
        DeadCommand::Replay(args) => replay::run(&mut desk, args, globals).await,
        DeadCommand::Discard(args) => discard::run(&mut desk, args, globals).await,
        DeadCommand::Export(args) => transfer::export(&mut desk, args, globals).await,
        DeadCommand::Import(args) => transfer::import(&mut desk, &args, globals).await,
    }
}

/// A letter without its fields.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) id: LetterId,
    /// Null in an entry that no worker wrote.
    pub(crate) reason: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) stage: Option<String>,
    /// Its group, as `dead groups` names it.
    pub(crate) group: String,
    /// Null where the body has none that can be read.
    pub(crate) order_code: Option<String>,
    pub(crate) source_stream: Option<String>,
    pub(crate) source_id: Option<String>,
    pub(crate) deliveries: Option<u64>,
    pub(crate) first_at: Option<String>,
    pub(crate) died_at: Option<DateTime<Utc>>,
    pub(crate) fields_cut: Option<String>,
    /// How often the message had been replayed when it died.
    pub(crate) replays: u64,
    /// The letter that it was before.
    pub(crate) replayed_from: Option<LetterId>,
    /// Null unless this letter was replayed.
    pub(crate) replayed: Option<ReplayMark>,
}

impl Summary {
    pub(crate) fn of(letter: &DeadLetter) -> Self {
        let our = |name| letter.our(name).map(str::to_owned);
        Self {
            id: letter.id,
            reason: our("reason"),
            error: our("error"),
            stage: our("stage"),
            group: groups::group_of(letter),
            order_code: letter.order_code(),
            source_stream: our("source_stream"),
            source_id: our("source_id"),
            deliveries: letter.deliveries(),
            first_at: our("first_at"),
            died_at: letter.died_at(),
            fields_cut: our("fields_cut"),
            replays: letter.replays(),
            replayed_from: letter.replayed_from(),
            replayed: letter.replayed.clone(),
        }
    }
}

/// A page of letters.
#[derive(Serialize)]
pub(crate) struct Page {
    pub(crate) letters: Vec<Summary>,
    /// Give it to --after for the next page; null on the last.
    pub(crate) next: Option<LetterId>,
    /// Ids that are no letters.
    missing: Vec<LetterId>,
}

/// Reads a page of letters.
pub(crate) async fn page(desk: &mut Desk, args: ListArgs) -> Result<Page> {
    let limit = args.limit as usize;
    let mut selection = Selection::new(desk, args.which, Direction::NewestFirst, args.after).await?;
    let mut letters = Vec::new();
    while letters.len() < limit
        && let Some(page) = selection.next_page(desk).await?
    {
        letters.extend(page.iter().take(limit - letters.len()).map(Summary::of));
    }
    let next = (letters.len() == limit).then(|| letters.last().map(|letter| letter.id)).flatten();
    Ok(Page { letters, next, missing: selection.missing })
}

async fn list(desk: &mut Desk, args: ListArgs, globals: &Globals) -> Result<Exit> {
    let page = page(desk, args).await?;
    let exit = if page.missing.is_empty() { Exit::Done } else { Exit::NotFound };
    if globals.json {
        output::json(&page)?;
        return Ok(exit);
    }
    let Page { letters, next, missing } = page;
    for id in missing {
        crate::output::note!("error: there is no dead letter {id}");
    }
    if letters.is_empty() {
        crate::output::note!("no dead letters match");
        return Ok(exit);
    }
    let short = |text: Option<String>| text.map_or_else(|| "-".to_owned(), |text| shown(&text));
    let rows = letters
        .into_iter()
        .map(|letter| {
            vec![
                letter.id.to_string(),
                short(letter.reason),
                short(letter.stage),
                short(letter.order_code),
                letter.died_at.map_or_else(|| "-".to_owned(), time),
                letter.replays.to_string(),
                match letter.replayed {
                    None => "-".to_owned(),
                    Some(mark) if mark.became.is_empty() => "?".to_owned(),
                    Some(mark) => shown(&mark.became),
                },
                short(letter.error),
            ]
        })
        .collect();
    let header = ["ID", "REASON", "STAGE", "ORDER", "DIED", "CAME BACK", "REPLAYED AS", "ERROR"];
    output::table(&header, &[5], rows)?;
    if let Some(next) = next {
        crate::output::note!("more: add --after {next}");
    }
    Ok(exit)
}

/// Text from anybody, in a table.
fn shown(text: &str) -> String {
    cut(&inert(text.as_bytes(), false), SHOWN_CHARS)
}

/// Replay and discard act on nothing by accident.
fn demand_choice(which: &crate::cli::dead::Which, all: bool, verb: &str) -> Result<()> {
    if !all && which.is_all() {
        let message = format!(
            "say which letters to {verb}: name their ids, narrow them down (--reason, --stage, --order, --group, \
             --older-than, --newer-than, --replayed), or mean every one with --all; --dry-run shows what would be done"
        );
        return Err(Refusal::new(Exit::Usage, message).into());
    }
    Ok(())
}
