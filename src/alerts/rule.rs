//! What is watched for.

use std::{fmt, time::Duration};

use serde::Serialize;

/// A rule. Its name is also its field in Redis and its metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A stage's oldest unread message is old.
    LagBehind,
    /// More arrives at a stage than it processes.
    LagGrowing,
    /// Redis cannot tell a lag.
    LagUnknown,
    /// Work waits, somebody runs the stage, nothing is processed.
    NoProgress,
    /// Work waits, and nobody runs the stage.
    NoConsumer,
    /// A message has been in hand for minutes.
    StuckOrders,
    /// A stage has been paused for long.
    StagePausedLong,
    /// Messages that no stage could process.
    DeadLetters,
    /// Too many orders fail.
    FailedRatio,
    /// Reserved pieces are not those of open orders.
    StockDrift,
    /// KPIs and leaderboards are old.
    RelayBehind,
    /// The process of an import has vanished.
    ImportAbandoned,
    /// Redis or Postgres does not answer.
    ServerAway,
    /// Redis or Postgres answers, and refuses.
    ServerRefuses,
    /// Redis or Postgres is an older one than it was.
    ServerWentBack,
    /// Messages that were delivered to nobody.
    DeliveriesLost,
}

/// How long a look must be confirmed before it changes anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Before it fires.
    pub(super) firing: Duration,
    /// Before it is calm again.
    pub(super) calm: Duration,
}

impl Rule {
    /// Every rule, in the order of docs/runbooks.
    pub const ALL: [Self; 16] = [
        Self::LagBehind,
        Self::LagGrowing,
        Self::LagUnknown,
        Self::NoProgress,
        Self::NoConsumer,
        Self::StuckOrders,
        Self::StagePausedLong,
        Self::DeadLetters,
        Self::FailedRatio,
        Self::StockDrift,
        Self::RelayBehind,
        Self::ImportAbandoned,
        Self::ServerAway,
        Self::ServerRefuses,
        Self::ServerWentBack,
        Self::DeliveriesLost,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LagBehind => "lag_behind",
            Self::LagGrowing => "lag_growing",
            Self::LagUnknown => "lag_unknown",
            Self::NoProgress => "no_progress",
            Self::NoConsumer => "no_consumer",
            Self::StuckOrders => "stuck_orders",
            Self::StagePausedLong => "stage_paused_long",
            Self::DeadLetters => "dead_letters",
            Self::FailedRatio => "failed_ratio",
            Self::StockDrift => "stock_drift",
            Self::RelayBehind => "relay_behind",
            Self::ImportAbandoned => "import_abandoned",
            Self::ServerAway => "server_away",
            Self::ServerRefuses => "server_refuses",
            Self::ServerWentBack => "server_went_back",
            Self::DeliveriesLost => "deliveries_lost",
        }
    }

    /// What to do about it: a page of this project.
    pub const fn runbook(self) -> &'static str {
        match self {
            Self::LagBehind => "docs/runbooks/LagBehind.md",
            Self::LagGrowing => "docs/runbooks/LagGrowing.md",
            Self::LagUnknown => "docs/runbooks/LagUnknown.md",
            Self::NoProgress => "docs/runbooks/NoProgress.md",
            Self::NoConsumer => "docs/runbooks/NoConsumer.md",
            Self::StuckOrders => "docs/runbooks/StuckOrders.md",
            Self::StagePausedLong => "docs/runbooks/StagePausedLong.md",
            Self::DeadLetters => "docs/runbooks/DeadLetters.md",
            Self::FailedRatio => "docs/runbooks/FailedRatio.md",
            Self::StockDrift => "docs/runbooks/StockDrift.md",
            Self::RelayBehind => "docs/runbooks/RelayBehind.md",
            Self::ImportAbandoned => "docs/runbooks/ImportAbandoned.md",
            Self::ServerAway => "docs/runbooks/ServerAway.md",
            Self::ServerRefuses => "docs/runbooks/ServerRefuses.md",
            Self::ServerWentBack => "docs/runbooks/ServerWentBack.md",
            Self::DeliveriesLost => "docs/runbooks/DeliveriesLost.md",
        }
    }

    /// How bad it is, as the runbook says.
    pub const fn severity(self) -> Severity {
        match self {
            Self::LagBehind
            | Self::NoProgress
            | Self::NoConsumer
            | Self::StuckOrders
            | Self::StockDrift
            | Self::ServerAway
            | Self::ServerRefuses
            | Self::ServerWentBack
            | Self::DeliveriesLost => Severity::Critical,
            Self::LagGrowing
            | Self::LagUnknown
            | Self::StagePausedLong
            | Self::DeadLetters
            | Self::FailedRatio
            | Self::RelayBehind
            | Self::ImportAbandoned => Severity::Warning,
        }
    }

    /// Nothing where one look cannot deceive: what all others show at once, alerts show at once.
    pub(super) const fn patience(self) -> Patience {
        let (firing, calm) = match self {
            Self::LagBehind => (0, 5),
            Self::LagGrowing => (60, 30),
            Self::LagUnknown => (5, 5),
            Self::NoProgress => (60, 5),
            // A process that is started again is away for some seconds.
            Self::NoConsumer => (10, 3),
            // What it takes to see that a message does not move is longer than any patience.
            Self::StuckOrders => (0, 5),
            Self::FailedRatio => (0, 30),
            Self::RelayBehind => (30, 5),
            // A process that is started again goes on with its uploads.
            Self::ImportAbandoned => (10, 0),
            // A connection that is lost for one look is no outage.
            Self::ServerAway | Self::ServerRefuses => (2, 3),
            Self::StagePausedLong
            | Self::DeadLetters
            | Self::StockDrift
            | Self::ServerWentBack
            | Self::DeliveriesLost => (0, 0),
        };
        Patience { firing: Duration::from_secs(firing), calm: Duration::from_secs(calm) }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How bad a rule is when it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody should look, soon.
    Warning,
    /// Somebody should look, now.
    Critical,
}

impl Severity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn every_rule_has_a_runbook_that_names_it_and_its_severity() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let table = std::fs::read_to_string(root.join("docs/runbooks/README.md")).expect("the runbooks");
        let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(root.join(rule.runbook()).exists(), "{rule}");
            let row = table.lines().find(|line| line.contains(&format!("`{rule}`")));
            let row = row.unwrap_or_else(|| panic!("{rule} is in no row"));
            let file = rule.runbook().rsplit('/').next().expect("a name");
            assert!(row.contains(file) && row.contains(rule.severity().as_str()), "{row}");
        }
    }
}
