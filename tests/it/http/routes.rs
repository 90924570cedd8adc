//! Every route, the way it is meant to be used.

use serde_json::{Value, json};

use crate::program::{
    Orderstream, Program,
    client::{self, Answer, Api},
    harness::eventually,
};

fn order(code: &str) -> Value {
    json!({ "order_code": code, "customer_id": 1, "lines": [{ "product_id": 1, "quantity": 2, "unit_price": "19.99" }] })
}

/// A program that works and serves.
async fn working() -> (Program, Api) {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    (program, api)
}

#[tokio::test]
async fn an_order_goes_in_and_is_seen_at_its_link() {
    let (program, api) = working().await;
    let code = "ORD/1 ü?%";
    let answer = api.post("/v1/orders", &order(code)).await;
    assert_eq!(answer.ok(202)["status"], "accepted");
    let link = answer.headers["location"].clone();
    assert_eq!(link, "/v1/orders/ORD%2F1%20%C3%BC%3F%25");
    eventually("the order is settled", async || {
        let seen = api.get(&link).await;
        seen.status == 200 && !seen.ok(200)["settled_at"].is_null()
    })
    .await;
    let shown = api.get(&link).await.ok(200);
    let command = program.run(&["order", code, "--json"]).await.exits(0).json();
    assert_eq!(shown, command, "the API and the command say the same");

    let listed = api.get("/v1/orders?limit=1").await.ok(200);
    assert_eq!(listed["orders"][0]["code"], code);
    eventually("the relay has told of it", async || api.get("/v1/kpis").await.ok(200)["orders"] == 1).await;
    eventually("the streams are drained", async || {
        let status = api.get("/v1/streams").await.ok(200);
        status["partitions"][0]["streams"][0]["groups"][0]["pending"] == 0
    })
    .await;
    assert!(api.get("/v1/leaderboards/customers").await.ok(200)["places"].is_array());
    assert!(api.get("/v1/leaderboards/products?top=3").await.ok(200)["places"].is_array());
    api.get("/v1/leaderboards/cats").await.problem(404, "not_found");
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn many_orders_go_in_line_by_line() {
    let (program, api) = working().await;
    let mut lines: Vec<String> = (0..1_200).map(|number| order(&format!("B-{number}")).to_string()).collect();
    lines[7] = "{".to_owned();
    lines[8] = json!({ "order_code": "X", "customer_id": 1, "lines": [{ "product_id": 1, "quantity": 0, "unit_price": "1" }] })
        .to_string();
    lines.insert(20, String::new());
    // The last line need not end.
    let answer = api.send("/v1/orders", "application/x-ndjson", lines.join("\n")).await.ok(202);
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1_198), &json!(2)));
    let results = answer["results"].as_array().expect("lines");
    assert_eq!(results.len(), 1_200);
    assert_eq!((&results[7]["line"], &results[7]["status"]), (&json!(8), &json!("rejected")));
    assert_eq!(results[8]["errors"][0]["pointer"], "/lines/0/quantity");
    assert_eq!(results[1_199]["line"], 1_201);
    eventually("all are taken in", async || program.stack.value::<i64>("SELECT count(*) FROM orders").await == 1_198)
        .await;

    // Page by page, each once.
    let (mut next, mut seen) = (Some("/v1/orders?limit=500".to_owned()), 0);
    while let Some(page) = next {
        let page = api.get(&page).await.ok(200);
        seen += page["orders"].as_array().expect("orders").len();
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(seen, 1_198);
}

