//! Evaluates the rules with every look, and keeps where they stand in Redis: whoever evaluates next tells nobody twice.
//! While Redis is away the process that led goes on by what it remembers.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use pipeline::{
    domain::NotificationChannel,
    streams::{self, Connection, Redis},
};
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::{
    deliver::{Alerting, GIVEN_UP_SECONDS, Outcome},
    evidence::{Evidence, seconds},
    judge::Bench,
    rule::Rule,
    state::{RuleState, Standing},
};
use crate::monitor::{AlertView, Snapshot};

/// The field that says when the rules were evaluated last, in Unix milliseconds by the clock of Redis.
const LOOKED_AT: &str = "looked_at";

/// Where rules stood longer ago than this is not shown: nobody evaluates them.
const OLD_MS: u64 = 15_000;

/// A Redis that has not answered by then is away.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a process that looks keeps from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    evidence: Evidence,
    states: BTreeMap<Rule, RuleState>,
    looked_at_ms: u64,
    /// Rules whose state Redis does not know yet.
    unsaved: BTreeSet<Rule>,
    /// This process evaluated the rules at its last look.
    led: bool,
    /// Messages that are on their way.
    flying: HashSet<(Rule, DateTime<Utc>, NotificationChannel)>,
}

/// How to reach what is kept.
pub(crate) struct Shelf<'a> {
    pub(crate) redis: &'a Redis,
    /// None while Redis is away.
    pub(crate) connection: Option<Connection>,
    /// The name of this process.
    pub(crate) who: &'a str,
}

impl Watch {
    /// Takes a look in, evaluates the rules if this process leads, and adds to the snapshot where they stand. `false` if
    /// the connection should not be used again.
    pub(crate) async fn look(
        &mut self,
        snapshot: &mut Snapshot,
        alerting: Option<&Alerting>,
        leads: bool,
        mut shelf: Shelf<'_>,
    ) -> bool {
        let now = Utc::now();
        self.evidence.add(snapshot, now);
        let mut is_reached = true;
        if let Some(connection) = &mut shelf.connection {
            is_reached = in_time(self.load(shelf.redis, connection)).await;
            if !is_reached {
                shelf.connection = None;
            }
        }
        if let Some(alerting) = alerting {
            self.note_delivered(&mut *alerting.delivered.lock().await);
        }
        let alerting = alerting.filter(|_| leads);
        match alerting {
            Some(alerting) => is_reached &= self.evaluate(snapshot, alerting, shelf, now).await,
            None => is_reached &= self.hand_over(shelf).await,
        }
        self.led = alerting.is_some();
        let at_ms = u64::try_from(snapshot.at.timestamp_millis()).unwrap_or_default();
        let is_old = !self.led && is_old(self.looked_at_ms, at_ms);
        snapshot.alerts = if is_old { Vec::new() } else { views(&self.states) };
        is_reached
    }

