//! What an installation has stays so, whoever comes.

use orderstream::provider::{Fault, Faults};
use serde_json::Value;

use crate::program::{
    Done, Local, Orderstream, Program, Running,
    harness::eventually,
    provider::{KEY, Provider},
};

/// What workers of tests are told, beside who takes the money.
pub(crate) const QUICK: [&str; 6] = ["--claim-idle", "1", "--reconcile-every", "1", "--payment-timeout", "60"];

/// A command with the key that providers of these tests want.
pub(crate) fn keyed(program: &impl Orderstream, args: &[&str]) -> Running {
    Running::spawn(program.command(args).env("ORDERSTREAM_GATEWAY_KEY", KEY), args)
}

/// A file of one-line orders of 5.00, two pieces of product 1 each.
pub(crate) fn orders(codes: impl IntoIterator<Item = String>) -> String {
    let rows = codes.into_iter().map(|code| format!("{code},1,1,2,2.50\n"));
    std::iter::once("order_code,customer_id,product_id,quantity,unit_price\n".to_owned()).chain(rows).collect()
}

/// Orders by the gateway of their payment and their state: `http completed 40`.
pub(crate) async fn standing(program: &Program) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat_ws(' ', p.gateway, o.status, count(*)) FROM orders o LEFT JOIN payments p ON p.order_id = o.id
         GROUP BY p.gateway, o.status ORDER BY 1",
    )
    .fetch_all(&program.stack.reports.pool())
    .await
    .expect("orders")
}

/// The audit over all ledgers; it must be clean.
pub(crate) async fn ledgers_agree(program: &Program) {
    let args = ["audit", "--ledgers"];
    let mut command = program.command(&args);
    command.env("ORDERSTREAM_GATEWAY_KEY", KEY).env("ORDERSTREAM_GATEWAY_KEY_HTTP", KEY);
    let audit = Running::spawn(&mut command, &args).end().await.exits(0);
    assert!(audit.stdout.contains("The books balance."), "{audit:?}");
}

/// Approved charges in a provider's own ledger: how many, and of how many references.
pub(crate) async fn charged(provider: &Provider) -> (usize, usize) {
    let ledger = provider.ledger().await;
    let of_charges = ledger.iter().filter(|((kind, _), _)| kind == "charge");
    let approved: Vec<usize> = of_charges
        .map(|(_, lines)| lines.iter().filter(|line| line["status"] == "approved").count())
        .filter(|count| *count > 0)
        .collect();
    (approved.iter().sum(), approved.len())
}

fn says(done: &Done, texts: &[&str]) {
    for text in texts {
        assert!(done.stderr.contains(text), "{text:?} is not in {done:?}");
    }
}

#[tokio::test]
async fn an_import_leaves_the_money_to_workers_that_have_been_idle_for_long() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let local = Local::prepared();
    let dev = keyed(&local, &["dev", "--gateway", &provider.url]);
    dev.says("running").await;
    // Redis 7.0 counts a consumer's idle time from its last message: these look as if nobody was there.
    eventually("the consumers have been idle for longer than a worker is silent", async || {
        let status = local.run(&["status", "--json"]).await.exits(0).json();
        let stage = |name: &str| ["reservation", "payment", "settlement"].contains(&name);
        let streams = status["partitions"][0]["streams"].as_array().cloned().unwrap_or_default();
        let groups = streams.iter().flat_map(|stream| stream["groups"].as_array().cloned().unwrap_or_default());
        let consumers: Vec<Value> = groups
            .filter(|group| group["name"].as_str().is_some_and(stage))
            .flat_map(|group| group["consumers"].as_array().cloned().unwrap_or_default())
            .collect();
        consumers.len() >= 3
            && consumers.iter().all(|consumer| consumer["idle_ms"].as_u64().is_some_and(|idle| idle > 6_000))
    })
    .await;
    local.write("orders.csv", orders((0..600).map(|n| format!("IDLE-{n}"))));
    local.run(&["import", "orders.csv"]).await.exits(0);
    eventually("all of them completed", async || {
        let list = local.run(&["orders", "--state", "completed", "--limit", "1000", "--json"]).await.exits(0).json();
        list["orders"].as_array().is_some_and(|orders| orders.len() == 600)
    })
    .await;
    let shown = local.run(&["provider", "--json"]).await.exits(0).json();
    let gateways = shown["gateways"].as_array().expect("gateways");
    assert_eq!(gateways.len(), 1, "{shown}");
    assert_eq!((&gateways[0]["kind"], &gateways[0]["payments"]), (&"http".into(), &600.into()), "{shown}");
    assert_eq!(charged(&provider).await, (600, 600));
    dev.stop().await.exits(0);
}

