//! Codes and keys by which one order or refund could be taken for another: refused on every way in, and what an installation has
//! of them from before goes on.

use serde_json::json;

use crate::program::{Orderstream, Program, client::Api, harness::eventually};

/// Texts that look like `A-1` or `Café`, and what an error says of each.
const LOOKALIKES: [(&str, &str); 6] = [
    ("A\u{200b}-1", "U+200B"),
    ("A\u{ad}-1", "U+00AD"),
    ("A-\u{feff}1", "U+FEFF"),
    ("A-1\u{202e}x", "U+202E"),
    ("A\u{a0}1", "U+00A0"),
    ("Cafe\u{301}", "NFC"),
];

#[tokio::test]
async fn what_looks_like_another_code_or_key_is_refused_on_every_way_in() {
    let program = Program::seeded(3, &[100; 3]).await;
    let api = Api::serve(&program, &[]).await;
    let lines = json!([{ "product_id": 1, "quantity": 1, "unit_price": "1.00" }]);
    let mut redis = program.stack.connection().await;
    let add = async |redis: &mut redis::aio::MultiplexedConnection, stream: &str, body: &serde_json::Value| {
        let key = format!("{}:{{0}}:{stream}", program.stack.namespace);
        let mut command = redis::cmd("XADD");
        command.arg(key).arg("*").arg("body").arg(body.to_string());
        command.exec_async(redis).await.expect("Redis");
    };
    for (text, said) in LOOKALIKES {
        let order = json!({ "order_code": text, "customer_id": 1, "lines": lines });
        let refused = api.post("/v1/orders", &order).await.problem(422, "invalid");
        assert!(refused["errors"][0]["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{refused}");
        let refund = json!({ "refund_key": text, "order_code": "A-1" });
        let refused = api.post("/v1/refunds", &refund).await.problem(422, "invalid");
        assert!(refused["errors"][0]["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{refused}");
        let refused = program.run(&["refund", "A-1", "--key", text]).await;
        assert!(refused.code != Some(0) && refused.stderr.contains(said), "{refused:?}");
        add(&mut redis, "incoming", &order).await;
        add(&mut redis, "refunds", &refund).await;
    }
    program.drain().await;
    let letters = program.run(&["dead", "list", "--json"]).await.exits(0).json();
    let letters = letters["letters"].as_array().expect("letters").clone();
    assert_eq!(letters.len(), 2 * LOOKALIKES.len());
    for (_, said) in LOOKALIKES {
        let told = |letter: &&serde_json::Value| letter["error"].as_str().is_some_and(|error| error.contains(said));
        let reasons: Vec<_> = letters.iter().filter(told).map(|letter| letter["reason"].as_str()).collect();
        assert_eq!(reasons.len(), 2, "{said}");
        assert!(reasons.contains(&Some("invalid_order")) && reasons.contains(&Some("invalid_refund")), "{reasons:?}");
    }
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM orders").await, 0);
}

#[tokio::test]
async fn what_looks_like_another_from_before_is_worked_on_found_and_refunded() {
    let program = Program::seeded(3, &[100; 3]).await;
    let api = Api::serve(&program, &[]).await;
    let lines = json!([{ "product_id": 1, "quantity": 1, "unit_price": "1.00" }]);
    // Codes of which the payment is approved.
    for code in ["A-1", "A-2"] {
        api.post("/v1/orders", &json!({ "order_code": code, "customer_id": 1, "lines": lines })).await.ok(202);
    }
    program.run(&["run", "--until-drained"]).await.exits(0);
    // A refund that waits for an order that nobody knows.
    api.post("/v1/refunds", &json!({ "refund_key": "w-1", "order_code": "NO\u{a0}ONE" })).await.ok(202);
    let workers = program.start(&["run"]);
    let waiting = "SELECT EXISTS (SELECT FROM refunds WHERE key = 'w-1' AND status = 'waiting')";
    eventually("the refund waits", async || program.stack.value(waiting).await).await;
    workers.stop().await.exits(0);
    // As a version wrote them that took such names.
    program.stack.sql("UPDATE orders SET code = E'A\\u200B-1' WHERE code = 'A-1'").await;
    program.stack.sql("UPDATE orders SET code = E'Cafe\\u0301' WHERE code = 'A-2'").await;
    program.stack.sql("UPDATE refunds SET key = E'w\\u200B1', waits_until = now(), due_at = now()").await;

    let workers = program.start(&["run"]);
    let refused = "SELECT EXISTS (SELECT FROM refunds WHERE key = E'w\\u200B1' AND status = 'refused')";
    eventually("the waiting refund comes to its end", async || program.stack.value(refused).await).await;
    let order = api.get("/v1/orders/A%E2%80%8B-1").await.ok(200);
    assert_eq!(order["code"], "A\u{200b}-1");
    for (key, code) in [("r-1", "A\u{200b}-1"), ("r-2", "Cafe\u{301}")] {
        api.post("/v1/refunds", &json!({ "refund_key": key, "order_code": code })).await.ok(202);
        let link = format!("/v1/refunds/{key}");
        let succeeded = async || api.get(&link).await.text.contains("\"succeeded\"");
        eventually("it is refunded", succeeded).await;
    }
    workers.stop().await.exits(0);
    let shown = program.run(&["refunds"]).await.exits(0).stdout;
    assert!(shown.contains("A\\u{200b}-1") && shown.contains("w\\u{200b}1"), "{shown}");
}