    /// What Redis knows goes before what is remembered, unless Redis could not be told, or has forgotten it since: one
    /// that was started again may have lost its last second, or everything.
    async fn load(&mut self, redis: &Redis, connection: &mut Connection) -> Result<(), streams::Error> {
        let (mut stored, looked_at_ms) = load(redis, connection).await?;
        self.looked_at_ms = looked_at_ms;
        for rule in Rule::ALL {
            let state = stored.remove(&rule);
            let told_at = |state: Option<&RuleState>| state.and_then(RuleState::told_at);
            let is_forgotten = self.led && told_at(state.as_ref()) < told_at(self.states.get(&rule));
            match state {
                _ if is_forgotten => {
                    self.unsaved.insert(rule);
                }
                None if self.led => {
                    self.unsaved.insert(rule);
                }
                Some(state) if !self.unsaved.contains(&rule) => {
                    self.states.insert(rule, state);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes note of what has reached somebody, also after another process has begun to lead.
    fn note_delivered(&mut self, delivered: &mut mpsc::Receiver<Outcome>) {
        while let Ok(Outcome { rule, told_at, channel }) = delivered.try_recv() {
            self.flying.remove(&(rule, told_at, channel));
            if let Some(state) = self.states.get_mut(&rule).filter(|state| state.told_at() == Some(told_at)) {
                state.unsent.retain(|unsent| unsent != channel.as_str());
                self.unsaved.insert(rule);
            }
        }
    }

    async fn evaluate(
        &mut self,
        snapshot: &Snapshot,
        alerting: &Alerting,
        shelf: Shelf<'_>,
        now: DateTime<Utc>,
    ) -> bool {
        let mut states = self.states.clone();
        let bench = Bench { snapshot, evidence: &self.evidence, thresholds: &alerting.thresholds, now };
        let channels = alerting.channels();
        let mut news = Vec::new();
        for rule in Rule::ALL {
            let state = states.entry(rule).or_default();
            let reading = bench.judge(rule, state);
            (state.threshold, state.limit) = (bench.thresholds.words(rule), bench.thresholds.limit(rule));
            let changed = state.step(rule, &reading, now);
            if state.tell(changed, &channels, now) {
                news.push(rule);
            }
        }
        let changed = Rule::ALL.into_iter().filter(|rule| states.get(rule) != self.states.get(rule));
        let changed: BTreeSet<Rule> = changed.chain(self.unsaved.iter().copied()).collect();
        let mut is_reached = true;
        if let Some(mut connection) = shelf.connection {
            let at_ms = snapshot.at.timestamp_millis().to_string();
            let texts = changed.iter().filter_map(|rule| Some((rule.as_str(), text(states.get(rule)?))));
            let fields: Vec<_> = texts.chain([(LOOKED_AT, at_ms)]).collect();
            let mut is_ours = true;
            is_reached = in_time(async {
                is_ours = shelf.redis.save_alerts(&mut connection, shelf.who, &fields).await?;
                Ok(())
            })
            .await;
            if !is_ours {
                // Somebody else has taken the lease since, and tells.
                return is_reached;
            }
            self.unsaved = if is_reached { BTreeSet::new() } else { changed };
        } else {
            self.unsaved = changed;
        }
        self.states = states;
        self.looked_at_ms = u64::try_from(snapshot.at.timestamp_millis()).unwrap_or_default();
        for rule in news {
            if let Some(state) = self.states.get(&rule) {
                alerting.log(rule, state);
            }
        }
        self.send(alerting, now);
        is_reached
    }

    /// Sends what no channel has taken yet: news, and what somebody who evaluated before could not deliver any more.
    fn send(&mut self, alerting: &Alerting, now: DateTime<Utc>) {
        for (rule, state) in &mut self.states {
            let Some(told_at) = state.told_at() else { continue };
            if !state.unsent.is_empty() && seconds(now - told_at) > 2.0 * GIVEN_UP_SECONDS {
                error!(alert = %rule, channels = state.unsent.join(","), "nobody was told of an alert in time");
                state.unsent.clear();
                self.unsaved.insert(*rule);
            }
            for unsent in &state.unsent {
                let Ok(channel) = unsent.parse::<NotificationChannel>() else { continue };
                let flight = (*rule, told_at, channel);
                if !self.flying.contains(&flight) && alerting.queue(unsent, *rule, state, told_at) {
                    self.flying.insert(flight);
                }
            }
        }
    }

    /// What changed while Redis was away, and what was delivered late, is kept, though somebody else leads now.
    async fn hand_over(&mut self, shelf: Shelf<'_>) -> bool {
        let Some(mut connection) = shelf.connection.filter(|_| !self.unsaved.is_empty()) else { return true };
        let handed = in_time(async {
            for rule in &self.unsaved {
                let state = self.states.get(rule).map(text).unwrap_or_default();
                shelf.redis.hand_over_alert(&mut connection, rule.as_str(), &state).await?;
            }
            Ok(())
        });
        let is_reached = handed.await;
        if is_reached {
            self.unsaved.clear();
        }
        is_reached
    }
}

/// Where the rules stand, as somebody who does not look sees them; none when nobody evaluates them.
///
/// # Errors
/// When Redis cannot be reached.
pub async fn stored(redis: &Redis, connection: &mut Connection) -> Result<Vec<AlertView>, streams::Error> {
    let (states, looked_at_ms) = load(redis, connection).await?;
    let now_ms = redis.now_ms(connection).await?;
    let mut alerts = if is_old(looked_at_ms, now_ms) { Vec::new() } else { views(&states) };
    if let Some(refusal) = redis.probe(connection).await? {
        // Whoever evaluates cannot say so here.
        let known = alerts.iter().position(|alert| alert.rule == Rule::ServerRefuses.as_str());
        let known = known.map(|at| alerts.remove(at)).filter(|alert| alert.state == Standing::Firing.as_str());
        alerts.push(known.unwrap_or_else(|| refuses(refusal.as_str())));
    }
    Ok(alerts)
}

/// That Redis refuses writes, as seen just now.
fn refuses(why: &str) -> AlertView {
    let rule = Rule::ServerRefuses;
    AlertView {
        rule: rule.as_str().to_owned(),
        severity: rule.severity(),
        state: Standing::Firing.as_str().to_owned(),
        since: None,
        changed_at: None,
        value: None,
        stage: None,
        message: format!("Redis refuses writes: {why}. What is said of the others may be old."),
        threshold: "now".to_owned(),
        limit: None,
        runbook: rule.runbook().to_owned(),
        unsent: Vec::new(),
    }
}

async fn load(redis: &Redis, connection: &mut Connection) -> Result<(BTreeMap<Rule, RuleState>, u64), streams::Error> {
    let fields: Vec<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).chain([LOOKED_AT]).collect();
    let found = redis.alerts(connection, &fields).await?;
    // What cannot be read is as if it were not there.
    let read = |text: &Vec<u8>| serde_json::from_slice(text).ok();
    let states =
        Rule::ALL.into_iter().zip(&found).filter_map(|(rule, text)| Some((rule, text.as_ref().and_then(read)?)));
    let looked_at = found.last().and_then(|text| std::str::from_utf8(text.as_ref()?).ok()?.parse().ok());
    Ok((states.collect(), looked_at.unwrap_or_default()))
}

fn is_old(looked_at_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(looked_at_ms) > OLD_MS
}

fn text(state: &RuleState) -> String {
    serde_json::to_string(state).expect("texts and numbers are always JSON")
}

/// Whether it was done. What failed is told by who looks at the servers.
async fn in_time(asked: impl Future<Output = Result<(), streams::Error>>) -> bool {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            debug!(%error, "Redis could not be asked for alerts");
            false
        }
        Err(_) => false,
    }
}

fn views(states: &BTreeMap<Rule, RuleState>) -> Vec<AlertView> {
    let views = Rule::ALL.into_iter().filter_map(|rule| Some((rule, states.get(&rule)?)));
    let views = views.map(|(rule, state)| AlertView {
        rule: rule.as_str().to_owned(),
        severity: rule.severity(),
        state: state.state.as_str().to_owned(),
        since: state.since,
        changed_at: state.changed_at,
        // What a rule that is calm was about says nothing of now.
        value: state.value.filter(|_| state.state == Standing::Firing),
        stage: state.stage.clone().filter(|_| state.state == Standing::Firing),
        message: if state.changed_at.is_some() { state.message.clone() } else { String::new() },
        threshold: state.threshold.clone(),
        limit: state.limit,
        runbook: rule.runbook().to_owned(),
        unsent: state.unsent.clone(),
    });
    views.collect()
}
