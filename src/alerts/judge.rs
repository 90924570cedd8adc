//! Whether a rule's case is bad now: a pure function over the snapshot that everybody shows.

use chrono::{DateTime, Utc};
use pipeline::{store::AbandonedImports, topology::StageName};

use super::{
    evidence::{Evidence, Grip, seconds},
    rule::Rule,
    state::RuleState,
};
use crate::{
    monitor::{Snapshot, StageState, StageView, Trend, capitalised, rate, span},
    output::{inert, thousands},
};

/// A lag that grows matters once messages wait for so long.
const GROWING_SECONDS: f64 = 10.0;

/// A message that is older than this and does not get on is stuck.
const STUCK_SECONDS: f64 = 300.0;

/// It does not get on if it is the oldest one for so long. A batch of old messages gets on within the limit of processing.
const STILL_SECONDS: f64 = 60.0;

/// A pause that is older may have been forgotten.
const PAUSED_SECONDS: f64 = 1_800.0;

/// So many events behind, figures are old.
const RELAY_EVENTS: i64 = 10_000;

/// An event that is older and not on the board: nobody carries events, however few they are.
const RELAY_SECONDS: f64 = 30.0;

/// Of fewer orders no share is told.
const RATIO_ORDERS_MIN: i64 = 20;

/// When rules fire, as far as anybody may say so.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Seconds that the oldest unread message of a stage may be old.
    pub lag_seconds: f64,
    /// From how many dead letters on.
    pub dead_letters: u64,
    /// The share of orders that may fail.
    pub failed_ratio: f64,
    /// From how many products on whose reserved pieces are wrong.
    pub drift: i64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { lag_seconds: 30.0, dead_letters: 1, failed_ratio: 0.25, drift: 1 }
    }
}

impl Thresholds {
    /// The number above which (for counts: from which on) a rule fires, if it has one.
    #[expect(clippy::cast_precision_loss, reason = "thresholds of people are small")]
    pub(super) fn limit(&self, rule: Rule) -> Option<f64> {
        match rule {
            Rule::LagBehind => Some(self.lag_seconds),
            Rule::StuckOrders => Some(STUCK_SECONDS),
            Rule::StagePausedLong => Some(PAUSED_SECONDS),
            Rule::DeadLetters => Some(self.dead_letters as f64),
            Rule::FailedRatio => Some(self.failed_ratio),
            Rule::StockDrift => Some(self.drift as f64),
            Rule::RelayBehind => Some(RELAY_EVENTS as f64),
            Rule::LagGrowing | Rule::LagUnknown | Rule::NoProgress | Rule::NoConsumer => None,
            Rule::ImportAbandoned | Rule::ServerAway | Rule::ServerRefuses => None,
            Rule::ServerWentBack | Rule::DeliveriesLost => None,
        }
    }

    /// When a rule fires, in words.
    pub(super) fn words(&self, rule: Rule) -> String {
        let patience = rule.patience().firing.as_secs();
        match rule {
            Rule::LagBehind => format!(
                "the oldest unread message of a stage is older than {}; calm below {}",
                span(self.lag_seconds),
                span(self.lag_seconds / 2.0)
            ),
            Rule::LagGrowing => format!(
                "a stage's lag grows for {patience} s, and messages wait for more than {}",
                span(GROWING_SECONDS)
            ),
            Rule::LagUnknown => format!("Redis cannot tell a lag for {patience} s"),
            Rule::NoProgress => format!("work waits, and a stage with workers processes nothing for {patience} s"),
            Rule::NoConsumer => format!("work waits, and no process runs the stage for {patience} s"),
            Rule::StuckOrders => {
                format!("a message in hand is older than {} and does not get on", span(STUCK_SECONDS))
            }
            Rule::StagePausedLong => format!("a stage is paused for more than {}", span(PAUSED_SECONDS)),
            Rule::DeadLetters if self.dead_letters == 1 => "there are dead letters".to_owned(),
            Rule::DeadLetters => format!("there are {} dead letters or more", thousands(self.dead_letters)),
            Rule::FailedRatio => format!(
                "more than {} of the orders of 5 minutes failed, of {RATIO_ORDERS_MIN} at least; calm below {}",
                percent(self.failed_ratio),
                percent(self.failed_ratio / 2.0)
            ),
            Rule::StockDrift if self.drift == 1 => {
                "reserved pieces of a product are not those of open orders".to_owned()
            }
            Rule::StockDrift => {
                format!("reserved pieces of {} products or more are not those of open orders", thousands(self.drift))
            }
            Rule::RelayBehind => format!(
                "KPIs and leaderboards are more than {} events or {} behind for {patience} s; calm below half of both",
                thousands(RELAY_EVENTS),
                span(RELAY_SECONDS)
            ),
            Rule::ImportAbandoned => {
                "the process of an import has vanished, and nobody has imported the file since".to_owned()
            }
            Rule::ServerAway => format!("Redis or Postgres does not answer for {patience} s"),
            Rule::ServerRefuses => format!("Redis or Postgres answers and refuses for {patience} s"),
            Rule::ServerWentBack => {
                "Redis or Postgres was found to be at an older state within the last 15 minutes".to_owned()
            }
            Rule::DeliveriesLost => {
                "messages were delivered to nobody, or were found so within the last 15 minutes".to_owned()
            }
        }
    }
}

