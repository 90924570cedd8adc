//! The screen in states that are hard to bring about, or to catch.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use pipeline::topology::StageName;
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    style::{Color, Modifier},
};

use super::screen;
use crate::{
    alerts::Severity,
    cli::dead::Which,
    commands::top::{
        deeds::{Choice, Deed, Report},
        palette::Palette,
        view::{Page, Place, View, Wish},
    },
    monitor::{AlertView, Away, ProcessView, Snapshot, StageState, StageView, State, Trend},
};

fn stage(stage: StageName) -> StageView {
    StageView { spark: vec![Some(0); 60], ..StageView::idle(stage) }
}

fn at() -> DateTime<Utc> {
    "2026-11-22T10:00:05Z".parse().expect("an instant")
}

/// Payment is behind, settlement unknown.
fn busy(seq: u64) -> Snapshot {
    let mut snapshot = Snapshot { seq, at: at(), state: State::Warning, ..Snapshot::nothing_yet() };
    snapshot.sentence = "Payment is 42 s behind (38,210 messages), growing by 950 a second.".to_owned();
    snapshot.remarks = vec!["How much waits for settlement is unknown (entries were deleted).".to_owned()];
    snapshot.stages = StageName::ALL.map(stage).into();
    let payment = &mut snapshot.stages[1];
    (payment.lag, payment.lag_seconds, payment.state) = (Some(38_210), 42.0, StageState::Behind);
    payment.trend = Trend::Growing { per_second: 950.4 };
    payment.spark = (0..60).map(|at| Some(at * 600)).collect();
    let settlement = &mut snapshot.stages[2];
    (settlement.lag, settlement.state, settlement.trend) = (None, StageState::Unknown, Trend::Unknown);
    settlement.spark = vec![None; 60];
    snapshot.today.completed = 1_200;
    snapshot.today.failed = 34;
    snapshot.today.failed_by.insert("out_of_stock".to_owned(), 34);
    snapshot.processes = vec![ProcessView {
        id: "one".to_owned(),
        host: "here\x1b[2J".to_owned(),
        pid: 1,
        version: "0".to_owned(),
        started_at: at(),
        http: None,
        roles: vec!["payment".to_owned()],
        silent_seconds: 0.2,
        draining: false,
        rate: 0.0,
        messages: 0,
    }];
    snapshot
}

fn view(snapshot: Snapshot) -> View {
    let place = Place { environment: Some("staging".to_owned()), namespace: "shop".to_owned() };
    let mut view = View::new(place, Palette::plain());
    view.receive(Arc::new(snapshot), Instant::now());
    view
}

fn press(view: &mut View, code: KeyCode) -> Option<Wish> {
    view.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn drawn(view: &View, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| screen(frame, view)).expect("a picture");
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
    buffer.content.chunks(width).map(line).collect()
}

fn text(view: &View, width: u16, height: u16) -> String {
    lines(&drawn(view, width, height)).join("\n")
}

#[test]
fn lag_and_seconds_of_every_stage_are_there_in_large_and_in_small() {
    let view = view(busy(1));
    for (width, height) in [(140, 40), (80, 24), (60, 15), (40, 10)] {
        let lines = lines(&drawn(&view, width, height));
        let text = lines.join("\n");
        assert!((width == 40 || lines[0].starts_with("orderstream")) && lines[0].ends_with("! warning"), "{text}");
        assert!(lines[1].starts_with("Payment is 42 s behind"), "{text}");
        let row = |name: &str| lines.iter().find(|line| line.get(2..).is_some_and(|line| line.starts_with(name)));
        for stage in if height > 10 { &StageName::ALL[..] } else { &StageName::ALL[..3] } {
            assert!(
                row(stage.as_str()).is_some() || lines.iter().any(|line| line.contains(&format!("▸ {stage}"))),
                "{text}"
            );
        }
        let payment = row("payment").expect("a row").split_whitespace().collect::<Vec<_>>();
        assert!(payment.contains(&"38,210") && payment.contains(&"42"), "{text}");
        let settlement = row("settlement").expect("a row");
        assert!(settlement.contains(" unknown "), "{text}");
        assert!(lines.last().is_some_and(|line| line.contains("q quit")), "{text}");
    }
    let large = text(&view, 140, 40);
    for part in
        ["RETRIES/min", "▲ 950/s", "▂▂▂▃", "····", "1,234 orders", "out_of_stock 34", "staging/shop", "Relay", "here"]
    {
        assert!(large.contains(part), "{part} in\n{large}");
    }
    assert!(!large.contains('\x1b'), "what others wrote does nothing to the terminal");
}

