//! What an import came to.

use std::{collections::BTreeMap, time::Duration};

use pipeline::{
    runner::CountersSnapshot,
    store::{Currencies, ImportKind, Latency, StateCount},
    topology::StageName,
};
use serde::Serialize;

use super::{reading::File, refunds::RefundsSummary};
use crate::{
    exit::Exit,
    import::{Form, Parsed, ParsedRefunds},
    intake::Known,
    output::{self, money, text_line, thousands, titled},
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
    pub(super) kind: ImportKind,
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
    pub(super) known: Option<KnownOrders>,
    /// Of a file of refunds: what came of them. All that is said of orders is zero then.
    #[serde(skip_serializing_if = "Option::is_none")]
    refunds: Option<RefundsSummary>,
    /// Orders of this import by state and reason.
    pub(super) states: Vec<StateCount>,
    /// In what amounts are, added up at face value where that is more than one; null while nobody has asked.
    pub(super) currencies: Currencies,
    /// What the workers did that this import brought along.
    stages: BTreeMap<StageName, CountersSnapshot>,
    pub(super) latency: Option<Latency>,
    warnings: Vec<String>,
    /// How the file was read; null while that is not known.
    form: Option<Form>,
    /// What is good to know of that.
    notes: Vec<String>,
    rejects_file: Option<String>,
    seconds: Seconds,
}

/// What became of the published orders.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct KnownOrders {
    new_orders: u64,
    new_rows: u64,
    duplicate_orders: u64,
    duplicate_rows: u64,
    conflicting_orders: u64,
    conflicting_rows: u64,
    missing_orders: u64,
    missing_rows: u64,
    republished_orders: u64,
}

