//! `orderstream dead replay`.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use pipeline::{
    domain::ActionVia,
    message::BODY_BYTES_MAX,
    shutdown::Shutdown,
    store::{self, Store},
    streams::{DeadLetter, Direction, Replay, Replayed},
    topology::StageName,
};
use tokio::time::Instant;

use super::{
    Desk, demand_choice,
    prospect::prospect,
    selection::Selection,
    tally::{Ended, Tally},
};
use crate::{
    actions::{self, Actor, Recorder},
    cli::dead::ReplayArgs,
    commands::shutdown_on_signal,
    config::Globals,
    exit::{Exit, Refusal},
    output::{inert, thousands},
    progress::Progress,
};

pub(super) async fn run(desk: &mut Desk, args: ReplayArgs, globals: &Globals) -> Result<Exit> {
    demand_choice(&args.which, args.all, "replay")?;
    if args.body.is_some() && args.which.ids.len() != 1 {
        return Err(Refusal::new(Exit::Usage, "--body replays one letter: name its id, and no other").into());
    }
    let body = args.body.as_deref().map(read_body).transpose()?;
    let shutdown = shutdown_on_signal()?;
    let mut progress = Progress::new(globals.quiet);
    let recorder = Recorder::new(&desk.store, Actor::of_this_process(ActionVia::Cli));
    actions::replay(&recorder, desk, &args, body.as_deref(), &shutdown, &mut progress).await?.report(globals)
}

/// Replays the letters that were chosen, up to the signal.
///
/// # Errors
/// When a server cannot be reached, or the stage would refuse the body.
pub(crate) async fn replay_all(
    desk: &mut Desk,
    args: &ReplayArgs,
    body: Option<&[u8]>,
    shutdown: &Shutdown,
    progress: &mut Progress,
) -> Result<Tally> {
    let mut selection = Selection::new(desk, args.which.clone(), Direction::OldestFirst, args.after).await?;
    let mut tally = Tally::new(args.dry_run);
    tally.up_to = selection.up_to;
    progress.phase("replay", Some(selection.total));
    let (begun, mut replayed) = (Instant::now(), 0_u32);
    'pages: while let Some(page) = selection.next_page(desk).await? {
        // Looking for letters takes its time, too, where few of many match.
        if shutdown.has_begun() {
            tally.interrupted = true;
            break;
        }
        for letter in page {
            // The time at which so many letters may have gone, at this rate.
            let due = begun + Duration::from_secs_f64(f64::from(replayed) / f64::from(args.rate));
            let early = due.saturating_duration_since(Instant::now());
            // A sleep of nothing would still cost a tick of the clock.
            if shutdown.has_begun() || (!early.is_zero() && !shutdown.sleep(early).await) {
                tally.interrupted = true;
                break 'pages;
            }
            let ended = replay(desk, &letter, args, body).await?;
            if ended.outcome == "replayed" && !args.dry_run {
                replayed = replayed.saturating_add(1);
            }
            tally.after = selection.looked_to.map(|_| ended.id);
            tally.add(ended);
            progress.show(selection.seen, || format!("{} letters", thousands(tally.total())));
        }
        tally.after = selection.looked_to;
    }
    tally.after = tally.after.filter(|_| tally.interrupted);
    progress.end();
    tally.missing = std::mem::take(&mut selection.missing);
    Ok(tally)
}

async fn replay(desk: &mut Desk, letter: &DeadLetter, args: &ReplayArgs, body: Option<&[u8]>) -> Result<Ended> {
    let ended = |outcome, detail| Ok(Ended { id: letter.id, outcome, detail });
    let already = |became: &str| Some(format!("as {}; --again replays it once more", inert(became.as_bytes(), false)));
    let (stage, message) = match letter.replay(body) {
        Ok(replay) => replay,
        Err(refusal) => return ended("refused", Some(refusal.to_string())),
    };
    let replayed = letter.replayed.as_ref().filter(|_| !args.again);
    if let Some(mark) = replayed.filter(|_| body.is_none()) {
        return ended("already", already(&mark.became));
    }
    let prospect = prospect(&desk.store, letter, stage, &message).await?;
    let prospect = prospect.map_err(|why| inert(why.as_bytes(), false));
    // The orders that go on with this message: that of the letter, and that of another body.
    let mut orders: Vec<_> = letter.order_ref().into_iter().map(|order| order.order_id).collect();
    match prospect {
        Ok(order) => orders.extend(order.filter(|_| body.is_some()).map(|order| order.order_id)),
        Err(why) if body.is_some() => {
            return Err(Refusal::new(Exit::Usage, format!("stage {stage} would refuse this body, too: {why}")).into());
        }
        Err(why) if !args.force => {
            return ended("refused", Some(format!("{}; --force replays it all the same", again(stage, &why))));
        }
        Err(_) => {}
    }
    if let Some(mark) = replayed {
        return ended("already", already(&mark.became));
    }
    if args.dry_run {
        return ended("replayed", Some(format!("to {stage}")));
    }
    if !orders.is_empty() {
        // First: should the next step never happen, the orders are those of the reconciler again.
        store::unpark_orders(&mut *desk.store.pool().acquire().await?, &orders).await.map_err(anyhow::Error::from)?;
    }
    let replay = Replay { stage, message, again: args.again, edited: body.is_some() };
    match desk.redis.replay_dead_letter(&mut desk.connection, letter.id, &replay).await? {
        Replayed::As(id) => ended("replayed", Some(format!("to {stage} as {id}"))),
        Replayed::Already(mark) => ended("already", already(&mark.became)),
        Replayed::Gone => ended("gone", Some("somebody removed it meanwhile".to_owned())),
    }
}

/// What is said of a replay that must fail.
fn again(stage: StageName, why: &str) -> String {
    format!("{stage} would refuse it again: {why}")
}

/// Why a replay of the letter as it is must fail; `None` where it may succeed.
///
/// # Errors
/// When Postgres cannot be reached.
pub(crate) async fn hindrance(store: &Store, letter: &DeadLetter) -> Result<Option<String>> {
    let (stage, message) = match letter.replay(None) {
        Ok(replay) => replay,
        Err(refusal) => return Ok(Some(refusal.to_string())),
    };
    let prospect = prospect(store, letter, stage, &message).await?;
    Ok(prospect.err().map(|why| again(stage, &inert(why.as_bytes(), false))))
}

/// A body from a file; one byte more than a body may have says that it is too long.
fn read_body(path: &Path) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let most = BODY_BYTES_MAX as u64 + 1;
    let read = || -> io::Result<usize> {
        match path.as_os_str() == "-" {
            true => io::stdin().take(most).read_to_end(&mut body),
            false => File::open(path)?.take(most).read_to_end(&mut body),
        }
    };
    tokio::task::block_in_place(read).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(body)
}
