//! A file of refunds: published, taken in, looked after until its outcomes are there.

use std::{sync::Arc, time::Instant};

use pipeline::{domain::Cents, shutdown::Shutdown, store::Currencies};
use serde::Serialize;

use super::{
    Session, Until,
    reading::{self, File},
    summary::{Outcome, Summary, per_second},
};
use crate::{
    cli::ImportArgs,
    import::ParsedRefunds,
    intake::{Intake, Known, Outcomes},
    output::{self, money, text_line, thousands, titled},
    progress::Progress,
};

/// What came of the refunds of a file.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RefundsSummary {
    /// Good refunds in the file: its keys.
    pub(super) refunds: u64,
    /// Rows that say the same as an earlier one of the file.
    repeated_rows: u64,
    pub(super) published: u64,
    pub(super) known: Option<KnownRefunds>,
    /// Where those stand that are not in conflict, also the ones known before.
    outcomes: Option<Outcomes>,
}

/// What became of the published refunds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct KnownRefunds {
    /// Those that this import brought.
    new: u64,
    /// Known before, with the same content.
    pub(super) duplicate: u64,
    /// Known with another order, amount, reason or restock: dead letters.
    pub(super) conflicting: u64,
    /// Refused by the workers: dead letters.
    pub(super) missing: u64,
    /// Published again because Redis had lost them.
    republished: u64,
}

impl From<Known> for KnownRefunds {
    fn from(known: Known) -> Self {
        Self {
            new: known.new.messages,
            duplicate: known.duplicate.messages,
            conflicting: known.conflicting.messages,
            missing: known.missing.messages,
            republished: known.republished,
        }
    }
}

impl RefundsSummary {
    pub(super) fn read(parsed: &ParsedRefunds) -> Self {
        Self { refunds: parsed.refunds, repeated_rows: parsed.accepted_rows - parsed.refunds, ..Self::default() }
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        let mut refunds = format!("  refunds      {} good", thousands(self.refunds));
        if self.repeated_rows > 0 {
            refunds += &format!(", {} rows that repeat them", thousands(self.repeated_rows));
        }
        text_line(&refunds)?;
        if let Some(known) = self.known {
            text_line(&format!(
                "  of those     {} new, {} known before, {} conflicts",
                thousands(known.new),
                thousands(known.duplicate),
                thousands(known.conflicting)
            ))?;
            if known.republished > 0 {
                text_line(&format!("  repaired     {} were published again", thousands(known.republished)))?;
            }
            if known.missing > 0 {
                text_line(&format!(
                    "  missing      {} were processed but refused: look at the dead letters",
                    thousands(known.missing)
                ))?;
            }
        }
        Ok(())
    }

    /// Where the refunds stand.
    pub(super) fn print_outcomes(&self, currencies: &Currencies) -> anyhow::Result<()> {
        let Some(outcomes) = &self.outcomes else { return Ok(()) };
        let mut rows = Vec::new();
        let mut add = |state: &str, reason: &str, refunds: u64, amount: Option<Cents>| {
            if refunds > 0 {
                let amount = amount.map(money).unwrap_or_default();
                rows.push(vec![state.to_owned(), reason.to_owned(), thousands(refunds), amount]);
            }
        };
        add("succeeded", "", outcomes.succeeded, Some(outcomes.succeeded_amount));
        for (reason, refunds) in &outcomes.refused {
            add("refused", reason, *refunds, None);
        }
        add("pending", "the gateway owes its answer", outcomes.pending, None);
        add("waiting", "the order has not reached its end", outcomes.waiting, None);
        if rows.is_empty() {
            return Ok(());
        }
        text_line("")?;
        let amount = titled("AMOUNT", &currencies.label());
        output::table(&["STATE", "REASON", "REFUNDS", &amount], &[2, 3], rows)?;
        currencies.note().map_or(Ok(()), |note| text_line(&note))
    }

    pub(super) fn print_rate(&self, publish_s: f64) -> anyhow::Result<()> {
        if self.published > 0 {
            text_line(&format!(
                "  publish      {publish_s:.2} s, {} refunds/s",
                per_second(self.published, publish_s)
            ))?;
        }
        Ok(())
    }
}

impl Session {
    /// The way of a file of refunds. `summary` says how far it came, also after an error.
    pub(super) async fn import_refunds(
        &self,
        import_id: i64,
        file: File,
        args: &ImportArgs,
        summary: &mut Summary,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        // Whatever ends early without an error was interrupted.
        if let Some(outcome) = self.carry_refunds(import_id, file, args, summary, progress, shutdown).await? {
            summary.outcome = outcome;
        } else {
            summary.outcome = Outcome::Interrupted;
        }
        Ok(())
    }

    /// How the import ended; `None` when the signal came first.
    async fn carry_refunds(
        &self,
        import_id: i64,
        file: File,
        args: &ImportArgs,
        summary: &mut Summary,
        progress: &mut Progress,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Option<Outcome>> {
        let started = Instant::now();
        let Some(read) = reading::read_refunds(file, args, progress, shutdown).await? else { return Ok(None) };
        summary.read_refunds(&read, started.elapsed());
        summary.outcome = Outcome::Publishing;
        if self.ask(progress, shutdown, async || self.note(import_id, summary, false).await).await?.is_none() {
            return Ok(None);
        }

        let total = read.refunds;
        let intake = Intake {
            store: self.store.clone(),
            redis: self.backends.redis()?,
            partitions: self.partitions,
            import_id,
            max_backlog: args.max_backlog,
            freight: Arc::new(read.grouped),
        };
        let publishing = Instant::now();
        let published = intake.publish(total, progress, shutdown).await?;
        summary.published_refunds(published.messages, publishing.elapsed());
        if !published.complete {
            return Ok(None);
        }
        if args.no_wait {
            return Ok(Some(Outcome::Published));
        }
        summary.outcome = Outcome::Waiting;
        if self.ask(progress, shutdown, async || self.note(import_id, summary, false).await).await?.is_none() {
            return Ok(None);
        }
        let Some(known) = intake.await_known(&published, progress, shutdown).await? else { return Ok(None) };
        summary.refunds_mut().known = Some(known.into());
        if let Some(crew) = &self.crew {
            // When these workers leave, nobody goes on: refunds that wait for their order are waited for, too.
            progress.phase("Settling", None);
            tokio::select! {
                drained = crew.drained(Until::Import(import_id)) => drained?,
                () = shutdown.begun() => return Ok(None),
            }
            summary.settled(publishing.elapsed(), crew.counts());
        }
        let Some(outcomes) = intake.await_outcomes(total, progress, shutdown).await? else { return Ok(None) };
        summary.refunds_mut().outcomes = Some(outcomes);
        let currencies = self.ask(progress, shutdown, async || self.currencies().await).await?;
        let Some(currencies) = currencies else { return Ok(None) };
        summary.currencies = currencies;
        Ok(Some(Outcome::Done))
    }
}
