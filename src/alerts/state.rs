//! Where a rule stands, and whether a look changes that. Pure: what is bad and for how long goes in, what is to be told
//! comes out.

use chrono::{DateTime, Utc};
use pipeline::domain::NotificationChannel;
use serde::{Deserialize, Serialize};

use super::{
    evidence::seconds,
    judge::{Level, Reading},
    rule::Rule,
};

/// Of a rule that fires and is calm in turn, one message of each kind is told within so many seconds; what came
/// meanwhile is told in one after that.
const FLOOD_SECONDS: f64 = 60.0;

/// Whether a rule fires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// It does not.
    #[default]
    Calm,
    /// It does.
    Firing,
}

impl Standing {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Firing => "firing",
        }
    }
}

/// Where a rule stands, as it is kept in Redis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RuleState {
    pub(super) state: Standing,
    /// Since when it has been so bad, or good; unlike `changed_at` without the time that it took to be sure.
    pub(super) since: Option<DateTime<Utc>>,
    pub(super) changed_at: Option<DateTime<Utc>>,
    /// While it fires, of the last look; else of the change.
    pub(super) value: Option<f64>,
    pub(super) stage: Option<String>,
    pub(super) message: String,
    /// When it fires, in words and as a number: of the process that evaluates.
    pub(super) threshold: String,
    pub(super) limit: Option<f64>,
    /// Since when looks say the opposite.
    pub(super) turning_since: Option<DateTime<Utc>>,
    pub(super) told_firing_at: Option<DateTime<Utc>>,
    pub(super) told_calm_at: Option<DateTime<Utc>>,
    /// Changes since then that nobody was told of.
    pub(super) held: u32,
    /// Changes that the last message stands for, if they are several.
    pub(super) flapped: u32,
    /// Channels that the last message has not reached yet.
    pub(super) unsent: Vec<String>,
}

impl RuleState {
    pub(super) fn is_firing(&self) -> bool {
        self.state == Standing::Firing
    }

    /// When the last message was made.
    pub(super) fn told_at(&self) -> Option<DateTime<Utc>> {
        self.told_firing_at.max(self.told_calm_at)
    }

    /// Takes a look in; whether it changed where the rule stands.
    pub(super) fn step(&mut self, rule: Rule, reading: &Reading, now: DateTime<Utc>) -> bool {
        let is_firing = self.is_firing();
        let stage = reading.stage.map(|stage| stage.as_str());
        match (reading.level, is_firing) {
            (Level::Bad, true) => {
                self.turning_since = None;
                self.describe(reading);
                return false;
            }
            (Level::Unknown, _) | (Level::Between, false) => return false,
            (Level::Good, false) | (Level::Between, true) => {
                self.turning_since = None;
                return false;
            }
            // Another stage is bad: its time begins now.
            (Level::Bad, false) if self.stage.as_deref() != stage => {
                self.turning_since = Some(now);
                self.stage = stage.map(str::to_owned);
            }
            (Level::Bad, false) | (Level::Good, true) => {}
        }
        let since = *self.turning_since.get_or_insert(now);
        let patience = if is_firing { rule.patience().calm } else { rule.patience().firing };
        if seconds(now - since) < patience.as_secs_f64() {
            return false;
        }
        self.state = if is_firing { Standing::Calm } else { Standing::Firing };
        (self.since, self.changed_at, self.turning_since) = (Some(since), Some(now), None);
        self.describe(reading);
        true
    }

    fn describe(&mut self, reading: &Reading) {
        self.value = reading.value;
        self.stage = reading.stage.map(|stage| stage.as_str().to_owned());
        self.message.clone_from(&reading.message);
    }

    /// Whether somebody is to be told now, by these channels. A rule that flaps is told of once a minute.
    pub(super) fn tell(&mut self, changed: bool, channels: &[NotificationChannel], now: DateTime<Utc>) -> bool {
        let is_over = |told: Option<DateTime<Utc>>| told.is_none_or(|told| seconds(now - told) >= FLOOD_SECONDS);
        let same = if self.is_firing() { self.told_firing_at } else { self.told_calm_at };
        self.held = self.held.saturating_add(u32::from(changed));
        let is_due = match self.held {
            0 => false,
            1 if changed => is_over(same),
            _ => is_over(self.told_at()),
        };
        if !is_due {
            return false;
        }
        self.flapped = if self.held > 1 { self.held } else { 0 };
        self.held = 0;
        *(if self.is_firing() { &mut self.told_firing_at } else { &mut self.told_calm_at }) = Some(now);
        self.unsent = channels.iter().map(|channel| channel.as_str().to_owned()).collect();
        true
    }

