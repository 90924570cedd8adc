//! What is said of a server that is away: once when it goes, once when it is back.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use pipeline::retry;
use tracing::{info, warn};

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Tries to reach a server.
pub(super) struct Outage {
    server: &'static str,
    since: Option<Instant>,
    delays: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Outage {
    pub(super) fn new(server: &'static str) -> Self {
        Self { server, since: None, delays: delays() }
    }

    /// A try failed; how long to wait before the next.
    pub(super) fn goes_on(&mut self, error: &dyn Display) -> Duration {
        if self.since.is_none() {
            warn!(server = self.server, %error, "{} is away; trying again until it is back", self.server);
            self.since = Some(Instant::now());
        }
        self.delays.next().unwrap_or(PAUSE_MAX)
    }

    /// A try succeeded.
    pub(super) fn is_over(&mut self) {
        if let Some(since) = self.since.take() {
            info!(server = self.server, seconds = since.elapsed().as_secs(), "{} is back", self.server);
            self.delays = delays();
        }
    }
}

fn delays() -> Box<dyn Iterator<Item = Duration> + Send> {
    Box::new(retry::delays_up_to(PAUSE_MAX))
}
