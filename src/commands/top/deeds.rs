//! What is done from the screen: by the same functions as on the command line, beside the loop that draws.

use std::time::Duration;

use anyhow::{Context, Result};
use pipeline::{
    domain::ActionVia,
    shutdown::Shutdown,
    store::{Store, WorkerSettings},
    topology::StageName,
};
use tokio::{task::JoinSet, time::timeout};

use super::view::Letter;
use crate::{
    actions::{self, Actor, Recorder},
    backends::Backends,
    cli::dead::{ListArgs, ReplayArgs, Which},
    commands::{
        dead::{self, Desk, tally::Tally},
        pause::Pauses,
    },
    exit::chain,
    output::{inert, thousands},
    progress::Progress,
};

/// How long a server may take for something small.
const PATIENCE: Duration = Duration::from_secs(10);

/// Letters that are listed, the newest.
const LETTERS_MAX: u32 = 500;

/// Letters that are replayed in a second, at most: as `dead replay` does.
const REPLAYS_PER_SECOND: u32 = 500;

/// Which letters, and how people call them.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) which: Which,
    pub(super) words: String,
}

/// Something to be done.
#[derive(Debug)]
pub(super) enum Deed {
    Pause {
        stage: StageName,
        why: String,
    },
    Resume {
        stage: StageName,
        why: String,
    },
    /// Read the newest letters.
    List,
    /// Find out how many a replay would be about.
    Count(Choice),
    Replay(Choice),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Report {
    /// It is done, or was not.
    Done { text: String, well: bool },
    /// The newest letters, or why there are none.
    Letters(Result<Vec<Letter>, String>),
    /// So many letters would be replayed; and what would happen to the others, in words.
    Counted { choice: Choice, count: u64, otherwise: String },
}

/// What is being done.
pub(super) struct Deeds {
    backends: Backends,
    running: JoinSet<Report>,
    stop: Shutdown,
}

impl Deeds {
    pub(super) fn new(backends: &Backends) -> Self {
        Self { backends: backends.clone(), running: JoinSet::new(), stop: Shutdown::default() }
    }

    /// Begins it; [`Self::next`] tells what came of it.
    pub(super) fn begin(&mut self, deed: Deed) {
        if self.stop.has_begun() {
            self.stop = Shutdown::default();
        }
        let (backends, stop) = (self.backends.clone(), self.stop.clone());
        self.running.spawn(async move { act(&backends, deed, &stop).await });
    }

    /// What came of something; waits for as long as nothing is being done.
    ///
    /// # Errors
    /// When the program has a bug.
    pub(super) async fn next(&mut self) -> Result<Report> {
        match self.running.join_next().await {
            Some(report) => report.context("a deed did not come to its end"),
            None => std::future::pending().await,
        }
    }

    /// Has what takes long end early.
    pub(super) fn stop(&self) {
        self.stop.begin();
    }

    /// Waits until all is done, and noted.
    pub(super) async fn end(mut self) {
        self.stop();
        let all = async { while self.running.join_next().await.is_some() {} };
        // What is cut off here is as safe as if the process had died.
        let _in_time = timeout(PATIENCE, all).await.is_ok();
    }
}

async fn act(backends: &Backends, deed: Deed, stop: &Shutdown) -> Report {
    let failed = |error: anyhow::Error| Report::Done { text: said(&error), well: false };
    match deed {
        Deed::Pause { stage, why } => soon(pause(backends, stage, &why)).await.unwrap_or_else(failed),
        Deed::Resume { stage, why } => soon(resume(backends, stage, &why)).await.unwrap_or_else(failed),
        Deed::List => Report::Letters(soon(list(backends)).await.map_err(|error| said(&error))),
        Deed::Count(choice) => match replay(backends, &choice, true, stop).await {
            Ok(tally) if tally.interrupted => Report::Done { text: "Stopped counting.".to_owned(), well: true },
            Ok(tally) => Report::Counted {
                // What dies from now on was not counted, and is not meant.
                choice: Choice { which: Which { up_to: tally.up_to, ..choice.which }, ..choice },
                count: tally.outcomes.get("replayed").copied().unwrap_or(0),
                otherwise: others(&tally),
            },
            Err(error) => failed(error),
        },
        Deed::Replay(choice) => match replay(backends, &choice, false, stop).await {
            Ok(tally) => {
                let not_recorded = tally.note.as_ref().and_then(|note| note.not_recorded.clone());
                done(told(&tally), !tally.interrupted, not_recorded)
            }
            Err(error) => failed(error),
        },
    }
}

/// An error for one line: it may quote what somebody wrote.
fn said(error: &anyhow::Error) -> String {
    format!("Failed: {}", inert(chain(error).as_bytes(), false))
}

async fn soon<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.with_context(|| format!("no answer within {} s", PATIENCE.as_secs()))?
}

