//! The state machine against a plain model of it: random schedules of orders, duplicates, other contents under known
//! codes, redeliveries in any order, lost hand-offs and lost messages, on real servers.
//!
//! The model is written from docs/STATES.md: who comes first gets the stock; a code belongs to the first content; the
//! payment is a function of the code; an end is an end. `PROPTEST_CASES` sets how many schedules are tried, a failing one
//! is shrunk and printed. Refunds have tests of their own and are not in the model.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{
    message::{Entry, EntryId, Incoming, Message, OrderRef, encode_order},
    stage::{Ending, Payment, Reservation, Settlement, Stage},
    store,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::harness::{SUCCESS_RATE, Stack, order};

const CODES: u8 = 12;
const PRODUCTS: i64 = 3;
const STOCK: i64 = 25;

/// A step of a schedule.
#[derive(Debug, Clone)]
enum Step {
    /// An order arrives: a code, and one of two contents.
    Arrive { code: u8, variant: u8 },
    /// A stage (0, 1, 2) works on up to so many messages, from one end of what waits or the other.
    Work { stage: usize, most: usize, reversed: bool },
    /// A stage works, and its hand-off is lost: the messages are delivered again.
    LoseHandOff { stage: usize, most: usize },
    /// A message that was worked off long ago comes again.
    Redeliver { stage: usize, which: prop::sample::Index },
    /// Redis forgets what waits for a stage, and the reconciler emits what Postgres has open.
    LoseStream,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stage = 0..3_usize;
    let step = prop_oneof![
        4 => (0..CODES, 0..2_u8).prop_map(|(code, variant)| Step::Arrive { code, variant }),
        4 => (stage.clone(), 1..6_usize, any::<bool>())
            .prop_map(|(stage, most, reversed)| Step::Work { stage, most, reversed }),
        1 => (stage.clone(), 1..6_usize).prop_map(|(stage, most)| Step::LoseHandOff { stage, most }),
        1 => (stage, any::<prop::sample::Index>()).prop_map(|(stage, which)| Step::Redeliver { stage, which }),
        1 => Just(Step::LoseStream),
    ];
    prop::collection::vec(step, 10..60)
}

/// Customer, and lines of (product, quantity).
fn content(code: u8, variant: u8) -> (i64, [(i64, i32); 2]) {
    let (code, variant) = (i64::from(code), i64::from(variant));
    // The customer 3 and the product 4 do not exist.
    let customer = if code % 7 == 6 { 3 } else { 1 };
    let first = if code % 11 == 10 { PRODUCTS + 1 } else { 1 + code % PRODUCTS };
    let second = 1 + (code + 1) % PRODUCTS;
    (customer, [(first, i32::try_from(1 + code % 5 + variant).expect("small")), (second, 2)])
}

/// What an order came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    variant: u8,
    /// `None` while it is open.
    end: Option<Result<(), &'static str>>,
}

/// The state machine as the documents have it.
#[derive(Debug, Default)]
struct Model {
    orders: BTreeMap<u8, Known>,
    held: BTreeMap<i64, i64>,
    sold: BTreeMap<i64, i64>,
    conflicts: usize,
    /// Orders whose payment was asked for.
    paid: BTreeSet<u8>,
    events: usize,
}

impl Model {
    fn free(&self, product: i64) -> i64 {
        STOCK - self.held.get(&product).unwrap_or(&0) - self.sold.get(&product).unwrap_or(&0)
    }

    fn take_in(&mut self, code: u8, variant: u8) {
        if let Some(known) = self.orders.get(&code) {
            self.conflicts += usize::from(known.variant != variant);
            return;
        }
        let (customer, lines) = content(code, variant);
        let mut wanted: BTreeMap<i64, i64> = BTreeMap::new();
        for (product, quantity) in lines {
            *wanted.entry(product).or_default() += i64::from(quantity);
        }
        let refused = if customer > 2 {
            Some("unknown_customer")
        } else if wanted.keys().any(|product| *product > PRODUCTS) {
            Some("unknown_product")
        } else if wanted.iter().any(|(product, pieces)| self.free(*product) < *pieces) {
            Some("out_of_stock")
        } else {
            None
        };
        if refused.is_none() {
            for (product, pieces) in wanted {
                *self.held.entry(product).or_default() += pieces;
            }
        }
        self.events += usize::from(refused.is_some());
        self.orders.insert(code, Known { variant, end: refused.map(Err) });
    }

