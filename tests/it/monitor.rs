//! What the monitor tells of a real pipeline, over `/v1/overview` and `/v1/history`, as every viewer gets it.

use serde_json::Value;

use crate::program::{
    Orderstream, Program, Running,
    client::Api,
    harness::{Server, eventually},
};

/// The first overview for which this holds.
async fn until(api: &Api, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    eventually(what, async || {
        last = api.get("/v1/overview").await.ok(200);
        holds(&last)
    })
    .await;
    last
}

fn stage<'a>(overview: &'a Value, name: &str) -> &'a Value {
    let stages = overview["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["stage"] == name).unwrap_or(&Value::Null)
}

/// A file of orders, without waiting for them.
async fn publish(program: &Program, rows: &str) {
    program.generate("orders.csv", &["--rows", rows, "--customers", "5", "--products", "5"]).await;
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
}

async fn workers(program: &Program, stages: &str) -> Running {
    let running = program.start(&["run", "--stages", stages]);
    running.says("running").await;
    running
}

#[tokio::test]
async fn a_paused_stage_is_told_with_entries_seconds_and_words_and_returns_to_calm() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    until(&api, "it is calm", |overview| overview["state"] == "calm").await;
    program.run(&["pause", "payment", "--why", "a test"]).await.exits(0);
    publish(&program, "500").await;
    let waiting = until(&api, "payment waits for two seconds and more", |overview| {
        stage(overview, "payment")["lag_seconds"].as_f64().is_some_and(|seconds| seconds > 2.0)
    })
    .await;
    let payment = stage(&waiting, "payment");
    let lag = payment["lag"].as_u64().expect("a lag");
    assert!(lag > 0, "{payment}");
    assert_eq!((&payment["state"], &payment["paused"]["why"]), (&"paused".into(), &"a test".into()), "{payment}");
    let sentence = waiting["sentence"].as_str().expect("a sentence");
    assert!(
        sentence.starts_with(&format!("Payment is paused (a test): {lag} messages wait, the oldest for ")),
        "{sentence}"
    );
    assert_eq!(waiting["state"], "warning");
    assert!(payment["spark"].as_array().expect("a sparkline").iter().any(|point| *point == lag), "{payment}");

    program.run(&["resume", "payment"]).await.exits(0);
    until(&api, "what was worked off shows as a rate", |overview| {
        stage(overview, "settlement")["rate_out"].as_f64().is_some_and(|rate| rate > 0.0)
    })
    .await;
    let worked = until(&api, "it is calm again", |overview| {
        overview["state"] == "calm" && overview["relay"]["behind"] == 0 && overview["today"]["completed"] != 0
    })
    .await;
    assert_eq!(worked["sentence"], "All stages keep up, and nothing waits.");
    assert_eq!(worked["today"]["completed"].as_i64().zip(worked["today"]["failed"].as_i64()).map(|(a, b)| a + b), {
        let orders = program.ends().await.len();
        Some(i64::try_from(orders).expect("a small number"))
    });
    let process = &worked["processes"][0];
    assert!(process["roles"].as_array().expect("roles").contains(&"payment".into()), "{process}");
    assert_eq!(process["http"], api.address, "{process}");
    api.running.stop().await.exits(0);
    program.audit().await;
}

