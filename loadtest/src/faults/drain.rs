//! Waiting until nothing is left to do.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tokio::time::sleep;

use super::control::{Control, Gauge};
use crate::{ledger::Ledger, program::Urls};

/// How often it is looked.
const POLL: Duration = Duration::from_millis(50);

/// A system in which nothing has moved for so long is not going to.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// How the waiting ended.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Drained {
    /// Whether all streams are read and acknowledged to their end, and the board shows the last event.
    pub(super) complete: bool,
    /// From the moment given to the first look at which that was so, or to the last look.
    pub(super) seconds: f64,
    /// The streams at the end.
    pub(super) streams: [Gauge; 3],
    /// Events that the board does not show.
    pub(super) relay_behind: i64,
}

/// Waits until lag and pending of all streams are nothing, `orders` orders are settled and the relay has shown all events;
/// gives up when nothing moves any more.
pub(super) async fn until_drained(urls: &Urls, orders: u64, since: Instant) -> Result<Drained> {
    let mut control = Control::new(&urls.redis);
    let mut ledger = Ledger::connect(&urls.database).await?;
    let (mut position, mut moved_at) = (None, Instant::now());
    let mut calm_since = None;
    loop {
        let seen_at = Instant::now();
        let streams = control.gauges().await?;
        let (last_event, cursor) = (ledger.last_event().await?, control.cursor().await?);
        let is_idle = streams.iter().all(|stream| stream.is_drained()) && cursor == last_event;
        let mut drained = Drained {
            complete: false,
            seconds: (seen_at - since).as_secs_f64(),
            streams,
            relay_behind: last_event - cursor,
        };
        if is_idle {
            let first = *calm_since.get_or_insert(seen_at);
            // Every order ends with exactly one event.
            if u64::try_from(last_event)? >= orders {
                return Ok(Drained { complete: true, seconds: (first - since).as_secs_f64(), ..drained });
            }
        } else {
            calm_since = None;
        }
        if position != Some((streams, last_event, cursor)) {
            (position, moved_at) = (Some((streams, last_event, cursor)), Instant::now());
        } else if moved_at.elapsed() > STALLED_AFTER {
            // Nothing to do and orders that are not settled: their messages are gone.
            drained.complete = is_idle;
            return Ok(drained);
        }
        sleep(POLL).await;
    }
}
