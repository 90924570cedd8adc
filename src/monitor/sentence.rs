//! How it stands, in words.

use super::snapshot::{Snapshot, StageState, StageView, State, Trend};
use crate::output::{inert, thousands};

/// Messages that a worker holds for longer than this are worth a sentence of their own.
const STUCK_SECONDS: f64 = 60.0;

/// Decides what is said, and how urgent all is in one word.
pub(super) fn tell(snapshot: &mut Snapshot) {
    let mut moving = servers(snapshot);
    let mut stages: Vec<&StageView> = snapshot.stages.iter().collect();
    stages.sort_by(|one, other| other.oldest_seconds.total_cmp(&one.oldest_seconds));
    moving.extend(stages.iter().filter_map(|stage| of_stage(stage)));
    if snapshot.seq > 0 && !snapshot.processes.iter().any(|process| process.is_live() && process.works()) {
        moving.push((State::Warning, "No workers are running.".to_owned()));
    }
    moving.extend(stages.iter().filter_map(|stage| Some((State::Warning, ageless(stage)?))));
    let lying = lying(snapshot);
    // That all keep up is said also where letters lie about: it is what people ask first.
    if moving.is_empty() {
        moving.push(all_is_well(snapshot));
    }
    let mut said: Vec<(State, String)> = moving.into_iter().chain(lying).collect();
    snapshot.state = said.iter().map(|(state, _)| *state).max().unwrap_or(State::Unknown);
    // Trouble first; within that, in the order above.
    said.sort_by_key(|(state, _)| *state != State::Trouble);
    let mut sentences = said.into_iter().map(|(_, text)| text);
    snapshot.sentence = sentences.next().unwrap_or_default();
    snapshot.remarks = sentences.collect();
}

/// Servers that do not answer.
fn servers(snapshot: &Snapshot) -> Vec<(State, String)> {
    let mut said = Vec::new();
    if let Some(refuses) = &snapshot.redis_refuses {
        let why = inert(refuses.error.as_bytes(), false);
        said.push(match snapshot.stale {
            None => format!("Redis refuses: {why}. Work waits for it, and loses nothing."),
            Some(_) => format!("Redis refuses: {why}. {}.", capitalised(&known_since(snapshot))),
        });
    } else if let Some(away) = &snapshot.stale {
        let text = format!("Redis does not answer: {}.", known_since(snapshot));
        said.extend([text, format!("Redis: {}", inert(away.error.as_bytes(), false))]);
    }
    if let Some(refuses) = &snapshot.postgres_refuses {
        said.push(format!(
            "Postgres refuses: {}. Workers wait for it, and lose nothing.",
            inert(refuses.error.as_bytes(), false)
        ));
    } else if let Some(away) = &snapshot.postgres_away {
        let text = "Postgres does not answer: workers wait for it, and lose nothing.".to_owned();
        said.extend([text, format!("Postgres: {}", inert(away.error.as_bytes(), false))]);
    }
    said.into_iter().map(|text| (State::Trouble, text)).collect()
}

/// How old what is shown is.
fn known_since(snapshot: &Snapshot) -> String {
    match snapshot.seq {
        0 => "nothing is known yet".to_owned(),
        _ => format!("these figures are from {} UTC", snapshot.at.format("%H:%M:%S")),
    }
}

/// What does not move until somebody decides.
fn lying(snapshot: &Snapshot) -> Vec<(State, String)> {
    let mut said = Vec::new();
    for stage in &snapshot.stages {
        if let Some(missing) = stage.missing.filter(|missing| *missing > 0) {
            let text = format!(
                "{} of {} were delivered to nobody: a worker of {} gives them out again, or counts them as lost.",
                messages(missing),
                stage.stream,
                stage.stage
            );
            said.push((State::Trouble, text));
        }
    }
    for setback in &snapshot.setbacks {
        let at = setback.finished_at.format("%H:%M:%S");
        said.push((State::Warning, format!("{at} UTC: {}.", inert(setback.detail.as_bytes(), false))));
    }
    if let Some(drift) = snapshot.drift.filter(|drift| *drift > 0) {
        let text = format!("Of {} the reserved pieces are not those of open orders.", count(drift, "product"));
        said.push((State::Trouble, text));
    }
    if snapshot.dead_letters.undecided > 0 {
        said.push((State::Warning, dead_letters(snapshot)));
    }
    if let Some(parked) = snapshot.parked_orders.filter(|parked| *parked > 0) {
        let wait = if parked == 1 { "waits" } else { "wait" };
        let text = format!("{} {wait} until their dead letters are replayed or discarded.", count(parked, "order"));
        said.push((State::Warning, text));
    }
    said
}

