//! How the pipeline stands at one moment: what the dashboard, `top`, alerts and metrics show, so that all of them tell
//! the same story.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use pipeline::{
    store::{AbandonedImports, Currencies, Reconciliation},
    streams::{Pause, StreamState},
    topology::StageName,
};
use serde::Serialize;

use crate::alerts::Severity;

/// How the pipeline stands.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Counts the looks of this process; the first is 1, and 0 is none at all.
    pub seq: u64,
    /// When it was, by the clock of Redis; by ours while there was no look yet.
    pub at: DateTime<Utc>,
    /// Set while Redis does not answer: everything that comes from it is as it was `at`.
    pub stale: Option<Away>,
    /// Set while Postgres does not answer: what comes from it is unknown.
    pub postgres_away: Option<Away>,
    /// Set while Redis answers and refuses: to write, so that nothing moves, or to be looked at, which makes the figures
    /// stale as well.
    pub redis_refuses: Option<Away>,
    /// Set while Postgres answers and refuses: to write, or to take connections, which makes it away as well.
    pub postgres_refuses: Option<Away>,
    /// All in one word.
    pub state: State,
    /// All in one sentence.
    pub sentence: String,
    /// What else is worth a sentence, the most urgent first.
    pub remarks: Vec<String>,
    /// Every stage, in the order of [`StageName::ALL`]; none before the first look.
    pub stages: Vec<StageView>,
    /// Figures of the current day.
    pub today: Today,
    /// Messages that no stage could process.
    pub dead_letters: DeadLetters,
    /// Orders whose message is a dead letter and that wait for it; `None` while Postgres is away.
    pub parked_orders: Option<i64>,
    /// Imports that nobody goes on with; `None` while Postgres is away.
    pub abandoned_imports: Option<AbandonedImports>,
    /// KPIs and leaderboards.
    pub relay: RelayView,
    /// Processes that work here, or did until some minutes ago.
    pub processes: Vec<ProcessView>,
    /// Products whose reserved pieces differ from what open orders hold; `None` when nobody has looked yet.
    pub drift: Option<i64>,
    /// What was lost within the last minutes: a server that went back to an older state, messages that were delivered to
    /// nobody. The newest first; as it was last known while Postgres is away.
    pub setbacks: Vec<Reconciliation>,
    /// Built-in alerts.
    pub alerts: Vec<AlertView>,
}

/// A server that does not answer, or refuses.
#[derive(Debug, Clone, Serialize)]
pub struct Away {
    /// Since when, by our clock.
    pub since: DateTime<Utc>,
    /// What happened, in words.
    pub error: String,
}

/// How well it goes, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody can tell.
    Unknown,
    /// Nothing to do, or all that comes is done at once.
    Calm,
    /// Work is being done, and nobody waits long.
    Busy,
    /// Somebody should look, soon.
    Warning,
    /// Somebody should look, now.
    Trouble,
}

impl State {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Busy => "busy",
            Self::Warning => "warning",
            Self::Trouble => "trouble",
            Self::Unknown => "unknown",
        }
    }
}

