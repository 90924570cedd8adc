//! The map of the pipeline: which stage reads which stream, and what the keys are called.
//!
//! All keys of one partition share a hash tag, so that a hand-off stays one atomic script on Redis Cluster. KPIs,
//! leaderboards and events live under a tag of their own, written by the relay alone.

use std::{fmt, str::FromStr};

use chrono::NaiveDate;

use crate::domain::FailureReason;

/// A stage. Its name is also its consumer group, its label and its log field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageName {
    /// Takes orders in and holds stock for them.
    Reservation,
    /// Asks the gateway for the money.
    Payment,
    /// Completes paid orders and releases the stock of the others.
    Settlement,
    /// Takes in refund requests.
    Refund,
    /// Takes in what payment providers tell by message.
    Callback,
}

impl StageName {
    /// Every stage.
    pub const ALL: [Self; 5] = [Self::Reservation, Self::Payment, Self::Settlement, Self::Refund, Self::Callback];

    /// The way of an order, in the order in which it passes them.
    pub const WAY: [Self; 3] = [Self::Reservation, Self::Payment, Self::Settlement];

    /// The stage's name and its consumer group.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reservation => "reservation",
            Self::Payment => "payment",
            Self::Settlement => "settlement",
            Self::Refund => "refund",
            Self::Callback => "callback",
        }
    }

    /// The last part of the key of the stream that the stage reads.
    pub const fn stream(self) -> &'static str {
        match self {
            Self::Reservation => "incoming",
            Self::Payment => "reserved",
            Self::Settlement => "paid",
            Self::Refund => "refunds",
            Self::Callback => "callbacks",
        }
    }

    /// Every stage that this one may hand an order to: the next one, or an earlier one to drive the order again.
    pub const fn targets(self) -> &'static [Self] {
        match self {
            Self::Reservation => &[Self::Payment],
            Self::Payment => &[Self::Settlement],
            Self::Settlement => &[Self::Payment],
            Self::Refund | Self::Callback => &[],
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl serde::Serialize for StageName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for StageName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|stage| stage.as_str() == name)
            .ok_or_else(|| format!("{name:?} is not a stage: {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// The names of all keys under one namespace, `orderstream` unless configured otherwise.
#[derive(Debug, Clone)]
pub struct Keyspace {
    namespace: String,
}

impl Keyspace {
    /// Keys that start with `namespace`.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into() }
    }

    /// The stream that `stage` reads: `orderstream:{0}:incoming`.
    pub fn stream(&self, partition: u16, stage: StageName) -> String {
        format!("{}:{{{partition}}}:{}", self.namespace, stage.stream())
    }

    /// The dead letters of a partition: `orderstream:{0}:dead`.
    pub fn dead(&self, partition: u16) -> String {
        format!("{}:{{{partition}}}:dead", self.namespace)
    }

    /// What became of dead letters of a partition, by their id: `orderstream:{0}:dead:replays`, a hash.
    pub fn dead_replays(&self, partition: u16) -> String {
        format!("{}:{{{partition}}}:dead:replays", self.namespace)
    }

    /// Set while a stage is paused in a partition: `orderstream:{0}:paused:payment`.
    pub fn paused(&self, partition: u16, stage: StageName) -> String {
        format!("{}:{{{partition}}}:paused:{stage}", self.namespace)
    }

    /// What a stage's group has acknowledged, counted: `orderstream:{0}:books:payment`, a hash.
    pub fn books(&self, partition: u16, stage: StageName) -> String {
        format!("{}:{{{partition}}}:books:{stage}", self.namespace)
    }

    /// Which entries those were, as long as they may be asked for: `orderstream:{0}:books:payment:acked`, a list.
    pub fn acknowledged(&self, partition: u16, stage: StageName) -> String {
        format!("{}:{{{partition}}}:books:{stage}:acked", self.namespace)
    }

    /// A number that only grows: `orderstream:{0}:mark`, a string. One that is smaller than it was is that of a Redis
    /// which went back.
    pub fn mark(&self) -> String {
        format!("{}:{{0}}:mark", self.namespace)
    }

    /// Whose these keys are: `orderstream:{0}:installation`, a string.
    pub fn installation(&self) -> String {
        format!("{}:{{0}}:installation", self.namespace)
    }

    /// The first part of all keys.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The stream of events that the relay publishes: `orderstream:{board}:events`.
    pub fn events(&self) -> String {
        self.board("events")
    }

    /// The sequence number of the last event that the board shows: `orderstream:{board}:cursor`.
    pub fn cursor(&self) -> String {
        self.board("cursor")
    }

    /// What that event was, so that a Postgres with another history is noticed: `orderstream:{board}:cursor:event`.
    pub fn cursor_event(&self) -> String {
        self.board("cursor:event")
    }

    /// How the board is laid out, and up to which event it is laid out so throughout: `orderstream:{board}:layout`.
    pub fn layout(&self) -> String {
        self.board("layout")
    }

    /// The figures of one UTC day: `orderstream:{board}:kpi:2026-11-22`.
    pub fn kpi(&self, day: NaiveDate) -> String {
        self.board(&format!("kpi:{day}"))
    }

    /// A leaderboard, for all time or for one UTC day: `orderstream:{board}:leaderboard:customers:2026-11-22`.
    pub fn leaderboard(&self, board: Leaderboard, day: Option<NaiveDate>) -> String {
        match day {
            Some(day) => self.board(&format!("leaderboard:{board}:{day}")),
            None => self.board(&format!("leaderboard:{board}")),
        }
    }

    /// The prefix of everything that the relay writes: `orderstream:{board}:`.
    pub fn board_prefix(&self) -> String {
        self.board("")
    }

    /// What the processes of an installation say of themselves: `orderstream:{monitor}:processes`, a hash.
    pub fn processes(&self) -> String {
        self.monitor("processes")
    }

    /// Written to see whether Redis takes writes: `orderstream:{monitor}:probe`, a string that expires.
    pub fn probe(&self) -> String {
        self.monitor("probe")
    }

    /// Which process writes history and evaluates alerts: `orderstream:{monitor}:leader`, a string that expires.
    pub fn monitor_leader(&self) -> String {
        self.monitor("leader")
    }

    /// How the pipeline stood, a point every so often: `orderstream:{monitor}:history:5s`, a stream.
    pub fn history(&self, step: HistoryStep) -> String {
        self.monitor(&format!("history:{step}"))
    }

    /// Where each alert stands: `orderstream:{monitor}:alerts`, a hash.
    pub fn alerts(&self) -> String {
        self.monitor("alerts")
    }

    fn monitor(&self, key: &str) -> String {
        format!("{}:{{monitor}}:{key}", self.namespace)
    }

    fn board(&self, key: &str) -> String {
        format!("{}:{{board}}:{key}", self.namespace)
    }
}

/// The field of a day's figures that counts the orders which failed for this reason.
pub const fn failed_field(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::UnknownCustomer => "failed_unknown_customer",
        FailureReason::UnknownProduct => "failed_unknown_product",
        FailureReason::OutOfStock => "failed_out_of_stock",
        FailureReason::PaymentDeclined => "failed_payment_declined",
        FailureReason::PaymentExpired => "failed_payment_expired",
        FailureReason::Abandoned => "failed_abandoned",
    }
}

