//! `orderstream dead`: its flags.

use std::path::PathBuf;

use chrono::TimeDelta;
use clap::{Args, Subcommand, ValueEnum};
use pipeline::{
    message::{DeadReason, EntryId},
    streams::LetterId,
    topology::StageName,
};

use super::operate::parse_why;
pub(crate) use super::span::parse_span;

/// `orderstream dead`
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List dead letters, newest first
    List(ListArgs),
    /// Count dead letters that died of the same thing together
    Groups(GroupsArgs),
    /// Show everything about one dead letter, and what to do about it
    Show {
        /// Which one, as `dead list` names it
        id: LetterId,
    },
    /// Send dead letters on their way again; the letters stay, marked, until they are discarded
    Replay(ReplayArgs),
    /// Remove dead letters for good; a parked order whose letter goes fails as abandoned
    Discard(DiscardArgs),
    /// Write dead letters as NDJSON, one a line
    Export(ExportArgs),
    /// Put exported dead letters back; those that are still there are skipped
    Import(ImportLettersArgs),
}

/// Which letters. All conditions must hold.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// These letters, as `dead list` names them
    #[arg(value_name = "ID")]
    pub ids: Vec<LetterId>,
    /// Given up by this stage: reservation, payment, settlement, refund, callback
    #[arg(long)]
    pub stage: Option<StageName>,
    /// Dead for this reason: no_body, too_large, undecodable, invalid_order, invalid_refund, invalid_callback, conflict,
    /// unknown_order, deleted, refused_by_database, attempts_exhausted
    #[arg(long)]
    pub reason: Option<DeadReason>,
    /// Of this order code, as far as the body can be read
    #[arg(long, value_name = "CODE")]
    pub order: Option<String>,
    /// Of this group, as `dead groups` names it
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Dead for longer than this: 90s, 10m, 2h, 3d
    #[arg(long, value_name = "AGE", value_parser = parse_span)]
    pub older_than: Option<TimeDelta>,
    /// Dead for less than this: 90s, 10m, 2h, 3d
    #[arg(long, value_name = "AGE", value_parser = parse_span)]
    pub newer_than: Option<TimeDelta>,
    /// Only letters that were replayed before, or that were not
    #[arg(long)]
    pub replayed: Option<YesNo>,
    /// None that came after this one, although it may match
    #[arg(long, value_name = "ID")]
    pub up_to: Option<EntryId>,
}

impl Which {
    /// Whether nothing narrows the letters down.
    pub fn is_all(&self) -> bool {
        let Self { ids, stage, reason, order, group, older_than, newer_than, replayed, up_to: _ } = self;
        ids.is_empty()
            && group.is_none()
            && stage.is_none()
            && reason.is_none()
            && order.is_none()
            && older_than.is_none()
            && newer_than.is_none()
            && replayed.is_none()
    }
}

/// Which of two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum YesNo {
    /// Those that were.
    Yes,
    /// Those that were not.
    No,
}

/// `orderstream dead list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which letters
    #[command(flatten)]
    pub which: Which,
    /// Most letters to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on after this letter: the last one of the page before
    #[arg(long, value_name = "ID", conflicts_with = "ids")]
    pub after: Option<LetterId>,
}

/// `orderstream dead groups`
#[derive(Debug, Args)]
pub struct GroupsArgs {
    /// Which letters
    #[command(flatten)]
    pub which: Which,
}

/// `orderstream dead replay`
#[derive(Debug, Args)]
#[command(after_help = "\
The untouched message goes to the stream of the stage that gave it up. Replaying is safe at any time: a letter that was
replayed before is left alone, and stages do nothing twice. A letter that its stage would refuse again (it cannot be read,
or another order has its code) is left alone and named, and the exit code is 6: repair it with --body, or discard it.

  orderstream dead replay 1795382502144-0
  orderstream dead replay --reason refused_by_database --dry-run
  orderstream dead replay 1795382502144-0 --body repaired.json")]
pub struct ReplayArgs {
    /// Which letters
    #[command(flatten)]
    pub which: Which,
    /// Every letter
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Also those that were replayed before
    #[arg(long)]
    pub again: bool,
    /// Also those that their stage would refuse again: they come back as new letters
    #[arg(long)]
    pub force: bool,
    /// Replay the one letter with this body instead of its own; - is standard input
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// Most letters a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "LETTERS")]
    pub rate: u32,
    /// Why, for the log of actions
    #[arg(long, value_name = "TEXT", value_parser = parse_why)]
    pub why: Option<String>,
    /// Go on after this letter.
    #[arg(skip)]
    pub after: Option<LetterId>,
}

/// `orderstream dead discard`
#[derive(Debug, Args)]
#[command(after_help = "\
Export what you may want back before you discard it: nothing else keeps it.

  orderstream dead discard 1795382502144-0 --why 'customer ordered again by phone'
  orderstream dead discard --replayed yes --older-than 30d --yes")]
pub struct DiscardArgs {
    /// Which letters
    #[command(flatten)]
    pub which: Which,
    /// Every letter
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before more than one goes
    #[arg(long)]
    pub yes: bool,
    /// Why, for the log of actions
    #[arg(long, value_name = "TEXT", value_parser = parse_why)]
    pub why: Option<String>,
    /// Go on after this letter.
    #[arg(skip)]
    pub after: Option<LetterId>,
}

/// `orderstream dead export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Which letters; without any condition all of them
    #[command(flatten)]
    pub which: Which,
    /// Write to this new file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `orderstream dead import`
#[derive(Debug, Args)]
pub struct ImportLettersArgs {
    /// The file; - is standard input
    pub file: PathBuf,
    /// Only read and check, and say what would be done
    #[arg(long)]
    pub dry_run: bool,
}