#[tokio::test]
async fn a_process_without_flags_beside_one_with_a_provider_charges_there() {
    let provider = Provider::start(&["--approve", "0"]).await;
    let program = Program::seeded(10, &[1_000_000]).await;
    let told = [&["run", "--gateway", &provider.url], &QUICK[..]].concat();
    let with_flags = keyed(&program, &told);
    with_flags.says("running").await;
    let without = keyed(&program, &[&["run", "--workers", "3"], &QUICK[..]].concat());
    without.says("running").await;
    program.write("orders.csv", orders((0..600).map(|n| format!("PLAIN-{n}"))));
    program.run(&["import", "orders.csv"]).await.exits(0);
    eventually("all of them have their end", async || standing(&program).await == ["http failed 600"]).await;
    assert_eq!(charged(&provider).await, (0, 0));
    without.stop().await.exits(0);
    with_flags.stop().await.exits(0);
    ledgers_agree(&program).await;
}

#[tokio::test]
async fn payments_stay_with_the_provider_that_began_them_when_another_takes_over() {
    let first = Provider::start(&["--approve", "1", "--lost", "1", "--callback-after", "3000"]).await;
    let second = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000_000]).await;
    let run = keyed(&program, &[&["run", "--gateway", &first.url], &QUICK[..]].concat());
    program.write("first.csv", orders((0..99).map(|n| format!("FIRST-{n}"))));
    program.run(&["import", "first.csv"]).await.exits(0);
    eventually("the first provider has promised to decide", async || {
        program.stack.value::<i64>("SELECT count(*) FROM payments WHERE provider_id IS NOT NULL").await == 99
    })
    .await;
    run.stop().await.exits(0);

    // Nobody changes it in passing; who wants to is told how.
    let refused = keyed(&program, &["run", "--gateway", &second.url]).end().await.exits(6);
    says(&refused, &[&first.url, &second.url, "orderstream provider set"]);
    let set = ["provider", "set", &second.url, "--name", "second", "--why", "cheaper"];
    let changed = program.run(&set).await.exits(0);
    assert!(changed.stdout.contains("99 payments wait for the answer of http"), "{changed:?}");
    let actions = program.run(&["actions", "--verb", "set_provider", "--json"]).await.exits(0).json();
    assert_eq!(actions["actions"][0]["why"], "cheaper", "{actions}");

    program.write("second.csv", orders((0..50).map(|n| format!("SECOND-{n}"))));
    let args = [&["run"], &QUICK[..]].concat();
    let mut command = program.command(&args);
    // Both have given the same key: the one without a name is that of the first.
    command.env("ORDERSTREAM_GATEWAY_KEY", KEY).env("ORDERSTREAM_GATEWAY_KEY_SECOND", KEY);
    let run = Running::spawn(&mut command, &args);
    program.run(&["import", "second.csv"]).await.exits(0);
    eventually("everybody's money is where it was asked for", async || {
        standing(&program).await == ["http completed 99", "second completed 50"]
    })
    .await;
    assert_eq!((charged(&first).await, charged(&second).await), ((99, 99), (50, 50)));

    // Refunds follow the money.
    program.run(&["refund", "FIRST-1", "--key", "back-1", "--wait", "0"]).await.exits(0);
    program.run(&["refund", "SECOND-1", "--key", "back-2", "--wait", "0"]).await.exits(0);
    eventually("both refunds are through", async || {
        program.stack.value::<i64>("SELECT count(*) FROM refunds WHERE status = 'succeeded'").await == 2
    })
    .await;
    let returned =
        async |provider: &Provider| provider.ledger().await.keys().filter(|(kind, _)| kind == "refund").count();
    assert_eq!((returned(&first).await, returned(&second).await), (1, 1));
    run.stop().await.exits(0);
    ledgers_agree(&program).await;
}