/// How bad it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Nobody can tell: everything stays as it was.
    Unknown,
    /// Not bad.
    Good,
    /// Too bad to become calm, not bad enough to fire.
    Between,
    /// Bad.
    Bad,
}

/// What one look says of a rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub(super) level: Level,
    pub(super) value: Option<f64>,
    pub(super) stage: Option<StageName>,
    /// What is bad, or that it no longer is.
    pub(super) message: String,
}

impl Reading {
    fn of(level: Level, value: Option<f64>, message: impl Into<String>) -> Self {
        Self { level, value, stage: None, message: message.into() }
    }

    fn unknown() -> Self {
        Self::of(Level::Unknown, None, "")
    }

    fn bad(view: &StageView, value: f64, message: String) -> Self {
        Self { level: Level::Bad, value: Some(value), stage: Some(view.stage), message }
    }
}

/// What a look is judged by.
pub(super) struct Bench<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) evidence: &'a Evidence,
    pub(super) thresholds: &'a Thresholds,
    pub(super) now: DateTime<Utc>,
}

impl Bench<'_> {
    /// What this look says of a rule that stands so.
    pub(super) fn judge(&self, rule: Rule, before: &RuleState) -> Reading {
        match rule {
            Rule::ServerAway => return self.server_away(),
            Rule::ServerRefuses => return self.server_refuses(),
            _ => {}
        }
        // What is not known cannot have changed.
        if self.snapshot.stale.is_some() || self.snapshot.seq == 0 {
            return Reading::unknown();
        }
        match rule {
            Rule::LagBehind => self.lag_behind(),
            Rule::LagGrowing => self.lag_growing(before),
            Rule::LagUnknown => self.lag_unknown(before),
            Rule::NoProgress => self.no_progress(before),
            Rule::NoConsumer => self.no_consumer(before),
            Rule::StuckOrders => self.stuck_orders(before),
            Rule::StagePausedLong => self.stage_paused_long(before),
            Rule::DeadLetters => self.dead_letters(),
            Rule::FailedRatio => self.failed_ratio(),
            Rule::StockDrift => self.stock_drift(),
            Rule::RelayBehind => self.relay_behind(),
            Rule::ServerWentBack => self.server_went_back(),
            Rule::DeliveriesLost => self.deliveries_lost(before),
            Rule::ImportAbandoned => self.import_abandoned(),
            Rule::ServerAway | Rule::ServerRefuses => unreachable!("answered above"),
        }
    }

    fn lag_behind(&self) -> Reading {
        let limit = self.thresholds.lag_seconds;
        let stages = self.snapshot.stages.iter();
        let Some(view) = stages.max_by(|one, other| one.lag_seconds.total_cmp(&other.lag_seconds)) else {
            return Reading::unknown();
        };
        let lag = view.lag_seconds;
        if lag > limit {
            let paused = if view.paused.is_some() { "; it is paused" } else { "" };
            let message = format!(
                "{} is {} behind: {} wait{paused}.",
                capitalised(view.stage.as_str()),
                span(lag),
                waiting(view)
            );
            return Reading::bad(view, lag, message);
        }
        let level = if lag < limit / 2.0 { Level::Good } else { Level::Between };
        Reading::of(level, Some(lag), format!("No stage is more than {} behind.", span(limit / 2.0)))
    }

    fn lag_growing(&self, before: &RuleState) -> Reading {
        let waits = |view: &&StageView| view.paused.is_none() && view.lag_seconds > GROWING_SECONDS;
        let growing = self.worst(before, |view| match view.trend {
            Trend::Growing { per_second } if waits(&view) => Some(per_second),
            _ => None,
        });
        if let Some((view, per_second)) = growing {
            let message = format!(
                "{} falls behind by {} messages a second: {} wait, the oldest for {}.",
                capitalised(view.stage.as_str()),
                rate(per_second),
                waiting(view),
                span(view.lag_seconds)
            );
            return Reading::bad(view, per_second, message);
        }
        let mut waiting = self.snapshot.stages.iter().filter(waits);
        let level = match waiting.clone().any(|view| view.trend == Trend::Unknown) {
            true => Level::Unknown,
            // What grows slowly looks steady now and then.
            false if !before.is_firing() && waiting.any(|view| view.trend == Trend::Steady) => Level::Between,
            false => Level::Good,
        };
        Reading::of(level, Some(0.0), "No stage's lag grows.")
    }

    fn lag_unknown(&self, before: &RuleState) -> Reading {
        let unknown = self.worst(before, |view| view.lag.is_none().then_some(view.lag_seconds));
        let Some((view, age)) = unknown else { return Reading::of(Level::Good, Some(0.0), "Every lag is known.") };
        let why = view.lag_unknown.as_deref().unwrap_or("Redis does not tell");
        let message =
            format!("How much waits for {} is unknown ({why}); the oldest has waited {}.", view.stage, span(age));
        let count = self.snapshot.stages.iter().filter(|view| view.lag.is_none()).count();
        Reading::bad(view, f64::from(u8::try_from(count).unwrap_or(u8::MAX)), message)
    }

    fn no_progress(&self, before: &RuleState) -> Reading {
        if self.snapshot.postgres_away.is_some() || self.snapshot.refused_since().is_some() {
            // That is why, and it is told already.
            return Reading::unknown();
        }
        let idle = self.worst(before, |view| {
            let rests = view.rate_out == 0.0 && view.workers > 0 && view.paused.is_none();
            (rests && has_work(view)).then_some(view.oldest_seconds)
        });
        let Some((view, age)) = idle else {
            return Reading::of(Level::Good, Some(0.0), "What waits is being processed.");
        };
        let message = format!(
            "{} processes nothing: {} wait, the oldest for {}.",
            capitalised(view.stage.as_str()),
            waiting(view),
            span(age)
        );
        Reading::bad(view, age, message)
    }

    fn no_consumer(&self, before: &RuleState) -> Reading {
        let alone = self.worst(before, |view| (view.state == StageState::NoWorker).then_some(view.oldest_seconds));
        let Some((view, age)) = alone else {
            return Reading::of(Level::Good, Some(0.0), "Whatever has work has workers.");
        };
        let message = format!("No worker runs {}: {} wait, the oldest for {}.", view.stage, waiting(view), span(age));
        Reading::bad(view, age, message)
    }

    fn stuck_orders(&self, before: &RuleState) -> Reading {
        let old = |view: &StageView| view.oldest_pending_seconds > STUCK_SECONDS;
        let grip = |view: &StageView| self.evidence.grip(view.stage, self.now);
        let stuck = self.worst(before, |view| match grip(view) {
            Grip::Holds(seconds) | Grip::Perhaps(seconds) if old(view) && seconds >= STILL_SECONDS => {
                Some(view.oldest_pending_seconds)
            }
            _ => None,
        });
        if let Some((view, age)) = stuck {
            let message = format!(
                "{} has a message in hand that is {} old and does not get on.",
                capitalised(view.stage.as_str()),
                span(age)
            );
            return Reading::bad(view, age, message);
        }
        let stages = || self.snapshot.stages.iter();
        let oldest = stages().map(|view| view.oldest_pending_seconds).fold(0.0, f64::max);
        let level = match stages().any(|view| old(view) && matches!(grip(view), Grip::Perhaps(_))) {
            true => Level::Unknown,
            false => Level::Good,
        };
        Reading::of(level, Some(oldest), "Nothing is stuck.")
    }

    fn stage_paused_long(&self, before: &RuleState) -> Reading {
        let age = |view: &StageView| {
            let since: DateTime<Utc> = view.paused.as_ref()?.since.parse().ok()?;
            Some(seconds(self.snapshot.at - since))
        };
        let Some((view, paused)) = self.worst(before, |view| age(view).filter(|age| *age > PAUSED_SECONDS)) else {
            return Reading::of(Level::Good, None, "No stage has been paused for long.");
        };
        let why = match view.paused.as_ref().map(|pause| &*pause.why) {
            None | Some("") => String::new(),
            Some(why) => format!(" ({})", inert(why.as_bytes(), false)),
        };
        let message = format!("{} has been paused for {}{why}.", capitalised(view.stage.as_str()), span(paused));
        Reading::bad(view, paused, message)
    }

    #[expect(clippy::cast_precision_loss, reason = "dead letters have a bound far below")]
    fn dead_letters(&self) -> Reading {
        let letters = &self.snapshot.dead_letters;
        let count = letters.undecided;
        let most = letters.reasons.iter().max_by_key(|(_, count)| **count);
        let reason = most.filter(|_| count > 0).map_or_else(String::new, |(reason, _)| match letters.reasons.len() {
            1 => format!(" ({reason})"),
            _ => format!(" (mostly {reason})"),
        });
        let message = match count {
            0 if letters.count == 0 => "There are no dead letters.".to_owned(),
            0 => format!("All {} dead letters were replayed.", thousands(letters.count)),
            1 => format!("1 dead letter{reason} waits for somebody to decide."),
            count => format!("{} dead letters{reason} wait for somebody to decide.", thousands(count)),
        };
        let level = if count >= self.thresholds.dead_letters { Level::Bad } else { Level::Good };
        Reading::of(level, Some(count as f64), message)
    }

    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    fn failed_ratio(&self) -> Reading {
        let recent = self.evidence.recent(self.now);
        if recent.ended < RATIO_ORDERS_MIN {
            let level = if recent.is_whole { Level::Good } else { Level::Unknown };
            return Reading::of(level, None, "Too few orders ended in the last 5 minutes to tell.");
        }
        let ratio = recent.failed as f64 / recent.ended as f64;
        let limit = self.thresholds.failed_ratio;
        let level = match ratio {
            ratio if ratio > limit => Level::Bad,
            ratio if ratio < limit / 2.0 => Level::Good,
            _ => Level::Between,
        };
        let (share, ended) = (percent(ratio), thousands(recent.ended));
        Reading::of(level, Some(ratio), format!("{share} of the {ended} orders of the last 5 minutes failed."))
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of products")]
    fn stock_drift(&self) -> Reading {
        let Some(drift) = self.snapshot.drift else { return Reading::unknown() };
        let message = match drift {
            0 => "All reserved pieces are those of open orders.".to_owned(),
            1 => "Of 1 product the reserved pieces are not those of open orders.".to_owned(),
            drift => format!("Of {} products the reserved pieces are not those of open orders.", thousands(drift)),
        };
        let level = if drift >= self.thresholds.drift { Level::Bad } else { Level::Good };
        Reading::of(level, Some(drift as f64), message)
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of events")]
    fn relay_behind(&self) -> Reading {
        let Some(behind) = self.snapshot.relay.behind else { return Reading::unknown() };
        let age = self.snapshot.relay.behind_seconds.unwrap_or(0.0);
        let level = match behind {
            behind if behind > RELAY_EVENTS || age > RELAY_SECONDS => Level::Bad,
            behind if behind < RELAY_EVENTS / 2 && age < RELAY_SECONDS / 2.0 => Level::Good,
            _ => Level::Between,
        };
        let oldest = match age {
            age if age > RELAY_SECONDS / 2.0 => format!(", the oldest for {}", span(age)),
            _ => String::new(),
        };
        Reading::of(
            level,
            Some(behind as f64),
            format!("KPIs and leaderboards are {} events behind{oldest}.", thousands(behind)),
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of imports")]
    fn import_abandoned(&self) -> Reading {
        let Some(AbandonedImports { count, newest, file }) = &self.snapshot.abandoned_imports else {
            return Reading::unknown();
        };
        let file = inert(file.as_bytes(), false);
        let message = match count {
            0 => "Every import was brought to its end.".to_owned(),
            1 => format!("Import {newest} ({file}) has lost its process: import the same file again."),
            count => {
                let count = thousands(*count);
                format!("{count} imports have lost their process, last {newest} ({file}): import the same files again.")
            }
        };
        Reading::of(if *count > 0 { Level::Bad } else { Level::Good }, Some(*count as f64), message)
    }

    /// The stage that is worst by this measure, of those that have one. A stage that was it before stays it, so that two
    /// that are bad in turn do not count as one that is bad for long, nor one of two as none.
    fn worst(&self, before: &RuleState, measure: impl Fn(&StageView) -> Option<f64>) -> Option<(&StageView, f64)> {
        let bad = || self.snapshot.stages.iter().filter_map(|view| Some((view, measure(view)?)));
        let same = bad().find(|(view, _)| before.stage.as_deref() == Some(view.stage.as_str()));
        same.or_else(|| bad().max_by(|(_, one), (_, other)| one.total_cmp(other)))
    }
}

/// Messages that wait for a stage, or are in its hands.
fn waiting(view: &StageView) -> String {
    match view.lag.map(|lag| lag + view.pending) {
        Some(1) => "1 message".to_owned(),
        Some(waiting) => format!("{} messages", thousands(waiting)),
        None => "an unknown number of messages".to_owned(),
    }
}

fn has_work(view: &StageView) -> bool {
    view.lag != Some(0) || view.pending > 0
}

fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

mod servers;

#[cfg(test)]
mod tests;
