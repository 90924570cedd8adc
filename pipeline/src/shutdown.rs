//! One signal that everything listens to.

use std::time::Duration;

use tokio::sync::watch;

/// Tells tasks to come to an end. Clones share the signal; it is given once and stays.
#[derive(Debug, Clone)]
pub struct Shutdown {
    signal: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { signal: watch::Sender::new(false) }
    }
}

impl Shutdown {
    /// Gives the signal.
    pub fn begin(&self) {
        self.signal.send_replace(true);
    }

    /// Whether the signal was given.
    pub fn has_begun(&self) -> bool {
        *self.signal.borrow()
    }

    /// Waits for the signal.
    pub async fn begun(&self) {
        let mut receiver = self.signal.subscribe();
        // An error would mean that all senders are gone, and `self` holds one.
        while !*receiver.borrow_and_update() && receiver.changed().await.is_ok() {}
    }

    /// Sleeps, but not beyond the signal; whether the whole time was slept.
    pub async fn sleep(&self, duration: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(duration) => true,
            () = self.begun() => false,
        }
    }
}
