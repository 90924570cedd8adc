//! What became of the letters of a replay or a discard.

use std::collections::BTreeMap;

use anyhow::Result;
use pipeline::{message::EntryId, streams::LetterId};
use serde::Serialize;

use super::shown;
use crate::{
    actions::Note,
    config::Globals,
    exit::Exit,
    output::{self, thousands},
};

/// Letters that are listed one by one in JSON.
const LISTED_MAX: usize = 1_000;

/// Letters that people are shown one by one.
const SHOWN_MAX: usize = 20;

/// How one letter ended.
#[derive(Debug, Serialize)]
pub(crate) struct Ended {
    pub(crate) id: LetterId,
    /// One word: `replayed`, `already`, `discarded`, `abandoned`, `refused`, `gone`.
    pub(crate) outcome: &'static str,
    /// What it became, why it was refused.
    pub(crate) detail: Option<String>,
}

/// The document of `dead replay` and `dead discard`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Nothing was changed: the outcomes are what would have been.
    pub(crate) dry_run: bool,
    pub(crate) interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// How many letters ended how.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// Ids that are no letters.
    pub(crate) missing: Vec<LetterId>,
    /// The first thousand letters.
    pub(crate) letters: Vec<Ended>,
    /// The last letter that was dealt with, if it was interrupted on its way through all letters.
    pub(crate) after: Option<LetterId>,
    /// The newest letter that was meant: what died meanwhile comes after it.
    pub(crate) up_to: Option<EntryId>,
    /// Where it is noted; absent of a dry run.
    #[serde(flatten)]
    pub(crate) note: Option<Note>,
}

impl Tally {
    pub(super) fn new(dry_run: bool) -> Self {
        Self { dry_run, ..Self::default() }
    }

    pub(super) fn add(&mut self, ended: Ended) {
        *self.outcomes.entry(ended.outcome).or_default() += 1;
        if self.letters.len() < LISTED_MAX {
            self.letters.push(ended);
        }
    }

    /// Letters dealt with.
    pub(crate) fn total(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Letters that are on their way again, or gone.
    pub(crate) fn changed(&self) -> u64 {
        ["replayed", "discarded", "abandoned"].iter().filter_map(|outcome| self.outcomes.get(outcome)).sum()
    }

    /// Letters that were left alone by a rule.
    pub(crate) fn refused(&self) -> u64 {
        self.outcomes.get("refused").copied().unwrap_or_default()
    }

    /// Why the first of them was, for people.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.letters.iter().find(|ended| ended.outcome == "refused")?.detail.as_deref()
    }

    pub(super) fn report(&self, globals: &Globals) -> Result<Exit> {
        let exit = match () {
            () if self.interrupted => Exit::Interrupted,
            () if self.outcomes.contains_key("refused") => Exit::Conflict,
            () if !self.missing.is_empty() => Exit::NotFound,
            () => Exit::Done,
        };
        if let Some(note) = &self.note {
            note.warn();
        }
        if globals.json {
            output::json(self)?;
            return Ok(exit);
        }
        for ended in self.letters.iter().take(SHOWN_MAX) {
            let detail = ended.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            output::text_line(&format!("{}  {}{detail}", ended.id, ended.outcome))?;
        }
        if self.total() > SHOWN_MAX as u64 {
            output::text_line(&format!("… and {} more", thousands(self.total() - SHOWN_MAX as u64)))?;
        }
        for id in &self.missing {
            crate::output::note!("error: there is no dead letter {id}");
        }
        let counts: Vec<String> =
            self.outcomes.iter().map(|(outcome, count)| format!("{} {outcome}", thousands(*count))).collect();
        let prefix = if self.dry_run && !counts.is_empty() { "This would be: " } else { "" };
        let counts = if counts.is_empty() { "no dead letters match".to_owned() } else { counts.join(", ") };
        let end = if self.interrupted { "; interrupted, run it again for the rest" } else { "" };
        let why = self.why.as_ref().map(|why| format!(" ({})", shown(why))).unwrap_or_default();
        output::text_line(&format!("{prefix}{counts}{why}{end}"))?;
        Ok(exit)
    }
}
