//! What is proven at the end of every run.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;
use serde::Serialize;

use super::{
    control::Control,
    drain::{Drained, until_drained},
    model::{Differences, Model},
};
use crate::{
    ledger::Ledger,
    program::{Audit, Program, Urls},
};

/// The state of the books after the last fault.
#[derive(Debug, Serialize)]
pub(super) struct Proof {
    /// Orders that were sent.
    pub(super) orders: u64,
    /// How the streams emptied.
    pub(super) drained: Drained,
    /// How Postgres differs from what was sent.
    pub(super) differences: Differences,
    /// Dead letters by reason.
    pub(super) dead_letters: BTreeMap<String, u64>,
    /// What the program itself says.
    pub(super) audit: Audit,
}

impl Proof {
    /// Waits until nothing is left to do, and compares.
    pub(super) async fn take(program: &Program, urls: &Urls, model: &Model, since: Instant) -> Result<Self> {
        let orders = model.len() as u64;
        eprintln!("waiting until nothing is left to do");
        let drained = until_drained(urls, orders, since).await?;
        eprintln!("comparing {orders} orders");
        let differences = model.compare(&mut Ledger::connect(&urls.database).await?).await?;
        let dead_letters = Control::new(&urls.redis).dead_letters().await?.into_iter().collect();
        eprintln!("auditing");
        let audit = program.audit(urls).await?;
        Ok(Self { orders, drained, differences, dead_letters, audit })
    }

    /// What is wrong, in words. `dead_letters` are expected.
    pub(super) fn faults(&self, dead_letters: &BTreeMap<String, u64>) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.drained.complete {
            let (streams, behind) = (&self.drained.streams, self.drained.relay_behind);
            faults.push(format!("the streams do not empty: {streams:?}, the relay is {behind} events behind"));
        }
        let differences = &self.differences;
        if differences.count() > 0 {
            let Differences { missing, unexpected, wrong, examples } = differences;
            faults.push(format!(
                "{missing} orders missing, {unexpected} unexpected, {wrong} wrong:\n    {}",
                examples.join("\n    ")
            ));
        }
        if self.dead_letters != *dead_letters {
            faults.push(format!("dead letters {:?}, expected {dead_letters:?}", self.dead_letters));
        }
        if !self.audit.clean {
            faults.push(format!("the audit found differences: {}", self.failed_checks()));
        }
        faults
    }

    fn failed_checks(&self) -> String {
        let failed = self.audit.report["checks"].as_array().into_iter().flatten();
        let failed = failed.filter(|check| check["differences"].as_u64() != Some(0));
        failed.map(|check| format!("{} {} {}", check["name"], check["differences"], check["examples"])).collect()
    }
}
