//! Entries that nobody foresaw: ids of the future, the greatest id, fields that stand there twice.

use pipeline::{
    message::{BODY, IMPORT, encode_order},
    topology::StageName,
};
use serde_json::Value;

use super::Work;
use crate::program::{
    Orderstream,
    client::Api,
    harness::{eventually, order},
};

async fn add(work: &Work, id: &str, fields: &[(&str, &[u8])]) {
    let mut redis = work.program.stack.connection().await;
    let mut add = redis::cmd("XADD");
    add.arg(work.stream(StageName::Reservation)).arg(id);
    for (name, value) in fields {
        add.arg(*name).arg(*value);
    }
    add.exec_async(&mut redis).await.expect("added");
}

async fn reservation(api: &Api) -> Value {
    let overview = api.get("/v1/overview").await.ok(200);
    let stages = overview["stages"].as_array().expect("stages").clone();
    stages.into_iter().find(|stage| stage["stage"] == "reservation").unwrap_or_default()
}

#[tokio::test]
async fn a_field_that_stands_in_an_entry_twice_makes_a_dead_letter() {
    let mut work = Work::of(0).await;
    let (one, other) = (order("ONE", 1, &[(1, 1, 100)]), order("OTHER", 1, &[(1, 1, 100)]));
    let (one, other) = (encode_order(&one), encode_order(&other));
    add(&work, "*", &[(BODY, &one), (BODY, &other)]).await;
    add(&work, "*", &[(BODY, &one), (BODY, &one)]).await;
    add(&work, "*", &[(IMPORT, b"1"), (BODY, &other), (IMPORT, b"2")]).await;
    work.publish("GOOD", 5).await;
    let workers = work.workers();
    work.drained().await;
    workers.stop().await.exits(0);
    let dead = work.program.stack.redis.keys().dead(0);
    assert_eq!(work.program.stack.field(&dead, "reason").await, ["undecodable"; 3]);
    let errors = work.program.stack.field(&dead, "error").await;
    assert_eq!(errors[0], "the entry has 2 fields named body: which one is meant cannot be told");
    assert!(errors[2].contains("2 fields named import"), "{errors:?}");
    let known: i64 = work.program.stack.value("SELECT count(*) FROM orders WHERE code IN ('ONE', 'OTHER')").await;
    assert_eq!(known, 0, "neither was taken");
}

#[tokio::test]
async fn an_id_of_the_future_has_no_age_that_is_zero() {
    const IN_2030: &str = "1893456000000-0";
    let work = Work::of(0).await;
    work.program.run(&["pause", "reservation"]).await.exits(0);
    let api = Api::start(&work.program, "run", &["--alert-lag", "2"], &[]).await;
    add(&work, IN_2030, &[(BODY, &encode_order(&order("LATER", 1, &[(1, 1, 100)])))]).await;
    work.program.stack.publish(&[order("AFTER", 1, &[(1, 1, 100)])]).await;
    let mut seen = Value::Null;
    eventually("its age is counted since it was seen", async || {
        seen = reservation(&api).await;
        seen["lag_seconds"].as_f64().is_some_and(|seconds| seconds > 2.0)
    })
    .await;
    assert!(seen["age_unknown"].as_str().is_some_and(|why| why.contains("2030-01-01")), "{seen}");
    eventually("the lag is noticed", async || {
        let alerts = api.get("/v1/alerts").await.ok(200);
        let alerts = alerts["alerts"].as_array().expect("alerts").clone();
        alerts.iter().any(|alert| alert["rule"] == "lag_behind" && alert["state"] == "firing")
    })
    .await;
    let status = work.program.run(&["status"]).await.exits(0).stdout;
    let row = status.lines().find(|line| line.contains("incoming")).expect("a row");
    assert!(row.contains("unknown"), "{row}");
    assert!(status.contains("warning: ages of entries in"), "{status}");
    work.program.run(&["resume", "reservation"]).await.exits(0);
    eventually("both are known", async || work.program.stack.value::<i64>("SELECT count(*) FROM orders").await == 2)
        .await;
    let early = "SELECT count(*) FROM orders WHERE received_at > clock_timestamp()";
    assert_eq!(work.program.stack.value::<i64>(early).await, 0, "nothing was received in the future");
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn a_stream_that_has_given_out_the_greatest_id_is_told_with_the_way_out() {
    let greatest = pipeline::message::EntryId::MAX.to_string();
    let work = Work::of(20).await;
    let api = Api::start(&work.program, "run", &["--batch", "20"], &[]).await;
    eventually("it is ready", async || api.get("/readyz").await.status == 200).await;
    add(&work, &greatest, &[(BODY, &encode_order(&order("LAST", 1, &[(1, 1, 100)])))]).await;
    eventually("all are known", async || work.program.stack.value::<i64>("SELECT count(*) FROM orders").await == 21)
        .await;
    let body = serde_json::json!({
        "order_code": "MORE", "customer_id": 1, "lines": [{ "product_id": 1, "quantity": 1, "unit_price": "1" }]
    });
    let refused = api.post("/v1/orders", &body).await.problem(503, "redis_refuses");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("greatest id")), "{refused}");
    eventually("readiness says it", async || api.get("/readyz").await.text.contains("greatest id")).await;
    let status = work.program.run(&["status"]).await.exits(0).stdout;
    let stream = work.stream(StageName::Reservation);
    let way_out = format!("redis-cli DEL '{stream}'");
    assert!(status.contains("warning:") && status.contains(&way_out), "{status}");
    let overview = api.get("/v1/overview").await.ok(200);
    assert!(overview["stale"].is_null() && overview.to_string().contains(&way_out), "{overview}");
    work.program.stack.drained(&StageName::WAY).await;
    work.redis(&["DEL", &stream]).await;
    eventually("orders are taken again", async || api.post("/v1/orders", &body).await.status == 202).await;
    eventually("it is known", async || work.program.stack.value::<i64>("SELECT count(*) FROM orders").await == 22)
        .await;
    eventually("it is ready again", async || api.get("/readyz").await.status == 200).await;
    api.running.stop().await.exits(0);
    work.program.audit().await;
}