    fn pay(&mut self, code: u8) {
        if self.orders[&code].end.is_none() {
            self.paid.insert(code);
        }
    }

    fn settle(&mut self, code: u8) {
        let variant = self.orders[&code].variant;
        if self.orders[&code].end.is_some() || !self.paid.contains(&code) {
            return;
        }
        let approved = f64::from(crc32fast::hash(name(code).as_bytes()) % 10_000) < SUCCESS_RATE * 10_000.0;
        for (product, quantity) in content(code, variant).1 {
            *self.held.entry(product).or_default() -= i64::from(quantity);
            if approved {
                *self.sold.entry(product).or_default() += i64::from(quantity);
            }
        }
        self.events += 1;
        let end = if approved { Ok(()) } else { Err("payment_declined") };
        self.orders.insert(code, Known { variant, end: Some(end) });
    }
}

fn name(code: u8) -> String {
    format!("M-{code}")
}

fn number(name: &str) -> u8 {
    name.trim_start_matches("M-").parse().expect("one of ours")
}

/// What waits for each stage, and what was worked off: entries as the runner would read them.
#[derive(Debug, Default)]
struct Streams {
    waiting: [Vec<Entry>; 3],
    past: [Vec<Entry>; 3],
    next: u64,
}

impl Streams {
    fn add(&mut self, stage: usize, body: Vec<u8>) {
        self.next += 1;
        let id = EntryId { ms: 1_700_000_000_000 + self.next, seq: 0 };
        self.waiting[stage].push(Entry { id, fields: vec![(b"body".to_vec(), body)] });
    }
}

struct World<'a> {
    stack: &'a Stack,
    reservation: Reservation,
    payment: Payment,
    settlement: Settlement,
    streams: Streams,
    model: Model,
    dead: usize,
}

