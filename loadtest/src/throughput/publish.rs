//! Sending the orders: as fast as they are taken, or by a timetable.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use futures::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::{sleep, sleep_until};

use crate::{orders::Orders, stream::Stream};

/// Orders in one pipeline.
const BATCH_LEN: usize = 400;

/// Pipelines under way without a timetable: one is written while the next is prepared.
const IN_FLIGHT_MAX: usize = 4;

/// Pipelines under way with a timetable. A pipeline that is late for want of room counts as late.
const IN_FLIGHT_SCHEDULED_MAX: usize = 256;

/// How often the backlog is looked at while it is full.
const ROOM_POLL: Duration = Duration::from_millis(20);

/// How fast orders are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// As long as at most so many wait to be taken in.
    Ahead(u64),
    /// So many per second, whatever becomes of them.
    Rate(f64),
}

impl Pace {
    /// A rate, if there is one.
    pub(super) fn new(rate: Option<f64>, ahead: u64) -> Self {
        rate.map_or(Self::Ahead(ahead), Self::Rate)
    }
}

/// When the orders of a run were sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// By number: when Redis accepted the order, in its Unix milliseconds.
    pub(super) accepted_ms: Vec<u64>,
    /// By number: when it was to be sent, in our Unix microseconds. Empty without a timetable.
    pub(super) planned_us: Vec<u64>,
    /// From the first `XADD` to the last reply.
    pub(super) duration: Duration,
}

/// Sends all orders, and keeps `sent` at the number that Redis has accepted.
pub(super) async fn publish(orders: &Orders, pace: Pace, stream: &Stream, sent: &Cell<usize>) -> Result<Sent> {
    let started = Instant::now();
    let mut sender =
        Sender { orders, stream, sent, next: 0, in_flight: FuturesOrdered::new(), accepted_ms: Vec::new() };
    let planned_us = match pace {
        Pace::Ahead(ahead) => {
            sender.send_ahead(ahead).await?;
            Vec::new()
        }
        Pace::Rate(rate) => sender.send_by_timetable(rate).await?,
    };
    Ok(Sent { accepted_ms: sender.accepted_ms, planned_us, duration: started.elapsed() })
}

struct Sender<'a> {
    orders: &'a Orders,
    stream: &'a Stream,
    sent: &'a Cell<usize>,
    next: usize,
    in_flight: FuturesOrdered<BoxFuture<'a, Result<Vec<u64>>>>,
    accepted_ms: Vec<u64>,
}

impl Sender<'_> {
    /// Sends with several pipelines under way, looking at the backlog only when the room seen last is used up.
    async fn send_ahead(&mut self, ahead: u64) -> Result<()> {
        let mut room = 0;
        loop {
            while self.in_flight.len() < IN_FLIGHT_MAX && self.next < self.orders.len() {
                while room == 0 {
                    room = ahead.saturating_sub(self.stream.backlog().await?);
                    if room == 0 {
                        sleep(ROOM_POLL).await;
                    }
                }
                let len = self.push(usize::try_from(room)?.min(BATCH_LEN));
                room -= len as u64;
            }
            match self.in_flight.next().await {
                Some(accepted) => self.accept(&accepted?),
                None => return Ok(()),
            }
        }
    }

    /// Sends every order as soon as its time has come, and returns the planned times.
    async fn send_by_timetable(&mut self, rate: f64) -> Result<Vec<u64>> {
        let total = self.orders.len();
        let started_us = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
        let started = tokio::time::Instant::now();
        let offset = |number: usize| Duration::from_secs_f64(number as f64 / rate);
        loop {
            let elapsed = started.elapsed();
            while self.next < total && offset(self.next) <= elapsed && self.in_flight.len() < IN_FLIGHT_SCHEDULED_MAX {
                let due = (self.next..total.min(self.next + BATCH_LEN)).take_while(|&number| offset(number) <= elapsed);
                self.push(due.count());
            }
            let may_send = self.next < total && self.in_flight.len() < IN_FLIGHT_SCHEDULED_MAX;
            tokio::select! {
                Some(accepted) = self.in_flight.next() => self.accept(&accepted?),
                () = sleep_until(started + offset(self.next)), if may_send => {}
                else => break,
            }
        }
        (0..total).map(|number| Ok(started_us + u64::try_from(offset(number).as_micros())?)).collect()
    }

    /// Puts the next orders under way, at most `len`.
    fn push(&mut self, len: usize) -> usize {
        let end = self.orders.len().min(self.next + len);
        let range = self.next..end;
        let len = range.len();
        self.in_flight.push_back(Box::pin(self.stream.add(self.orders, range)));
        self.next = end;
        len
    }

    fn accept(&mut self, accepted: &[u64]) {
        self.accepted_ms.extend_from_slice(accepted);
        self.sent.set(self.accepted_ms.len());
    }
}