/// How a stage stands, over all partitions.
#[derive(Debug, Clone, Serialize)]
pub struct StageView {
    /// Which.
    pub stage: StageName,
    /// The last part of the key of its stream.
    pub stream: &'static str,
    /// Its streams, one a partition, with all their groups and consumers.
    pub partitions: Vec<StreamState>,
    /// Entries in the stream, read or not.
    pub length: u64,
    /// Entries that were ever added to the stream.
    pub entries_added: u64,
    /// Entries that nobody has read; `None` when Redis cannot tell.
    pub lag: Option<u64>,
    /// Why the lag is unknown.
    pub lag_unknown: Option<String>,
    /// Age of the oldest entry that nobody has read, in seconds: 0 when all is read. Known also where `lag` is not. While
    /// `age_unknown` is set, for how long it has been seen there: it may be older.
    pub lag_seconds: f64,
    /// Why ages are not known from the ids of entries.
    pub age_unknown: Option<String>,
    /// Where the lag is going.
    pub trend: Trend,
    /// Seconds until nothing waits, if it goes on like this; only while the lag shrinks.
    pub clears_in_seconds: Option<f64>,
    /// Entries that were neither acknowledged nor are pending or unread: delivered to nobody. `None` where that cannot be
    /// told.
    pub missing: Option<u64>,
    /// Entries that were found to be gone without having been processed, ever.
    pub lost: u64,
    /// Entries that were delivered to nobody and given out again, ever.
    pub redriven: u64,
    /// Entries that were read and not acknowledged.
    pub pending: u64,
    /// Age of the oldest of them, in seconds; 0 without any.
    pub oldest_pending_seconds: f64,
    /// Age of the oldest entry that is not acknowledged, read or not, in seconds; 0 without any.
    pub oldest_seconds: f64,
    /// Entries added in a second, over the last ten.
    pub rate_in: f64,
    /// Messages handed off in a second, over the last ten, as the processes say.
    pub rate_out: f64,
    /// Batches that were processed again after a failure, in a minute.
    pub retries_per_minute: f64,
    /// Messages that became dead letters, in a minute.
    pub dead_per_minute: f64,
    /// Consumers in the stage's own groups.
    pub consumers: u64,
    /// Processes that run the stage and have said so within seconds.
    pub workers: u64,
    /// Who paused it, and why.
    pub paused: Option<Pause>,
    /// All in one word.
    pub state: StageState,
    /// The lag every five seconds for five minutes, oldest first; `None` where it was unknown or nobody looked.
    pub spark: Vec<Option<u64>>,
}

#[cfg(test)]
impl StageView {
    /// It runs and has nothing to do: what tests begin with.
    pub(crate) fn idle(stage: StageName) -> Self {
        Self {
            stage,
            stream: stage.stream(),
            partitions: Vec::new(),
            length: 0,
            entries_added: 0,
            lag: Some(0),
            lag_unknown: None,
            lag_seconds: 0.0,
            age_unknown: None,
            trend: Trend::Steady,
            clears_in_seconds: None,
            missing: Some(0),
            lost: 0,
            redriven: 0,
            pending: 0,
            oldest_pending_seconds: 0.0,
            oldest_seconds: 0.0,
            rate_in: 0.0,
            rate_out: 0.0,
            retries_per_minute: 0.0,
            dead_per_minute: 0.0,
            consumers: 1,
            workers: 1,
            paused: None,
            state: StageState::Idle,
            spark: Vec::new(),
        }
    }
}

/// How a stage does, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Nothing waits, nothing comes.
    Idle,
    /// What comes is done within seconds.
    KeepingUp,
    /// Messages wait longer than some seconds.
    Behind,
    /// Somebody paused it.
    Paused,
    /// Messages wait, and no process runs the stage.
    NoWorker,
    /// How much waits cannot be told.
    Unknown,
}

impl StageState {
    /// The word for it, as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::KeepingUp => "keeping up",
            Self::Behind => "behind",
            Self::Paused => "paused",
            Self::NoWorker => "no worker",
            Self::Unknown => "lag unknown",
        }
    }
}

/// Where a lag is going.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "direction", rename_all = "snake_case")]
pub enum Trend {
    /// Too little is known.
    Unknown,
    /// Neither.
    Steady,
    /// More waits from second to second.
    Growing {
        /// By how much.
        per_second: f64,
    },
    /// Less waits from second to second.
    Shrinking {
        /// By how much.
        per_second: f64,
    },
}

/// Figures of a UTC day so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Today {
    /// Which.
    pub day: NaiveDate,
    /// Orders that completed.
    pub completed: i64,
    /// Orders that failed.
    pub failed: i64,
    /// Of those, by reason.
    pub failed_by: BTreeMap<String, i64>,
    /// Revenue of completed orders, in minor units.
    pub revenue_cents: i64,
    /// What went back of these orders, in minor units.
    pub refunded_cents: i64,
    /// What went back on this day, of orders of whatever day, in minor units.
    pub paid_back_cents: i64,
    /// In what these are, added up at face value where that is more than one; as it was last known while Postgres is away.
    pub currencies: Currencies,
}

