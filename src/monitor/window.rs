//! The looks of the last minutes: from them follow rates, trends and sparklines.

use std::collections::{BTreeMap, VecDeque};

use pipeline::{
    message::EntryId,
    streams::{ProcessReport, StageReport, StreamState},
    topology::StageName,
};

use super::{arrivals::Arrivals, history::Point, sample::Sample, snapshot::Trend};

/// How many stages there are.
const STAGES: usize = StageName::ALL.len();

/// Over how long rates and trends are taken.
const RATE_MS: u64 = 10_000;

/// Over how long what is rare is counted.
const RARE_MS: u64 = 60_000;

/// A trend needs so much.
const TREND_MS_MIN: u64 = 3_000;

/// Looks closer together than this, which somebody called for, are kept as one: they must not drive out older ones.
const TICK_MS_MIN: u64 = 500;

/// Looks that are kept: those of a bit more than [`RARE_MS`].
const TICKS_MAX: usize = 90;

/// Points of a sparkline: five minutes.
pub(super) const SPARK_POINTS: usize = 60;

/// Milliseconds from one point of a sparkline to the next.
pub(super) const SPARK_MS: u64 = 5_000;

/// What one look knew of a stage.
#[derive(Debug, Clone, Copy, Default)]
struct StageTick {
    lag: Option<u64>,
    entries_added: u64,
    /// What all processes together have done since this window began.
    done: Done,
}

/// Sums over the reports of processes. Processes end and begin: what they have done until then stays.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    messages: u64,
    retries: u64,
    dead: u64,
}

#[derive(Debug, Clone)]
struct Tick {
    at_ms: u64,
    stages: [StageTick; STAGES],
    /// Messages of each process.
    processes: BTreeMap<String, u64>,
}

/// How fast a stage works.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) rate_in: f64,
    pub(super) rate_out: f64,
    pub(super) retries_per_minute: f64,
    pub(super) dead_per_minute: f64,
}

/// The looks of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Window {
    ticks: VecDeque<Tick>,
    done: [Done; STAGES],
    reports: BTreeMap<String, ProcessReport>,
    sparks: [VecDeque<(u64, Option<u64>)>; STAGES],
    /// Of each stream, by its key.
    arrivals: BTreeMap<String, Arrivals>,
}

impl Window {
    /// Begins with the sparklines that the kept history still tells.
    pub(super) fn recall(&mut self, points: &[(u64, Point)]) {
        for (at_ms, point) in points {
            for (spark, lag) in self.sparks.iter_mut().zip(&point.lag) {
                push(spark, *at_ms, *lag);
            }
        }
    }

    /// Takes a look in.
    pub(super) fn add(&mut self, sample: &Sample) {
        if self.ticks.back().is_some_and(|last| last.at_ms >= sample.at_ms) {
            // Redis' clock was set back, or it is another Redis.
            self.ticks.clear();
        }
        self.count(sample);
        let mut stages = [StageTick::default(); STAGES];
        for (index, (stage, streams)) in sample.streams.iter().enumerate() {
            let lags = streams.iter().map(|stream| super::view::own_lag(stream, *stage));
            let lag = lags.into_iter().try_fold(0, |sum, lag| lag.map(|lag| sum + lag));
            for stream in streams {
                self.note_arrivals(stream, *stage, sample.at_ms);
            }
            let entries_added = streams.iter().map(|stream| stream.entries_added).sum();
            stages[index] = StageTick { lag, entries_added, done: self.done[index] };
            push(&mut self.sparks[index], sample.at_ms, lag);
        }
        let processes = sample.processes.iter().map(|report| (report.id.clone(), messages(report))).collect();
        if let [.., before, last] = self.ticks.make_contiguous()
            && last.at_ms - before.at_ms < TICK_MS_MIN
        {
            self.ticks.pop_back();
        }
        self.ticks.push_back(Tick { at_ms: sample.at_ms, stages, processes });
        while self.ticks.len() > TICKS_MAX {
            self.ticks.pop_front();
        }
    }

    fn note_arrivals(&mut self, stream: &StreamState, stage: StageName, at_ms: u64) {
        let arrivals = self.arrivals.entry(stream.key.clone()).or_default();
        match stream.last_id {
            Some(last_id) => {
                let oldest = super::view::own_group(stream, stage).map_or(stream.first_id, |group| group.low_water);
                arrivals.note(last_id, oldest, at_ms);
            }
            None => *arrivals = Arrivals::default(),
        }
    }

    /// Milliseconds for which an entry of a stream has been there at least, whatever its id says.
    pub(super) fn age(&self, stream: &StreamState, id: EntryId, at_ms: u64) -> u64 {
        self.arrivals.get(&stream.key).and_then(|arrivals| arrivals.age(id, at_ms)).unwrap_or_default()
    }

