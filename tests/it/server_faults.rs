//! Servers that refuse, hang up, forget or are in the way while the workers work, each on servers of its own. The work
//! goes on by itself: every order ends as predicted, nothing is set aside, the books balance.

mod entries;
mod losses;

mod machine;
mod postgres;
mod proxy;
mod redis_server;
mod refusals;
mod rest;

use pipeline::{domain::Order, topology::StageName};

use crate::program::{
    Orderstream, Program, Running,
    harness::{eventually, orders},
    model,
};

const CUSTOMERS: i64 = 5;
const STOCKS: [i64; 3] = [5_000; 3];

/// A program with orders on their way.
struct Work {
    program: Program,
    orders: Vec<Order>,
}

impl Work {
    async fn of(count: i64) -> Self {
        let mut work = Self { program: Program::alone(CUSTOMERS, &STOCKS).await, orders: Vec::new() };
        work.publish("A", count).await;
        work
    }

    async fn publish(&mut self, name: &str, count: i64) {
        let further = orders(name, count);
        self.program.stack.publish(&further).await;
        self.orders.extend(further);
    }

    fn workers(&self) -> Running {
        let flags = ["--batch", "20", "--claim-idle", "1", "--reconcile-every", "1"];
        self.program.start(&[&["run", "--json"], &flags[..]].concat())
    }

    fn stream(&self, stage: StageName) -> String {
        self.program.stack.redis.keys().stream(0, stage)
    }

    async fn redis(&self, words: &[&str]) {
        let mut redis = self.program.stack.connection().await;
        redis::cmd(words[0]).arg(&words[1..]).exec_async(&mut redis).await.expect("Redis");
    }

    /// Waits until so many more events have happened.
    async fn gets_on(&self, further: i64) {
        const EVENTS: &str = "SELECT last_seq FROM event_counter";
        let before: i64 = self.program.stack.value(EVENTS).await;
        let moved = async || self.program.stack.value::<i64>(EVENTS).await >= before + further;
        eventually("the workers get on", moved).await;
    }

    async fn drained(&self) {
        const DONE: &str = "SELECT count(*) FROM orders WHERE settled_at IS NOT NULL";
        self.program.stack.drained(&StageName::WAY).await;
        let all = i64::try_from(self.orders.len()).expect("a number");
        eventually("all are settled", async || self.program.stack.value::<i64>(DONE).await == all).await;
        self.program.stack.drained(&StageName::WAY).await;
    }

    /// Waits for the end, stops the workers, and proves that all is well; what the workers counted.
    async fn ends(&self, workers: Running) -> serde_json::Value {
        self.drained().await;
        let counts = workers.stop().await.exits(0).json();
        self.is_right().await;
        counts
    }

    /// Proves that all is well once it is over.
    async fn is_right(&self) {
        let ends = model::ends(&model::of(&self.orders), CUSTOMERS, &STOCKS);
        assert_eq!(self.program.ends().await, ends);
        assert_eq!(self.program.dead_letters().await, 0);
        self.program.audit().await;
    }
}