/// Messages that no stage could process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DeadLetters {
    /// How many are kept, replayed or not.
    pub count: u64,
    /// How many nobody has replayed: what there is to decide.
    pub undecided: u64,
    /// The undecided ones by reason, of the newest `looked_at`.
    pub reasons: BTreeMap<String, u64>,
    /// Of how many the reasons tell.
    pub looked_at: u64,
    /// Age of the newest undecided one, in seconds; as of the last time that letters were read.
    pub newest_seconds: Option<f64>,
    /// Age of the oldest undecided one, in seconds; where not all were looked at, of the oldest one.
    pub oldest_seconds: Option<f64>,
}

/// How far KPIs and leaderboards are.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RelayView {
    /// The last event on the board; `None` when there is no board yet.
    pub cursor: Option<i64>,
    /// The last event in Postgres; `None` while Postgres is away.
    pub last_event: Option<i64>,
    /// How many events the board lacks; `None` while that is unknown.
    pub behind: Option<i64>,
    /// How long ago the oldest of them happened, in seconds, 0 without any; `None` while that is unknown.
    pub behind_seconds: Option<f64>,
}

/// A process, as it says of itself.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessView {
    /// Its name, unique per start.
    pub id: String,
    /// The machine.
    pub host: String,
    /// The number of the process there.
    pub pid: u32,
    /// The version of the program.
    pub version: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Where it serves HTTP.
    pub http: Option<String>,
    /// Its stages, and what it does beside them.
    pub roles: Vec<String>,
    /// Seconds since it last said something.
    pub silent_seconds: f64,
    /// Whether it is ending.
    pub draining: bool,
    /// Messages that it handed off in a second, over the last ten.
    pub rate: f64,
    /// Messages that it has handed off since it started.
    pub messages: u64,
}

impl ProcessView {
    /// Whether it runs stages, or something beside them that moves orders.
    pub fn works(&self) -> bool {
        self.roles.iter().any(|role| role != "http" && role != "monitor")
    }

    /// Whether it has said something within seconds.
    pub fn is_live(&self) -> bool {
        self.silent_seconds < super::LIVE_SECONDS
    }
}

/// Where an alert stands.
#[derive(Debug, Clone, Serialize)]
pub struct AlertView {
    /// The rule, in snake_case.
    pub rule: String,
    /// How bad it is when it fires.
    pub severity: Severity,
    /// `calm` or `firing`.
    pub state: String,
    /// Since when it has been so; `None` while nothing has ever changed.
    pub since: Option<DateTime<Utc>>,
    /// When that was found: later than `since` by the time that it took to be sure.
    pub changed_at: Option<DateTime<Utc>>,
    /// While it fires: how bad it is.
    pub value: Option<f64>,
    /// While it fires: the stage, of rules about one.
    pub stage: Option<String>,
    /// What it is about, in words; empty while nothing has ever changed.
    pub message: String,
    /// When it fires, in words.
    pub threshold: String,
    /// The same as a number, of rules that have one.
    pub limit: Option<f64>,
    /// What to do about it: a page of this project.
    pub runbook: String,
    /// Channels that the last message has not reached yet.
    pub unsent: Vec<String>,
}

impl Snapshot {
    /// What is known before the first look.
    pub fn nothing_yet() -> Self {
        Self {
            seq: 0,
            at: Utc::now(),
            stale: None,
            postgres_away: None,
            redis_refuses: None,
            postgres_refuses: None,
            state: State::Unknown,
            sentence: "Nobody has looked yet.".to_owned(),
            remarks: Vec::new(),
            stages: Vec::new(),
            today: Today::default(),
            dead_letters: DeadLetters::default(),
            parked_orders: None,
            abandoned_imports: None,
            relay: RelayView::default(),
            processes: Vec::new(),
            drift: None,
            setbacks: Vec::new(),
            alerts: Vec::new(),
        }
    }

    /// Since when a server has been refusing, if one is.
    pub fn refused_since(&self) -> Option<DateTime<Utc>> {
        [&self.redis_refuses, &self.postgres_refuses].into_iter().flatten().map(|away| away.since).min()
    }

    /// A stage, once there was a look.
    pub fn stage(&self, stage: StageName) -> Option<&StageView> {
        self.stages.iter().find(|view| view.stage == stage)
    }
}
