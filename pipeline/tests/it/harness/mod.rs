//! What integration tests run on: real servers, and on them a database and a namespace of keys for each test, so that
//! tests run side by side. Nothing sleeps: stages run until their streams are drained.

mod database;
pub(crate) mod servers;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pipeline::{
    audit::{self, Report},
    domain::{ActionOutcome, ActionVerb, ActionVia, Cents, CustomerId, Line, Order, OrderCode, ProductId},
    gateway::Simulator,
    message::encode_order,
    metrics::Metrics,
    payments::{Connected, Connector, Gateways, PaymentLimits, Payments},
    relay::Board,
    runner::{Limits, PipelineConfig, Workers},
    shutdown::Shutdown,
    store::{
        self, Customer, GatewayKind, Installed, KnownGateway, NewAction, NewGateway, Product, Store, WorkerSettings,
    },
    streams::{self, Publisher, Redis},
    topology::StageName,
};
use redis::{aio::MultiplexedConnection, streams::StreamRangeReply};
pub(crate) use servers::Server;
use servers::Servers;
pub(crate) use servers::{PATIENCE, random};
use sqlx::AssertSqlSafe;

/// The share of order codes that the simulated gateway approves.
pub(crate) const SUCCESS_RATE: f64 = 0.9;

/// The simulator, approving this share, whatever the installation has recorded.
pub(crate) fn simulated(success_rate: f64) -> Gateways {
    Gateways::new(Arc::new(Simulating { approved_of_10_000: Simulator::share(success_rate).expect("a rate") }))
}

/// Takes every gateway for a simulator with this share.
#[derive(Debug)]
struct Simulating {
    approved_of_10_000: u32,
}

impl Connector for Simulating {
    fn connect(&self, gateway: &KnownGateway, _: &Installed, _: bool) -> Result<Connected, String> {
        let client = Arc::new(Simulator::of_10_000(self.approved_of_10_000, &gateway.name, Duration::ZERO));
        Ok(Connected { client, first_key: None })
    }

    fn first(&self, _: &[KnownGateway]) -> Result<Option<NewGateway>, String> {
        let kind = GatewayKind::Simulator { approved_of_10_000: Some(self.approved_of_10_000) };
        Ok(Some(NewGateway { name: None, kind, currency: "EUR".to_owned(), key_fingerprint: None }))
    }

    fn first_action(&self, first: &KnownGateway) -> NewAction {
        set_by_test(first, None)
    }

    fn agree(&self, _: &KnownGateway, _: &[KnownGateway]) -> Result<(), String> {
        Ok(())
    }
}

/// What is noted of a gateway that a test sets.
pub(crate) fn set_by_test(gateway: &KnownGateway, _: Option<&KnownGateway>) -> NewAction {
    NewAction {
        actor: "test".to_owned(),
        via: ActionVia::Cli,
        verb: ActionVerb::SetProvider,
        target: gateway.name.clone(),
        why: String::new(),
        affected: 1,
        outcome: ActionOutcome::Done,
        detail: serde_json::json!({}),
    }
}

/// One test's own database and keys. Both are gone when it is dropped.
pub(crate) struct Stack {
    /// For stages.
    pub(crate) store: Store,
    /// For reports and the audit.
    pub(crate) reports: Store,
    pub(crate) redis: Redis,
    pub(crate) database_url: String,
    pub(crate) namespace: String,
    database: String,
    /// Last, so that the servers outlive everything that uses them.
    servers: Arc<Servers>,
}

impl Stack {
    /// An empty stack: migrated, without catalogue or orders.
    pub(crate) async fn get() -> Self {
        Self::on(Servers::get().await).await
    }

    /// A stack whose servers nobody else uses, for tests that empty or reconfigure them.
    pub(crate) async fn alone() -> Self {
        Self::on(Arc::new(Servers::start("").await)).await
    }

    /// The same, with a Postgres that can be reached at an address of this machine.
    pub(crate) async fn alone_at(address: &str) -> Self {
        Self::on(Arc::new(Servers::start(address).await)).await
    }

    async fn on(servers: Arc<Servers>) -> Self {
        let id = random();
        let (database, namespace) = (format!("orderstream_t_{id:016x}"), format!("t_{id:016x}"));
        let database_url = database::create(&servers.postgres_url, &database).await;
        Self {
            store: Store::new(&database_url, WorkerSettings::Worker, 8).expect("a URL"),
            reports: Store::new(&database_url, WorkerSettings::Report, 4).expect("a URL"),
            redis: Redis::new(&servers.redis_url, &namespace).expect("a URL"),
            database_url,
            namespace,
            database,
            servers,
        }
    }

