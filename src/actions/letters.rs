//! Replaying and discarding dead letters.

use anyhow::Result;
use pipeline::{
    domain::{ActionOutcome, ActionVerb},
    shutdown::Shutdown,
    streams::Direction,
};
use serde_json::json;

use super::{Deed, Effect, Recorder};
use crate::{
    cli::dead::{DiscardArgs, ReplayArgs, Which, YesNo},
    commands::dead::{Desk, discard::discard_all, replay::replay_all, selection::Selection, tally::Tally},
    progress::Progress,
};

/// Letters that are named one by one in the log.
const NAMED_MAX: usize = 20;

/// Replays the letters that were chosen, up to the signal, the one that is named with another body if one is given. A dry
/// run is not noted.
///
/// # Errors
/// When a server cannot be reached, or the stage would refuse the body.
pub(crate) async fn replay(
    recorder: &Recorder,
    desk: &mut Desk,
    args: &ReplayArgs,
    body: Option<&[u8]>,
    stop: &Shutdown,
    progress: &mut Progress,
) -> Result<Tally> {
    let verb = if body.is_some() { ActionVerb::EditAndReplay } else { ActionVerb::Replay };
    let deed = Deed { verb, target: target(&args.which), why: args.why.as_deref().unwrap_or_default() };
    let work = async {
        let mut tally = replay_all(desk, args, body, stop, progress).await?;
        tally.why.clone_from(&args.why);
        Ok(tally)
    };
    noted(recorder, deed, args.dry_run, work).await
}

/// Discards the letters that were chosen, up to the signal. A dry run is not noted.
///
/// # Errors
/// When a server cannot be reached.
pub(crate) async fn discard(
    recorder: &Recorder,
    desk: &mut Desk,
    args: &DiscardArgs,
    stop: &Shutdown,
    progress: &mut Progress,
) -> Result<Tally> {
    let selection = Selection::new(desk, args.which.clone(), Direction::OldestFirst, args.after).await?;
    let deed =
        Deed { verb: ActionVerb::Discard, target: target(&args.which), why: args.why.as_deref().unwrap_or_default() };
    noted(recorder, deed, args.dry_run, discard_all(desk, args, selection, stop, progress)).await
}

async fn noted(
    recorder: &Recorder,
    deed: Deed<'_>,
    dry_run: bool,
    work: impl Future<Output = Result<Tally>>,
) -> Result<Tally> {
    if dry_run {
        return work.await;
    }
    let (mut tally, note) = recorder.act(deed, work, effect).await?;
    tally.note = Some(note);
    Ok(tally)
}

fn effect(tally: &Tally) -> Effect {
    let affected = tally.changed();
    let outcome = match () {
        () if tally.interrupted => ActionOutcome::Interrupted,
        () if affected == 0 && tally.refused() > 0 => ActionOutcome::Refused,
        () => ActionOutcome::Done,
    };
    let mut detail = json!({ "outcomes": tally.outcomes, "missing": tally.missing.len() });
    if let Some(refusal) = tally.refusal() {
        detail["refusal"] = json!(refusal);
    }
    Effect { affected, outcome, detail }
}

/// Which letters, in words.
pub(crate) fn target(which: &Which) -> String {
    let Which { ids, stage, reason, order, group, older_than, newer_than, replayed, up_to: _ } = which;
    let named = |ids: &[pipeline::streams::LetterId]| {
        ids.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let mut target = match ids.len() {
        0 if which.is_all() => "all letters".to_owned(),
        0 => "letters".to_owned(),
        1 => format!("letter {}", named(ids)),
        more if more <= NAMED_MAX => format!("{more} letters: {}", named(ids)),
        more => format!("{more} letters: {}, …", named(ids)),
    };
    let seconds = |span: &chrono::TimeDelta| format!("{} s", span.num_seconds());
    let conditions = [
        ("stage", stage.map(|stage| stage.to_string())),
        ("reason", reason.map(|reason| reason.as_str().to_owned())),
        ("order", order.clone()),
        ("group", group.clone()),
        ("older than", older_than.as_ref().map(seconds)),
        ("newer than", newer_than.as_ref().map(seconds)),
        ("replayed", replayed.map(|replayed| if replayed == YesNo::Yes { "yes" } else { "no" }.to_owned())),
    ];
    let mut joint = " with ";
    for (name, value) in conditions {
        if let Some(value) = value {
            target.push_str(joint);
            target.push_str(&format!("{name} {value}"));
            joint = ", ";
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use pipeline::message::DeadReason;

    use super::*;

    #[test]
    fn it_is_said_which_letters_are_meant() {
        let ids = vec!["5-0".parse().expect("an id"), "6-0".parse().expect("an id")];
        let table = [
            (Which::default(), "all letters"),
            (Which { ids: ids[..1].to_vec(), ..Which::default() }, "letter 5-0"),
            (Which { ids, ..Which::default() }, "2 letters: 5-0, 6-0"),
            (
                Which { reason: Some(DeadReason::Conflict), replayed: Some(YesNo::No), ..Which::default() },
                "letters with reason conflict, replayed no",
            ),
        ];
        for (which, text) in table {
            assert_eq!(target(&which), text);
        }
    }
}
