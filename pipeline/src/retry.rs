//! How long to wait between tries, and what to say of it.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};

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

/// A server that is away, or is not: said once when it goes and once when it is back, not at every try.
pub struct Outage {
    since: Option<Instant>,
    delays: Box<dyn Iterator<Item = Duration> + Send>,
}

impl Default for Outage {
    fn default() -> Self {
        Self { since: None, delays: Box::new(delays()) }
    }
}

impl Outage {
    /// Another try failed; whether it is the first one, which is the one to report.
    pub fn begins(&mut self) -> bool {
        let first = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        first
    }

    /// How long to wait before the next try.
    pub fn delay(&mut self) -> Duration {
        self.delays.next().unwrap_or_default()
    }

    /// It is over: how long it lasted, if there was one.
    pub fn ends(&mut self) -> Option<Duration> {
        let since = self.since.take()?;
        self.delays = Box::new(delays());
        Some(since.elapsed())
    }
}
