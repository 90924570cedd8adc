//! What every case has: orders, a faulty process, healthy ones beside it, and the proof that all came to its end.

use std::{collections::BTreeMap, fmt::Display};

use pipeline::{domain::Order, topology::StageName};
use tokio::task::{Id, JoinSet, LocalSet};

use super::places::{Action, Place};
use crate::program::{
    Orderstream, Program, Running,
    harness::{eventually, order, orders},
    model,
};

/// Customers and stocks: only an order for more than there ever is finds too little, in whatever sequence they come.
const CUSTOMERS: i64 = 5;
const STOCKS: [i64; 3] = [5_000; 3];

/// How many cases run side by side: most of their time they wait for a claim.
const SIDE_BY_SIDE: usize = 6;

/// How workers run here: small batches, so that there are many.
pub(crate) const WORKERS: [&str; 4] = ["--claim-idle", "1", "--batch", "5"];

pub(crate) async fn program() -> Program {
    Program::seeded(CUSTOMERS, &STOCKS).await
}

/// Some dozens of orders, the same for the same number; some are published twice, some fail.
pub(crate) struct Lots {
    orders: BTreeMap<String, Order>,
    published: usize,
}

impl Lots {
    pub(crate) fn new() -> Self {
        Self { orders: BTreeMap::new(), published: 0 }
    }

    /// Publishes the next lot, with duplicates in it and of the one before.
    pub(crate) async fn publish(&mut self, program: &Program) {
        let mut lot = orders(&format!("LOT{}", self.published), 24);
        lot.push(order(&format!("NOBODY{}", self.published), CUSTOMERS + 1, &[(1, 1, 100)]));
        lot.push(order(&format!("NOTHING{}", self.published), 1, &[(9, 1, 100)]));
        lot.extend_from_within(3..8);
        lot.extend(self.orders.values().take(3).cloned());
        program.stack.publish(&lot).await;
        self.orders.extend(lot.into_iter().map(|order| (order.code().as_str().to_owned(), order)));
        self.published += 1;
    }

    /// Every order is as the model predicts, the books balance, and nothing was set aside.
    pub(crate) async fn all_ended(&self, program: &Program) {
        self.all_ended_with_letters(program, 0).await;
    }

    /// The same, where so many letters are kept of what was replayed.
    pub(crate) async fn all_ended_with_letters(&self, program: &Program, letters: u64) {
        let orders = model::of(self.orders.values());
        let ends = model::ends(&orders, CUSTOMERS, &STOCKS);
        let reasons: std::collections::BTreeSet<_> = ends.values().map(|(_, reason)| reason.as_deref()).collect();
        assert_eq!(reasons.len(), 5, "every end that there is: {reasons:?}");
        assert_eq!(program.ends().await, ends);
        let mut redis = program.stack.connection().await;
        assert_eq!(program.stack.redis.dead_letters(&mut redis, 0).await.expect("Redis"), letters);
        program.stack.books_balance().await;
    }
}

/// Starts workers of these roles.
pub(crate) fn workers(program: &Program, roles: &str, further: &[&str]) -> Running {
    program.start(&[&["run", "--stages", roles], &WORKERS[..], further].concat())
}

/// Starts workers that will fail.
pub(crate) fn faulty(program: &Program, roles: &str, faults: &str, further: &[&str]) -> Running {
    let args = [&["run", "--stages", roles], &WORKERS[..], further].concat();
    Running::spawn(program.command(&args).env("FAILPOINTS", faults), &args)
}

/// Everyone but this one. Not the reconciler: it would make up for messages that were lost.
pub(crate) fn others(role: &str) -> String {
    let roles = ["reservation", "payment", "settlement", "relay"];
    let others: Vec<&str> = roles.into_iter().filter(|other| *other != role).collect();
    others.join(",")
}

/// After an abort, the same process again without faults; else it just goes on.
pub(crate) async fn go_on(
    program: &Program,
    role: &str,
    faulty: Running,
    last: Option<&Action>,
    further: &[&str],
) -> Running {
    if last != Some(&Action::Abort) {
        return faulty;
    }
    let done = faulty.end().await;
    assert_eq!(done.code, None, "a signal ended it: {}", done.stderr);
    let again = workers(program, role, further);
    // From now on it can be asked to stop.
    again.says("running").await;
    again
}

/// The streams are drained, and no order is open.
pub(crate) async fn drained(program: &Program) {
    const OPEN: &str = "SELECT EXISTS (SELECT FROM orders WHERE status IN ('reserved', 'paying'))";
    program.stack.drained(&StageName::WAY).await;
    eventually("no order is open", async || !program.stack.value::<bool>(OPEN).await).await;
    program.stack.drained(&StageName::WAY).await;
}

/// A process of a stage, or of the relay, fails at a place in these ways, one after the other, while others are healthy.
pub(crate) async fn worker_recovers(place: Place, actions: Vec<Action>) {
    let program = program().await;
    let mut lots = Lots::new();
    let healthy = workers(&program, &others(place.role), &[]);
    let faulty = faulty(&program, place.role, &place.faults(&actions), &[]);
    for action in &actions {
        lots.publish(&program).await;
        faulty.says(&place.evidence(*action)).await;
    }
    let again = go_on(&program, place.role, faulty, actions.last(), &[]).await;
    drained(&program).await;
    again.stop().await.exits(0);
    healthy.stop().await.exits(0);
    lots.all_ended(&program).await;
}

/// Runs cases side by side and names those that fail.
pub(crate) async fn all_of<P: Display + 'static>(
    cases: Vec<(P, Vec<Action>)>,
    run: impl AsyncFn(P, Vec<Action>) + Copy + 'static,
) {
    let count = cases.len();
    let mut waiting = cases.into_iter();
    let mut failed: Vec<String> = Vec::new();
    let mut running: JoinSet<()> = JoinSet::new();
    let mut names: BTreeMap<Id, String> = BTreeMap::new();
    LocalSet::new()
        .run_until(async {
            loop {
                while running.len() < SIDE_BY_SIDE
                    && let Some((place, actions)) = waiting.next()
                {
                    let name = format!("{place}: {actions:?}");
                    let id = running.spawn_local(async move { run(place, actions).await }).id();
                    names.insert(id, name);
                }
                match running.join_next().await {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(error)) => failed.push(names[&error.id()].clone()),
                }
            }
        })
        .await;
    assert!(failed.is_empty(), "{} of {count} cases failed:\n{}", failed.len(), failed.join("\n"));
}
