//! `audit --gateway`: the provider's ledger and ours, one to one.

use pipeline::gateway::Gateway;
use serde_json::Value;

use crate::{
    program::{Orderstream, Program},
    provider::{KEY, Provider, charges, refund},
};

/// The two checks, by the program itself.
async fn audited(program: &Program, provider: &Provider) -> (Value, Value) {
    let args = ["audit", "--gateway", &provider.url, "--json"];
    let mut command = program.command(&args);
    command.env("ORDERSTREAM_GATEWAY_KEY", KEY);
    let report = crate::program::Running::spawn(&mut command, &args).end().await.json();
    let check = |name: &str| {
        let checks = report["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["name"] == name).expect("the check").clone()
    };
    (check("gateway_charges"), check("gateway_refunds"))
}

fn differences(check: &Value) -> Vec<&str> {
    check["examples"].as_array().expect("examples").iter().map(|text| text.as_str().expect("a text")).collect()
}

#[tokio::test]
async fn the_audit_finds_every_difference_between_the_ledgers() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::get().await;
    let client = provider.client();
    // More than a page of them.
    let count = 6_000;
    for batch in charges(1..count + 1).chunks(1_000) {
        client.charge(batch).await;
    }
    let count = i64::from(count);
    client.give_back(&[refund("r-1", "ORD-1", 100), refund("r-2", "ORD-2", 200)]).await;
    // As the pipeline writes them down.
    let ours = format!(
        "INSERT INTO orders (id, code, customer_id, status, total_cents, content_hash, received_at, settled_at, partition)
         SELECT n, 'ORD-' || n, 1, 'completed', 3998, 0, now(), now(), 0 FROM generate_series(1, {count}) n;
         INSERT INTO payments (order_id, amount_cents, status, gateway)
         SELECT n, 3998, 'approved', 'http' FROM generate_series(1, {count}) n;
         INSERT INTO refunds (key, order_id, order_code, amount_cents, status, settled_at, gateway, request_hash)
         SELECT 'r-' || n, n, 'ORD-' || n, 100 * n, 'succeeded', now(), 'http', 0 FROM generate_series(1, 2) n"
    );
    program.stack.sql(&ours).await;
    let (charges, refunds) = audited(&program, &provider).await;
    assert_eq!((differences(&charges), differences(&refunds)), (vec![], vec![]));
    assert_eq!((&charges["figure"]["value"], &refunds["figure"]["value"]), (&count.into(), &2.into()));

    // Each of these is a difference; of another gateway, or still open, it is none.
    program
        .stack
        .sql(
            "UPDATE payments SET status = 'declined' WHERE order_id = 1;
             UPDATE payments SET amount_cents = 1 WHERE order_id = 2;
             UPDATE payments SET status = 'late' WHERE order_id = 3;
             UPDATE payments SET status = 'pending', check_at = now(), expires_at = now() WHERE order_id = 4;
             UPDATE payments SET gateway = 'simulator' WHERE order_id = 5;
             UPDATE payments SET status = 'expired' WHERE order_id = 6;
             UPDATE orders SET code = 'ELSE' WHERE id = 7;
             UPDATE refunds SET status = 'failed', refusal = 'gateway_refused' WHERE key = 'r-1';
             UPDATE refunds SET amount_cents = 1 WHERE key = 'r-2'",
        )
        .await;
    let body = r#"{"amount":"39.98","currency":"EUR","reference":"ORD-8"}"#;
    provider.post("charges", "a second one", body).await;
    let (charges, refunds) = audited(&program, &provider).await;
    assert_eq!(
        differences(&charges),
        [
            "order ELSE: 39.98 here, no charge at the provider",
            "order ORD-1: 1 × charge of 39.98 at the provider, 0 here",
            "order ORD-2: 0.01 here, 39.98 at the provider",
            "order ORD-5: 1 × charge of 39.98 at the provider, 0 here",
            "order ORD-6: 1 × charge of 39.98 at the provider, 0 here",
            "order ORD-7: 1 × charge of 39.98 at the provider, 0 here",
            "order ORD-8: 2 × charge of 39.98 at the provider, 1 here",
        ]
    );
    assert_eq!(
        differences(&refunds),
        ["refund r-1: 1 × refund of 1.00 at the provider, 0 here", "refund r-2: 0.01 here, 2.00 at the provider"]
    );
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_is_no_clean_one() {
    let program = Program::get().await;
    for (answer, why) in [
        (crate::raw::response("404 Not Found", "", ""), "404"),
        (crate::raw::response("200 OK", "", "{\"kind\":\"charge\""), "has no end"),
        (crate::raw::response("200 OK", "", "garbage\n"), "line 1"),
        (crate::raw::response("200 OK", "", &"x".repeat(1 << 20)), "a line of more than"),
        (crate::raw::response("200 OK", "", "").replace("length: 0", "length: 9"), "broke off"),
    ] {
        let server = crate::raw::Raw::serve(move |_, connection| {
            let answer = answer.clone();
            async move { crate::raw::send(connection, &answer).await }
        })
        .await;
        let failed = program.run(&["audit", "--gateway", &server.url]).await.exits(1);
        assert!(failed.stderr.contains(why), "{failed:?}");
    }
}