/// What is wrong with a stage; `None` when it keeps up.
fn of_stage(stage: &StageView) -> Option<(State, String)> {
    let name = capitalised(stage.stage.as_str());
    let age = span(stage.oldest_seconds);
    let waits = stage.lag.map(|lag| messages(lag + stage.pending));
    match stage.state {
        StageState::Paused => {
            let pause = stage.paused.as_ref()?;
            let why = match pause.why.as_str() {
                "" => String::new(),
                why => format!(" ({})", inert(why.as_bytes(), false)),
            };
            let rest = match waits {
                Some(_) if stage.lag == Some(0) && stage.pending == 0 => "nothing waits.".to_owned(),
                Some(waits) => format!("{waits} wait, the oldest for {age}{}.", going(stage)),
                None => format!("how much waits is unknown, the oldest for {age}."),
            };
            Some((State::Warning, format!("{name} is paused{why}: {rest}")))
        }
        StageState::NoWorker => {
            let waits = waits.unwrap_or_else(|| "an unknown number of messages".to_owned());
            let text = format!("No worker runs {}: {waits} wait, the oldest for {age}{}.", stage.stage, going(stage));
            Some((State::Trouble, text))
        }
        StageState::Unknown => {
            let why = stage.lag_unknown.as_deref().unwrap_or("Redis cannot tell");
            let text = format!("How much waits for {} is unknown ({why}); the oldest has waited {age}.", stage.stage);
            Some((State::Warning, text))
        }
        StageState::Behind if stage.lag == Some(0) && stage.oldest_pending_seconds < STUCK_SECONDS => None,
        StageState::Behind if stage.lag == Some(0) => {
            let text = format!("{name} has had {} in hand for {age}.", messages(stage.pending));
            Some((State::Warning, text))
        }
        StageState::Behind => {
            let waits = waits.unwrap_or_default();
            Some((State::Warning, format!("{name} is {age} behind ({waits}){}.", going(stage))))
        }
        StageState::KeepingUp | StageState::Idle => None,
    }
}

/// That ages of a stage are not known.
fn ageless(stage: &StageView) -> Option<String> {
    let why = stage.age_unknown.as_deref()?;
    let stream = stage.stream;
    Some(format!(
        "How long messages wait in {stream} is not known from their ids ({why}): it is counted since they were seen."
    ))
}

/// Where it is going: the end of a sentence.
fn going(stage: &StageView) -> String {
    match (stage.trend, stage.clears_in_seconds) {
        (Trend::Growing { per_second }, _) => format!(", growing by {} a second", rate(per_second)),
        (Trend::Shrinking { .. }, Some(seconds)) => format!(", shrinking: at this rate it clears in {}", span(seconds)),
        (Trend::Shrinking { .. }, None) => ", shrinking".to_owned(),
        (Trend::Steady, _) => ", neither growing nor shrinking".to_owned(),
        (Trend::Unknown, _) => String::new(),
    }
}

fn all_is_well(snapshot: &Snapshot) -> (State, String) {
    if snapshot.seq == 0 {
        return (State::Unknown, "Nobody has looked yet.".to_owned());
    }
    let stages = &snapshot.stages;
    let settled: f64 = stages.iter().filter(|stage| stage.stream == "paid").map(|stage| stage.rate_out).sum();
    let working = stages.iter().any(|stage| stage.state == StageState::KeepingUp);
    match working {
        true if settled >= 1.0 => (State::Busy, format!("All stages keep up: {} orders a second.", rate(settled))),
        true => (State::Busy, "All stages keep up.".to_owned()),
        false => (State::Calm, "All stages keep up, and nothing waits.".to_owned()),
    }
}

fn dead_letters(snapshot: &Snapshot) -> String {
    let letters = &snapshot.dead_letters;
    let count = count(letters.undecided, "dead letter");
    let wait = if letters.undecided == 1 { "waits" } else { "wait" };
    let most = letters.reasons.iter().max_by_key(|(_, count)| **count);
    let reasons = match (most, letters.reasons.len()) {
        (Some((reason, _)), 1) => format!(" ({reason})"),
        (Some((reason, _)), _) => format!(" (mostly {reason})"),
        (None, _) => String::new(),
    };
    format!("{count}{reasons} {wait} for somebody to decide.")
}

fn messages(number: u64) -> String {
    count(number, "message")
}

fn count(number: impl Into<i128>, noun: &str) -> String {
    let number = number.into();
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// A rate as people say it.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        #[expect(clippy::cast_possible_truncation, reason = "rates are far below 2^63")]
        rate => thousands(rate.round() as i64),
    }
}

/// Seconds as people say them: `4.2 s`, `42 s`, `3 min`, `5 h`, `3 d`.
pub fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.0005 => "0 s".to_owned(),
        s if s < 1.0 => format!("{:.0} ms", s * 1_000.0),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// With a capital letter in front.