/// Who is ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaderboard {
    /// Customers by revenue net of refunds, in minor units.
    Customers,
    /// Products by pieces sold, less those restocked.
    Products,
}

impl fmt::Display for Leaderboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Customers => "customers",
            Self::Products => "products",
        })
    }
}

/// How far apart the points of a history are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HistoryStep {
    /// Five seconds, kept for an hour and a bit.
    FiveSeconds,
    /// A minute, kept for a day and a bit.
    Minute,
}

impl HistoryStep {
    /// Every step, the finest first.
    pub const ALL: [Self; 2] = [Self::FiveSeconds, Self::Minute];

    /// Milliseconds from a point to the next one.
    pub const fn ms(self) -> u64 {
        match self {
            Self::FiveSeconds => 5_000,
            Self::Minute => 60_000,
        }
    }

    /// How many points are kept.
    pub const fn points_kept(self) -> u64 {
        match self {
            Self::FiveSeconds => 750,
            Self::Minute => 1_500,
        }
    }
}

impl fmt::Display for HistoryStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FiveSeconds => "5s",
            Self::Minute => "1m",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_failed_orders_are_named_after_the_reasons() {
        for reason in FailureReason::ALL {
            assert_eq!(failed_field(*reason), format!("failed_{reason}"));
        }
    }
}
