//! The numbers of a look as texts: made once, put into pages by templates, and sent on to scripts, which put the same in
//! again.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use pipeline::topology::StageName;
use serde::Serialize;

use super::{
    format::{self, NOTHING},
    spark,
};
use crate::{
    monitor::{self, Snapshot, StageState, StageView, State, Trend},
    output::{inert, thousands},
};

/// Remarks that have a place on the page.
pub(super) const REMARKS_MAX: usize = 8;

/// A look that is older than this is not fresh, whatever it says.
const FRESH_SECONDS: i64 = 5;

/// What colour and sign something has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tone {
    Good,
    Busy,
    Warn,
    Bad,
    Unknown,
    /// Paused.
    Off,
    Idle,
}

impl Tone {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
            Self::Off => "off",
            Self::Idle => "idle",
        }
    }

    fn of_state(state: State) -> Self {
        match state {
            State::Calm => Self::Good,
            State::Busy => Self::Busy,
            State::Warning => Self::Warn,
            State::Trouble => Self::Bad,
            State::Unknown => Self::Unknown,
        }
    }

    pub(super) fn of_stage(state: StageState) -> Self {
        match state {
            StageState::Idle => Self::Idle,
            StageState::KeepingUp => Self::Good,
            StageState::Behind => Self::Warn,
            StageState::Paused => Self::Off,
            StageState::NoWorker => Self::Bad,
            StageState::Unknown => Self::Unknown,
        }
    }
}

/// Attributes of an element; what is `None` is not there.
type Attributes = BTreeMap<&'static str, Option<String>>;

/// The texts of a look.
#[derive(Debug, Default, Serialize)]
pub(super) struct Live {
    /// The number of the look.
    pub(super) seq: u64,
    /// When it was.
    pub(super) at: String,
    /// When the texts were made, by the clock of this process.
    now: String,
    /// Whether it is old.
    pub(super) stale: bool,
    /// Contents of elements.
    pub(super) texts: BTreeMap<String, String>,
    /// Attributes of elements.
    pub(super) attrs: BTreeMap<String, Attributes>,
    /// Tone and word of badges.
    pub(super) badges: BTreeMap<String, (Tone, String)>,
    /// Numbers in the navigation with what they count; empty for 0.
    pub(super) counts: BTreeMap<&'static str, (String, &'static str)>,
    /// What changes when the rows of a list change.
    pub(super) shapes: BTreeMap<&'static str, String>,
}

impl Live {
    /// The texts of a look.
    pub(super) fn of(snapshot: &Snapshot, now: DateTime<Utc>) -> Self {
        let mut live = Self {
            seq: snapshot.seq,
            at: snapshot.at.to_rfc3339_opts(SecondsFormat::Millis, true),
            now: now.to_rfc3339_opts(SecondsFormat::Millis, true),
            ..Self::default()
        };
        live.tell(snapshot, now);
        for stage in StageName::ALL {
            live.stage(stage, snapshot.stage(stage));
        }
        live.shape(
            "paused",
            snapshot.stages.iter().filter(|view| view.paused.is_some()).map(|view| view.stage.as_str()),
        );
        live.today(snapshot);
        live.dead_letters(snapshot);
        live.rest(snapshot);
        live
    }

    fn text(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.texts.insert(key.into(), text.into());
    }

    fn badge(&mut self, key: impl Into<String>, tone: Tone, word: impl Into<String>) {
        self.badges.insert(key.into(), (tone, word.into()));
    }