#[test]
fn old_figures_are_dimmed_under_a_banner_that_tells_their_age() {
    let mut view = view(busy(1));
    let mut stale = busy(1);
    stale.stale = Some(Away { since: at(), error: "connection refused".to_owned() });
    // The same look, half a minute later.
    let later = Instant::now() + Duration::from_secs(30);
    view.receive(Arc::new(stale), later);
    view.grow_older(later);
    let buffer = drawn(&view, 80, 24);
    let lines = lines(&buffer);
    assert!(
        lines[1].starts_with("✖ STALE: Redis does not answer, these figures are 30 s old (connection"),
        "{lines:#?}"
    );
    assert!(lines[0].contains("30 s old"), "{}", lines[0]);
    for (at, cell) in buffer.content.iter().enumerate() {
        let line = at / 80;
        let is_dim = cell.modifier.contains(Modifier::DIM);
        assert_eq!(is_dim, line != 1 && line < 22, "line {line}: {cell:?}");
    }
}

#[test]
fn figures_are_old_when_the_looks_do_not_come_to_an_end() {
    let mut view = view(busy(1));
    view.grow_older(Instant::now() + Duration::from_secs(20));
    assert!(text(&view, 80, 24).contains("✖ STALE: no news, these figures are"));
}

#[test]
fn before_the_first_look_there_are_no_figures() {
    let text = text(&view(Snapshot::nothing_yet()), 80, 24);
    assert!(text.contains("no figures yet") && text.contains("Nobody has looked yet."), "{text}");
    assert!(!text.contains("0 orders") && !text.contains("reservation"), "{text}");
}

#[test]
fn without_colours_states_are_words() {
    let mut snapshot = busy(1);
    snapshot.state = State::Trouble;
    snapshot.alerts = vec![AlertView {
        rule: "lag_behind".to_owned(),
        severity: Severity::Critical,
        state: "firing".to_owned(),
        since: Some(at()),
        changed_at: Some(at()),
        value: Some(42.0),
        stage: Some("payment".to_owned()),
        message: "payment".to_owned(),
        threshold: String::new(),
        limit: None,
        runbook: String::new(),
        unsent: Vec::new(),
    }];
    let buffer = drawn(&view(snapshot), 140, 40);
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let text = lines(&buffer).join("\n");
    assert!(
        text.contains("✖ trouble") && text.contains("✖ critical: lag_behind since 10:00:05 UTC: payment"),
        "{text}"
    );
}

#[test]
fn a_frozen_picture_stays_and_says_so() {
    let mut view = view(busy(1));
    press(&mut view, KeyCode::Char(' '));
    let mut next = busy(2);
    next.stages[1].lag = Some(99_999);
    let later = Instant::now() + Duration::from_secs(2);
    view.receive(Arc::new(next), later);
    view.grow_older(later);
    let frozen = text(&view, 80, 24);
    assert!(frozen.contains("FROZEN: these figures are") && frozen.contains("38,210"), "{frozen}");
    press(&mut view, KeyCode::Char(' '));
    assert!(text(&view, 80, 24).contains("99,999"));
}

#[test]
fn a_slower_rate_skips_looks_but_not_the_loss_of_a_server() {
    let mut view = view(busy(1));
    press(&mut view, KeyCode::Char('5'));
    let start = Instant::now();
    let seen_after = |view: &mut View, seconds: u64, snapshot: Snapshot| {
        view.receive(Arc::new(snapshot), start + Duration::from_secs(seconds));
        view.shown.seq
    };
    assert_eq!(seen_after(&mut view, 2, busy(2)), 1);
    assert_eq!(seen_after(&mut view, 5, busy(3)), 3);
    let mut stale = busy(3);
    stale.stale = Some(Away { since: at(), error: String::new() });
    seen_after(&mut view, 6, stale);
    assert!(view.shown.stale.is_some());
}

#[test]
fn a_reason_is_asked_for_and_escape_changes_nothing() {
    let mut view = view(busy(1));
    press(&mut view, KeyCode::Down);
    press(&mut view, KeyCode::Char('p'));
    assert!(text(&view, 80, 24).contains("Why pause payment?"));
    assert!(press(&mut view, KeyCode::Char('q')).is_none(), "a letter of the reason");
    assert!(text(&view, 80, 24).contains("Why pause payment? q"));
    assert!(press(&mut view, KeyCode::Esc).is_none());
    assert!(view.prompt.is_none() && view.busy.is_none());
    press(&mut view, KeyCode::Char('p'));
    press(&mut view, KeyCode::Char('x'));
    let wish = press(&mut view, KeyCode::Enter);
    assert!(format!("{wish:?}").contains("Pause { stage: Payment, why: \"x\" }"), "{wish:?}");
    press(&mut view, KeyCode::Char('p'));
    assert!(text(&view, 80, 24).contains("Wait: pausing payment"), "one thing after the other");
}