    /// Adds what processes did since their last report. One that is new did all of it since the last look, unless this
    /// is the first look.
    fn count(&mut self, sample: &Sample) {
        let is_first = self.ticks.is_empty();
        for report in &sample.processes {
            let before = self.reports.get(&report.id);
            if before.is_none() && is_first {
                continue;
            }
            for (done, stage) in self.done.iter_mut().zip(StageName::ALL) {
                let of = |report: &ProcessReport| report.stages.get(stage.as_str()).copied().unwrap_or_default();
                let (now, then) = (of(report), before.map_or_else(StageReport::default, of));
                done.messages += now.messages.saturating_sub(then.messages);
                done.retries += now.retries.saturating_sub(then.retries);
                done.dead += now.dead.saturating_sub(then.dead);
            }
        }
        self.reports = sample.processes.iter().map(|report| (report.id.clone(), report.clone())).collect();
    }

    /// How fast a stage works.
    pub(super) fn rates(&self, stage: usize) -> Rates {
        let Some(last) = self.ticks.back() else { return Rates::default() };
        let per_second = |over_ms: u64, of: &dyn Fn(&StageTick) -> u64| {
            let first = self.since(over_ms)?;
            let ms = last.at_ms.saturating_sub(first.at_ms);
            let by = of(&last.stages[stage]).saturating_sub(of(&first.stages[stage]));
            (ms > 0).then(|| seconds_of(by) * 1_000.0 / seconds_of(ms))
        };
        Rates {
            rate_in: per_second(RATE_MS, &|tick| tick.entries_added).unwrap_or_default(),
            rate_out: per_second(RATE_MS, &|tick| tick.done.messages).unwrap_or_default(),
            retries_per_minute: per_second(RARE_MS, &|tick| tick.done.retries).unwrap_or_default() * 60.0,
            dead_per_minute: per_second(RARE_MS, &|tick| tick.done.dead).unwrap_or_default() * 60.0,
        }
    }

    /// Messages that a process handed off in a second.
    pub(super) fn process_rate(&self, id: &str) -> f64 {
        let (Some(last), Some(first)) = (self.ticks.back(), self.since(RATE_MS)) else { return 0.0 };
        let ms = last.at_ms.saturating_sub(first.at_ms);
        match (first.processes.get(id), last.processes.get(id)) {
            (Some(then), Some(now)) if ms > 0 => seconds_of(now.saturating_sub(*then)) * 1_000.0 / seconds_of(ms),
            _ => 0.0,
        }
    }

    /// Where a stage's lag is going. What batches make of it from one look to the next is no trend.
    pub(super) fn trend(&self, stage: usize) -> Trend {
        let (Some(last), Some(first)) = (self.ticks.back(), self.since(RATE_MS)) else { return Trend::Unknown };
        let ms = last.at_ms.saturating_sub(first.at_ms);
        let (Some(now), Some(then)) = (last.stages[stage].lag, first.stages[stage].lag) else { return Trend::Unknown };
        if now == 0 {
            return Trend::Steady;
        }
        if ms < TREND_MS_MIN {
            return Trend::Unknown;
        }
        let (from, to) = (seconds_of(then), seconds_of(now));
        let per_second = (to - from) * 1_000.0 / seconds_of(ms);
        let noise = 20.0_f64.max(from.max(to) * 0.02);
        match to - from {
            by if by.abs() < noise => Trend::Steady,
            by if by > 0.0 => Trend::Growing { per_second },
            _ => Trend::Shrinking { per_second: -per_second },
        }
    }

    /// A stage's lag every five seconds, oldest first.
    pub(super) fn spark(&self, stage: usize) -> Vec<Option<u64>> {
        let spark = &self.sparks[stage];
        let Some((last, _)) = spark.back() else { return Vec::new() };
        let first = last.saturating_sub((SPARK_POINTS as u64 - 1) * SPARK_MS);
        let mut points = vec![None; SPARK_POINTS];
        for (at_ms, lag) in spark.iter().filter(|(at_ms, _)| *at_ms >= first) {
            let place = usize::try_from((at_ms - first) / SPARK_MS).unwrap_or(SPARK_POINTS);
            if let Some(point) = points.get_mut(place) {
                *point = *lag;
            }
        }
        points
    }

    /// The oldest look that is not older than this.
    fn since(&self, over_ms: u64) -> Option<&Tick> {
        let last = self.ticks.back()?.at_ms;
        self.ticks.iter().find(|tick| last - tick.at_ms <= over_ms)
    }
}

