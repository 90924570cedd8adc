//! What a run has shown, for people and as JSON.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use serde::Serialize;

use super::{
    control::STAGES,
    importer::Imports,
    kinds::{Kind, Outage, Tally},
    poison::Poisoned,
    producer::Sent,
    proof::Proof,
    samples::Samples,
    supervisor::Seen,
};
use crate::ending::Ending;

/// Ends that a supervisor expects: the servers are away when the process starts.
const EXPECTED_ENDS: [&str; 1] = ["exit status: 7"];

/// The report of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Where chance began.
    pub(super) seed: u64,
    /// How long it took.
    pub(super) seconds: f64,
    /// Faults by kind.
    pub(super) faults: Vec<(Kind, Tally)>,
    /// Long outages.
    pub(super) outages: Vec<Outage>,
    /// What a message did that kills whoever works on it.
    pub(super) poison: Option<Poisoned>,
    /// What was seen of the workers.
    pub(super) workers: Seen,
    /// What the imports came to, where orders were imported.
    pub(super) imports: Option<Imports>,
    /// What was sent to the stream, where it was.
    pub(super) sent: Option<Sent>,
    /// Memory, streams and connections over time.
    pub(super) samples: Option<Samples>,
    /// Orders of the whole run that were not settled when the last fault was over.
    pub(super) unsettled_at_last_fault: i64,
    /// The state of the books.
    pub(super) proof: Proof,
    /// What is wrong, in words; empty when all is well.
    pub(super) wrong: Vec<String>,
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    wrong: Vec<String>,
}

impl Verdict {
    /// Adds a finding.
    pub(super) fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Imports must not fail, and miss nothing.
    pub(super) fn imports(&mut self, imports: &Imports) {
        if imports.failed > 0 {
            let failures = imports.failures.join("\n    ");
            self.wrong(format!("the import failed {} times:\n    {failures}", imports.failed));
        }
        if imports.missing > 0 {
            self.wrong(format!("the import missed {} orders", imports.missing));
        }
    }

    /// Workers end by themselves only when they start without servers.
    pub(super) fn workers(&mut self, seen: &Seen) {
        for (end, count) in &seen.ended_by_themselves {
            if !EXPECTED_ENDS.contains(&end.as_str()) {
                self.wrong(format!("orderstream run ended by itself {count} times: {end}"));
            }
        }
    }

    /// Work goes on after an outage.
    pub(super) fn outages(&mut self, outages: &[Outage]) {
        if outages.iter().any(|outage| outage.seconds_to_next_order.is_none()) {
            self.wrong("no order was settled after an outage".to_owned());
        }
    }

    /// The books balance, with these dead letters.
    pub(super) fn proof(&mut self, proof: &Proof, dead_letters: &BTreeMap<String, u64>) {
        self.wrong.extend(proof.faults(dead_letters));
    }

    /// All findings.
    pub(super) fn into_wrong(self) -> Vec<String> {
        self.wrong
    }
}

impl Report {
    /// Prints it.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
        } else {
            print!("{self}");
        }
        Ok(())
    }

    /// How the run ended.
    pub(super) fn ending(&self) -> Ending {
        match self.wrong.is_empty() {
            true => Ending::Done,
            false => Ending::Failed,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24}{:>6}  {:>9}  in hand, by stage", "FAULT", "MADE", "WITH WORK")?;
        for (kind, tally) in &self.faults {
            write!(f, "{kind:24}{:6}  {:9} ", tally.made, tally.with_work)?;
            for ((stage, _), count) in STAGES.iter().zip(tally.by_stage) {
                write!(f, " {stage} {count}")?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for outage in &self.outages {
            let Outage { seconds, log_lines, log_lines_per_second_max, seconds_to_next_order } = outage;
            writeln!(
                f,
                "Postgres away        {seconds:.1} s, {log_lines} lines of log, at most {log_lines_per_second_max} a second"
            )?;
            match seconds_to_next_order {
                Some(seconds) => writeln!(f, "next settled order   {seconds:.2} s after it was back")?,
                None => writeln!(f, "next settled order   none")?,
            }
        }
        if let Some(Poisoned { rate_before, seconds, rate_after, killed, dead_letters }) = &self.poison {
            writeln!(
                f,
                "poison               killed {killed} processes, set aside after {seconds:.1} s as {dead_letters:?}"
            )?;
            writeln!(
                f,
                "throughput           {rate_before:.0} orders/s before it, {rate_after:.0} after it: {:.2}",
                rate_after / rate_before
            )?;
        }
        if let Some(samples) = &self.samples {
            writeln!(f, "{samples}")?;
        }
        let Seen { starts, ended_by_themselves, taken_over, .. } = &self.workers;
        writeln!(f, "starts of run        {starts}")?;
        for (end, count) in ended_by_themselves {
            writeln!(f, "ended by itself      {count} times, {end}")?;
        }
        writeln!(f, "messages taken over  {taken_over}")?;
        if let Some(imports) = &self.imports {
            let Imports { files, orders, rows, failed, republished, seconds, .. } = imports;
            writeln!(f, "imported             {rows} rows, {orders} orders of {files} files in {seconds:.1} s")?;
            writeln!(f, "imports failed       {failed}")?;
            writeln!(f, "published again      {republished} orders")?;
        }
        if let Some(Sent { orders, twice, again, rate }) = self.sent {
            writeln!(
                f,
                "sent                 {orders} orders, {rate:.0} a second, {twice} of them twice, {again} again"
            )?;
        }
        let proof = &self.proof;
        writeln!(f, "at the last fault    {} orders were not settled", self.unsettled_at_last_fault)?;
        match proof.drained.complete {
            true => writeln!(f, "lag 0                {:.1} s after the last fault", proof.drained.seconds)?,
            false => writeln!(f, "lag 0                never, given up after {:.1} s", proof.drained.seconds)?,
        }
        writeln!(f, "orders               {}", proof.orders)?;
        writeln!(f, "differences          {}", proof.differences.count())?;
        writeln!(f, "dead letters         {}", proof.dead_letters.values().sum::<u64>())?;
        writeln!(f, "audit                {}", if proof.audit.clean { "clean" } else { "DIFFERENCES" })?;
        writeln!(f, "took                 {:.0} s, seed {}", self.seconds, self.seed)?;
        for wrong in &self.wrong {
            writeln!(f, "WRONG  {wrong}")?;
        }
        Ok(())
    }
}