#[test]
fn a_filter_leaves_what_contains_it() {
    let mut view = view(busy(1));
    press(&mut view, KeyCode::Char('/'));
    for character in "unknown".chars() {
        press(&mut view, KeyCode::Char(character));
    }
    press(&mut view, KeyCode::Enter);
    assert_eq!(view.stages().len(), 1);
    assert_eq!(view.selected_stage().map(|stage| stage.stage), Some(StageName::Settlement));
    press(&mut view, KeyCode::Esc);
    assert_eq!(view.stages().len(), 5);
}

#[test]
fn who_writes_something_else_does_not_say_yes_by_it() {
    let counted = || {
        let choice = Choice { which: Which::default(), words: "payment, conflict".to_owned() };
        Report::Counted { choice, count: 12, otherwise: String::new() }
    };
    let mut view = view(busy(1));
    press(&mut view, KeyCode::Char('d'));
    press(&mut view, KeyCode::Char('/'));
    view.learn(counted());
    assert!(press(&mut view, KeyCode::Char('y')).is_none());
    assert_eq!(view.filter, "y");
    press(&mut view, KeyCode::Esc);
    view.learn(counted());
    assert!(text(&view, 80, 24).contains("Replay 12 letters, payment, conflict? "), "{}", text(&view, 80, 24));
    assert!(press(&mut view, KeyCode::Enter).is_none(), "only y is yes");
    assert!(matches!(press(&mut view, KeyCode::Char('y')), Some(Wish::Do(Deed::Replay(_)))));
}

#[test]
fn nothing_that_is_shown_acts_on_the_terminal() {
    let place =
        Place { environment: Some("\u{1b}[2J\u{202e}".to_owned()), namespace: "s\u{202e}h\u{200b}op".to_owned() };
    let mut view = View::new(place, Palette::plain());
    view.receive(Arc::new(busy(1)), Instant::now());
    for (width, height) in [(140, 40), (60, 15)] {
        let lines = lines(&drawn(&view, width, height));
        assert!(!lines.iter().any(|line| line.chars().any(crate::output::acts)), "{lines:?}");
    }
}

/// Numbers with separators, as they stand in lines.
fn numbers(lines: &[String]) -> BTreeSet<String> {
    let words =
        lines.iter().flat_map(|line| line.split(|letter: char| !letter.is_ascii_digit() && !",.".contains(letter)));
    let words = words.map(|word| word.trim_matches([',', '.'])).filter(|word| word.contains(','));
    words.map(str::to_owned).collect()
}

#[test]
fn no_number_is_cut_however_narrow_the_window() {
    let mut snapshot = busy(1);
    snapshot.sentence = "Payment is 42 s behind (1,098,916,538 messages), growing by 1,098,917 a second.".to_owned();
    snapshot.remarks.push("1,098,912 dead letters (mostly conflict) wait for somebody to decide.".to_owned());
    (snapshot.stages[1].lag, snapshot.stages[1].pending) = (Some(1_098_916_538), 1_098_916);
    snapshot.stages[1].trend = Trend::Growing { per_second: 1_098_917.0 };
    snapshot.today.completed = 1_098_916_538;
    snapshot.today.revenue_cents = 109_891_653_849_285;
    snapshot.today.refunded_cents = 9_223_372_036_854_775_807;
    (snapshot.dead_letters.count, snapshot.dead_letters.undecided) = (1_098_926, 1_098_912);
    (snapshot.relay.cursor, snapshot.relay.last_event) = (Some(9_876_543_210), Some(9_876_543_999));
    let mut view = view(snapshot);
    for page in [Page::Stages, Page::Letters] {
        view.page = page;
        let whole = numbers(&lines(&drawn(&view, 400, 100)));
        let expected = if page == Page::Stages { "92,233,720,368,547,758.07" } else { "1,098,926" };
        assert!(whole.contains(expected), "{whole:?}");
        for (width, height) in (40..200).flat_map(|width| [10, 14, 20, 40].map(|height| (width, height))) {
            let shown = lines(&drawn(&view, width, height));
            let cut: Vec<String> = numbers(&shown).difference(&whole).cloned().collect();
            assert!(cut.is_empty(), "{width}×{height}: {cut:?} in\n{}", shown.join("\n"));
        }
    }
}
