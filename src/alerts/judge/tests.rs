//! A table for each rule: what a look says of it.

use chrono::TimeDelta;
use pipeline::{
    message::EntryId,
    streams::{GroupState, Pause, StreamState},
};

use super::*;
use crate::monitor::Away;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000 + second)
}

/// Every stage runs and has nothing to do.
fn calm() -> Snapshot {
    let mut snapshot = Snapshot::nothing_yet();
    (snapshot.seq, snapshot.at) = (1, at(0));
    snapshot.stages = StageName::ALL.map(StageView::idle).into();
    (snapshot.drift, snapshot.relay.behind) = (Some(0), Some(0));
    snapshot.abandoned_imports = Some(AbandonedImports::default());
    snapshot
}

fn judged(rule: Rule, snapshot: &Snapshot, before: &RuleState) -> Reading {
    let (evidence, thresholds) = (Evidence::default(), Thresholds::default());
    Bench { snapshot, evidence: &evidence, thresholds: &thresholds, now: at(0) }.judge(rule, before)
}

/// What is said of payment when it is as `change` makes it.
fn of_payment(rule: Rule, change: impl FnOnce(&mut StageView)) -> Reading {
    let mut snapshot = calm();
    change(&mut snapshot.stages[1]);
    judged(rule, &snapshot, &RuleState::default())
}

fn behind(view: &mut StageView, seconds: f64) {
    (view.lag, view.lag_seconds, view.oldest_seconds, view.pending) = (Some(38_000), seconds, seconds, 210);
}

#[test]
fn nothing_is_bad_in_a_calm_installation_and_nothing_is_known_of_one_that_nobody_has_seen() {
    for rule in Rule::ALL.into_iter().filter(|rule| *rule != Rule::FailedRatio) {
        let reading = judged(rule, &calm(), &RuleState::default());
        assert_eq!(reading.level, Level::Good, "{rule}: {reading:?}");
        let unseen = judged(rule, &Snapshot::nothing_yet(), &RuleState::default());
        assert_eq!(unseen.level, Level::Unknown, "{rule}: {unseen:?}");
        assert!(!Thresholds::default().words(rule).is_empty());
    }
    assert_eq!(judged(Rule::FailedRatio, &calm(), &RuleState::default()).level, Level::Unknown);
}

#[test]
fn while_redis_is_away_only_that_is_known() {
    let mut snapshot = calm();
    behind(&mut snapshot.stages[1], 500.0);
    snapshot.stale = Some(Away { since: at(-7), error: "refused".to_owned() });
    for rule in Rule::ALL.into_iter().filter(|rule| *rule != Rule::ServerAway) {
        assert_eq!(judged(rule, &snapshot, &RuleState::default()).level, Level::Unknown, "{rule}");
    }
    let away = judged(Rule::ServerAway, &snapshot, &RuleState::default());
    assert_eq!((away.level, away.value), (Level::Bad, Some(7.0)));
    assert_eq!(away.message, "Redis does not answer for 7.0 s: workers wait, and lose nothing.");
    snapshot.postgres_away = Some(Away { since: at(-9), error: "refused".to_owned() });
    let both = judged(Rule::ServerAway, &snapshot, &RuleState::default());
    assert_eq!(both.message, "Redis and Postgres do not answer for 9.0 s: workers wait, and lose nothing.");
}

#[test]
fn a_lag_is_bad_above_its_threshold_and_good_below_half_of_it() {
    for (seconds, level) in
        [(0.0, Level::Good), (14.9, Level::Good), (15.0, Level::Between), (30.0, Level::Between), (30.1, Level::Bad)]
    {
        assert_eq!(of_payment(Rule::LagBehind, |view| behind(view, seconds)).level, level, "{seconds}");
    }
    let reading = of_payment(Rule::LagBehind, |view| behind(view, 42.0));
    assert_eq!((reading.stage, reading.value), (Some(StageName::Payment), Some(42.0)));
    assert_eq!(reading.message, "Payment is 42 s behind: 38,210 messages wait.");
    let unknown = of_payment(Rule::LagBehind, |view| (view.lag, view.lag_seconds) = (None, 42.0));
    assert_eq!(unknown.message, "Payment is 42 s behind: an unknown number of messages wait.");
}

