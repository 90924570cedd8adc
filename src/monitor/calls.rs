//! Looks out of turn: what somebody did is seen at once, and not with the next tick.

use std::time::Duration;

use tokio::sync::watch;

use super::Monitor;

/// How long somebody waits for a look: a page comes late rather than never.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Calls for a look, and the answers.
#[derive(Debug)]
pub(super) struct Calls {
    /// How many there were.
    called: watch::Sender<u64>,
    /// Up to which call there was a look since, and the number of that look.
    answered: watch::Sender<(u64, u64)>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self { called: watch::Sender::new(0), answered: watch::Sender::new((0, 0)) }
    }

    /// What tells the one who looks that somebody calls.
    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.called.subscribe()
    }

    /// A look is over that began after so many calls.
    pub(super) fn answer(&self, calls: u64, seq: u64) {
        self.answered.send_replace((calls, seq));
    }
}

impl Monitor {
    /// Has both servers looked at now, and does not wait for it.
    pub(crate) fn call(&self) -> u64 {
        let mut call = 0;
        self.0.calls.called.send_modify(|calls| {
            *calls += 1;
            call = *calls;
        });
        call
    }

    /// Looks at both servers now; the number of the first look that began after this call. `None` when that takes too
    /// long.
    pub(crate) async fn look_again(&self) -> Option<u64> {
        let call = self.call();
        let mut answers = self.0.calls.answered.subscribe();
        let answered = answers.wait_for(|(calls, _)| *calls >= call);
        let (_, seq) = *tokio::time::timeout(WAIT_MAX, answered).await.ok()?.ok()?;
        Some(seq)
    }
}
