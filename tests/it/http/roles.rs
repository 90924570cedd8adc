//! Who may do what.

use reqwest::Method;
use serde_json::json;

use crate::program::{
    Orderstream, Program,
    client::{Answer, Api},
    harness::{Server, eventually},
};

async fn token(program: &Program, role: &str) -> (i64, String) {
    let made = program.run(&["token", "create", "--role", role, "--name", "a test", "--json"]).await.exits(0).json();
    (made["id"].as_i64().expect("an id"), made["token"].as_str().expect("a token").to_owned())
}

#[tokio::test]
async fn each_role_may_do_what_it_may_and_no_more() {
    let program = Program::seeded(1, &[10]).await;
    let (viewer_id, viewer) = token(&program, "viewer").await;
    let (_, operator) = token(&program, "operator").await;
    let api = Api::serve(&program, &[]).await;
    let ask = async |method: &Method, path: &str, token: Option<&str>| {
        let mut request = api.request(method.clone(), path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if *method == Method::POST {
            request = request.json(&json!({}));
        }
        Answer::of(request).await
    };
    for path in [
        "/v1/orders",
        "/v1/kpis",
        "/v1/streams",
        "/v1/dead-letters",
        "/v1/imports",
        "/v1/leaderboards/products",
        "/v1/stock",
    ] {
        let refused = ask(&Method::GET, path, None).await;
        refused.problem(401, "unauthenticated");
        assert!(refused.headers["www-authenticate"].starts_with("Bearer"));
        ask(&Method::GET, path, Some("os_AAAA")).await.problem(401, "unauthenticated");
        ask(&Method::GET, path, Some(&viewer)).await.ok(200);
        ask(&Method::GET, path, Some(&operator)).await.ok(200);
    }
    for path in [
        "/v1/orders",
        "/v1/refunds",
        "/v1/imports",
        "/v1/streams/payment/pause",
        "/v1/streams/payment/resume",
        "/v1/dead-letters/replay",
        "/v1/dead-letters/discard",
    ] {
        ask(&Method::POST, path, None).await.problem(401, "unauthenticated");
        let refused = ask(&Method::POST, path, Some(&viewer)).await.problem(403, "forbidden");
        assert!(refused["detail"].as_str().expect("a text").contains("operator"), "{refused}");
        let status = ask(&Method::POST, path, Some(&operator)).await.status;
        assert!(![401, 403].contains(&status.as_u16()), "{path}: {status}");
    }
    for path in ["/livez", "/readyz", "/openapi.json", "/asyncapi.json", "/problems/forbidden"] {
        assert_eq!(ask(&Method::GET, path, None).await.status, 200, "{path}");
    }

    let listed = program.run(&["token", "list", "--json"]).await.exits(0);
    assert!(!listed.stdout.contains(&viewer[3..]), "a token is shown once");
    assert!(!listed.json()["tokens"][0]["last_used_at"].is_null());
    program.run(&["token", "revoke", &viewer_id.to_string()]).await.exits(0);
    program.run(&["token", "revoke", "999"]).await.exits(5);
    eventually("it is good for nothing", async || ask(&Method::GET, "/v1/orders", Some(&viewer)).await.status == 401)
        .await;
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_served() {
    let program = Program::get().await;
    let refused = program.run(&["serve", "--http", "0.0.0.0:0"]).await.exits(2);
    assert!(refused.stderr.contains("no token is configured"), "{refused:?}");

    let api = Api::serve(&program, &[]).await;
    api.running.says("no token is configured").await;
    api.get("/v1/orders").await.ok(200);
    // A name that somebody points at this machine.
    let elsewhere = api.request(Method::GET, "/v1/orders").header("host", "evil.example");
    Answer::of(elsewhere).await.problem(400, "host_refused");
    // The first token closes the door.
    token(&program, "admin").await;
    eventually("a token is needed", async || api.get("/v1/orders").await.status == 401).await;
    // And opens the house.
    let open = Api::start(&program, "serve", &["--http-rate", "1000"], &[]).await;
    open.get("/v1/orders").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn pages_of_other_sites_cannot_make_a_browser_change_anything() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--cors-origin", "https://shop.example"]).await;
    let post = |header: &str, value: &str| {
        Answer::of(api.request(Method::POST, "/v1/streams/payment/resume").header(header.to_owned(), value.to_owned()))
    };
    for (header, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        post(header, value).await.problem(403, "cross_site");
    }
    post("sec-fetch-site", "same-origin").await.ok(200);
    post("origin", &format!("http://{}", api.address)).await.ok(200);
    let allowed = post("origin", "https://shop.example").await;
    allowed.ok(200);
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://shop.example");

    let closed = Api::serve(&program, &[]).await;
    let answer = Answer::of(closed.request(Method::GET, "/v1/orders").header("origin", "https://shop.example")).await;
    answer.ok(200);
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "off unless it is wanted");
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_while_postgres_answers_be_it_for_reading_only() {
    let program = Program::alone(1, &[10]).await;
    let (revoked_id, revoked) = token(&program, "operator").await;
    let (_, good) = token(&program, "operator").await;
    let api = Api::serve(&program, &[]).await;
    let ask = async |method: Method, path: &str, token: &str| {
        Answer::of(api.request(method, path).bearer_auth(token).json(&json!({}))).await
    };
    for token in [&revoked, &good] {
        ask(Method::GET, "/v1/kpis", token).await.ok(200);
    }
    let mut watched = api.request(Method::GET, "/events").bearer_auth(&revoked).send().await.expect("an answer");
    assert_eq!(watched.status(), 200);
    program.run(&["token", "revoke", &revoked_id.to_string()]).await.exits(0);
    program.stack.sql("ALTER SYSTEM SET default_transaction_read_only = on").await;
    program.stack.sql("SELECT pg_reload_conf()").await;
    eventually("Postgres takes no writes", async || {
        program.stack.value::<String>("SHOW transaction_read_only").await == "on"
    })
    .await;
    eventually("it is good for nothing", async || ask(Method::GET, "/v1/kpis", &revoked).await.status == 401).await;
    for (method, path) in
        [(Method::POST, "/v1/streams/payment/pause"), (Method::POST, "/v1/orders"), (Method::GET, "/v1/kpis")]
    {
        ask(method, path, &revoked).await.problem(401, "unauthenticated");
    }
    ask(Method::GET, "/v1/kpis", &good).await.ok(200);
    // A page that is open ends, too.
    while watched.chunk().await.expect("a piece").is_some() {}

    // Who was known a moment ago keeps watching when it cannot be reached at all.
    program.stack.end(Server::Postgres, "INT");
    eventually("Postgres is away", async || !program.stack.answers(Server::Postgres).await).await;
    ask(Method::GET, "/v1/kpis", &good).await.ok(200);
    program.stack.start_again(Server::Postgres).await;
}