    /// The address of this test's Redis server, for clients of one's own.
    pub(crate) fn redis_url(&self) -> &str {
        &self.servers.redis_url
    }

    /// Ends a server of [`Stack::alone`] by a signal: `INT` stops it, `KILL` is a crash.
    pub(crate) fn end(&self, server: Server, signal: &str) {
        self.servers.end(server, signal);
    }

    /// Starts it again, with what it has on disk, and waits until it answers.
    pub(crate) async fn start_again(&self, server: Server) {
        self.servers.start_again(server);
        eventually(&format!("{server:?} answers"), async || self.answers(server).await).await;
    }

    /// Whether the server answers, loaded and with this test's database.
    pub(crate) async fn answers(&self, server: Server) -> bool {
        match server {
            // Idle connections to its predecessor fail one by one.
            Server::Postgres => sqlx::query("SELECT 1").execute(&self.reports.pool()).await.is_ok(),
            Server::Redis => match self.redis.connect().await {
                Ok(mut redis) => redis::cmd("EXISTS").arg("x").exec_async(&mut redis).await.is_ok(),
                Err(_) => false,
            },
        }
    }

    /// Puts customers 1 to `customers` into the catalogue, and products 1, 2, … with these stocks.
    pub(crate) async fn seed(&self, customers: i64, stocks: &[i64]) {
        let customers: Vec<Customer> = (1..=customers)
            .map(|id| Customer { id, name: format!("Customer {id}"), email: format!("customer-{id}@example.com") })
            .collect();
        let products: Vec<Product> = (1..)
            .zip(stocks)
            .map(|(id, &stock)| Product {
                id,
                sku: format!("SKU-{id}"),
                name: format!("Product {id}"),
                unit_price_cents: 1999,
                stock,
            })
            .collect();
        store::upsert_customers(&self.store.pool(), &customers).await.expect("customers");
        store::upsert_products(&self.store.pool(), &products).await.expect("products");
    }

    /// Publishes orders as an importer does.
    pub(crate) async fn publish(&self, orders: &[Order]) {
        let bodies: Vec<Vec<u8>> = orders.iter().map(encode_order).collect();
        let mut publisher = patiently(async || Publisher::connect(&self.redis, 0, StageName::Reservation).await).await;
        publisher.publish(&bodies, None).await.expect("published");
    }

    /// A small pipeline that notices work, and its end, quickly.
    pub(crate) fn config(&self, stages: &[StageName]) -> PipelineConfig {
        PipelineConfig {
            stages: stages.to_vec(),
            relay: true,
            reconcile_every: None,
            workers_per_stage: 1,
            limits: Limits { block: Duration::from_millis(20), ..Limits::default() },
            collector: false,
            gateways: simulated(SUCCESS_RATE),
            payments: PaymentLimits::default(),
            metrics: Metrics::default(),
        }
    }

    /// The desk for payments, with the simulator.
    pub(crate) fn payments(&self, success_rate: f64) -> Payments {
        Payments::new(self.store.clone(), simulated(success_rate), PaymentLimits::default())
    }

    /// Starts workers; stop them, or drop them with the runtime.
    pub(crate) async fn start(&self, config: &PipelineConfig) -> Workers {
        Workers::start(config, (&self.store, &self.reports), &self.redis, &Shutdown::default())
            .await
            .expect("the pipeline starts")
    }

    /// Runs these stages and the relay until the streams of the stages are drained and the board shows every event.
    pub(crate) async fn run(&self, stages: &[StageName]) {
        let workers = self.start(&self.config(stages)).await;
        self.drained(stages).await;
        assert!(workers.stop(PATIENCE).await, "the workers come to their end");
    }

    /// Runs the whole pipeline until nothing is left to do.
    pub(crate) async fn drain(&self) {
        self.run(&StageName::WAY).await;
    }

    /// Waits until the streams of `stages`, which go in the order of the stages, are drained and the board shows every
    /// event.
    pub(crate) async fn drained(&self, stages: &[StageName]) {
        let mut redis = self.connection().await;
        for &stage in stages {
            eventually(&format!("{stage} is drained"), async || {
                let group = self.redis.group_state(&mut redis, 0, stage).await.expect("Redis");
                group.is_some_and(|group| group.is_drained())
            })
            .await;
        }
        let board = Board::new(self.redis.keys().clone());
        let mut postgres = self.reports.pool().acquire().await.expect("Postgres");
        eventually("the board shows every event", async || {
            let last = store::last_event_seq(&mut postgres).await.expect("the counter");
            board.cursor(&mut redis).await.expect("Redis").unwrap_or(0) == last
        })
        .await;
    }

