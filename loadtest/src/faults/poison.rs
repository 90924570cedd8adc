//! A message that kills whoever works on it, among good ones.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use super::{CUSTOMERS, Field, PRODUCTS, Workers, control::Control, model::Model, supervisor::Seen};
use crate::{
    ledger::Ledger,
    orders::{Orders, Shape},
    stream::Stream,
};

/// Where a program that was built with the feature `failpoints` reads which message kills it.
const FAILPOINTS: &str = "FAILPOINTS";

/// The reason of its dead letter.
const REASON: &str = "attempts_exhausted";

/// Orders of each round.
const ORDERS: u64 = 10_000;

/// Orders in one pipeline.
const PIPELINE: usize = 400;

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the poison did.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Poisoned {
    /// Orders per second before it came.
    pub(super) rate_before: f64,
    /// Seconds from the first order of the round with the poison until all others were settled and it was set aside.
    pub(super) seconds: f64,
    /// Orders per second afterwards.
    pub(super) rate_after: f64,
    /// Processes that it killed.
    pub(super) killed: u64,
    /// Dead letters by reason.
    pub(super) dead_letters: BTreeMap<String, u64>,
}

impl Poisoned {
    /// Dead letters that there must be: the poison, set aside once.
    pub(super) fn expected_dead_letters() -> BTreeMap<String, u64> {
        BTreeMap::from([(REASON.to_owned(), 1)])
    }
}

/// Three rounds of good orders, the second one with the poison in its midst. The good ones are added to `model`.
pub(super) async fn run(field: &Field, workers: &Workers, model: &mut Model) -> Result<Poisoned> {
    let code = format!("P1-{:07}", ORDERS / 2);
    let env = vec![(FAILPOINTS.to_owned(), format!("stage.process=return(abort:{code})"))];
    let supervisor = field.supervise(workers, 0, env)?;
    eprintln!("sending {ORDERS} orders before the poison, {ORDERS} with it, and {ORDERS} after it");
    let rate_before = ORDERS as f64 / round(field, model, 0, None).await?;
    let seconds = round(field, model, 1, Some(&code)).await?;
    let rate_after = ORDERS as f64 / round(field, model, 2, None).await?;
    let dead_letters = Control::new(&field.urls.redis).dead_letters().await?.into_iter().collect();
    let Seen { ended_by_themselves, .. } = supervisor.stop().await?;
    let killed = ended_by_themselves.values().sum();
    Ok(Poisoned { rate_before, seconds, rate_after, killed, dead_letters })
}

/// Sends a round of orders; seconds until all are settled and the poison among them is a dead letter.
async fn round(field: &Field, model: &mut Model, number: u64, poison: Option<&str>) -> Result<f64> {
    let shape = Shape {
        orders: ORDERS + u64::from(poison.is_some()),
        lines: 5,
        skew: 0.0,
        products: PRODUCTS,
        customers: CUSTOMERS,
        one_product: false,
        seed: number,
    };
    let orders = Orders::generate(&shape, format!("P{number}-"))?;
    for index in 0..orders.len() {
        model.add_body(&orders.body(index))?;
    }
    if let Some(code) = poison {
        model.remove(code);
    }
    let mut ledger = Ledger::connect(&field.urls.database).await?;
    let stream = Stream::connect(&field.urls.redis).await?;
    let expected = ledger.last_event().await? + i64::try_from(ORDERS)?;
    let started = Instant::now();
    for first in (0..orders.len()).step_by(PIPELINE) {
        stream.add(&orders, first..orders.len().min(first + PIPELINE)).await?;
    }
    let dead = u64::from(poison.is_some() || number > 1);
    loop {
        let (settled, set_aside) = (ledger.last_event().await?, stream.dead_letters().await?);
        if settled >= expected && set_aside >= dead {
            return Ok(started.elapsed().as_secs_f64());
        }
        if settled > expected {
            bail!("the poison was processed like any other: was the program built with --features failpoints?");
        }
        if started.elapsed() > PATIENCE {
            bail!(
                "round {number} does not end: {} of {ORDERS} orders are not settled, {set_aside} dead letters",
                expected - settled
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
}
