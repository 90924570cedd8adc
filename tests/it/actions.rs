//! Acting on the running pipeline, by every way there is: what it does, who may, and what is known of it afterwards.

mod claim;
mod letters;
mod pages;

use pipeline::topology::StageName;
use reqwest::Method;
use serde_json::{Value, json};

use crate::program::{
    Orderstream, Program,
    client::{Answer, Api},
    harness::{Server, eventually},
};

async fn token(program: &Program, role: &str, name: &str) -> String {
    let made = program.run(&["token", "create", "--role", role, "--name", name, "--json"]).await.exits(0).json();
    made["token"].as_str().expect("a token").to_owned()
}

/// Sends JSON as whoever has this token.
async fn post(api: &Api, token: &str, path: &str, body: &Value) -> Answer {
    Answer::of(api.request(Method::POST, path).bearer_auth(token).json(body)).await
}

/// The whole log, newest first, but for the entry of the first worker: who takes the money.
async fn log(program: &Program) -> Vec<Value> {
    let log = program.run(&["actions", "--json", "--limit", "1000"]).await.exits(0).json();
    let mut entries = log["actions"].as_array().expect("actions").clone();
    entries.retain(|entry| entry["verb"] != "set_provider");
    entries
}

/// Adds bodies that no stage can read, and lets them die.
async fn bury(program: &Program, bodies: &[String]) {
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    for body in bodies {
        redis::cmd("XADD").arg(&stream).arg("*").arg("body").arg(body).exec_async(&mut redis).await.expect("added");
    }
    program.drain().await;
}

async fn ids(program: &Program) -> Vec<String> {
    let list = program.run(&["dead", "list", "--json", "--limit", "1000"]).await.exits(0).json();
    let letters = list["letters"].as_array().expect("letters");
    letters.iter().map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect()
}

/// The one entry that an action has left; the number of entries before is told on.
async fn noted(program: &Program, before: &mut usize) -> Value {
    let log = log(program).await;
    assert_eq!(log.len(), *before + 1, "exactly one entry: {log:?}");
    *before += 1;
    log[0].clone()
}

fn assert_entry(entry: &Value, via: &str, verb: &str, target: &str, affected: u64) {
    let expected = json!([via, verb, target, affected, "done", "because"]);
    let fields = ["via", "verb", "target", "affected", "outcome", "why"].map(|field| &entry[field]);
    assert_eq!(json!(fields), expected, "{entry}");
    let actor = entry["actor"].as_str().expect("a name");
    assert!(if via == "cli" { actor.contains('@') } else { actor == "shop" }, "{entry}");
}

#[tokio::test]
async fn every_action_by_every_way_leaves_one_entry_with_who_why_and_how_many() {
    let program = Program::seeded(1, &[10]).await;
    let shop = token(&program, "operator", "shop").await;
    let api = Api::serve(&program, &[]).await;
    bury(&program, &["x", "y", "z", "v"].map(str::to_owned)).await;
    let letters = ids(&program).await;
    let mut before = 0;
    let why = ["--why", "because"];
    // They would be refused again, and it is known.
    let force = ["--force", "--why", "because"];

    program.run(&[&["pause", "payment", "--for", "1h"], &why[..]].concat()).await.exits(0);
    let entry = noted(&program, &mut before).await;
    assert_entry(&entry, "cli", "pause", "payment", 1);
    assert_eq!(entry["detail"]["seconds"], 3_600);
    program.run(&[&["resume", "payment"], &why[..]].concat()).await.exits(0);
    assert_entry(&noted(&program, &mut before).await, "cli", "resume", "payment", 1);
    program.run(&[&["claim", "payment"], &why[..]].concat()).await.exits(0);
    assert_entry(&noted(&program, &mut before).await, "cli", "claim", "payment", 0);
    program.run(&[&["dead", "replay", &letters[0]], &force[..]].concat()).await.exits(0);
    let target = format!("letter {}", letters[0]);
    assert_entry(&noted(&program, &mut before).await, "cli", "replay", &target, 1);
    program.run(&[&["dead", "discard", &letters[0]], &why[..]].concat()).await.exits(0);
    assert_entry(&noted(&program, &mut before).await, "cli", "discard", &target, 1);

    let because = json!({ "why": "because" });
    let done = post(&api, &shop, "/v1/streams/payment/pause", &because).await.ok(200);
    let entry = noted(&program, &mut before).await;
    assert_entry(&entry, "http", "pause", "payment", 1);
    assert_eq!(done["action"], entry["id"], "the answer says which entry");
    post(&api, &shop, "/v1/streams/payment/resume", &because).await.ok(200);
    assert_entry(&noted(&program, &mut before).await, "http", "resume", "payment", 1);
    post(&api, &shop, "/v1/streams/payment/claim", &because).await.ok(200);
    assert_entry(&noted(&program, &mut before).await, "http", "claim", "payment", 0);
    let asked = json!({ "reason": "undecodable", "why": "because" });
    let forced = json!({ "reason": "undecodable", "why": "because", "force": true });
    let done = post(&api, &shop, "/v1/dead-letters/replay", &forced).await.ok(200);
    let entry = noted(&program, &mut before).await;
    assert_entry(&entry, "http", "replay", "letters with reason undecodable", 3);
    assert_eq!((&done["action"], &entry["detail"]["outcomes"]), (&entry["id"], &json!({ "replayed": 3 })));
    post(&api, &shop, "/v1/dead-letters/discard", &asked).await.ok(200);
    assert_entry(&noted(&program, &mut before).await, "http", "discard", "letters with reason undecodable", 3);

    // A request that is sent again under its name is one action; dry runs are none.
    for _ in 0..2 {
        let request = api.request(Method::POST, "/v1/dead-letters/replay").bearer_auth(&shop);
        Answer::of(request.header("idempotency-key", "k").json(&json!({ "all": true }))).await.ok(200);
    }
    assert_eq!(noted(&program, &mut before).await["target"], "all letters");
    program.run(&["claim", "payment", "--dry-run"]).await.exits(0);
    program.run(&["dead", "replay", "--all", "--dry-run"]).await.exits(0);
    post(&api, &shop, "/v1/dead-letters/discard", &json!({ "all": true, "dry_run": true })).await.ok(200);
    program.run(&["pause"]).await.exits(0);
    assert_eq!(log(&program).await.len(), before);
}