#[test]
fn a_lag_that_grows_matters_when_messages_wait_and_nobody_means_it() {
    let growing = Trend::Growing { per_second: 120.0 };
    let with = |seconds, trend, paused: bool| {
        of_payment(Rule::LagGrowing, |view| {
            behind(view, seconds);
            view.trend = trend;
            view.paused = paused.then(|| pause("2026-11-22T10:00:00Z"));
        })
    };
    assert_eq!(with(11.0, growing, false).level, Level::Bad);
    assert_eq!(
        with(11.0, growing, false).message,
        "Payment falls behind by 120 messages a second: 38,210 messages wait, the oldest for 11 s."
    );
    assert_eq!(with(9.0, growing, false).level, Level::Good);
    assert_eq!(with(11.0, growing, true).level, Level::Good);
    assert_eq!(with(11.0, Trend::Steady, false).level, Level::Between);
    assert_eq!(with(11.0, Trend::Unknown, false).level, Level::Unknown);
    assert_eq!(with(11.0, Trend::Shrinking { per_second: 1.0 }, false).level, Level::Good);
}

#[test]
fn work_that_waits_needs_somebody_who_does_it() {
    let idle = |view: &mut StageView| behind(view, 3.0);
    assert_eq!(of_payment(Rule::NoProgress, idle).level, Level::Bad);
    let works = |view: &mut StageView| {
        behind(view, 3.0);
        view.rate_out = 0.1;
    };
    assert_eq!(of_payment(Rule::NoProgress, works).level, Level::Good);
    let alone = |view: &mut StageView| {
        behind(view, 3.0);
        (view.workers, view.state) = (0, StageState::NoWorker);
    };
    assert_eq!(of_payment(Rule::NoProgress, alone).level, Level::Good);
    let reading = of_payment(Rule::NoConsumer, alone);
    assert_eq!(reading.message, "No worker runs payment: 38,210 messages wait, the oldest for 3.0 s.");
    let mut snapshot = calm();
    idle(&mut snapshot.stages[1]);
    snapshot.postgres_away = Some(Away { since: at(0), error: String::new() });
    assert_eq!(judged(Rule::NoProgress, &snapshot, &RuleState::default()).level, Level::Unknown);
}

#[test]
fn a_stage_that_was_bad_stays_the_one_that_is_told_of_while_it_is() {
    let mut snapshot = calm();
    behind(&mut snapshot.stages[1], 3.0);
    behind(&mut snapshot.stages[2], 9.0);
    assert_eq!(judged(Rule::NoProgress, &snapshot, &RuleState::default()).stage, Some(StageName::Settlement));
    let before = RuleState { stage: Some("payment".to_owned()), ..RuleState::default() };
    assert_eq!(judged(Rule::NoProgress, &snapshot, &before).stage, Some(StageName::Payment));
}

fn pause(since: &str) -> Pause {
    Pause { stage: StageName::Payment, why: "gate\x1b[2J".to_owned(), since: since.to_owned(), seconds_left: None }
}

#[test]
fn a_pause_may_be_forgotten_after_half_an_hour() {
    let since = |seconds| (at(0) - TimeDelta::seconds(seconds)).to_rfc3339();
    let paused = |seconds| of_payment(Rule::StagePausedLong, |view| view.paused = Some(pause(&since(seconds))));
    assert_eq!(paused(1_800).level, Level::Good);
    assert_eq!(paused(3_600).message, "Payment has been paused for 60 min (gate\\u{1b}[2J).");
}