/// Keeps the newest value of each five seconds.
fn push(spark: &mut VecDeque<(u64, Option<u64>)>, at_ms: u64, lag: Option<u64>) {
    let slot = at_ms / SPARK_MS * SPARK_MS;
    match spark.back_mut() {
        Some((last, value)) if *last == slot => *value = lag,
        Some((last, _)) if *last > slot => spark.clear(),
        _ => spark.push_back((slot, lag)),
    }
    while spark.len() > SPARK_POINTS {
        spark.pop_front();
    }
}

fn messages(report: &ProcessReport) -> u64 {
    report.stages.values().map(|stage| stage.messages).sum()
}

#[expect(clippy::cast_precision_loss, reason = "rates for people")]
fn seconds_of(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use pipeline::store::DayFigures;

    use super::*;
    use crate::monitor::sample::Reasons;

    const PAYMENT: usize = 1;

    /// A look at this second: payment's stream has had `added` entries, all of them unread but those that one process
    /// has `done`.
    fn look(second: u64, added: u64, done: u64) -> Sample {
        let mut report = ProcessReport { id: "one".to_owned(), at_ms: second * 1_000, ..ProcessReport::default() };
        report.stages.insert("payment".to_owned(), StageReport { messages: done, ..StageReport::default() });
        let stream = |length, entries_added| StreamState {
            key: String::new(),
            length,
            exists: true,
            entries_added,
            first_id: None,
            last_id: None,
            groups: Vec::new(),
        };
        let streams = StageName::ALL.into_iter().enumerate();
        let streams = streams.map(|(index, stage)| match index {
            PAYMENT => (stage, vec![stream(added - done, added)]),
            _ => (stage, vec![stream(0, 0)]),
        });
        Sample {
            at_ms: second * 1_000,
            streams: streams.collect(),
            dead: Vec::new(),
            replayed: 0,
            reasons: Reasons::default(),
            pauses: Vec::new(),
            processes: vec![report],
            redis_refuses: None,
            refused_ms: None,
            cursor: None,
            day: chrono::NaiveDate::MIN,
            figures: DayFigures::default(),
        }
    }

    fn window(looks: impl IntoIterator<Item = Sample>) -> Window {
        let mut window = Window::default();
        looks.into_iter().for_each(|look| window.add(&look));
        window
    }

    #[test]
    fn rates_are_those_of_the_last_ten_seconds() {
        let window = window((100..200).map(|second| look(second, second * 300, second * 200)));
        let rates = window.rates(PAYMENT);
        assert_eq!((rates.rate_in, rates.rate_out), (300.0, 200.0));
        assert_eq!(window.process_rate("one"), 200.0);
        assert_eq!(window.trend(PAYMENT), Trend::Growing { per_second: 100.0 });
        assert_eq!(window.trend(0), Trend::Steady);
    }

    #[test]
    fn a_lag_that_shrinks_tells_by_how_much() {
        let window = window((0..20).map(|second| look(second, 100_000, second * 500)));
        assert_eq!(window.trend(PAYMENT), Trend::Shrinking { per_second: 500.0 });
    }

    #[test]
    fn what_a_process_did_before_the_first_look_is_no_rate_and_a_restart_takes_nothing_back() {
        let mut window = window([look(1, 5_000, 5_000)]);
        assert_eq!(window.rates(PAYMENT).rate_out, 0.0);
        let mut restarted = look(2, 5_100, 100);
        restarted.processes[0].id = "two".to_owned();
        window.add(&restarted);
        assert_eq!(window.rates(PAYMENT).rate_out, 100.0, "a process that is new did all of it since the last look");
    }

    #[test]
    fn a_sparkline_keeps_gaps_and_forgets_what_is_older_than_five_minutes() {
        let mut window = window([look(10, 7, 0)]);
        window.add(&look(400, 9, 0));
        let spark = window.spark(PAYMENT);
        assert_eq!(spark.len(), SPARK_POINTS);
        assert_eq!(spark.iter().flatten().collect::<Vec<_>>(), [&9]);
        window.add(&look(415, 11, 0));
        assert_eq!(&window.spark(PAYMENT)[SPARK_POINTS - 4..], [Some(9), None, None, Some(11)]);
    }

    #[test]
    fn looks_that_were_called_for_drive_out_no_older_ones() {
        let mut window = window((0..20).map(|second| look(second, 100_000, second * 500)));
        for ms in 1..200 {
            let mut called = look(19, 100_000, 19 * 500);
            called.at_ms += ms;
            window.add(&called);
        }
        assert!(window.ticks.len() <= 21, "{}", window.ticks.len());
        assert!(matches!(window.trend(PAYMENT), Trend::Shrinking { per_second } if per_second > 400.0));
    }

    #[test]
    fn a_clock_that_was_set_back_begins_anew() {
        let window = window([look(500, 7, 0), look(100, 7_000, 0), look(104, 7_000, 0)]);
        assert_eq!(window.rates(PAYMENT).rate_in, 0.0);
    }
}
