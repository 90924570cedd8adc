//! Providers that move, and such as are gone.

use super::installed::{QUICK, charged, keyed, ledgers_agree, orders, standing};
use crate::program::{Orderstream, Program, harness::eventually, provider::Provider};

#[tokio::test]
async fn a_provider_that_moved_is_asked_where_it_is_now_by_processes_that_run() {
    let mut provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000_000]).await;
    keyed(&program, &["provider", "set", &provider.url]).end().await.exits(0);
    let run = keyed(&program, &[&["run"], &QUICK[..]].concat());
    program.write("first.csv", orders((0..20).map(|n| format!("FIRST-{n}"))));
    program.run(&["import", "first.csv"]).await.exits(0);
    eventually("all are charged", async || standing(&program).await == ["http completed 20"]).await;

    // It is gone from there, with payments and a refund on their way.
    provider.kill().await;
    let before = provider.url.clone();
    program.write("second.csv", orders((0..10).map(|n| format!("SECOND-{n}"))));
    program.run(&["import", "second.csv"]).await.exits(0);
    eventually("some wait for its answer", async || {
        program.stack.value::<i64>("SELECT count(*) FROM payments WHERE status = 'pending'").await == 10
    })
    .await;
    program.run(&["refund", "FIRST-1", "--key", "back", "--wait", "0"]).await.exits(0);
    keyed(&program, &["audit", "--ledgers"]).end().await.exits(1);
    provider.url.clear();
    provider.start_again(&["--approve", "1"]).await;
    assert_ne!(provider.url, before);

    // Whoever does not know the charges is not it.
    let stranger = Provider::start(&[]).await;
    let refused = keyed(&program, &["provider", "move", "http", &stranger.url]).end().await.exits(6);
    assert!(refused.stderr.contains("it does not know it"), "{refused:?}");
    let refused = keyed(&program, &["run", "--until-drained", "--gateway", &provider.url]).end().await.exits(6);
    let way_out = format!("orderstream provider move http {}", provider.url);
    assert!(refused.stderr.contains(&way_out), "{refused:?}");
    program.run(&["provider", "move", "nobody", &provider.url]).await.exits(5);

    let moved = keyed(&program, &["provider", "move", "http", &provider.url, "--why", "v2"]).end().await.exits(0);
    assert!(moved.stdout.contains("knows them as they are stored (5)"), "{moved:?}");
    let actions = program.run(&["actions", "--verb", "move_provider", "--json"]).await.exits(0).json();
    assert_eq!((&actions["actions"][0]["why"], &actions["actions"][0]["outcome"]), (&"v2".into(), &"done".into()));
    eventually("questions and the refund found it", async || {
        standing(&program).await == ["http completed 30"]
            && program.stack.value::<i64>("SELECT count(*) FROM refunds WHERE status = 'succeeded'").await == 1
    })
    .await;
    program.write("third.csv", orders((0..10).map(|n| format!("THIRD-{n}"))));
    program.run(&["import", "third.csv"]).await.exits(0);
    eventually("new ones are charged there", async || standing(&program).await == ["http completed 40"]).await;
    assert_eq!(charged(&provider).await, (40, 40));
    run.stop().await.exits(0);
    ledgers_agree(&program).await;
}

