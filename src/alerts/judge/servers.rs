//! Servers that are away, refuse, or are older than they were, and what was lost with them.

use super::{Bench, Level, Reading};
use crate::{
    alerts::{evidence::seconds, state::RuleState},
    monitor::span,
    output::{inert, thousands},
};

/// The cause under which the history has messages that were delivered to nobody.
const DELIVERIES_LOST: &str = "deliveries_lost";

impl Bench<'_> {
    pub(super) fn server_away(&self) -> Reading {
        // One that is full of connections, or lets nobody look, answers: it refuses.
        let postgres = self.snapshot.postgres_away.as_ref().filter(|_| self.snapshot.postgres_refuses.is_none());
        let redis = self.snapshot.stale.as_ref().filter(|_| self.snapshot.redis_refuses.is_none());
        let names = match (redis, postgres) {
            (Some(_), Some(_)) => "Redis and Postgres do not answer",
            (Some(_), None) => "Redis does not answer",
            (None, Some(_)) => "Postgres does not answer",
            (None, None) if self.snapshot.seq == 0 => return Reading::unknown(),
            (None, None) => return Reading::of(Level::Good, Some(0.0), "Redis and Postgres answer."),
        };
        let away = [redis, postgres].into_iter().flatten();
        let since = away.map(|away| away.since).min().unwrap_or(self.now);
        let lasts = seconds(self.now - since);
        Reading::of(Level::Bad, Some(lasts), format!("{names} for {}: workers wait, and lose nothing.", span(lasts)))
    }

    pub(super) fn server_refuses(&self) -> Reading {
        let refusals =
            [("Redis refuses", &self.snapshot.redis_refuses), ("Postgres refuses", &self.snapshot.postgres_refuses)];
        let told: Vec<String> = refusals
            .iter()
            .filter_map(|(name, refusal)| Some(format!("{name}: {}", inert(refusal.as_ref()?.error.as_bytes(), false))))
            .collect();
        let since = self.snapshot.refused_since().unwrap_or(self.now);
        match told.is_empty() {
            _ if self.snapshot.seq == 0 && told.is_empty() => Reading::unknown(),
            true if self.snapshot.stale.is_some() => Reading::unknown(),
            true => Reading::of(Level::Good, Some(0.0), "Redis and Postgres take what they are given."),
            false => {
                let message = format!("{}. Workers wait, and lose nothing.", told.join("; "));
                Reading::of(Level::Bad, Some(seconds(self.now - since)), message)
            }
        }
    }

    pub(super) fn server_went_back(&self) -> Reading {
        self.setback(|cause| cause != DELIVERIES_LOST, "Neither Redis nor Postgres went back.")
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
    pub(super) fn deliveries_lost(&self, before: &RuleState) -> Reading {
        let missing =
            self.worst(before, |view| view.missing.filter(|missing| *missing > 0).map(|missing| missing as f64));
        if let Some((view, missing)) = missing {
            let message = format!(
                "{} messages of {} were delivered to nobody, and wait for a worker of {}.",
                thousands(view.missing.unwrap_or_default()),
                view.stream,
                view.stage
            );
            return Reading::bad(view, missing, message);
        }
        self.setback(|cause| cause == DELIVERIES_LOST, "Every message was delivered to somebody.")
    }

    /// The newest of the setbacks that this is about; those are told of for as long as they are news.
    fn setback(&self, is_meant: impl Fn(&str) -> bool, calm: &str) -> Reading {
        if self.snapshot.postgres_away.is_some() {
            return Reading::unknown();
        }
        let newest = self.snapshot.setbacks.iter().find(|setback| is_meant(&setback.cause));
        match newest {
            None => Reading::of(Level::Good, Some(0.0), calm),
            Some(setback) => {
                let at = setback.finished_at.format("%H:%M:%S");
                let detail = inert(setback.detail.as_bytes(), false);
                Reading::of(Level::Bad, Some(seconds(self.now - setback.finished_at)), format!("{at} UTC: {detail}."))
            }
        }
    }
}