#[tokio::test]
async fn the_log_is_found_by_what_was_done_and_read_page_by_page() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    program.run(&["pause", "payment", "refund", "--why", "bell \u{7} and \u{1b}[2J"]).await.exits(0);
    api.post("/v1/streams/payment/resume", &json!({})).await.ok(200);
    let text = program.run(&["actions"]).await.exits(0).stdout;
    assert!(!text.contains(['\u{7}', '\u{1b}']) && text.contains("pause"), "{text:?}");

    let first = api.get("/v1/actions?limit=2").await.ok(200);
    assert_eq!(first["actions"].as_array().expect("a page").len(), 2);
    assert_eq!(first["actions"][0]["actor"], "anybody on this machine");
    let second = api.get(first["next"].as_str().expect("a link")).await.ok(200);
    assert_eq!(second["actions"].as_array().expect("a page").len(), 1);
    for (filter, count) in [
        ("verb=pause", 2),
        ("verb=resume", 1),
        ("via=http", 1),
        ("via=top", 0),
        ("outcome=done", 3),
        ("outcome=failed", 0),
        ("actor=anybody%20on%20this%20machine", 1),
    ] {
        let found = api.get(&format!("/v1/actions?{filter}")).await.ok(200);
        assert_eq!(found["actions"].as_array().expect("actions").len(), count, "{filter}");
    }
    let id = first["actions"][0]["id"].as_i64().expect("a number");
    assert_eq!(api.get(&format!("/v1/actions/{id}")).await.ok(200)["verb"], "resume");
    api.get("/v1/actions/999").await.problem(404, "not_found");
    api.get("/v1/actions?verb=dance").await.problem(400, "invalid_query");
    let long = "x".repeat(501);
    api.post("/v1/streams/payment/pause", &json!({ "why": long })).await.problem(422, "invalid");
    program.run(&["pause", "payment", "--why", &long]).await.exits(2);
    assert_eq!(log(&program).await.len(), 3, "what was turned away is no action");
}

#[tokio::test]
async fn a_viewer_sees_all_and_does_nothing() {
    let program = Program::seeded(1, &[10]).await;
    let viewer = token(&program, "viewer", "a screen").await;
    let api = Api::serve(&program, &[]).await;
    bury(&program, &["x".to_owned()]).await;
    let [id] = ids(&program).await.try_into().expect("one letter");
    for path in [
        "/v1/actions",
        "/v1/dead-letters/groups",
        "/v1/dead-letters/export",
        "/v1/streams/payment/pending",
        &format!("/v1/dead-letters/{id}"),
    ] {
        assert_eq!(Answer::of(api.request(Method::GET, path).bearer_auth(&viewer)).await.status, 200, "{path}");
        api.get(path).await.problem(401, "unauthenticated");
    }
    for path in [
        "/v1/streams/payment/pause",
        "/v1/streams/payment/resume",
        "/v1/streams/payment/claim",
        "/v1/dead-letters/replay",
        "/v1/dead-letters/discard",
        &format!("/v1/dead-letters/{id}/replay"),
    ] {
        post(&api, &viewer, path, &json!({ "ids": [id] })).await.problem(403, "forbidden");
    }
    assert_eq!(ids(&program).await, [id]);
    assert!(log(&program).await.is_empty());
}

#[tokio::test]
async fn a_stage_is_paused_while_postgres_is_away_and_it_is_said_that_nobody_will_know() {
    let program = Program::alone(1, &[10]).await;
    let shop = token(&program, "operator", "shop").await;
    let api = Api::serve(&program, &[]).await;
    // Looked up once: while Postgres is away nobody else can say whose token it is.
    Answer::of(api.request(Method::GET, "/v1/orders").bearer_auth(&shop)).await.ok(200);
    program.stack.end(Server::Postgres, "INT");
    eventually("Postgres is away", async || !program.stack.answers(Server::Postgres).await).await;

    let paused = program.run(&["pause", "payment", "--json"]).await.exits(0);
    assert_eq!(paused.json()["paused"][0]["stage"], "payment");
    assert_eq!(paused.json()["actions"][0]["action"], Value::Null);
    assert!(paused.stderr.contains("could not be recorded"), "{}", paused.stderr);
    let paused = post(&api, &shop, "/v1/streams/settlement/pause", &json!({ "why": "repair" })).await.ok(200);
    assert_eq!((&paused["action"], paused["paused"].as_array().expect("pauses").len()), (&Value::Null, 2));
    assert!(paused["not_recorded"].as_str().expect("a text").contains("could not be recorded"), "{paused}");
    api.running.says("an action could not be recorded").await;
    post(&api, "os_AAAA", "/v1/streams/payment/pause", &json!({})).await.problem(401, "unauthenticated");

    program.stack.start_again(Server::Postgres).await;
    program.run(&["resume"]).await.exits(0);
    let log = log(&program).await;
    assert_eq!(log.len(), 2, "one for each stage: {log:?}");
}