#[tokio::test]
async fn a_provider_has_moved_only_to_where_its_promises_are_known_and_none_of_them_is_asked_for_again() {
    let mut provider = Provider::start(&["--pending", "1", "--callback-after", "600000"]).await;
    let stranger = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000_000]).await;
    keyed(&program, &["provider", "set", &provider.url]).end().await.exits(0);
    let run = keyed(&program, &[&["run"], &QUICK[..]].concat());
    run.says("running").await;
    let pending = async |confirmed: &str| {
        let pending = format!("SELECT count(*) FROM payments WHERE status = 'pending' AND provider_id {confirmed}");
        program.stack.value::<i64>(&pending).await
    };
    // What never got an answer proves nobody.
    provider.kill().await;
    program.write("first.csv", orders((0..3).map(|n| format!("FIRST-{n}"))));
    program.run(&["import", "first.csv", "--no-wait"]).await.exits(0);
    eventually("they wait for an answer", async || pending("IS NULL").await == 3).await;
    let refused = keyed(&program, &["provider", "move", "http", &stranger.url]).end().await.exits(6);
    assert!(refused.stderr.contains("wait for an answer") && refused.stderr.contains("--unverified"), "{refused:?}");

    // What it has promised to decide does.
    provider.start_again(&["--pending", "1", "--callback-after", "600000"]).await;
    eventually("all are promised", async || pending("IS NOT NULL").await == 3).await;
    let refused = keyed(&program, &["provider", "move", "http", &stranger.url]).end().await.exits(6);
    assert!(refused.stderr.contains("it does not know it"), "{refused:?}");

    // Whoever says that it is all the same has nobody charged a second time.
    let args = ["provider", "move", "http", &stranger.url, "--unverified"];
    keyed(&program, &args).end().await.exits(0);
    program.stack.sql("UPDATE payments SET due_at = now()").await;
    eventually("the stranger was asked", async || {
        let contradictions = "SELECT count(*) FROM payments WHERE note LIKE '%does not know the charge%'";
        program.stack.value::<i64>(contradictions).await == 3
    })
    .await;
    assert_eq!((charged(&stranger).await, pending("IS NOT NULL").await), ((0, 0), 3));
    run.stop().await.exits(0);
}

#[tokio::test]
async fn a_refund_that_was_promised_is_never_asked_for_again() {
    let mut provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000_000]).await;
    keyed(&program, &["provider", "set", &provider.url]).end().await.exits(0);
    program.write("first.csv", orders(["A".to_owned(), "B".to_owned()]));
    let run = keyed(&program, &[&["run", "--gateway-timeout", "1"], &QUICK[..]].concat());
    run.says("running").await;
    program.run(&["import", "first.csv"]).await.exits(0);
    eventually("both are charged", async || standing(&program).await == ["http completed 2"]).await;
    provider.kill().await;
    for code in ["A", "B"] {
        program.run(&["refund", code, "--key", code, "--wait", "0"]).await;
    }
    eventually("both wait for the provider", async || {
        program.stack.value::<i64>("SELECT count(*) FROM refunds WHERE status = 'pending'").await == 2
    })
    .await;
    // As if it had promised one of them, and knew nothing of it any more.
    program.stack.sql("UPDATE refunds SET provider_id = 're_promised' WHERE key = 'A'").await;
    provider.start_again(&["--approve", "1"]).await;
    program.stack.sql("UPDATE refunds SET due_at = now()").await;
    eventually("the other one is given back", async || {
        program.stack.value::<i64>("SELECT count(*) FROM refunds WHERE key = 'B' AND status = 'succeeded'").await == 1
    })
    .await;
    eventually("it was asked about the promised one", async || {
        let asked =
            "SELECT count(*) FROM refunds WHERE key = 'A' AND note LIKE '%does not know the refund re_promised%'";
        program.stack.value::<i64>(asked).await == 1
    })
    .await;
    assert_eq!(provider.ledger().await.keys().filter(|(kind, _)| kind == "refund").count(), 1);
    run.stop().await.exits(0);
}

#[tokio::test]
async fn a_gateway_that_never_took_any_money_needs_no_ledger() {
    let mut provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["provider", "set", "http://127.0.0.1:9"]).await.exits(0);
    program.run(&["provider", "set", &provider.url]).await.exits(0);
    program.write("orders.csv", orders(["A".to_owned()]));
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    keyed(&program, &["run", "--until-drained"]).end().await.exits(0);
    assert_eq!(standing(&program).await, ["http-2 completed 1"]);
    // It was replaced before it took a payment. Nobody knows more of it than that, which is said.
    for args in [&["audit", "--ledgers"][..], &["audit"]] {
        let audit = keyed(&program, args).end().await.exits(0);
        for text in
            ["Not compared with the ledger of the provider of http (http://127.0.0.1:9", "as far as they were compared"]
        {
            assert!(audit.stdout.contains(text), "{text:?} is not in {audit:?}");
        }
    }
    // Whoever asks for it by its address wants to know, and who has taken money is missed.
    keyed(&program, &["audit", "--gateway", "http://127.0.0.1:9"]).end().await.exits(1);
    provider.kill().await;
    keyed(&program, &["audit", "--ledgers"]).end().await.exits(1);
}
