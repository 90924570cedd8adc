//! What helps a letter, by what it died of.

use pipeline::message::DeadReason;

/// What helps most: the button that stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The cause was somewhere else: it goes once that is put right.
    Replay,
    /// The message itself is wrong: as it is, it comes back.
    Edit,
    /// There is nothing to be processed.
    Discard,
}

impl Remedy {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Edit => "edit",
            Self::Discard => "discard",
        }
    }
}

/// What helps letters that died for this reason.
pub(super) fn remedy(reason: Option<&str>) -> Remedy {
    match reason.and_then(|reason| reason.parse().ok()) {
        Some(DeadReason::RefusedByDatabase | DeadReason::AttemptsExhausted) => Remedy::Replay,
        Some(
            DeadReason::NoBody
            | DeadReason::TooLarge
            | DeadReason::Undecodable
            | DeadReason::InvalidOrder
            | DeadReason::InvalidRefund
            | DeadReason::InvalidCallback
            | DeadReason::Conflict,
        ) => Remedy::Edit,
        Some(DeadReason::UnknownOrder | DeadReason::Deleted) | None => Remedy::Discard,
    }
}

/// What to do about a letter, on these pages.
pub(super) fn advice(reason: Option<&str>) -> &'static str {
    match reason.and_then(|reason| reason.parse().ok()) {
        Some(
            DeadReason::NoBody
            | DeadReason::TooLarge
            | DeadReason::Undecodable
            | DeadReason::InvalidOrder
            | DeadReason::InvalidRefund
            | DeadReason::InvalidCallback,
        ) => {
            "Whoever sent it sent something wrong: replaying it unchanged brings it back. If a bad deploy of ours refused it, \
             replay it once that is rolled back. Else have the sender put it right and send it again, then discard this \
             one; or put it right here and replay it with the other body."
        }
        Some(DeadReason::Conflict) => {
            "Another order has this code (or another refund this key), and was taken. Find out which one is right. Give \
             this one another code and replay it, or discard it."
        }
        Some(DeadReason::UnknownOrder) => {
            "Postgres was restored to an older state. When the ledgers of all providers have been compared (\"Postgres was \
             restored\" in docs/OPERATIONS.md), bring the order in again (import its file, or add it), then discard this one."
        }
        Some(DeadReason::Deleted) => {
            "Somebody deleted the message before it was processed: its content is gone. Ask its sender to send it again, \
             then discard this one."
        }
        Some(DeadReason::RefusedByDatabase) => {
            "A rule of the database refused this message alone. Once the cause is put right (often a bad deploy), replay it."
        }
        Some(DeadReason::AttemptsExhausted) => {
            "Workers died with this message in hand: look for the crash in their logs. Once the cause is put right, replay \
             it. If you discard it instead, an order that waits for it fails as abandoned."
        }
        None => "No worker of this version wrote it. Export it if you want to keep it, then discard it.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_come_back_is_not_to_be_replayed() {
        for reason in DeadReason::ALL {
            let remedy = remedy(Some(reason.as_str()));
            let is_outside = matches!(reason, DeadReason::RefusedByDatabase | DeadReason::AttemptsExhausted);
            assert_eq!(remedy == Remedy::Replay, is_outside, "{reason:?}");
        }
        assert_eq!(remedy(None), Remedy::Discard);
    }
}
