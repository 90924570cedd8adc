//! Orders that cost nothing, and pieces that come back without money: no provider hears of them.

use serde_json::Value;

use crate::program::{
    Done, Orderstream, Program, Running,
    client::Api,
    harness::order,
    provider::{KEY, Provider},
};

/// Runs a command that may ask this provider.
async fn at(program: &Program, provider: &Provider, args: &[&str]) -> Done {
    let args = [args, &["--gateway", &provider.url]].concat();
    Running::spawn(program.command(&args).env("ORDERSTREAM_GATEWAY_KEY", KEY), &args).end().await
}

async fn stock(program: &Program) -> i64 {
    program.stack.value("SELECT stock - reserved FROM products WHERE id = 1").await
}

#[tokio::test]
async fn an_order_that_costs_nothing_completes_unasked_and_its_pieces_come_back_once() {
    // It approves nothing: whoever is asked for money says no.
    let provider = Provider::start(&["--approve", "0"]).await;
    let program = Program::seeded(1, &[10]).await;
    program.stack.publish(&[order("FREE", 1, &[(1, 3, 0)]), order("DEAR", 1, &[(1, 1, 1)])]).await;
    at(&program, &provider, &["run", "--until-drained"]).await.exits(0);
    let shown = program.run(&["order", "FREE", "--json"]).await.exits(0).json();
    let payment = &shown["payments"][0];
    assert_eq!((&shown["status"], &payment["status"]), (&"completed".into(), &"approved".into()), "{shown}");
    assert_eq!((&payment["gateway"], &payment["amount"]), (&"none".into(), &"0.00".into()), "{payment}");
    assert!(shown.to_string().contains("nothing to pay"), "{shown}");
    let dear = program.run(&["order", "DEAR", "--json"]).await.exits(0).json();
    assert_eq!(dear["failure_reason"], "payment_declined", "{dear}");
    assert_eq!(stock(&program).await, 7);

    let restock = |key: &'static str| ["refund", "FREE", "--restock", "--key", key, "--json"];
    let without = at(&program, &provider, &["refund", "FREE", "--key", "money", "--json"]).await.exits(6).json();
    assert_eq!(without["refusal"], "nothing_left", "{without}");
    for _ in 0..2 {
        let back = at(&program, &provider, &restock("pieces")).await.exits(0).json();
        assert_eq!((&back["status"], &back["amount"]), (&"succeeded".into(), &"0.00".into()), "{back}");
        assert_eq!(back["restocked"], true, "{back}");
        assert_eq!(stock(&program).await, 10);
    }
    let again = at(&program, &provider, &restock("again")).await.exits(6).json();
    assert_eq!((&again["refusal"], &again["restocked"]), (&"already_restocked".into(), &Value::Bool(false)), "{again}");
    assert_eq!(stock(&program).await, 10);

    // One charge was asked for, and no refund; the books agree with that, and with each other.
    let ledger = provider.ledger().await;
    let asked: Vec<&str> = ledger.keys().map(|(_, reference)| reference.as_str()).collect();
    assert!(asked.len() == 1 && asked[0].contains("DEAR"), "{ledger:?}");
    at(&program, &provider, &["run", "--until-drained"]).await.exits(0);
    at(&program, &provider, &["audit"]).await.exits(0);
    let page = Api::serve(&program, &[]).await.get("/orders/FREE").await;
    assert!(page.text.contains("<strong>Payment</strong><span>nothing to pay</span>"), "{}", page.text);
}
