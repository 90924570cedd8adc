//! What an import came to.

use std::{collections::BTreeMap, time::Duration};

use pipeline::{
    runner::CountersSnapshot,
    store::{Latency, StateCount},
    topology::StageName,
};
use serde::Serialize;

use super::reading::File;
use crate::{
    exit::Exit,
    import::Parsed,
    intake::Known,
    output::{self, money, text_line, thousands},
};

/// How far an import came; the words of `imports.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The file is being read.
    Reading,
    /// Orders are being published.
    Publishing,
    /// Everything is published; Postgres does not know all of it yet.
    Waiting,
    /// Everything is published, and nobody waited.
    Published,
    /// Postgres knows every order.
    Done,
    /// The user stopped it.
    Interrupted,
    /// Something failed.
    Failed,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Publishing => "publishing",
            Self::Waiting => "waiting",
            Self::Published => "published",
            Self::Done => "done",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// The summary of one file; `--json` prints it as it is.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(super) file: String,
    pub(super) import_id: Option<i64>,
    pub(super) dry_run: bool,
    pub(super) outcome: Outcome,
    pub(super) sha256: Option<String>,
    pub(super) rows: u64,
    /// Rows of good orders: `accepted_rows + rejected_rows = rows`. Once known, they divide into new, duplicate,
    /// conflicting and missing ones.
    pub(super) accepted_rows: u64,
    pub(super) rejected_rows: u64,
    pub(super) rejected_orders: u64,
    /// Good orders in the file.
    pub(super) orders: u64,
    pub(super) published_orders: u64,
    pub(super) known: Option<Known>,
    /// Orders of this import by state and reason.
    pub(super) states: Vec<StateCount>,
    /// What the workers did that this import brought along.
    stages: BTreeMap<StageName, CountersSnapshot>,
    pub(super) latency: Option<Latency>,
    warnings: Vec<String>,
    rejects_file: Option<String>,
    seconds: Seconds,
}

/// How long each part took.
#[derive(Debug, Default, Serialize)]
struct Seconds {
    read: f64,
    publish: f64,
    /// From the first publication to the last settlement; null while nobody saw it.
    settle: Option<f64>,
}

impl Summary {
    pub(crate) fn new(file: &File) -> Self {
        Self {
            file: file.name.clone(),
            import_id: None,
            dry_run: false,
            outcome: Outcome::Reading,
            sha256: None,
            rows: 0,
            accepted_rows: 0,
            rejected_rows: 0,
            rejected_orders: 0,
            orders: 0,
            published_orders: 0,
            known: None,
            states: Vec::new(),
            stages: BTreeMap::new(),
            latency: None,
            warnings: Vec::new(),
            rejects_file: Some(file.rejects.display().to_string()),
            seconds: Seconds::default(),
        }
    }

    pub(super) fn read(&mut self, parsed: &Parsed, took: Duration) {
        self.outcome = Outcome::Done;
        self.sha256 = Some(parsed.sha256.clone());
        self.rows = parsed.rows;
        self.accepted_rows = parsed.accepted_rows;
        self.rejected_rows = parsed.rejected_rows;
        self.rejected_orders = parsed.rejected_orders;
        self.orders = parsed.orders;
        self.seconds.read = took.as_secs_f64();
        if parsed.rejected_rows == 0 {
            self.rejects_file = None;
        }
        let warnings = &parsed.warnings;
        if !warnings.ignored_columns.is_empty() {
            self.warnings.push(format!("ignored columns: {}", warnings.ignored_columns.join(", ")));
        }
        if let Some(line) = warnings.first_several_customers_line {
            let orders = thousands(warnings.orders_with_several_customers);
            self.warnings.push(format!(
                "{orders} orders name several customers, first on line {line}: the customer of an order's first row \
                 counts (--strict rejects such orders)"
            ));
        }
    }

    pub(super) fn published(&mut self, orders: u64, took: Duration) {
        self.published_orders = orders;
        self.seconds.publish = took.as_secs_f64();
    }

    pub(super) fn settled(&mut self, took: Duration, stages: BTreeMap<StageName, CountersSnapshot>) {
        self.seconds.settle = Some(took.as_secs_f64());
        self.stages = stages;
    }