impl World<'_> {
    async fn step(&mut self, step: &Step) {
        match step {
            Step::Arrive { code, variant } => {
                let (customer, lines) = content(*code, *variant);
                let lines = lines.map(|(product, quantity)| (product, quantity, 100));
                self.streams.add(0, encode_order(&order(&name(*code), customer, &lines)));
            }
            Step::Work { stage, most, reversed } => {
                let batch = self.batch(*stage, *most, *reversed);
                self.work(*stage, &batch).await;
                self.streams.past[*stage].extend(batch);
            }
            Step::LoseHandOff { stage, most } => {
                let batch = self.batch(*stage, *most, false);
                let (streams, dead) = (std::mem::take(&mut self.streams.waiting), self.dead);
                self.work(*stage, &batch).await;
                // What would have been handed on is lost with the letters; the batch comes again.
                (self.streams.waiting, self.dead) = (streams, dead);
                self.model.conflicts = dead;
                self.streams.waiting[*stage].extend(batch);
            }
            Step::Redeliver { stage, which } => {
                let past = &self.streams.past[*stage];
                if !past.is_empty() {
                    let entry = which.get(past).clone();
                    self.streams.waiting[*stage].push(entry);
                }
            }
            Step::LoseStream => {
                self.streams.waiting[1].clear();
                self.streams.waiting[2].clear();
                self.reconcile().await;
            }
        }
    }

    fn batch(&mut self, stage: usize, most: usize, reversed: bool) -> Vec<Entry> {
        let waiting = &mut self.streams.waiting[stage];
        if reversed {
            waiting.reverse();
        }
        let rest = waiting.split_off(most.min(waiting.len()));
        std::mem::replace(waiting, rest)
    }

    /// Works on a batch and hands on what follows, in the real stage and in the model.
    async fn work(&mut self, stage: usize, batch: &[Entry]) {
        let endings = match stage {
            0 => {
                let messages: Vec<Incoming> =
                    batch.iter().map(|entry| Incoming::decode(entry).expect("ours")).collect();
                for message in &messages {
                    let code = number(message.order.code().as_str());
                    let variant = u8::from(message.order.lines()[0].quantity != content(code, 0).1[0].1);
                    self.model.take_in(code, variant);
                }
                self.reservation.process(&messages).await
            }
            _ => {
                let messages: Vec<OrderRef> =
                    batch.iter().map(|entry| OrderRef::decode(entry).expect("ours")).collect();
                for message in &messages {
                    let code = number(&message.order_code);
                    if stage == 1 { self.model.pay(code) } else { self.model.settle(code) }
                }
                if stage == 1 {
                    self.payment.process(&messages).await
                } else {
                    self.settlement.process(&messages).await
                }
            }
        };
        for ending in endings.expect("processed") {
            match ending {
                Ending::Done => {}
                Ending::Forward(to, message) => {
                    let stages = pipeline::topology::StageName::WAY;
                    let stage = stages.iter().position(|stage| *stage == to).expect("a stage");
                    self.streams.add(stage, message.encode());
                }
                Ending::Dead(..) => self.dead += 1,
            }
        }
    }

    /// As the reconciler does: a message for every open order, for the stage that its state calls for.
    async fn reconcile(&mut self) {
        let mut postgres = self.stack.reports.pool().acquire().await.expect("Postgres");
        let always = (chrono::DateTime::UNIX_EPOCH, chrono::Utc::now() + chrono::TimeDelta::hours(1));
        let orders =
            store::orders_in_turn(&mut postgres, always, pipeline::domain::OrderId(0), 1_000).await.expect("rows");
        for order in orders {
            let stage = if order.stage == pipeline::topology::StageName::Payment { 1 } else { 2 };
            self.streams.add(stage, order.order.encode());
        }
    }

    /// Works everything off, then compares.
    async fn compare(&mut self) -> Result<(), TestCaseError> {
        self.reconcile().await;
        for _ in 0..4 {
            for stage in 0..3 {
                let batch = self.batch(stage, usize::MAX, false);
                self.work(stage, &batch).await;
            }
        }
        prop_assert_eq!(self.dead, self.model.conflicts, "each other content under a known code, and nothing else");
        let rows: Vec<(String, String, Option<String>)> =
            sqlx::query_as("SELECT code, status, failure_reason FROM orders")
                .fetch_all(&self.stack.reports.pool())
                .await
                .expect("orders");
        let found: BTreeMap<u8, (String, Option<String>)> =
            rows.into_iter().map(|(code, status, reason)| (number(&code), (status, reason))).collect();
        let expected: BTreeMap<u8, (String, Option<String>)> = self
            .model
            .orders
            .iter()
            .map(|(code, known)| match known.end.as_ref().expect("every order has reached its end") {
                Ok(()) => (*code, ("completed".to_owned(), None)),
                Err(reason) => (*code, ("failed".to_owned(), Some((*reason).to_owned()))),
            })
            .collect();
        prop_assert_eq!(found, expected);
        for product in 1..=PRODUCTS {
            let held = self.stack.value::<i64>(&format!("SELECT reserved FROM products WHERE id = {product}")).await;
            let stock = self.stack.value::<i64>(&format!("SELECT stock FROM products WHERE id = {product}")).await;
            prop_assert_eq!((held, stock), (0, STOCK - self.model.sold.get(&product).unwrap_or(&0)));
        }
        let events: i64 = self.stack.value("SELECT count(*) FROM events").await;
        prop_assert_eq!(usize::try_from(events).expect("a count"), self.model.events);
        Ok(())
    }
}

async fn schedule(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let stack = Stack::get().await;
    stack.seed(2, &[STOCK; 3]).await;
    let mut world = World {
        stack: &stack,
        reservation: Reservation::new(stack.store.clone(), 0),
        payment: Payment::new(stack.payments(SUCCESS_RATE)),
        settlement: Settlement::new(stack.store.clone()),
        streams: Streams::default(),
        model: Model::default(),
        dead: 0,
    };
    for step in &steps {
        world.step(step).await;
    }
    world.compare().await?;
    stack.run(&[]).await;
    stack.books_balance().await;
    Ok(())
}

#[test]
fn any_schedule_of_messages_ends_as_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = if std::env::var("ORDERSTREAM_FAULTS").is_ok_and(|faults| faults == "full") { 300 } else { 24 };
    }
    config.failure_persistence = None;
    config.max_shrink_iters = 200;
    let tried = TestRunner::new(config).run(&steps(), |steps| runtime.block_on(schedule(steps)));
    if let Err(error) = tried {
        panic!("{error}");
    }
}