    /// The message, with what it stands for.
    pub(super) fn text(&self) -> String {
        match self.flapped {
            0 => self.message.clone(),
            times => format!("{} It changed {times} times meanwhile.", self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use pipeline::topology::StageName;

    use super::*;

    const CHANNELS: &[NotificationChannel] = &[NotificationChannel::Webhook];

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_000_000 + second)
    }

    fn reading(level: Level, stage: StageName) -> Reading {
        let stage = (level == Level::Bad).then_some(stage);
        Reading { level, value: Some(1.0), stage, message: format!("{level:?}") }
    }

    /// The seconds at which a rule is told of, with where it stands then, when each second's look is one of these.
    fn told(rule: Rule, looks: impl IntoIterator<Item = (Level, StageName)>) -> Vec<(usize, &'static str, u32)> {
        let mut state = RuleState::default();
        let mut told = Vec::new();
        for (second, (level, stage)) in looks.into_iter().enumerate() {
            let now = at(i64::try_from(second).expect("few"));
            let changed = state.step(rule, &reading(level, stage), now);
            if state.tell(changed, CHANNELS, now) {
                told.push((second, state.state.as_str(), state.flapped));
                assert_eq!((state.told_at(), &*state.unsent), (Some(now), &["webhook".to_owned()][..]));
            }
        }
        told
    }

    fn levels(levels: &[(Level, usize)]) -> Vec<(Level, StageName)> {
        let each = |(level, times): &(Level, usize)| vec![(*level, StageName::Payment); *times];
        levels.iter().flat_map(each).collect()
    }

    #[test]
    fn a_lag_is_told_of_at_once_and_calm_once_it_has_been_low_for_seconds() {
        use Level::{Bad, Between, Good, Unknown};
        let looks = levels(&[(Good, 3), (Between, 2), (Bad, 70), (Between, 5), (Good, 3), (Between, 1), (Good, 20)]);
        assert_eq!(told(Rule::LagBehind, looks), [(5, "firing", 0), (89, "calm", 0)]);
        // What nobody can tell changes nothing, for however long.
        let looks = levels(&[(Bad, 1), (Unknown, 500), (Bad, 1), (Good, 10)]);
        assert_eq!(told(Rule::LagBehind, looks), [(0, "firing", 0), (507, "calm", 0)]);
    }

    #[test]
    fn what_one_look_cannot_tell_must_last() {
        use Level::{Bad, Good};
        assert_eq!(told(Rule::NoProgress, levels(&[(Bad, 59), (Good, 1), (Bad, 59)])), []);
        assert_eq!(told(Rule::NoProgress, levels(&[(Bad, 61)])), [(60, "firing", 0)]);
        let other = |count| vec![(Bad, StageName::Settlement); count];
        let looks = || [levels(&[(Bad, 40)]), other(40)].concat();
        assert_eq!(told(Rule::NoProgress, looks()), [], "40 s of each of two stages are not 60 s of one");
        assert_eq!(told(Rule::NoProgress, [looks(), other(30)].concat()), [(100, "firing", 0)]);
    }

    #[test]
    fn a_rule_that_flaps_is_told_of_twice_a_minute_at_most_and_then_in_one_message() {
        use Level::{Bad, Good};
        let flapping: Vec<_> = (0..50).flat_map(|_| levels(&[(Bad, 1), (Good, 1)])).collect();
        let told = told(Rule::DeadLetters, [flapping, levels(&[(Bad, 300)])].concat());
        let expected = [(0, "firing", 0), (1, "calm", 0), (61, "calm", 60), (62, "firing", 0), (122, "firing", 38)];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_kept_in_redis_is_read_back_whole_and_survives_another_version() {
        let mut state = RuleState::default();
        let changed = state.step(Rule::DeadLetters, &reading(Level::Bad, StageName::Payment), at(7));
        assert!(state.tell(changed, CHANNELS, at(7)));
        let text = serde_json::to_string(&state).expect("JSON");
        assert_eq!(serde_json::from_str::<RuleState>(&text).expect("the same"), state);
        let other: RuleState = serde_json::from_str(r#"{"state":"firing","new":1}"#).expect("what is known of it");
        assert!(other.is_firing() && other.unsent.is_empty());
    }
}