    /// How the process should end if this is its only file.
    pub(super) fn exit(&self) -> Exit {
        let known = self.known.unwrap_or_default();
        match self.outcome {
            Outcome::Interrupted => Exit::Interrupted,
            Outcome::Failed => Exit::Failed,
            _ if known.missing_orders > 0 => Exit::Failed,
            _ if self.rejected_rows > 0 || known.conflicting_orders > 0 => Exit::Rejected,
            _ => Exit::Done,
        }
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        for warning in &self.warnings {
            eprintln!("warning: {}: {warning}", self.file);
        }
        if self.outcome == Outcome::Interrupted && self.sha256.is_none() {
            eprintln!("Interrupted while reading {}: nothing was published. Import it again to go on.", self.file);
            return Ok(());
        }
        if self.outcome == Outcome::Interrupted {
            eprintln!(
                "Interrupted after {} of {} orders. Nothing is lost: import {} again to go on; orders that are known \
                 already are left as they are.",
                thousands(self.published_orders),
                thousands(self.orders),
                self.file
            );
            return Ok(());
        }
        let verb = match self.outcome {
            _ if self.dry_run => "Checked",
            Outcome::Published => "Published",
            _ => "Imported",
        };
        text_line(&format!("{verb} {}", self.file))?;
        text_line(&format!(
            "  rows         {}: {} accepted, {} rejected",
            thousands(self.rows),
            thousands(self.accepted_rows),
            thousands(self.rejected_rows)
        ))?;
        text_line(&format!(
            "  orders       {} good, {} rejected",
            thousands(self.orders),
            thousands(self.rejected_orders)
        ))?;
        if let Some(known) = self.known {
            self.print_known(known)?;
        }
        if let Some(file) = self.rejects_file.as_ref().filter(|_| self.rejected_rows > 0) {
            text_line(&format!("  rejects      {file}"))?;
        }
        self.print_rates()?;
        self.print_states()
    }

    fn print_known(&self, known: Known) -> anyhow::Result<()> {
        text_line(&format!(
            "  of those     {} new ({} rows), {} duplicates ({} rows), {} conflicts ({} rows)",
            thousands(known.new_orders),
            thousands(known.new_rows),
            thousands(known.duplicate_orders),
            thousands(known.duplicate_rows),
            thousands(known.conflicting_orders),
            thousands(known.conflicting_rows),
        ))?;
        if known.republished_orders > 0 {
            text_line(&format!("  repaired     {} orders were published again", thousands(known.republished_orders)))?;
        }
        if known.missing_orders > 0 {
            text_line(&format!(
                "  missing      {} orders ({} rows) were processed but refused: look at the dead letters",
                thousands(known.missing_orders),
                thousands(known.missing_rows)
            ))?;
        }
        Ok(())
    }

    fn print_rates(&self) -> anyhow::Result<()> {
        text_line(&format!(
            "  reading      {:.2} s, {} rows/s",
            self.seconds.read,
            per_second(self.rows, self.seconds.read)
        ))?;
        if self.published_orders > 0 {
            text_line(&format!(
                "  publish      {:.2} s, {} orders/s",
                self.seconds.publish,
                per_second(self.published_orders, self.seconds.publish)
            ))?;
        }
        for (stage, counts) in self.stages.iter().filter(|(_, counts)| counts.messages > 0) {
            text_line(&format!(
                "  {stage:<11}  {} orders in {} batches, {} orders/s",
                thousands(counts.messages),
                thousands(counts.batches),
                per_second(counts.messages, counts.span_seconds)
            ))?;
        }
        if let Some(settle) = self.seconds.settle {
            text_line(&format!(
                "  end to end   {settle:.2} s, {} orders/s",
                per_second(self.published_orders, settle)
            ))?;
        }
        if let Some(latency) = &self.latency {
            text_line(&format!(
                "  latency      p50 {:.0} ms, p99 {:.0} ms, p99.9 {:.0} ms from the stream to the end",
                latency.p50_ms, latency.p99_ms, latency.p999_ms
            ))?;
        }
        Ok(())
    }

    fn print_states(&self) -> anyhow::Result<()> {
        if self.states.is_empty() {
            return Ok(());
        }
        text_line("")?;
        let rows = self
            .states
            .iter()
            .map(|state| {
                let reason = state.failure_reason.clone().unwrap_or_default();
                vec![state.status.clone(), reason, thousands(state.orders), money(state.total)]
            })
            .collect();
        output::table(&["STATE", "REASON", "ORDERS", "TOTAL"], &[2, 3], rows)
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
fn per_second(count: u64, seconds: f64) -> String {
    thousands((count as f64 / seconds.max(1e-6)) as u64)
}