#[test]
fn counts_are_bad_from_their_threshold_on() {
    let thresholds = Thresholds { dead_letters: 10, drift: 3, ..Thresholds::default() };
    let evidence = Evidence::default();
    let mut snapshot = calm();
    let level = |snapshot: &Snapshot, rule| {
        let bench = Bench { snapshot, evidence: &evidence, thresholds: &thresholds, now: at(0) };
        bench.judge(rule, &RuleState::default()).level
    };
    for (count, expected) in [(9, Level::Good), (10, Level::Bad)] {
        // Those that were replayed warn of nothing.
        (snapshot.dead_letters.count, snapshot.dead_letters.undecided) = (count + 90, count);
        assert_eq!(level(&snapshot, Rule::DeadLetters), expected);
    }
    for (drift, expected) in [(Some(2), Level::Good), (Some(3), Level::Bad), (None, Level::Unknown)] {
        snapshot.drift = drift;
        assert_eq!(level(&snapshot, Rule::StockDrift), expected);
    }
    for (behind, expected) in [
        (Some(4_999), Level::Good),
        (Some(5_000), Level::Between),
        (Some(10_000), Level::Between),
        (Some(10_001), Level::Bad),
        (None, Level::Unknown),
    ] {
        snapshot.relay.behind = behind;
        assert_eq!(level(&snapshot, Rule::RelayBehind), expected);
    }
    // However few they are: nobody carries them.
    snapshot.relay.behind = Some(299);
    for (age, expected) in [(14.9, Level::Good), (15.0, Level::Between), (30.0, Level::Between), (30.1, Level::Bad)] {
        snapshot.relay.behind_seconds = Some(age);
        assert_eq!(level(&snapshot, Rule::RelayBehind), expected, "{age}");
    }
    let said = judged(Rule::RelayBehind, &snapshot, &RuleState::default()).message;
    assert_eq!(said, "KPIs and leaderboards are 299 events behind, the oldest for 30 s.");
}

#[test]
fn imports_that_lost_their_process_are_named() {
    let mut snapshot = calm();
    let mut said = |count, file: &str| {
        snapshot.abandoned_imports = Some(AbandonedImports { count, newest: 7, file: file.to_owned() });
        let reading = judged(Rule::ImportAbandoned, &snapshot, &RuleState::default());
        assert_eq!(reading.level, Level::Bad);
        reading.message
    };
    assert_eq!(said(1, "orders.csv"), "Import 7 (orders.csv) has lost its process: import the same file again.");
    assert!(said(1_200, "a\u{1b}[31m.csv").starts_with("1,200 imports have lost their process, last 7 (a"));
    assert!(!said(1, "a\u{1b}[31m.csv").contains('\u{1b}'));
}

/// Payment has so many orders ended, this second.
fn ended(second: i64, completed: i64, failed: i64) -> Snapshot {
    let mut snapshot = calm();
    snapshot.seq = u64::try_from(second).expect("a second") + 1;
    snapshot.at = at(second);
    (snapshot.today.completed, snapshot.today.failed) = (completed, failed);
    snapshot
}

#[test]
fn the_share_that_fails_is_that_of_the_last_five_minutes() {
    let thresholds = Thresholds::default();
    let mut evidence = Evidence::default();
    let mut look = |second: i64, completed, failed| {
        let snapshot = ended(second, completed, failed);
        evidence.add(&snapshot, at(second));
        let bench = Bench { snapshot: &snapshot, evidence: &evidence, thresholds: &thresholds, now: at(second) };
        bench.judge(Rule::FailedRatio, &RuleState::default())
    };
    // What ended before anybody looked does not count.
    assert_eq!(look(0, 0, 5_000).level, Level::Unknown);
    assert_eq!(look(1, 14, 5_005).level, Level::Unknown, "19 are too few");
    let bad = look(2, 14, 5_006);
    assert_eq!(bad.message, "30 % of the 20 orders of the last 5 minutes failed.");
    assert_eq!(bad.level, Level::Bad);
    assert_eq!(look(3, 30, 5_006).level, Level::Between);
    assert_eq!(look(4, 200, 5_006).level, Level::Good);
    // A board that is built anew is no news.
    assert_eq!(look(5, 0, 0).level, Level::Good);
    for second in 6..600 {
        look(second, 0, 0);
    }
    assert_eq!(look(600, 0, 0).level, Level::Good, "all of that is long ago");
    assert_eq!(look(601, 0, 40).message, "100 % of the 40 orders of the last 5 minutes failed.");
}

/// Payment has had this entry in hand for so long, this second.
fn holding(second: i64, id: u64, age: f64) -> Snapshot {
    let mut snapshot = ended(second, 0, 0);
    let view = &mut snapshot.stages[1];
    (view.pending, view.oldest_pending_seconds, view.oldest_seconds) = (1, age, age);
    let id = EntryId { ms: id, seq: 0 };
    view.partitions = vec![StreamState {
        key: String::new(),
        length: 1,
        exists: true,
        entries_added: 1,
        first_id: Some(id),
        last_id: Some(id),
        groups: vec![GroupState {
            name: "payment".to_owned(),
            lag: Some(0),
            lag_unknown: None,
            unread_age_ms: None,
            age_unknown: None,
            books: None,
            oldest_unread: None,
            oldest_pending: None,
            pending: 1,
            pending_age_ms: None,
            oldest_age_ms: None,
            low_water: Some(id),
            last_delivered: id,
            consumers: Vec::new(),
        }],
    }];
    snapshot
}

