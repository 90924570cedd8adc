//! Exit codes: a contract with scripts, listed in `orderstream --help`.

use std::process::ExitCode;

use pipeline::{store, streams};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Used wrongly, or configured wrongly.
    Usage,
    /// Done, but rows were rejected.
    Rejected,
    /// The audit found a difference.
    Difference,
    /// No such thing.
    NotFound,
    /// In conflict with what is there.
    Conflict,
    /// Postgres or Redis cannot be reached.
    Unreachable,
    /// An alert fires.
    Alert,
    /// Interrupted by the user.
    Interrupted,
    /// As the command that it ran around.
    Command(u8),
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Rejected => 3,
            Self::Difference => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Unreachable => 7,
            Self::Alert => 8,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

/// An error that knows how the process should end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    exit: Exit,
    message: String,
}

impl Refusal {
    /// An error with an exit of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// How the process should end.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// The exit that an error calls for.
fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(|cause| {
            if let Some(refusal) = cause.downcast_ref::<Refusal>() {
                return Some(refusal.exit);
            }
            let unreachable = cause.downcast_ref::<store::Error>().is_some_and(store::Error::is_unreachable)
                || cause.downcast_ref::<streams::Error>().is_some_and(streams::Error::is_unreachable);
            unreachable.then_some(Exit::Unreachable)
        })
        .unwrap_or(Exit::Failed)
}

/// What to do about an error, where that is known.
fn hint(error: &anyhow::Error) -> Option<&'static str> {
    if error.chain().any(|cause| cause.downcast_ref::<store::Error>().is_some_and(store::Error::is_schema_missing)) {
        return Some("the database has no schema yet; create it with: orderstream migrate");
    }
    let unreachable = exit_of(error) == Exit::Unreachable;
    unreachable.then_some("do Postgres and Redis run, and do DATABASE_URL and REDIS_URL name them?")
}

/// Says on stderr what went wrong, and what to do where that is known; the process's exit code.
pub fn report(outcome: anyhow::Result<Exit>) -> ExitCode {
    let exit = outcome.unwrap_or_else(|error| {
        eprintln!("error: {}", chain(&error));
        if let Some(hint) = hint(&error) {
            eprintln!("hint: {hint}");
        }
        exit_of(&error)
    });
    ExitCode::from(exit.code())
}

/// Says the same in the log, for programs that read it.
pub(crate) fn report_in_log(error: &anyhow::Error) -> Exit {
    tracing::error!(error = chain(error), hint = hint(error), "the command failed");
    exit_of(error)
}

/// An error with its causes; libraries like to repeat theirs.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
