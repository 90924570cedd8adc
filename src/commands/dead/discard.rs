//! `orderstream dead discard`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::Result;
use pipeline::{
    domain::ActionVia,
    message::OrderRef,
    shutdown::Shutdown,
    store::{self, Abandonment},
    streams::{DeadLetter, Direction},
};

use super::{
    Desk, demand_choice,
    selection::Selection,
    tally::{Ended, Tally},
};
use crate::{
    actions::{self, Actor, Recorder},
    cli::dead::DiscardArgs,
    commands::shutdown_on_signal,
    config::Globals,
    exit::{Exit, Refusal},
    output::{inert, thousands},
    progress::Progress,
};

pub(super) async fn run(desk: &mut Desk, mut args: DiscardArgs, globals: &Globals) -> Result<Exit> {
    demand_choice(&args.which, args.all, "discard")?;
    if !args.dry_run && !args.yes {
        let mut matching = 0;
        let mut ahead = Selection::new(desk, args.which.clone(), Direction::OldestFirst, None).await?;
        // What is asked about is what goes: not what dies while somebody thinks about the answer.
        args.which.up_to = ahead.up_to;
        while let Some(page) = ahead.next_page(desk).await? {
            matching += page.len() as u64;
        }
        if matching > 1 {
            confirm(matching)?;
        }
    }
    let shutdown = shutdown_on_signal()?;
    let mut progress = Progress::new(globals.quiet);
    let recorder = Recorder::new(&desk.store, Actor::of_this_process(ActionVia::Cli));
    actions::discard(&recorder, desk, &args, &shutdown, &mut progress).await?.report(globals)
}

/// Discards the letters that were chosen, up to the signal.
///
/// # Errors
/// When a server cannot be reached.
pub(crate) async fn discard_all(
    desk: &mut Desk,
    args: &DiscardArgs,
    mut selection: Selection,
    shutdown: &Shutdown,
    progress: &mut Progress,
) -> Result<Tally> {
    let mut tally = Tally::new(args.dry_run);
    tally.why.clone_from(&args.why);
    tally.up_to = selection.up_to;
    progress.phase("discard", Some(selection.total));
    'pages: while let Some(page) = selection.next_page(desk).await? {
        // Looking for letters takes its time, too, where few of many match.
        if shutdown.has_begun() {
            tally.interrupted = true;
            break;
        }
        for letter in page {
            if shutdown.has_begun() {
                tally.interrupted = true;
                break 'pages;
            }
            let ended = discard(desk, &letter, args.dry_run).await?;
            let why = args.why.as_deref().unwrap_or_default();
            tracing::info!(letter = %ended.id, outcome = ended.outcome, why, "dead letter");
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

fn confirm(letters: u64) -> Result<()> {
    let letters = thousands(letters);
    if !io::stdin().is_terminal() {
        let message = format!("this would discard {letters} letters for good: add --yes to mean it, --dry-run to look");
        return Err(Refusal::new(Exit::Usage, message).into());
    }
    crate::output::ask(&format!("Discard {letters} letters for good? [y/N] "));
    let mut answer = String::new();
    tokio::task::block_in_place(|| io::stdin().lock().read_line(&mut answer))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Refusal::new(Exit::Interrupted, "nothing was discarded").into()),
    }
}

async fn discard(desk: &mut Desk, letter: &DeadLetter, dry_run: bool) -> Result<Ended> {
    let ended = |outcome, detail| Ok(Ended { id: letter.id, outcome, detail });
    // The order of a letter that was replayed is in the hands of that message, or of the letter that it became.
    let order = letter.order_ref().filter(|_| letter.replayed.is_none());
    let abandonment = match &order {
        None => Abandonment::NotParked,
        Some(order) if dry_run => {
            let mut connection = desk.store.pool().acquire().await?;
            store::foresee_abandonment(&mut connection, order.order_id, &order.order_code).await?
        }
        Some(order) => abandon(desk, order).await?,
    };
    let code = order.map(|order| inert(order.order_code.as_bytes(), false)).unwrap_or_default();
    if abandonment == Abandonment::Paid {
        let detail = format!("order {code} is paid and must go on: orderstream dead replay {}", letter.id);
        return ended("refused", Some(detail));
    }
    if !dry_run && !desk.redis.discard_dead_letter(&mut desk.connection, letter.id).await? {
        return ended("gone", Some("somebody removed it meanwhile".to_owned()));
    }
    match abandonment {
        Abandonment::Abandoned => ended("abandoned", Some(format!("discarded; order {code} fails as abandoned"))),
        Abandonment::NotParked | Abandonment::Paid => ended("discarded", None),
    }
}

async fn abandon(desk: &Desk, order: &OrderRef) -> Result<Abandonment> {
    let mut transaction = desk.store.begin().await?;
    let abandonment = store::abandon_parked_order(&mut transaction, order.order_id, &order.order_code).await?;
    transaction.commit().await.map_err(store::Error::from)?;
    Ok(abandonment)
}
