//! Every error can be read, and none is ours.

use orderstream::http::problem::Code;
use reqwest::Method;
use serde_json::{Value, json};

use crate::program::{
    Program,
    client::{Answer, Api},
    harness::Server,
};

const HTTP: &str = include_str!("../../../docs/HTTP.md");

#[test]
fn the_codes_of_problems_are_those_of_the_document() {
    let documented: Vec<(String, String)> = HTTP
        .lines()
        .skip_while(|line| *line != "## Problems")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let code = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
            Some((code, cells.next()?.to_owned()))
        })
        .collect();
    let codes: Vec<(String, String)> =
        Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.status().as_u16().to_string())).collect();
    assert_eq!(documented, codes);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_a_problem_that_says_so() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    api.get("/nowhere").await.problem(404, "no_route");
    api.get("/v1/orders/none").await.problem(404, "not_found");
    api.get("/v1/orders/%00").await.problem(404, "not_found");
    api.get("/v1/orders/%ff").await.problem(400, "bad_request");
    let method = Answer::of(api.request(Method::DELETE, "/v1/orders")).await;
    method.problem(405, "method_not_allowed");
    assert!(method.headers["allow"].contains("POST"), "{method:?}");
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "status=cats",
        "reason=cats",
        "since=yesterday",
        "since=99999999999-01-01",
        "after=x",
        "after=99999999999999999999",
        "cats=1",
        "limit=1&limit=2",
    ] {
        api.get(&format!("/v1/orders?{query}")).await.problem(400, "invalid_query");
    }
    for query in
        ["day=x", "from=2026-01-01", "from=2026-01-02&to=2026-01-01", "from=1990-01-01&to=2026-01-01", "day=0000-01-01"]
    {
        api.get(&format!("/v1/kpis?{query}")).await.problem(400, "invalid_query");
    }
    api.send("/v1/orders", "text/plain", "x").await.problem(415, "unsupported_type");
    api.send("/v1/refunds", "text/plain", "x").await.problem(415, "unsupported_type");
    api.send("/v1/imports", "application/json", "x").await.problem(415, "unsupported_type");
    api.send("/v1/orders", "application/json", "{").await.problem(400, "malformed_json");
    api.send("/v1/orders", "application/json", vec![b' '; 300_000]).await.problem(413, "too_large");
    api.send("/v1/orders", "application/x-ndjson", "\n\n").await.problem(422, "invalid");
    api.send("/v1/orders", "application/x-ndjson", vec![b'x'; 300_000]).await.problem(413, "too_large");
    let wrong = json!({ "order_code": " x", "customer_id": "1", "lines": [{ "product_id": 1, "quantity": 1, "unit_price": 1.5 }] });
    let problem = api.post("/v1/orders", &wrong).await.problem(422, "invalid");
    let pointers: Vec<&str> =
        problem["errors"].as_array().expect("fields").iter().filter_map(|e| e["pointer"].as_str()).collect();
    assert_eq!(pointers, ["/order_code", "/customer_id", "/lines/0/unit_price"]);
    let problem = api.post("/v1/refunds", &json!({ "refund_key": "r", "amount": "0" })).await.problem(422, "invalid");
    let pointers: Vec<&str> =
        problem["errors"].as_array().expect("fields").iter().filter_map(|e| e["pointer"].as_str()).collect();
    assert_eq!(pointers, ["/order_code", "/amount"]);
}

#[tokio::test]
async fn a_request_has_the_name_that_its_caller_gave_it_or_one_of_ours() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let named = async |name: &str| {
        let answer = Answer::of(api.request(Method::GET, "/livez").header("x-request-id", name)).await;
        answer.headers["x-request-id"].clone()
    };
    assert_eq!(named("abc-1.2:3").await, "abc-1.2:3");
    let long = "x".repeat(129);
    for hostile in ["a b", "<script>", "", &long] {
        let name = named(hostile).await;
        assert!(name != hostile && name.len() == 32, "{hostile:?} became {name:?}");
    }
}

#[tokio::test]
async fn bodies_that_test_parsers_are_refused_or_taken_and_break_nothing() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let deep = "[".repeat(100_000);
    let wide = format!("{{{}\"a\":1}}", "\"a\":1,".repeat(20_000));
    let bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "null",
        "true",
        "1",
        "-",
        "1e999",
        "-1e-999",
        "0x1",
        "NaN",
        "Infinity",
        "\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "[1,]",
        "[1",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1,}",
        "[\u{0}]",
        "[\"\t\"]",
        "\u{feff}{}",
        "{}}",
        "{} x",
        "/**/{}",
        "[1]#",
        "{\"\":0}",
        &deep,
        &wide,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        b"\xff".to_vec(),
        b"[\"\xff\"]".to_vec(),
        b"\xfe\xff\0{\0}".to_vec(),
        b"{\"order_code\":\"\xc3\x28\"}".to_vec(),
    ])
    .collect();
    for path in [
        "/v1/orders",
        "/v1/refunds",
        "/v1/dead-letters/replay",
        "/v1/dead-letters/discard",
        "/v1/streams/payment/pause",
    ] {
        for body in &bodies {
            let answer = api.send(path, "application/json", body.clone()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(30)]).into_owned();
            // Nothing is the same as nothing to say for a pause.
            let taken = body.is_empty() && path.ends_with("pause");
            assert_eq!(answer.status.is_success(), taken, "{path} {shown}: {}", answer.text);
            assert!(!answer.status.is_server_error(), "{path} {shown}: {}", answer.text);
        }
    }
    let nul = json!({ "order_code": "a\u{0}b", "customer_id": 1, "lines": [] });
    api.post("/v1/orders", &nul).await.problem(422, "invalid");
}

#[tokio::test]
async fn servers_that_are_away_are_a_reason_to_try_again() {
    let program = Program::alone(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    let order = json!({ "order_code": "A", "customer_id": 1, "lines": [{ "product_id": 1, "quantity": 1, "unit_price": "1" }] });
    api.post("/v1/orders", &order).await.ok(202);
    program.stack.end(Server::Redis, "KILL");
    // The order to kill it goes its own way.
    crate::program::harness::eventually("it is away", async || api.post("/v1/orders", &order).await.status == 503)
        .await;
    let away = api.post("/v1/orders", &order).await;
    away.problem(503, "redis_away");
    assert!(away.headers.contains_key("retry-after"));
    api.get("/readyz").await.problem(503, "not_ready");
    api.get("/v1/orders").await.ok(200);
    program.stack.start_again(Server::Redis).await;
    crate::program::harness::eventually("it works again", async || api.post("/v1/orders", &order).await.status == 202)
        .await;

    program.stack.end(Server::Postgres, "KILL");
    // Its backends outlive it by a moment.
    crate::program::harness::eventually("it is away", async || api.get("/v1/orders/A").await.status == 503).await;
    let away = api.get("/v1/orders/A").await;
    away.problem(503, "postgres_away");
    assert_eq!(api.get("/livez").await.status, 200, "it lives all the same");
    program.stack.start_again(Server::Postgres).await;
    crate::program::harness::eventually("it works again", async || api.get("/v1/orders").await.status == 200).await;
}

#[test]
fn the_committed_description_is_that_of_the_code() {
    let made = orderstream::http::openapi().to_pretty_json().expect("JSON");
    let committed = include_str!("../../../docs/openapi.json");
    assert_eq!(committed.trim_end(), made, "renew it: make contracts");
    let postman: Value = serde_json::from_str(include_str!("../../../docs/postman.json")).expect("JSON");
    assert_eq!(postman, orderstream::http::postman().expect("JSON"), "renew it: make contracts");
}
