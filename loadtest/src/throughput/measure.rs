//! One measured run: everything that is read before, during and after it.

use std::{cell::Cell, time::Duration};

use anyhow::Result;

use super::{
    latency::{Latencies, Latency},
    publish::{Pace, Sent, publish},
    watch::{Seen, Watch},
};
use crate::{
    cpu::{Roots, Usage},
    ledger::{Ledger, StageMarks, WalPosition},
    orders::Orders,
    stream::Stream,
};

/// All readings of a run.
pub(super) struct Measurement {
    /// When the orders were sent.
    pub(super) sent: Sent,
    /// What was seen of them until the end.
    pub(super) seen: Seen,
    /// From the first `XADD` until the last order was seen settled.
    pub(super) duration: Duration,
    /// Processor time before the first `XADD` and after the relay had caught up.
    pub(super) usage: (Usage, Usage),
    /// The write-ahead log at the same moments.
    pub(super) wal: (WalPosition, WalPosition),
    /// Dead letters that came during the run, anybody's.
    pub(super) dead_letters: u64,
    /// How the stages passed the orders.
    pub(super) stages: Vec<StageMarks>,
    /// From acceptance by Redis to settlement.
    pub(super) since_accepted: Option<Latency>,
    /// From the planned time of sending to settlement, with a timetable.
    pub(super) since_planned: Option<Latency>,
}

impl Measurement {
    /// Sends the orders and takes all readings.
    pub(super) async fn take(
        orders: &Orders,
        pace: Pace,
        stream: &Stream,
        ledger: &mut Ledger,
        roots: &Roots,
    ) -> Result<Self> {
        let sent_so_far = Cell::new(0);
        let dead_before = stream.dead_letters().await?;
        let wal_before = ledger.wal_position().await?;
        let watch = Watch::new(orders, stream, ledger, &sent_so_far).await?;
        let before = Usage::read(roots)?;
        let (sent, seen) = tokio::try_join!(publish(orders, pace, stream, &sent_so_far), watch.until_the_end())?;
        let after = Usage::read(roots)?;
        let wal_after = ledger.wal_position().await?;

        eprintln!("reading the results");
        let (since_accepted, since_planned) = latencies(orders, &sent, ledger).await?;
        Ok(Self {
            duration: seen.settled_at - before.at,
            dead_letters: stream.dead_letters().await?.saturating_sub(dead_before),
            stages: ledger.stage_marks(orders.prefix()).await?,
            usage: (before, after),
            wal: (wal_before, wal_after),
            since_accepted,
            since_planned,
            sent,
            seen,
        })
    }
}

async fn latencies(orders: &Orders, sent: &Sent, ledger: &mut Ledger) -> Result<(Option<Latency>, Option<Latency>)> {
    let (mut since_accepted, mut since_planned) = (Latencies::new()?, Latencies::new()?);
    ledger
        .settlements(orders.prefix(), |number, settled_us| {
            if let Some(&accepted_ms) = sent.accepted_ms.get(number) {
                since_accepted.record(accepted_ms * 1_000, settled_us);
            }
            if let Some(&planned_us) = sent.planned_us.get(number) {
                since_planned.record(planned_us, settled_us);
            }
        })
        .await?;
    Ok((since_accepted.summary(), since_planned.summary()))
}