pub(crate) fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use pipeline::{streams::Pause, topology::StageName};

    use super::*;
    use crate::monitor::snapshot::{Away, ProcessView};

    /// Everything runs, and payment is as `change` makes it.
    fn told(change: impl FnOnce(&mut StageView)) -> Snapshot {
        let mut snapshot = Snapshot::nothing_yet();
        snapshot.seq = 1;
        snapshot.processes = vec![ProcessView {
            id: "one".to_owned(),
            host: "here".to_owned(),
            pid: 1,
            version: "0".to_owned(),
            started_at: snapshot.at,
            http: None,
            roles: vec!["payment".to_owned()],
            silent_seconds: 0.2,
            draining: false,
            rate: 0.0,
            messages: 0,
        }];
        snapshot.stages = StageName::ALL.map(StageView::idle).into();
        change(&mut snapshot.stages[1]);
        tell(&mut snapshot);
        snapshot
    }

    fn behind(stage: &mut StageView) {
        stage.state = StageState::Behind;
        (stage.lag, stage.lag_seconds, stage.oldest_seconds) = (Some(38_210), 42.0, 42.0);
    }

    #[test]
    fn what_stands_still_is_calm() {
        let snapshot = told(|_| {});
        assert_eq!((snapshot.state, &*snapshot.sentence), (State::Calm, "All stages keep up, and nothing waits."));
    }

    #[test]
    fn who_is_behind_is_named_with_where_it_is_going() {
        let growing = told(|stage| {
            behind(stage);
            stage.trend = Trend::Growing { per_second: 950.4 };
        });
        assert_eq!(growing.sentence, "Payment is 42 s behind (38,210 messages), growing by 950 a second.");
        let shrinking = told(|stage| {
            behind(stage);
            stage.trend = Trend::Shrinking { per_second: 212.0 };
            stage.clears_in_seconds = Some(180.2);
        });
        assert_eq!(
            shrinking.sentence,
            "Payment is 42 s behind (38,210 messages), shrinking: at this rate it clears in 3 min."
        );
        assert_eq!(growing.state, State::Warning);
    }

    #[test]
    fn an_unknown_lag_is_said_to_be_unknown() {
        let snapshot = told(|stage| {
            behind(stage);
            stage.state = StageState::Unknown;
            (stage.lag, stage.lag_unknown) = (None, Some("entries were deleted".to_owned()));
        });
        let expected = "How much waits for payment is unknown (entries were deleted); the oldest has waited 42 s.";
        assert_eq!((snapshot.state, &*snapshot.sentence), (State::Warning, expected));
    }

    #[test]
    fn a_pause_is_said_with_its_reason_which_does_nothing_to_a_terminal() {
        let snapshot = told(|stage| {
            behind(stage);
            stage.state = StageState::Paused;
            let since = "2026-11-22T10:00:00Z".to_owned();
            stage.paused =
                Some(Pause { stage: StageName::Payment, why: "gate\x1b[2J".to_owned(), since, seconds_left: None });
        });
        let expected = "Payment is paused (gate\\u{1b}[2J): 38,210 messages wait, the oldest for 42 s, neither growing nor shrinking.";
        assert_eq!(snapshot.sentence, expected);
    }

    #[test]
    fn trouble_comes_before_what_can_wait() {
        let mut snapshot = told(|stage| {
            behind(stage);
            stage.state = StageState::NoWorker;
            stage.trend = Trend::Unknown;
        });
        (snapshot.dead_letters.count, snapshot.dead_letters.undecided) = (420, 412);
        snapshot.dead_letters.reasons.insert("conflict".to_owned(), 412);
        tell(&mut snapshot);
        assert_eq!(snapshot.sentence, "No worker runs payment: 38,210 messages wait, the oldest for 42 s.");
        assert_eq!(snapshot.remarks, ["412 dead letters (conflict) wait for somebody to decide."]);
        assert_eq!(snapshot.state, State::Trouble);
        snapshot.stale = Some(Away { since: snapshot.at, error: "refused".to_owned() });
        tell(&mut snapshot);
        assert!(
            snapshot.sentence.starts_with("Redis does not answer: these figures are from "),
            "{}",
            snapshot.sentence
        );
    }

    #[test]
    fn dead_letters_do_not_hide_that_all_keep_up() {
        let mut snapshot = told(|_| {});
        (snapshot.dead_letters.count, snapshot.dead_letters.undecided) = (5, 1);
        tell(&mut snapshot);
        assert_eq!(snapshot.sentence, "All stages keep up, and nothing waits.");
        assert_eq!(snapshot.remarks, ["1 dead letter waits for somebody to decide."]);
        assert_eq!(snapshot.state, State::Warning);
    }

    #[test]
    fn letters_that_were_replayed_warn_of_nothing() {
        let mut snapshot = told(|_| {});
        snapshot.dead_letters.count = 14;
        tell(&mut snapshot);
        assert_eq!((snapshot.state, snapshot.remarks.len()), (State::Calm, 0), "{:?}", snapshot.remarks);
    }

    #[test]
    fn spans_and_rates_are_short() {
        for (seconds, said) in
            [(0.0, "0 s"), (0.42, "420 ms"), (4.21, "4.2 s"), (42.4, "42 s"), (180.0, "3 min"), (18_000.0, "5 h")]
        {
            assert_eq!(span(seconds), said);
        }
        for (per_second, said) in [(0.0, "0"), (0.5, "0.5"), (9_834.4, "9,834")] {
            assert_eq!(rate(per_second), said);
        }
    }
}