#[tokio::test]
async fn a_refund_is_asked_for_and_a_key_is_one_refund() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let asked = json!({ "refund_key": "r 1", "order_code": "ORD-1", "amount": "10.00", "reason": "damaged" });
    let answer = api.post("/v1/refunds", &asked).await;
    assert_eq!(answer.ok(202)["refund_key"], "r 1");
    assert_eq!(answer.headers["location"], "/v1/refunds/r%201");
    api.get("/v1/refunds/r%201").await.problem(404, "not_found");
    assert_eq!(client::length(&program, pipeline::topology::StageName::Refund).await, 1);

    // As the stage stores it, whatever comes of it.
    let request = pipeline::message::decode_refund(asked.to_string().as_bytes()).expect("a request");
    program
        .stack
        .sql(&format!(
            "INSERT INTO refunds (key, order_code, asked_cents, request_hash, status, refusal, settled_at, reason, reference_prefix)
             VALUES ('r 1', 'ORD-1', 1000, {}, 'refused', 'unknown_order', now(), 'damaged', reference_mark())",
            request.content_hash()
        ))
        .await;
    let known = api.post("/v1/refunds", &asked).await.ok(200);
    assert_eq!(
        (&known["status"], &known["refusal"], &known["amount"]),
        (&json!("refused"), &json!("unknown_order"), &json!("10.00"))
    );
    assert_eq!(api.get("/v1/refunds/r%201").await.ok(200), known);
    let other = json!({ "refund_key": "r 1", "order_code": "ORD-1", "amount": "10.01", "reason": "damaged" });
    api.post("/v1/refunds", &other).await.problem(409, "refund_conflict");
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_answered_again() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let key = [("idempotency-key", "\"k-1\"")];
    let first = api.post_with("/v1/orders", &order("A"), &key).await;
    first.ok(202);
    for _ in 0..3 {
        let again = api.post_with("/v1/orders", &order("A"), &key).await;
        assert_eq!((again.text.as_str(), again.status), (first.text.as_str(), first.status));
        assert_eq!(again.headers["location"], first.headers["location"]);
        assert_eq!(again.headers["idempotency-replayed"], "true");
    }
    assert_eq!(client::length(&program, pipeline::topology::StageName::Reservation).await, 1);
    api.post_with("/v1/orders", &order("B"), &key).await.problem(422, "idempotency_key_reused");
    // Another route, another key.
    let refund = json!({ "refund_key": "r", "order_code": "A" });
    api.post_with("/v1/refunds", &refund, &key).await.ok(202);
    api.post_with("/v1/orders", &order("C"), &[("idempotency-key", "ü")]).await.problem(400, "invalid_header");

    // What failed is not kept: the next try may go better.
    let key = [("idempotency-key", "k-2")];
    api.post_with("/v1/orders", &json!({}), &key).await.problem(422, "invalid");
    api.post_with("/v1/orders", &order("D"), &key).await.ok(202);

    // Somebody works on it; and when he has crashed, another may.
    program.stack.sql("UPDATE idempotency_keys SET status = NULL, headers = NULL, body = NULL WHERE key = 'k-2'").await;
    api.post_with("/v1/orders", &order("D"), &key).await.problem(409, "idempotency_in_progress");
    program.stack.sql("UPDATE idempotency_keys SET claimed_until = now() - interval '1 s' WHERE key = 'k-2'").await;
    api.post_with("/v1/orders", &order("D"), &key).await.ok(202);
    // After a day it is anybody's.
    program.stack.sql("UPDATE idempotency_keys SET created_at = now() - interval '25 h'").await;
    api.post_with("/v1/orders", &order("E"), &key).await.ok(202);
}

#[tokio::test]
async fn a_file_is_uploaded_and_followed_to_its_end() {
    let (program, api) = working().await;
    let file = program.generate("orders.csv", &["--customers", "5", "--products", "5", "--rows", "2000"]).await;
    let file = format!("{file}x,BAD,1,1,0,1.00,1.00\n");
    let answer = api.send("/v1/imports?name=orders.csv", "text/csv", file).await;
    let import = answer.ok(202);
    let link = answer.headers["location"].clone();
    assert_eq!(link, format!("/v1/imports/{}", import["id"]));
    eventually("the import ends", async || !api.get(&link).await.ok(200)["finished_at"].is_null()).await;
    eventually("its summary is there", async || !api.get(&link).await.ok(200)["summary"].is_null()).await;
    let done = api.get(&link).await.ok(200);
    assert_eq!((&done["status"], &done["rows"], &done["rejected_rows"]), (&json!("done"), &json!(2_001), &json!(1)));
    assert_eq!(done["summary"]["known"]["new_orders"], done["published_orders"]);
    let rejects = api.get(&format!("{link}/rejects")).await;
    assert!(rejects.text.contains("invalid_quantity"), "{}", rejects.text);
    assert_eq!(api.get("/v1/imports").await.ok(200)["imports"][0]["id"], import["id"]);
    api.get("/v1/imports/99999").await.problem(404, "not_found");

    let broken = api.send("/v1/imports", "text/csv", "no,such,columns\n1,2,3\n").await;
    broken.ok(202);
    let link = &broken.headers["location"];
    eventually("it fails", async || api.get(link).await.ok(200)["error"].is_string()).await;
    assert_eq!(api.get(link).await.ok(200)["status"], "failed");
}

