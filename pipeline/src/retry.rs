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

/// A failed exchange with a server, as far as it is told of.
pub trait Failure: Display {
    /// Why the server refuses, if it answers and refuses. Such a server may read well all the while.
    fn refusal(&self) -> Option<&'static str> {
        None
    }

    /// Whether a server that refuses so takes reads all the while: then reading proves nothing.
    fn refuses_writes_only(&self) -> bool {
        true
    }
}

/// A refusal that was not met again for so long may be over: whoever met it may have nothing to do.
const REFUSAL_KEPT: Duration = Duration::from_secs(30);

/// A server that this process works with, and what was said of it: once when it goes and once when it is back, not at
/// every try, and not by every worker that notices.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    /// Host and port, or a socket; empty while nobody has said.
    address: Mutex<String>,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    /// Since when the server is said to be away.
    away_since: Option<Instant>,
    last: Option<Instant>,
    /// Why it refuses to write: said once, whatever the wording of each command. It is not back when it reads.
    refusal: Option<&'static str>,
    /// When it was met last.
    refused_at: Option<Instant>,
    /// Whether a read that succeeds proves nothing.
    of_writes_only: bool,
    /// What was said since then: another failure is worth another line.
    errors: Vec<String>,
    /// How many outages have ended: who noticed an earlier one knows nothing of this one.
    ended: u64,
}

/// The server that keeps the truth.
pub static POSTGRES: Server = Server::new("Postgres");

/// The server that carries the work.
pub static REDIS: Server = Server::new("Redis");

/// No server, but waited for in the same way: events without a gap, which the relay needs.
pub(crate) static EVENTS: Server = Server::new("The relay's reading of events");

/// Of a server that comes and goes, nothing more is said within this time; one that refused is not back before.
const SILENCE: Duration = Duration::from_secs(1);

/// Most failures of different wording that are said of one outage.
const ERRORS_MAX: usize = 8;

impl Server {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            address: Mutex::new(String::new()),
            said: Mutex::new(Said {
                away_since: None,
                last: None,
                refusal: None,
                refused_at: None,
                of_writes_only: true,
                errors: Vec::new(),
                ended: 0,
            }),
        }
    }

    /// From now on messages say where it is.
    pub fn stands_at(&self, address: String) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// Where it is: host and port, or a socket. Empty if nobody has said.
    pub fn address(&self) -> String {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why it refuses what this process asks of it; `None` while it does not.
    pub fn refuses(&self) -> Option<&'static str> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.refusal.filter(|_| said.refused_at.is_some_and(|at| at.elapsed() < REFUSAL_KEPT))
    }

    /// Says that it is away, or refuses; the number of this outage.
    fn is_away(&self, failure: &dyn Failure) -> u64 {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let error = failure.to_string();
        if let Some(refusal) = failure.refusal() {
            said.refused_at = Some(Instant::now());
            said.of_writes_only = failure.refuses_writes_only();
            if said.refusal.replace(refusal) != Some(refusal) {
                warn!(server = self.name, error, "{} refuses: {refusal}; trying again until it does not", self.name);
                said.away_since.get_or_insert_with(Instant::now);
            }
            return said.ended;
        }
        let is_new = said.errors.len() < ERRORS_MAX && !said.errors.contains(&error);
        if is_new && said.last.is_none_or(|last| last.elapsed() > SILENCE) {
            warn!(
                server = self.name,
                address = self.address(),
                error,
                "{} failed; trying again until it is back",
                self.name
            );
            said.away_since.get_or_insert_with(Instant::now);
            said.last = Some(Instant::now());
            said.errors.push(error);
        }
        said.ended
    }

    /// Somebody who failed in the outage of this number has not; `false` if that proves nothing: who has only read knows
    /// nothing of writes.
    fn is_back(&self, outage: u64, has_written: bool) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.ended != outage {
            return true;
        }
        if said.refusal.is_some() && said.of_writes_only && !has_written {
            return false;
        }
        // What refuses some commands and takes others is not back each time that it takes one.
        if said.refusal.is_some() && said.refused_at.is_some_and(|at| at.elapsed() < SILENCE) {
            return false;
        }
        said.refusal = None;
        said.ended += 1;
        if let Some(since) = said.away_since.take() {
            info!(
                server = self.name,
                address = self.address(),
                seconds = since.elapsed().as_secs(),
                "{} is back",
                self.name
            );
            said.last = Some(Instant::now());
            said.errors.clear();
        }
        true
    }
}