    fn attributes<const N: usize>(&mut self, key: impl Into<String>, attributes: [(&'static str, Option<String>); N]) {
        self.attrs.insert(key.into(), attributes.into());
    }

    fn hidden(&mut self, key: impl Into<String>, is_hidden: bool) {
        self.attributes(key, [("hidden", is_hidden.then(String::new))]);
    }

    fn shape(&mut self, list: &'static str, parts: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut hasher = crc32fast::Hasher::new();
        for part in parts {
            hasher.update(part.as_ref().as_bytes());
            hasher.update(&[0]);
        }
        self.shapes.insert(list, format!("{:08x}", hasher.finalize()));
    }

    /// All in words.
    fn tell(&mut self, snapshot: &Snapshot, now: DateTime<Utc>) {
        let tone = Tone::of_state(snapshot.state);
        let word = snapshot.state.as_str();
        self.badge("state", tone, word);
        self.text("state", word);
        self.text("sentence", snapshot.sentence.clone());
        self.attributes("hero", [("data-tone", Some(tone.as_str().to_owned()))]);
        self.attributes("hero.icon", [("href", Some(format!("#i-{}", tone.as_str())))]);
        for index in 0..REMARKS_MAX {
            let remark = snapshot.remarks.get(index);
            self.hidden(format!("remark.{index}"), remark.is_none());
            self.text(format!("remark.{index}"), remark.cloned().unwrap_or_default());
        }
        self.text("at", if snapshot.seq == 0 { NOTHING.to_owned() } else { format::utc(snapshot.at) });
        // While Redis is away the look is as old as its clock says; a sampler that stands still is noticed by our own.
        let age = (now - snapshot.at).num_seconds().max(0);
        self.stale = snapshot.seq > 0 && (snapshot.stale.is_some() || age > FRESH_SECONDS);
        let why = match (&snapshot.stale, &snapshot.redis_refuses) {
            (None, _) => "",
            (Some(_), None) => " Redis does not answer.",
            (Some(_), Some(_)) => " Redis refuses.",
        };
        self.hidden("stale", !self.stale);
        self.text("stale", format!("Stale: last update {age} s ago.{why}"));
    }

    fn stage(&mut self, stage: StageName, view: Option<&StageView>) {
        let name = stage.as_str();
        let key = |part: &str| format!("{name}.{part}");
        let Some(view) = view else { return self.no_stage(stage) };
        let tone = Tone::of_stage(view.state);
        self.badge(key("state"), tone, view.state.as_str());
        self.attributes(key("card"), [("data-tone", Some(tone.as_str().to_owned()))]);
        self.text(key("lag"), view.lag.map_or_else(|| "unknown".to_owned(), thousands));
        self.text(
            key("unknown"),
            view.lag_unknown.as_deref().map_or_else(String::new, |why| inert(why.as_bytes(), false)),
        );
        self.hidden(key("unknown"), view.lag_unknown.is_none());
        self.text(key("behind"), behind(view));
        let (tone, trend) = trend(view);
        self.text(key("trend"), trend);
        self.attributes(key("trend"), [("data-tone", Some(tone.as_str().to_owned()))]);
        self.text(key("length"), thousands(view.length));
        self.text(key("in"), monitor::rate(view.rate_in));
        self.text(key("out"), monitor::rate(view.rate_out));
        self.text(key("pending"), thousands(view.pending));
        self.text(key("oldest"), monitor::span(view.oldest_seconds));
        self.text(key("in_hand"), monitor::span(view.oldest_pending_seconds));
        self.text(key("errors"), errors(view));
        self.text(key("consumers"), thousands(view.consumers));
        self.text(key("workers"), thousands(view.workers));
        let moves = view.rate_out >= 0.05 && view.paused.is_none();
        self.attributes(key("flow"), [("data-flow", Some(if moves { "moving" } else { "stopped" }.to_owned()))]);
        let drawn = spark::draw(&view.spark);
        self.attributes(key("line"), [("d", Some(drawn.line))]);
        self.attributes(key("area"), [("d", Some(drawn.area))]);
        self.text(key("spark"), drawn.words);
        self.hidden(key("pause"), view.paused.is_none());
        self.text(key("pause"), view.paused.as_ref().map_or_else(String::new, pause_words));
    }

    /// Before the first look.
    fn no_stage(&mut self, stage: StageName) {
        let name = stage.as_str();
        self.badge(format!("{name}.state"), Tone::Unknown, "unknown");
        for part in ["lag", "length", "in", "out", "pending", "oldest", "in_hand", "errors", "consumers", "workers"] {
            self.text(format!("{name}.{part}"), NOTHING);
        }
        for part in ["behind", "trend", "spark", "unknown", "pause"] {
            self.text(format!("{name}.{part}"), "");
        }
        self.hidden(format!("{name}.unknown"), true);
        self.hidden(format!("{name}.pause"), true);
        self.attributes(format!("{name}.card"), [("data-tone", Some("unknown".to_owned()))]);
        self.attributes(format!("{name}.trend"), [("data-tone", Some("idle".to_owned()))]);
        self.attributes(format!("{name}.flow"), [("data-flow", Some("stopped".to_owned()))]);
        self.attributes(format!("{name}.line"), [("d", Some(String::new()))]);
        self.attributes(format!("{name}.area"), [("d", Some(String::new()))]);
    }

    fn today(&mut self, snapshot: &Snapshot) {
        let today = &snapshot.today;
        let orders = today.completed + today.failed;
        self.text("today.orders", thousands(orders));
        self.text("today.completed", thousands(today.completed));
        self.text("today.failed", thousands(today.failed));
        let part = format::percent(today.failed as f64, orders as f64);
        self.text("today.failed_part", if orders > 0 { format!("{part} of orders") } else { String::new() });
        let at_face_value = if today.currencies.is_mixed() { " at face value" } else { "" };
        self.text("today.currency", format!("{}{at_face_value}", today.currencies.label()));
        self.text("today.revenue", format::money(today.revenue_cents));
        self.text("today.paid_back", format::money(today.paid_back_cents));
        self.text("today.net", format::money(today.revenue_cents - today.refunded_cents));
        self.shape("failed", today.failed_by.keys());
        for (reason, count) in &today.failed_by {
            self.part_of(&format!("failed.{reason}"), *count, today.failed);
        }
    }

    fn dead_letters(&mut self, snapshot: &Snapshot) {
        let dead = &snapshot.dead_letters;
        self.text("dead.count", thousands(dead.undecided));
        let age = |seconds: Option<f64>| seconds.map_or_else(String::new, |age| format!("{} old", monitor::span(age)));
        self.text("dead.oldest", age(dead.oldest_seconds));
        self.text("dead.newest", age(dead.newest_seconds));
        self.text("dead.parked", snapshot.parked_orders.map_or_else(|| "unknown".to_owned(), thousands));
        let kept = match dead.count.saturating_sub(dead.undecided) {
            0 => String::new(),
            replayed => format!("{} more were replayed", thousands(replayed)),
        };
        self.hidden("dead.kept", kept.is_empty());
        self.text("dead.kept", kept);
        self.count("dead.badge", dead.undecided, "dead letters to decide about");
        let is_mended = if dead.count > dead.undecided { "mended" } else { "" };
        self.shape("dead", dead.reasons.keys().map(String::as_str).chain([is_mended]));
        for (reason, count) in &dead.reasons {
            let all = i64::try_from(dead.looked_at).unwrap_or(i64::MAX);
            self.part_of(&format!("dead.{reason}"), i64::try_from(*count).unwrap_or(i64::MAX), all);
        }
    }

    fn rest(&mut self, snapshot: &Snapshot) {
        let unknown = || "unknown".to_owned();
        let relay = &snapshot.relay;
        self.text("relay.cursor", relay.cursor.map_or_else(|| NOTHING.to_owned(), thousands));
        self.text("relay.last", relay.last_event.map_or_else(unknown, thousands));
        let (tone, word) = match relay.behind {
            None => (Tone::Unknown, unknown()),
            Some(0) => (Tone::Good, "up to date".to_owned()),
            Some(behind @ ..10_000) => (Tone::Busy, format!("{} events behind", thousands(behind))),
            Some(behind) => (Tone::Warn, format!("{} events behind", thousands(behind))),
        };
        self.badge("relay", tone, word);
        let (tone, word) = match snapshot.drift {
            None => (Tone::Idle, "not looked yet".to_owned()),
            Some(0) => (Tone::Good, "none".to_owned()),
            Some(products) => (Tone::Bad, format!("{} products", thousands(products))),
        };
        self.badge("drift", tone, word);
        let (tone, word) = match &snapshot.postgres_away {
            _ if snapshot.seq == 0 => (Tone::Unknown, "unknown"),
            _ if snapshot.postgres_refuses.is_some() => (Tone::Bad, "refuses"),
            None => (Tone::Good, "answers"),
            Some(_) => (Tone::Bad, "away"),
        };
        self.badge("postgres", tone, word);
        let (tone, word) = match &snapshot.stale {
            _ if snapshot.seq == 0 => (Tone::Unknown, "unknown"),
            _ if snapshot.redis_refuses.is_some() => (Tone::Bad, "refuses"),
            None => (Tone::Good, "answers"),
            Some(_) => (Tone::Bad, "away"),
        };
        self.badge("redis", tone, word);
        self.processes(snapshot);
        let firing = snapshot.alerts.iter().filter(|alert| alert.state == "firing").count();
        self.count("alerts.badge", firing as u64, "alerts are firing");
        let (tone, word) = match firing {
            0 => (Tone::Good, "none is firing".to_owned()),
            1 => (Tone::Bad, "1 is firing".to_owned()),
            firing => (Tone::Bad, format!("{firing} are firing")),
        };
        self.badge("alerts", tone, word);
        self.shape(
            "alerts",
            snapshot.alerts.iter().map(|alert| format!("{} {} {}", alert.rule, alert.state, alert.message)),
        );
    }

    fn processes(&mut self, snapshot: &Snapshot) {
        let live = snapshot.processes.iter().filter(|process| process.is_live()).count();
        self.text("processes.live", thousands(live as u64));
        let shape = snapshot.processes.iter().map(|process| {
            format!("{} {} {} {}", process.id, process.is_live(), process.draining, process.roles.join(" "))
        });
        self.shape("processes", shape);
        for process in &snapshot.processes {
            let key = |part: &str| format!("process.{}.{part}", process.id);
            self.text(key("rate"), monitor::rate(process.rate));
            self.text(key("messages"), thousands(process.messages));
            self.text(key("silent"), monitor::span(process.silent_seconds));
        }
    }

    fn count(&mut self, key: &'static str, number: u64, noun: &'static str) {
        let text = if number == 0 { String::new() } else { thousands(number) };
        self.counts.insert(key, (text, noun));
    }

    /// A number, and its bar.
    fn part_of(&mut self, key: &str, number: i64, all: i64) {
        self.text(key, thousands(number));
        let width = if all > 0 { (number as f64 / all as f64 * 100.0).clamp(0.0, 100.0) } else { 0.0 };
        self.attributes(key, [("width", Some(format!("{width:.1}")))]);
    }
}

/// How long the oldest has waited.
fn behind(view: &StageView) -> String {
    match view.lag {
        Some(0) => "nothing waits".to_owned(),
        _ => format!("{} behind", monitor::span(view.lag_seconds)),
    }
}

/// Where the lag is going, with a sign.
fn trend(view: &StageView) -> (Tone, String) {
    match (view.trend, view.clears_in_seconds) {
        (Trend::Growing { per_second }, _) => (Tone::Warn, format!("▲ growing {}/s", monitor::rate(per_second))),
        (Trend::Shrinking { .. }, Some(seconds)) => (Tone::Good, format!("▼ clears in {}", monitor::span(seconds))),
        (Trend::Shrinking { per_second }, None) => (Tone::Good, format!("▼ shrinking {}/s", monitor::rate(per_second))),
        (Trend::Steady, _) => (Tone::Idle, "– steady".to_owned()),
        (Trend::Unknown, _) => (Tone::Idle, "trend not known yet".to_owned()),
    }
}

/// What went wrong in a minute: batches that were tried again, messages that died.
fn errors(view: &StageView) -> String {
    monitor::rate(view.retries_per_minute + view.dead_per_minute)
}

/// A pause in words.
pub(super) fn pause_words(pause: &pipeline::streams::Pause) -> String {
    let why = match pause.why.as_str() {
        "" => String::new(),
        why => format!(": {}", inert(why.as_bytes(), false)),
    };
    let end = pause.seconds_left.map_or_else(String::new, |left| format!(", {} more", monitor::span(left as f64)));
    format!("Paused{end}{why}")
}