#[tokio::test]
async fn a_currency_changes_for_new_payments_and_only_where_somebody_says_so() {
    let provider = Provider::start(&["--approve", "1", "--lost", "0.5", "--callback-after", "2000"]).await;
    let program = Program::seeded(10, &[1_000_000]).await;
    let euros = keyed(&program, &[&["run", "--gateway", &provider.url], &QUICK[..]].concat());
    euros.says("running").await;
    let refused = keyed(&program, &["run", "--gateway", &provider.url, "--currency", "USD"]).end().await.exits(6);
    says(&refused, &["EUR", "--currency USD", "orderstream provider set"]);

    program.write("euros.csv", orders((0..100).map(|n| format!("EUR-{n}"))));
    program.run(&["import", "euros.csv"]).await.exits(0);
    eventually("some wait for the provider's decision", async || {
        program
            .stack
            .value::<i64>("SELECT count(*) FROM payments WHERE status = 'pending' AND provider_id IS NOT NULL")
            .await
            > 20
    })
    .await;
    program.run(&["provider", "set", &provider.url, "--currency", "USD"]).await.exits(0);
    program.write("dollars.csv", orders((0..100).map(|n| format!("USD-{n}"))));
    program.run(&["import", "dollars.csv"]).await.exits(0);
    eventually("all completed, in the currency in which they began", async || {
        standing(&program).await == ["http completed 100", "http-2 completed 100"]
    })
    .await;
    let ledger = provider.ledger().await;
    for ((_, reference), lines) in &ledger {
        let code = reference.rsplit(':').next().expect("a code");
        assert!(lines.iter().all(|line| code.starts_with(line["currency"].as_str().expect("a text"))), "{lines:?}");
    }
    euros.stop().await.exits(0);
    ledgers_agree(&program).await;
}

#[tokio::test]
async fn two_installations_at_one_provider_with_the_same_codes_are_both_charged() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let (one, other) = (Program::seeded(10, &[1_000_000]).await, Program::seeded(10, &[1_000_000]).await);
    for program in [&one, &other] {
        program.write("orders.csv", orders((0..200).map(|n| format!("SAME-{n}"))));
        let run = keyed(program, &[&["run", "--gateway", &provider.url], &QUICK[..]].concat());
        program.run(&["import", "orders.csv"]).await.exits(0);
        eventually("all completed", async || standing(program).await == ["http completed 200"]).await;
        run.stop().await.exits(0);
    }
    assert_eq!(charged(&provider).await, (400, 400));
    ledgers_agree(&one).await;
    ledgers_agree(&other).await;
    // What somebody loses of its own is seen all the same.
    one.stack.sql("UPDATE payments SET status = 'declined' WHERE order_id = (SELECT min(id) FROM orders)").await;
    let audit = keyed(&one, &["audit", "--gateway", &provider.url]).end().await.exits(4);
    assert!(audit.stdout.contains("gateway_charges: 1 differences"), "{audit:?}");
}

#[tokio::test]
async fn an_import_waits_for_its_own_orders_and_not_for_what_others_are_owed() {
    // Half of them are decided after the test.
    let provider = Provider::start(&["--approve", "1", "--late", "0.5", "--late-after", "3600000"]).await;
    let faults = Faults::none(1).with(Fault::Late, 0.5);
    let (late, prompt): (Vec<String>, Vec<String>) =
        (0..100).map(|n| format!("ORD-{n}")).partition(|code| faults.hit(Fault::Late, code));
    let local = Local::prepared();
    local.write("late.csv", orders(late.clone()));
    local.write("prompt.csv", orders(prompt.clone()));
    let args = ["import", "late.csv", "--gateway", &provider.url];
    let waiting = keyed(&local, &args);
    eventually("the provider owes all answers", async || provider.ledger().await.len() == late.len()).await;
    waiting.stop().await.exits(130);
    let done = keyed(&local, &["import", "prompt.csv", "--json"]).end().await.exits(0).import();
    assert_eq!(done["known"]["new_orders"], prompt.len(), "{done}");
    let shown = local.run(&["provider", "--json"]).await.exits(0).json();
    assert_eq!(shown["gateways"][0]["pending"], late.len(), "{shown}");
}