/// Tries of somebody to reach a server.
pub struct Outage {
    /// Which, and the number of its outage.
    server: Option<(&'static Server, u64)>,
    delays: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Default for Outage {
    fn default() -> Self {
        Self { server: None, delays: Box::new(delays()) }
    }
}

impl Outage {
    /// A try failed.
    pub fn goes_on(&mut self, server: &'static Server, failure: &dyn Failure) {
        self.server = Some((server, server.is_away(failure)));
    }

    /// How long to wait before the next try.
    pub(crate) fn delay(&mut self) -> Duration {
        self.delays.next().unwrap_or_default()
    }

    /// A try succeeded that may only have read. A server that refused to write is not back by that.
    pub(crate) fn is_over(&mut self) {
        self.end(false);
    }

    /// A try succeeded, and something was written.
    pub fn has_written(&mut self) {
        self.end(true);
    }

    fn end(&mut self, has_written: bool) {
        if self.server.is_some_and(|(server, outage)| server.is_back(outage, has_written)) {
            self.server = None;
            self.delays = Box::new(delays());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(&'static str, Option<&'static str>);

    impl Display for Broken {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Failure for Broken {
        fn refusal(&self) -> Option<&'static str> {
            self.1
        }
    }

    /// Nothing was refused for a while.
    fn calm(server: &Server) {
        let mut said = server.said.lock().expect("nobody panics");
        said.refused_at = said.refused_at.and_then(|at| at.checked_sub(SILENCE));
    }

    #[test]
    fn what_refuses_some_commands_and_takes_others_is_not_back_in_between() {
        static SERVER: Server = Server::new("A server");
        let (mut allowed, mut denied) = (Outage::default(), Outage::default());
        for _ in 0..3 {
            denied.goes_on(&SERVER, &Broken("no permission", Some("its user may not do that")));
            allowed.goes_on(&SERVER, &Broken("no permission", Some("its user may not do that")));
            allowed.has_written();
            assert_eq!(SERVER.refuses(), Some("its user may not do that"));
        }
        calm(&SERVER);
        allowed.has_written();
        assert_eq!(SERVER.refuses(), None);
    }

    #[test]
    fn who_noticed_an_earlier_outage_does_not_end_this_one() {
        static SERVER: Server = Server::new("A server");
        let refusal = || SERVER.said.lock().expect("nobody panics").refusal;
        let (mut relay, mut worker) = (Outage::default(), Outage::default());
        relay.goes_on(&SERVER, &Broken("read-only", Some("it is read-only")));
        worker.goes_on(&SERVER, &Broken("read-only", Some("it is read-only")));
        calm(&SERVER);
        worker.has_written();
        worker.goes_on(&SERVER, &Broken("full", Some("its disk is full")));
        // Its write was of before, or is of a table that has room.
        relay.has_written();
        assert_eq!(refusal(), Some("its disk is full"));
        calm(&SERVER);
        worker.has_written();
        assert_eq!(refusal(), None);
    }

    #[test]
    fn a_server_that_refuses_writes_is_not_back_before_somebody_has_written() {
        static SERVER: Server = Server::new("A server");
        let refusal = || SERVER.said.lock().expect("nobody panics").refusal;
        let (mut relay, mut worker) = (Outage::default(), Outage::default());
        for wording in ["full, in one script", "full, in another"] {
            relay.goes_on(&SERVER, &Broken(wording, Some("it is full")));
            worker.goes_on(&SERVER, &Broken(wording, Some("it is full")));
        }
        calm(&SERVER);
        relay.is_over();
        assert_eq!(refusal(), Some("it is full"), "it has only read");
        worker.has_written();
        assert_eq!(refusal(), None);
        relay.goes_on(&SERVER, &Broken("gone", None));
        relay.is_over();
        assert!(SERVER.said.lock().expect("nobody panics").away_since.is_none());
    }
}
