//! A foreign system that adds orders to the stream at a steady rate through all faults, and keeps those that it has
//! not seen in Postgres yet.

use std::{
    cell::Cell,
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::{CUSTOMERS, PRODUCTS, model::Model};
use crate::{
    ledger::Ledger,
    orders::{Orders, Shape},
    program::Urls,
    stream::Stream,
};

/// Orders that are made up at a time, and looked up together.
const CHUNK: usize = 500;

/// Of each chunk, so many orders of the one before are sent a second time.
const TWICE: usize = 10;

/// How long an answer of Redis may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long after a failure the same orders are sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often the timetable is looked at.
const TICK: Duration = Duration::from_millis(20);

/// What was sent.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Sent {
    /// Different orders.
    pub(super) orders: u64,
    /// Orders that were sent a second time on purpose.
    pub(super) twice: u64,
    /// Orders that were sent again because Postgres did not know them.
    pub(super) again: u64,
    /// Orders per second, by the timetable.
    pub(super) rate: f64,
}

/// The producer.
pub(super) struct Producer<'a> {
    urls: &'a Urls,
    seed: u64,
    prefix: String,
    stream: Option<Stream>,
    /// Chunks that were sent.
    chunks: u64,
    /// Chunks from the first one on that Postgres is known to know.
    confirmed: u64,
    pub(super) model: Model,
    pub(super) sent: Sent,
}

impl<'a> Producer<'a> {
    pub(super) fn new(urls: &'a Urls, seed: u64, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        let (model, sent) = (Model::default(), Sent::default());
        Self { urls, seed, prefix, stream: None, chunks: 0, confirmed: 0, model, sent }
    }

    /// Sends at least `orders` orders as fast as they are taken.
    pub(super) async fn send(&mut self, orders: u64) -> Result<()> {
        for _ in 0..orders.div_ceil(CHUNK as u64) {
            self.send_chunk().await?;
        }
        Ok(())
    }

    /// Sends `rate` orders per second until `deadline`. `lost` says that Redis may have lost orders: what Postgres does
    /// not know then is sent again.
    pub(super) async fn run(&mut self, rate: f64, deadline: Instant, lost: &Cell<bool>) -> Result<()> {
        self.sent.rate = rate;
        let started = Instant::now();
        let mut sent = 0;
        while Instant::now() < deadline {
            if lost.take() {
                self.send_unknown().await?;
            }
            if started.elapsed().as_secs_f64() * rate >= sent as f64 {
                self.send_chunk().await?;
                sent += CHUNK;
            } else {
                sleep(TICK).await;
            }
        }
        Ok(())
    }

    /// Sends what Postgres does not know, as a system must that keeps its orders until then. Orders that are on their
    /// way are sent twice by this, which is harmless.
    pub(super) async fn send_unknown(&mut self) -> Result<()> {
        for chunk in self.confirmed..self.chunks {
            let orders = self.chunk(chunk)?;
            let codes: Vec<String> = (0..CHUNK).map(|index| orders.code(index)).collect();
            let known: HashSet<String> = self.known(&codes).await.into_iter().collect();
            let unknown: Vec<usize> = (0..CHUNK).filter(|&index| !known.contains(&codes[index])).collect();
            for &index in &unknown {
                self.add(&orders, index..index + 1).await;
            }
            self.sent.again += unknown.len() as u64;
            if unknown.is_empty() && chunk == self.confirmed {
                self.confirmed += 1;
            }
        }
        Ok(())
    }

    async fn send_chunk(&mut self) -> Result<()> {
        let orders = self.chunk(self.chunks)?;
        for index in 0..CHUNK {
            self.model.add_body(&orders.body(index))?;
        }
        self.add(&orders, 0..CHUNK).await;
        if let Some(before) = self.chunks.checked_sub(1) {
            let before = self.chunk(before)?;
            self.add(&before, 0..TWICE).await;
            self.sent.twice += TWICE as u64;
        }
        self.chunks += 1;
        self.sent.orders += CHUNK as u64;
        Ok(())
    }

    /// The orders of a chunk, the same whenever they are asked for.
    fn chunk(&self, chunk: u64) -> Result<Orders> {
        let shape = Shape {
            orders: CHUNK as u64,
            lines: 5,
            skew: 0.0,
            products: PRODUCTS,
            customers: CUSTOMERS,
            one_product: false,
            seed: self.seed.wrapping_add(chunk),
        };
        Orders::generate(&shape, format!("{}{chunk}-", self.prefix))
    }

    /// Adds orders, again and again until Redis has said that it has them.
    async fn add(&mut self, orders: &Orders, range: std::ops::Range<usize>) {
        while let Err(_away) = self.try_add(orders, range.clone()).await {
            self.stream = None;
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn try_add(&mut self, orders: &Orders, range: std::ops::Range<usize>) -> Result<()> {
        let stream = match &self.stream {
            Some(stream) => stream,
            None => self.stream.insert(timeout(PATIENCE, Stream::connect(&self.urls.redis)).await??),
        };
        timeout(PATIENCE, stream.add(orders, range)).await.context("Redis does not answer")??;
        Ok(())
    }

    /// Which of these codes Postgres knows, once it can be asked.
    async fn known(&self, codes: &[String]) -> Vec<String> {
        loop {
            let known = async { Ledger::connect(&self.urls.database).await?.known(codes).await };
            match known.await {
                Ok(known) => return known,
                Err(_away) => sleep(AGAIN_AFTER).await,
            }
        }
    }
}
