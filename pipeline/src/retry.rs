//! How long to wait between tries, and what to say of it.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tracing::{info, warn};

/// 20 ms, doubling up to 1 s, and a jitter of up to as much again, for ever: what was away is noticed to be back within
/// two seconds.
pub fn delays() -> impl Iterator<Item = Duration> {
    delays_up_to(Duration::from_secs(1))
}

/// The same, doubling up to `longest`.
pub fn delays_up_to(longest: Duration) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .build()
}

/// What a process has said of a server: once when it goes and once when it is back, not at every try, and not by every
/// worker that notices.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    /// Since when the server is said to be away.
    away_since: Option<Instant>,
    last: Option<Instant>,
    /// What was said since then: another failure is worth another line.
    errors: Vec<String>,
}

/// The server that keeps the truth.
pub(crate) static POSTGRES: Server = Server::new("Postgres");

/// The server that carries the work.
pub(crate) static REDIS: Server = Server::new("Redis");

/// No server, but waited for in the same way: events without a gap, which the relay needs.
pub(crate) static EVENTS: Server = Server::new("The relay's reading of events");

/// Of a server that comes and goes, nothing more is said within this time.
const SILENCE: Duration = Duration::from_secs(1);

/// Most failures of different wording that are said of one outage.
const ERRORS_MAX: usize = 8;

impl Server {
    const fn new(name: &'static str) -> Self {
        Self { name, said: Mutex::new(Said { away_since: None, last: None, errors: Vec::new() }) }
    }

    fn is_away(&self, error: &dyn Display) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let error = error.to_string();
        let is_new = said.errors.len() < ERRORS_MAX && !said.errors.contains(&error);
        if is_new && said.last.is_none_or(|last| last.elapsed() > SILENCE) {
            warn!(server = self.name, error, "{} failed; trying again until it is back", self.name);
            said.away_since.get_or_insert_with(Instant::now);
            said.last = Some(Instant::now());
            said.errors.push(error);
        }
    }

    fn is_back(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = said.away_since.take() {
            info!(server = self.name, seconds = since.elapsed().as_secs(), "{} is back", self.name);
            said.last = Some(Instant::now());
            said.errors.clear();
        }
    }
}

/// Tries of somebody to reach a server.
pub(crate) struct Outage {
    server: Option<&'static Server>,
    delays: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Default for Outage {
    fn default() -> Self {
        Self { server: None, delays: Box::new(delays()) }
    }
}

impl Outage {
    /// A try failed.
    pub(crate) fn goes_on(&mut self, server: &'static Server, error: &dyn Display) {
        server.is_away(error);
        self.server = Some(server);
    }

    /// How long to wait before the next try.
    pub(crate) fn delay(&mut self) -> Duration {
        self.delays.next().unwrap_or_default()
    }

    /// A try succeeded.
    pub(crate) fn is_over(&mut self) {
        if let Some(server) = self.server.take() {
            server.is_back();
            self.delays = Box::new(delays());
        }
    }
}