#[tokio::test]
async fn a_lag_that_redis_cannot_tell_is_unknown_and_its_age_is_known() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let api = Api::serve(&program, &[]).await;
    // The group exists, and reads nothing.
    program.drain().await;
    program.run(&["pause", "reservation"]).await.exits(0);
    publish(&program, "50").await;
    until(&api, "a lag", |overview| stage(overview, "reservation")["lag"].as_u64().is_some_and(|lag| lag > 3)).await;
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, pipeline::topology::StageName::Reservation);
    let ids: Vec<(String, Vec<String>)> =
        redis::cmd("XRANGE").arg(&stream).arg("-").arg("+").query_async(&mut redis).await.expect("entries");
    let middle = &ids[ids.len() / 2].0;
    let deleted: i64 = redis::cmd("XDEL").arg(&stream).arg(middle).query_async(&mut redis).await.expect("a number");
    assert_eq!(deleted, 1);
    let unknown = until(&api, "the lag is unknown", |overview| {
        let reservation = stage(overview, "reservation");
        reservation["lag"].is_null() && reservation["lag_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0)
    })
    .await;
    let reservation = stage(&unknown, "reservation");
    assert!(reservation["lag_unknown"].as_str().expect("a reason").contains("deleted"), "{reservation}");
    assert_eq!(reservation["spark"].as_array().and_then(|spark| spark.last()), Some(&Value::Null), "{reservation}");
    program.run(&["resume", "reservation"]).await.exits(0);
    let unknown =
        until(&api, "no worker has it", |overview| stage(overview, "reservation")["state"] == "no_worker").await;
    let sentence = unknown["sentence"].as_str().expect("a sentence");
    assert!(sentence.starts_with("No worker runs reservation: an unknown number of messages wait"), "{sentence}");
    program.drain().await;
    until(&api, "all is read, and nothing waits", |overview| stage(overview, "reservation")["lag"] == 0).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn while_redis_is_away_old_figures_are_said_to_be_old() {
    let program = Program::alone(5, &[1_000_000; 5]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    until(&api, "it is calm", |overview| overview["state"] == "calm").await;
    program.stack.end(Server::Redis, "KILL");
    let stale = until(&api, "it is stale", |overview| !overview["stale"].is_null()).await;
    assert_eq!(stale["state"], "trouble");
    let sentence = stale["sentence"].as_str().expect("a sentence");
    assert!(sentence.starts_with("Redis does not answer: these figures are from "), "{sentence}");
    assert!(!stale["stages"].as_array().expect("what was known").is_empty());
    program.stack.start_again(Server::Redis).await;
    until(&api, "it is calm again", |overview| overview["state"] == "calm" && overview["stale"].is_null()).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn history_outlives_the_process_that_wrote_it_and_one_process_writes_it() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let first = Api::start(&program, "run", &[], &[]).await;
    let second = Api::serve(&program, &[]).await;
    let points = |history: &Value| {
        let lags = history["stages"]["payment"]["lag"].as_array().expect("a column").clone();
        lags.iter().filter(|lag| !lag.is_null()).count()
    };
    eventually("two points are written", async || points(&second.get("/v1/history").await.ok(200)) >= 2).await;
    first.running.stop().await.exits(0);
    second.running.stop().await.exits(0);
    let third = Api::serve(&program, &[]).await;
    let history = third.get("/v1/history?range=15m").await.ok(200);
    assert!(points(&history) >= 2, "{history}");
    let at = history["at"].as_array().expect("times");
    assert_eq!((at.len(), history["step_seconds"].as_u64()), (181, Some(5)));
    assert_eq!(history["stages"]["payment"]["lag_seconds"].as_array().map(Vec::len), Some(181));
    eventually("the next one writes on", async || points(&third.get("/v1/history").await.ok(200)) >= 3).await;
    let day = third.get("/v1/history?range=24h").await.ok(200);
    assert_eq!((day["at"].as_array().map(Vec::len), day["step_seconds"].as_u64()), (Some(1_441), Some(60)));
    third.get("/v1/history?range=2d").await.problem(400, "invalid_query");
    third.running.stop().await.exits(0);
}

#[tokio::test]
async fn a_stage_without_workers_is_told_as_trouble() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let api = Api::serve(&program, &[]).await;
    let idle = until(&api, "somebody has looked", |overview| overview["seq"].as_u64() > Some(0)).await;
    assert_eq!(idle["sentence"], "No workers are running.");
    let running = workers(&program, "reservation,settlement,relay").await;
    publish(&program, "200").await;
    let trouble =
        until(&api, "nobody runs payment", |overview| stage(overview, "payment")["state"] == "no_worker").await;
    assert_eq!(trouble["state"], "trouble");
    let sentence = trouble["sentence"].as_str().expect("a sentence");
    assert!(sentence.starts_with("No worker runs payment: "), "{sentence}");
    program.drain().await;
    until(&api, "it is calm", |overview| overview["state"] == "calm").await;
    running.stop().await.exits(0);
    until(&api, "who has ended is no longer shown", |overview| {
        let processes = overview["processes"].as_array().expect("processes");
        processes.iter().all(|process| process["roles"] == serde_json::json!(["http"]))
    })
    .await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn how_old_the_oldest_event_is_that_the_board_lacks_is_known_however_few_they_are() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let api = Api::serve(&program, &[]).await;
    publish(&program, "50").await;
    let without_relay = workers(&program, "reservation,payment,settlement").await;
    eventually("there are events", async || program.stack.value::<i64>("SELECT last_seq FROM event_counter").await > 0)
        .await;
    program.stack.sql("UPDATE events SET at = at - interval '1 hour' WHERE seq = 1").await;
    let age = |overview: &Value| overview["relay"]["behind_seconds"].as_f64();
    let behind =
        until(&api, "the first event is an hour old", |overview| age(overview).is_some_and(|age| age > 3_599.0)).await;
    let events = behind["relay"]["behind"].as_i64().expect("a number");
    assert!((1..100).contains(&events), "{behind}");
    let relay = workers(&program, "relay").await;
    until(&api, "the board lacks nothing", |overview| age(overview) == Some(0.0)).await;
    for running in [without_relay, relay] {
        running.stop().await.exits(0);
    }
}