/// Notes what is done here, under the name of whoever sits here.
fn recorder(store: &Store) -> Recorder {
    Recorder::new(store, Actor::of_this_process(ActionVia::Top))
}

async fn pause(backends: &Backends, stage: StageName, why: &str) -> Result<Report> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let (mut pauses, warning) = Pauses::open_quietly(backends, &store).await?;
    let note = actions::pause(&recorder(&store), &mut pauses, stage, None, why).await?;
    Ok(done(format!("Paused {stage}."), true, warning.or(note.not_recorded)))
}

async fn resume(backends: &Backends, stage: StageName, why: &str) -> Result<Report> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let (mut pauses, warning) = Pauses::open_quietly(backends, &store).await?;
    let (was_paused, note) = actions::resume(&recorder(&store), &mut pauses, stage, why).await?;
    let text = if was_paused { format!("Resumed {stage}.") } else { format!("{stage} was not paused.") };
    Ok(done(text, was_paused, warning.or(note.not_recorded)))
}

/// It is done, and what went wrong beside it.
fn done(text: String, well: bool, warning: Option<String>) -> Report {
    match warning {
        None => Report::Done { text, well },
        Some(warning) => Report::Done { text: format!("{text} {}", inert(warning.as_bytes(), false)), well: false },
    }
}

async fn list(backends: &Backends) -> Result<Vec<Letter>> {
    let mut desk = Desk::open(backends).await?;
    let args = ListArgs { which: Which::default(), limit: LETTERS_MAX, after: None };
    let page = dead::page(&mut desk, args).await?;
    let inert = |text: Option<String>| text.map(|text| inert(text.as_bytes(), false));
    let letters = page.letters.into_iter().map(|letter| Letter {
        id: letter.id,
        stage: inert(letter.stage),
        reason: inert(letter.reason),
        order: inert(letter.order_code),
        error: inert(letter.error),
        died_at: letter.died_at,
        replayed: letter.replayed.is_some(),
    });
    Ok(letters.collect())
}

async fn replay(backends: &Backends, choice: &Choice, dry_run: bool, stop: &Shutdown) -> Result<Tally> {
    let mut desk = Desk::open(backends).await?;
    let args = ReplayArgs {
        which: choice.which.clone(),
        all: false,
        dry_run,
        again: false,
        force: false,
        body: None,
        rate: REPLAYS_PER_SECOND,
        why: None,
        after: None,
    };
    let recorder = recorder(&desk.store);
    actions::replay(&recorder, &mut desk, &args, None, stop, &mut Progress::new(true)).await
}

/// What happens to letters that are not replayed, as the end of a sentence; empty without any.
fn others(tally: &Tally) -> String {
    let others: Vec<String> = tally
        .outcomes
        .iter()
        .filter(|(outcome, _)| **outcome != "replayed")
        .map(|(outcome, count)| match *outcome {
            "already" => format!("{} replayed before", thousands(*count)),
            "refused" => {
                let why = tally.refusal().map(|why| format!(": {why}")).unwrap_or_default();
                format!("{} left alone{why}", thousands(*count))
            }
            other => format!("{} {other}", thousands(*count)),
        })
        .chain((!tally.missing.is_empty()).then(|| format!("{} no longer there", tally.missing.len())))
        .collect();
    if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) }
}

/// What became of the letters.
fn told(tally: &Tally) -> String {
    let replayed = tally.outcomes.get("replayed").copied().unwrap_or(0);
    let letters = if replayed == 1 { "letter" } else { "letters" };
    let end = if tally.interrupted { ", then stopped: r goes on" } else { "" };
    format!("Replayed {} {letters}{}{end}.", thousands(replayed), others(tally))
}
