//! How a run ends.

use std::process::ExitCode;

/// How a run ended, other than by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything is as it should be.
    Done,
    /// Something is not; the report says what.
    Failed,
    /// Every order is settled, but the audit found a difference.
    Differences,
    /// Somebody stopped it.
    Interrupted,
}

impl Ending {
    /// The exit code, as orderstream itself uses them.
    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Differences => 4,
            Self::Interrupted => 130,
        })
    }
}