    /// The audit's report.
    pub(crate) async fn audit(&self) -> Report {
        audit::run(&self.reports, &self.redis).await.expect("the audit can be carried through")
    }

    /// Fails with the differences if the audit finds any.
    pub(crate) async fn books_balance(&self) {
        let report = self.audit().await;
        let found: Vec<String> =
            report.failed().map(|check| format!("{}: {:#?}", check.name, check.examples)).collect();
        assert!(found.is_empty(), "the books do not balance: {}", found.join("\n"));
    }

    /// Runs statements in this test's database; how many rows the last one changed.
    pub(crate) async fn sql(&self, statements: &str) -> u64 {
        let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&self.reports.pool()).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}")).rows_affected()
    }

    /// One value out of this test's database.
    pub(crate) async fn value<T>(&self, query: &str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let value = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&self.reports.pool()).await;
        value.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// One field of every entry of a stream.
    pub(crate) async fn field(&self, key: &str, name: &str) -> Vec<String> {
        let mut range = redis::cmd("XRANGE");
        range.arg(key).arg("-").arg("+");
        let range: StreamRangeReply = range.query_async(&mut self.connection().await).await.expect("a stream");
        range.ids.iter().map(|entry| entry.get(name).expect("the field")).collect()
    }

    /// A connection to Redis.
    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        patiently(async || self.redis.connect().await).await
    }

    fn remove_blocking(&self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(self.remove()).map_err(|error| error.to_string())
    }

    /// Forgets this test in the servers; they may be those of somebody who goes on.
    async fn remove(&self) -> Result<(), Box<dyn std::error::Error>> {
        database::remove(&self.servers.postgres_url, &self.database).await?;
        self.forget_keys().await
    }

    /// Deletes every key of this test: Redis has lost everything, as far as this test can see.
    pub(crate) async fn forget_keys(&self) -> Result<(), Box<dyn std::error::Error>> {
        // A connection of this runtime: the test's own may belong to one that waits for us.
        let mut redis = Redis::new(&self.servers.redis_url, &self.namespace)?.connect().await?;
        // At once, as a server loses them: of keys that are written while one looks for them a part would survive.
        const FORGET: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('UNLINK', key) end";
        redis::cmd("EVAL").arg(FORGET).arg(0).arg(format!("{}:*", self.namespace)).exec_async(&mut redis).await?;
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // On a thread with a runtime of its own: this may be dropped inside one, even by a panic.
        let removed = std::thread::scope(|scope| scope.spawn(|| self.remove_blocking()).join());
        if !matches!(removed, Ok(Ok(()))) {
            eprintln!("{} was not removed: {removed:?}", self.database);
        }
    }
}

/// Connects to a Redis that runs, however long the machine keeps it from answering.
async fn patiently<T>(connect: impl AsyncFn() -> Result<T, streams::Error>) -> T {
    let begun = Instant::now();
    loop {
        match connect().await {
            Ok(connected) => return connected,
            Err(error) if begun.elapsed() < PATIENCE && error.is_unreachable() => {}
            Err(error) => panic!("Redis: {error}"),
        }
    }
}

/// Asks again and again until the condition holds: often at first, and less so when it takes its time, for whoever asks is
/// served by the processors that are waited for.
///
/// # Panics
/// When it does not in minutes: a machine with other work is slow, and nothing here measures time.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for this: {what}");
        let rest = if begun.elapsed() < Duration::from_secs(1) { 10 } else { 50 };
        tokio::time::sleep(Duration::from_millis(rest)).await;
    }
}

/// An order with lines of (product, quantity, price in cents).
pub(crate) fn order(code: &str, customer: i64, lines: &[(i64, i32, i64)]) -> Order {
    let lines = lines
        .iter()
        .map(|&(product, quantity, cents)| Line {
            product_id: ProductId(product),
            quantity,
            unit_price: Cents::new(cents),
        })
        .collect();
    Order::new(OrderCode::new(code).expect("a code"), CustomerId(customer), lines).expect("an order")
}

/// Orders of two products in turn, some too large for the stock.
pub(crate) fn orders(name: &str, count: i64) -> Vec<Order> {
    let lines = |n: i64| [(1 + n % 3, 1 + i32::from(n % 7 == 0) * 10_000, 250), (1 + (n + 1) % 3, 2, 100 + n)];
    (0..count).map(|n| order(&format!("{name}-{n}"), 1 + n % 5, &lines(n))).collect()
}