#[test]
fn an_old_message_is_stuck_only_if_it_does_not_move() {
    let thresholds = Thresholds::default();
    let mut evidence = Evidence::default();
    let mut look = |second: i64, id, age| {
        let snapshot = holding(second, id, age);
        evidence.add(&snapshot, at(second));
        let bench = Bench { snapshot: &snapshot, evidence: &evidence, thresholds: &thresholds, now: at(second) };
        bench.judge(Rule::StuckOrders, &RuleState::default()).level
    };
    assert_eq!(look(0, 1, 900.0), Level::Unknown, "whether it moves is not known yet");
    assert_eq!(look(59, 1, 959.0), Level::Unknown);
    assert_eq!(look(60, 1, 960.0), Level::Bad);
    // A backlog that is worked off is old, and moves.
    for second in 61..200 {
        assert_eq!(look(second, u64::try_from(second).expect("a second"), 900.0), Level::Good);
    }
    assert_eq!(look(259, 199, 959.0), Level::Bad);
    assert_eq!(look(260, 1_000, 200.0), Level::Good);
    assert_eq!(look(330, 1_000, 270.0), Level::Good, "it does not move, and is not old");
}

#[test]
fn a_server_that_refuses_is_told_with_its_reason_and_blamed_on_no_stage() {
    let mut snapshot = calm();
    behind(&mut snapshot.stages[1], 500.0);
    snapshot.redis_refuses = Some(Away { since: at(-7), error: "it is full (maxmemory)".to_owned() });
    let told = judged(Rule::ServerRefuses, &snapshot, &RuleState::default());
    assert_eq!((told.level, told.value), (Level::Bad, Some(7.0)));
    assert_eq!(told.message, "Redis refuses: it is full (maxmemory). Workers wait, and lose nothing.");
    assert_eq!(judged(Rule::NoProgress, &snapshot, &RuleState::default()).level, Level::Unknown);
    // A Postgres that takes no connections answers nobody, and says why.
    let too_many = Away { since: at(-9), error: "it has too many connections (max_connections)".to_owned() };
    (snapshot.postgres_away, snapshot.postgres_refuses) = (Some(too_many.clone()), Some(too_many));
    assert_eq!(judged(Rule::ServerAway, &snapshot, &RuleState::default()).level, Level::Good);
    let both = judged(Rule::ServerRefuses, &snapshot, &RuleState::default());
    assert_eq!(both.value, Some(9.0));
    assert!(both.message.contains("; Postgres refuses: it has too many connections"), "{}", both.message);
}

#[test]
fn what_went_back_and_what_was_delivered_to_nobody_is_told_while_it_is_news() {
    let setback = |cause: &str, detail: &str| pipeline::store::Reconciliation {
        finished_at: at(-60),
        ..pipeline::store::Reconciliation::now(cause, detail.to_owned())
    };
    let mut snapshot = calm();
    snapshot.setbacks = vec![setback("deliveries_lost", "incoming: 3"), setback("redis_went_back", "from 10 to 9")];
    let back = judged(Rule::ServerWentBack, &snapshot, &RuleState::default());
    assert_eq!((back.level, back.value), (Level::Bad, Some(60.0)));
    assert!(back.message.ends_with(" UTC: from 10 to 9."), "{}", back.message);
    let lost = judged(Rule::DeliveriesLost, &snapshot, &RuleState::default());
    assert!(lost.level == Level::Bad && lost.message.ends_with("incoming: 3."), "{}", lost.message);
    snapshot.stages[0].missing = Some(7);
    let lost = judged(Rule::DeliveriesLost, &snapshot, &RuleState::default());
    assert_eq!((lost.stage, lost.value), (Some(StageName::Reservation), Some(7.0)));
    snapshot.postgres_away = Some(Away { since: at(0), error: String::new() });
    assert_eq!(judged(Rule::ServerWentBack, &snapshot, &RuleState::default()).level, Level::Unknown);
}
