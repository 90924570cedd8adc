//! How the pipeline stood over the last day: points that one process writes to Redis, so that charts survive a reload,
//! a restart, and the absence of Prometheus.

use std::{collections::BTreeMap, str::FromStr};

use pipeline::{
    streams::{self, Connection, Redis},
    topology::{HistoryStep, StageName},
};
use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;

/// A look, as it is kept: arrays in the order of [`StageName::ALL`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Point {
    pub(super) lag: Vec<Option<u64>>,
    lag_seconds: Vec<f64>,
    pending: Vec<u64>,
    rate_in: Vec<f64>,
    rate_out: Vec<f64>,
    dead_letters: u64,
    completed: i64,
    failed: i64,
}

impl Point {
    fn of(snapshot: &Snapshot) -> Self {
        // Two digits are enough for a chart, and a point stays small.
        let short = |number: f64| (number * 100.0).round() / 100.0;
        let stages = || snapshot.stages.iter();
        Self {
            lag: stages().map(|stage| stage.lag).collect(),
            lag_seconds: stages().map(|stage| short(stage.lag_seconds)).collect(),
            pending: stages().map(|stage| stage.pending).collect(),
            rate_in: stages().map(|stage| short(stage.rate_in)).collect(),
            rate_out: stages().map(|stage| short(stage.rate_out)).collect(),
            dead_letters: snapshot.dead_letters.count,
            completed: snapshot.today.completed,
            failed: snapshot.today.failed,
        }
    }

    /// The worse of two: a minute shows its highest lag.
    fn worse(mut self, other: &Self) -> Self {
        let higher = |one: &mut f64, other: &f64| *one = one.max(*other);
        for (one, other) in self.lag.iter_mut().zip(&other.lag) {
            // Unknown is worse than any number.
            *one = one.zip(*other).map(|(one, other)| one.max(other));
        }
        self.lag_seconds.iter_mut().zip(&other.lag_seconds).for_each(|(one, other)| higher(one, other));
        self.pending.iter_mut().zip(&other.pending).for_each(|(one, other)| *one = (*one).max(*other));
        self
    }
}

/// Writes points when their time has come.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    written: [u64; HistoryStep::ALL.len()],
    worst: [Option<Point>; HistoryStep::ALL.len()],
}

impl Recorder {
    /// Takes a look in, and writes the points whose time has ended.
    ///
    /// # Errors
    /// When Redis cannot be reached, or is full.
    pub(super) async fn record(
        &mut self,
        redis: &Redis,
        connection: &Connection,
        snapshot: &Snapshot,
    ) -> Result<(), streams::Error> {
        let at_ms = u64::try_from(snapshot.at.timestamp_millis()).unwrap_or_default();
        let point = Point::of(snapshot);
        for (index, step) in HistoryStep::ALL.into_iter().enumerate() {
            let slot = at_ms / step.ms() * step.ms();
            let worst = match self.worst[index].take() {
                Some(worst) if slot == self.written[index] => point.clone().worse(&worst),
                _ => point.clone(),
            };
            if slot > self.written[index] {
                let text = serde_json::to_string(&worst).expect("numbers are always JSON");
                redis.add_history(&mut connection.clone(), step, slot, &text).await?;
                self.written[index] = slot;
            }
            self.worst[index] = Some(worst);
        }
        Ok(())
    }
}

/// How far back to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Range {
    /// A quarter of an hour, every five seconds.
    #[default]
    QuarterHour,
    /// An hour, every five seconds.
    Hour,
    /// Six hours, every minute.
    SixHours,
    /// A day, every minute.
    Day,
}

impl Range {
    /// Every range, the shortest first.
    pub const ALL: [Self; 4] = [Self::QuarterHour, Self::Hour, Self::SixHours, Self::Day];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuarterHour => "15m",
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
        }
    }

    const fn ms(self) -> u64 {
        match self {
            Self::QuarterHour => 900_000,
            Self::Hour => 3_600_000,
            Self::SixHours => 6 * 3_600_000,
            Self::Day => 24 * 3_600_000,
        }
    }

    const fn step(self) -> HistoryStep {
        match self {
            Self::QuarterHour | Self::Hour => HistoryStep::FiveSeconds,
            Self::SixHours | Self::Day => HistoryStep::Minute,
        }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|range| range.as_str() == word);
        known.ok_or_else(|| format!("{word:?} is not one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// Points in columns, ready for a chart. All columns have the length of `at`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    /// How far back it goes: `15m`, `1h`, `6h`, `24h`.
    pub range: &'static str,
    /// Seconds from a point to the next one.
    pub step_seconds: u64,
    /// The times, in Unix seconds, evenly spaced; the first and the last are the ends of the range.
    pub at: Vec<u64>,
    /// The stages.
    pub stages: BTreeMap<StageName, Series>,
    /// Dead letters that there were; `None` where nobody looked.
    pub dead_letters: Vec<Option<u64>>,
}

/// The columns of a stage; `None` where nobody looked, or where Redis could not tell.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Series {
    /// Entries that nobody had read.
    pub lag: Vec<Option<u64>>,
    /// The age of the oldest of them, in seconds.
    pub lag_seconds: Vec<Option<f64>>,
    /// Entries read and not acknowledged.
    pub pending: Vec<Option<u64>>,
    /// Entries added in a second.
    pub rate_in: Vec<Option<f64>>,
    /// Messages handed off in a second.
    pub rate_out: Vec<Option<f64>>,
}

/// Reads the history of a range up to now.
///
/// # Errors
/// When Redis cannot be reached.
pub(super) async fn read(redis: &Redis, connection: &mut Connection, range: Range) -> Result<History, streams::Error> {
    let step = range.step();
    let last = redis.now_ms(connection).await? / step.ms() * step.ms();
    let first = last.saturating_sub(range.ms());
    let points = parsed(redis.history(connection, step, first).await?);
    Ok(in_columns(range, first, last, &points))
}

/// The points of the finest history since a time.
///
/// # Errors
/// When Redis cannot be reached.
pub(super) async fn recent(
    redis: &Redis,
    connection: &mut Connection,
    from_ms: u64,
) -> Result<Vec<(u64, Point)>, streams::Error> {
    Ok(parsed(redis.history(connection, HistoryStep::FiveSeconds, from_ms).await?).into_iter().collect())
}

/// What cannot be read is a gap, not a reason to show nothing.
fn parsed(points: Vec<(u64, Vec<u8>)>) -> BTreeMap<u64, Point> {
    points.into_iter().filter_map(|(at, text)| Some((at, serde_json::from_slice(&text).ok()?))).collect()
}

fn in_columns(range: Range, first: u64, last: u64, points: &BTreeMap<u64, Point>) -> History {
    let step = range.step().ms();
    let mut history = History { range: range.as_str(), step_seconds: step / 1_000, ..History::default() };
    for slot in (first..=last).step_by(usize::try_from(step).unwrap_or(1)) {
        let point = points.get(&slot);
        history.at.push(slot / 1_000);
        history.dead_letters.push(point.map(|point| point.dead_letters));
        for (index, stage) in StageName::ALL.into_iter().enumerate() {
            let series = history.stages.entry(stage).or_default();
            series.lag.push(point.and_then(|point| point.lag.get(index).copied().flatten()));
            series.lag_seconds.push(point.and_then(|point| point.lag_seconds.get(index).copied()));
            series.pending.push(point.and_then(|point| point.pending.get(index).copied()));
            series.rate_in.push(point.and_then(|point| point.rate_in.get(index).copied()));
            series.rate_out.push(point.and_then(|point| point.rate_out.get(index).copied()));
        }
    }
    history
}