impl From<Known> for KnownOrders {
    fn from(known: Known) -> Self {
        Self {
            new_orders: known.new.messages,
            new_rows: known.new.rows,
            duplicate_orders: known.duplicate.messages,
            duplicate_rows: known.duplicate.rows,
            conflicting_orders: known.conflicting.messages,
            conflicting_rows: known.conflicting.rows,
            missing_orders: known.missing.messages,
            missing_rows: known.missing.rows,
            republished_orders: known.republished,
        }
    }
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
            kind: file.kind,
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
            refunds: None,
            states: Vec::new(),
            currencies: Currencies::default(),
            stages: BTreeMap::new(),
            latency: None,
            warnings: Vec::new(),
            form: None,
            notes: Vec::new(),
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
        let warnings = &parsed.warnings;
        self.read_to_end(parsed.form, &warnings.ignored_columns, took);
        if let Some(line) = warnings.first_several_customers_line {
            let orders = thousands(warnings.orders_with_several_customers);
            self.warnings.push(format!(
                "{orders} orders name several customers, first on line {line}: the customer of an order's first row \
                 counts (--strict rejects such orders)"
            ));
        }
    }

    pub(super) fn read_refunds(&mut self, parsed: &ParsedRefunds, took: Duration) {
        self.outcome = Outcome::Done;
        self.sha256 = Some(parsed.sha256.clone());
        self.rows = parsed.rows;
        self.accepted_rows = parsed.accepted_rows;
        self.rejected_rows = parsed.rejected_rows;
        self.refunds = Some(RefundsSummary::read(parsed));
        self.read_to_end(parsed.form, &parsed.ignored_columns, took);
    }

    fn read_to_end(&mut self, form: Form, ignored_columns: &[String], took: Duration) {
        self.notes = form.notes();
        self.form = Some(form);
        self.seconds.read = took.as_secs_f64();
        if self.rejected_rows == 0 {
            self.rejects_file = None;
        }
        if !ignored_columns.is_empty() {
            self.warnings.push(format!("ignored columns: {}", ignored_columns.join(", ")));
        }
    }

    /// What came of the refunds of the file.
    pub(super) fn refunds_mut(&mut self) -> &mut RefundsSummary {
        self.refunds.get_or_insert_default()
    }

    pub(super) fn published_refunds(&mut self, refunds: u64, took: Duration) {
        self.refunds_mut().published = refunds;
        self.seconds.publish = took.as_secs_f64();
    }

    /// Messages that were published.
    pub(super) fn published(&self) -> u64 {
        self.refunds.as_ref().map_or(self.published_orders, |refunds| refunds.published)
    }

    /// Of those, known before with the same content; `None` while nobody waited to see.
    pub(super) fn duplicates(&self) -> Option<u64> {
        match &self.refunds {
            Some(refunds) => refunds.known.map(|known| known.duplicate),
            None => self.known.map(|known| known.duplicate_orders),
        }
    }

    /// Of those, known before with other content; `None` while nobody waited to see.
    pub(super) fn conflicts(&self) -> Option<u64> {
        match &self.refunds {
            Some(refunds) => refunds.known.map(|known| known.conflicting),
            None => self.known.map(|known| known.conflicting_orders),
        }
    }

    /// Of those, refused by the workers.
    fn missing(&self) -> u64 {
        match &self.refunds {
            Some(refunds) => refunds.known.map_or(0, |known| known.missing),
            None => self.known.map_or(0, |known| known.missing_orders),
        }
    }

    pub(super) fn published_orders(&mut self, orders: u64, took: Duration) {
        self.published_orders = orders;
        self.seconds.publish = took.as_secs_f64();
    }

    pub(super) fn settled(&mut self, took: Duration, stages: BTreeMap<StageName, CountersSnapshot>) {
        self.seconds.settle = Some(took.as_secs_f64());
        self.stages = stages;
    }

    /// How the process should end if this is its only file.
    pub(super) fn exit(&self) -> Exit {
        match self.outcome {
            Outcome::Interrupted => Exit::Interrupted,
            Outcome::Failed => Exit::Failed,
            _ if self.missing() > 0 => Exit::Failed,
            _ if self.rejected_rows > 0 || self.conflicts().is_some_and(|conflicts| conflicts > 0) => Exit::Rejected,
            _ => Exit::Done,
        }
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        for warning in &self.warnings {
            crate::output::note!("warning: {}: {warning}", self.file);
        }
        if self.outcome == Outcome::Interrupted && self.sha256.is_none() {
            crate::output::note!(
                "Interrupted while reading {}: nothing was published. Import it again to go on.",
                self.file
            );
            return Ok(());
        }
        if self.outcome == Outcome::Interrupted {
            crate::output::note!(
                "Interrupted after {} of {} {}. Nothing is lost: import {} again to go on; what is known already is left \
                 as it is.",
                thousands(self.published()),
                thousands(self.refunds.as_ref().map_or(self.orders, |refunds| refunds.refunds)),
                self.kind.as_str(),
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
        for note in &self.notes {
            text_line(&format!("  note         {note}"))?;
        }
        match &self.refunds {
            Some(refunds) => refunds.print()?,
            None => text_line(&format!(
                "  orders       {} good, {} rejected",
                thousands(self.orders),
                thousands(self.rejected_orders)
            ))?,
        }
        if let Some(known) = self.known {
            self.print_known(known)?;
        }
        if let Some(file) = self.rejects_file.as_ref().filter(|_| self.rejected_rows > 0) {
            text_line(&format!("  rejects      {file}"))?;
        }
        self.print_rates()?;
        match &self.refunds {
            Some(refunds) => refunds.print_outcomes(&self.currencies),
            None => self.print_states(),
        }
    }

    fn print_known(&self, known: KnownOrders) -> anyhow::Result<()> {
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
        if let Some(refunds) = &self.refunds {
            return refunds.print_rate(self.seconds.publish);
        }
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
        output::table(&["STATE", "REASON", "ORDERS", &titled("TOTAL", &self.currencies.label())], &[2, 3], rows)?;
        self.currencies.note().map_or(Ok(()), |note| text_line(&note))
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
pub(super) fn per_second(count: u64, seconds: f64) -> String {
    thousands((count as f64 / seconds.max(1e-6)) as u64)
}