#[tokio::test]
async fn stages_are_paused_and_go_on() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let paused = api.post("/v1/streams/payment/pause", &json!({ "seconds": 600, "why": "maintenance" })).await.ok(200);
    assert_eq!(
        (&paused["paused"][0]["stage"], &paused["paused"][0]["why"]),
        (&json!("payment"), &json!("maintenance"))
    );
    assert_eq!(api.get("/v1/streams").await.ok(200)["paused"][0]["stage"], "payment");
    assert_eq!(api.post("/v1/streams/payment/resume", &json!({})).await.ok(200)["resumed"], true);
    assert_eq!(api.post("/v1/streams/payment/resume", &json!({})).await.ok(200)["resumed"], false);
    api.post("/v1/streams/cats/pause", &json!({})).await.problem(404, "not_found");
    let wrong = api.post("/v1/streams/payment/pause", &json!({ "seconds": 0 })).await.problem(422, "invalid");
    assert_eq!(wrong["errors"][0]["pointer"], "/seconds");
}

#[tokio::test]
async fn dead_letters_are_replayed_and_discarded() {
    let (program, api) = working().await;
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, pipeline::topology::StageName::Reservation);
    for _ in 0..2 {
        redis::cmd("XADD").arg(&stream).arg("*").arg("body").arg("{}").exec_async(&mut redis).await.expect("added");
    }
    eventually("they die", async || {
        api.get("/v1/dead-letters").await.ok(200)["letters"].as_array().expect("letters").len() == 2
    })
    .await;
    let letters = api.get("/v1/dead-letters?reason=undecodable&limit=1").await.ok(200);
    let id = letters["letters"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(letters["next"], json!(id));
    assert!(api.get(&format!("/v1/dead-letters/{id}")).await.ok(200)["advice"].is_string());
    api.get("/v1/dead-letters/1-1").await.problem(404, "not_found");
    api.get("/v1/dead-letters?reason=cats").await.problem(400, "invalid_query");

    api.post("/v1/dead-letters/replay", &json!({})).await.problem(422, "invalid");
    // It would only come back: whoever wants that has to insist.
    let refused = api.post("/v1/dead-letters/replay", &json!({ "ids": [id] })).await.ok(200);
    assert_eq!((&refused["outcomes"]["refused"], &refused["outcomes"]["replayed"]), (&json!(1), &json!(null)));
    let insisting = json!({ "ids": [id], "dry_run": true, "force": true });
    let dry = api.post("/v1/dead-letters/replay", &insisting).await.ok(200);
    assert_eq!((&dry["outcomes"]["replayed"], &dry["dry_run"]), (&json!(1), &json!(true)));
    let done =
        api.post("/v1/dead-letters/replay", &json!({ "ids": [id], "force": true, "why": "to see" })).await.ok(200);
    assert_eq!(done["outcomes"]["replayed"], 1);
    eventually("it dies again", async || {
        api.get("/v1/dead-letters").await.ok(200)["letters"].as_array().expect("letters").len() == 3
    })
    .await;
    let gone = api.post("/v1/dead-letters/discard", &json!({ "all": true, "why": "a test" })).await.ok(200);
    assert_eq!((&gone["outcomes"]["discarded"], &gone["why"]), (&json!(3), &json!("a test")));
    assert_eq!(program.dead_letters().await, 0);
}

#[tokio::test]
async fn the_process_says_whether_it_lives_and_is_ready() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &["--http-notice", "3"]).await;
    assert_eq!(api.get("/livez").await.ok(200)["status"], "ok");
    assert_eq!(api.get("/readyz?verbose").await.ok(200)["checks"]["schema"], "ok");
    let metrics = api.get("/metrics").await;
    assert!(metrics.text.contains("orderstream_http_requests_total{method=\"GET\",route=\"/livez\",status=\"200\"} 1"));
    assert_eq!(api.get("/openapi.json").await.ok(200)["openapi"], "3.1.0");
    // It says that it is ending before it turns anybody away.
    api.running.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("it is not ready", async || api.get("/readyz").await.status == 503).await;
    api.get("/readyz").await.problem(503, "not_ready");
    api.post("/v1/orders", &order("LATE")).await.ok(202);
    api.running.end().await.exits(0);
}

#[tokio::test]
async fn too_many_orders_on_their_way_are_turned_away() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &["--max-backlog", "3"]).await;
    for number in 0..3 {
        api.post("/v1/orders", &order(&format!("A-{number}"))).await;
    }
    let mut full = None;
    eventually("it is full", async || {
        let answer = api.post("/v1/orders", &order("B")).await;
        let is_full = answer.status == 503;
        full = Some(answer);
        is_full
    })
    .await;
    let full: Answer = full.expect("an answer");
    full.problem(503, "backlog");
    assert!(full.headers.contains_key("retry-after"));
}
