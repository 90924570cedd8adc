//! What Redis loses without anybody's doing of ours: messages that were delivered to nobody, and all since an older state.

use std::{fs, path::PathBuf};

use pipeline::{
    domain::Order,
    message::{BODY, encode_order},
    streams::Books,
    topology::StageName,
};
use redis::Pipeline;
use serde_json::Value;

use super::Work;
use crate::program::{
    Orderstream,
    client::Api,
    harness::{Server, eventually, orders},
};

async fn books(work: &Work, stage: StageName) -> Books {
    let mut redis = work.program.stack.connection().await;
    work.program.stack.redis.books(&mut redis, 0, stage).await.expect("Redis")
}

async fn history(work: &Work, cause: &str) -> Vec<Value> {
    let history = work.program.run(&["reconcile", "--history", "--json"]).await.exits(0).json();
    let found = history["reconciliations"].as_array().expect("a list").clone();
    found.into_iter().filter(|found| found["cause"] == cause).collect()
}

async fn fires(api: &Api, rule: &str) -> Value {
    let mut last = Value::Null;
    eventually(&format!("{rule} fires"), async || {
        let alerts = api.get("/v1/alerts").await.ok(200);
        let alerts = alerts["alerts"].as_array().expect("alerts").clone();
        last = alerts.into_iter().find(|alert| alert["rule"] == rule).unwrap_or_default();
        last["state"] == "firing"
    })
    .await;
    last
}

/// Adds orders and gives the first of them to somebody who is removed, in one step: no worker sees it.
fn snatched(work: &Work, orders: &[Order], count: usize) -> Pipeline {
    let stream = work.stream(StageName::Reservation);
    let mut step = redis::pipe();
    step.atomic();
    for order in orders {
        step.cmd("XADD").arg(&stream).arg("*").arg(BODY).arg(encode_order(order)).ignore();
    }
    let read = step.cmd("XREADGROUP").arg("GROUP").arg("reservation").arg("stranger").arg("COUNT").arg(count);
    read.arg("STREAMS").arg(&stream).arg(">").ignore();
    step.cmd("XGROUP").arg("DELCONSUMER").arg(&stream).arg("reservation").arg("stranger").ignore();
    step
}

/// Of a program whose books have begun.
async fn work() -> Work {
    let mut work = Work::of(0).await;
    work.publish("FIRST", 20).await;
    work.program.drain().await;
    work
}

#[tokio::test]
async fn what_a_deleted_consumer_held_is_found_told_and_given_out_again() {
    let mut work = work().await;
    let api = Api::start(&work.program, "run", &["--batch", "20"], &[]).await;
    eventually("it works", async || api.get("/readyz").await.status == 200).await;
    let further = orders("HELD", 500);
    let mut redis = work.program.stack.connection().await;
    snatched(&work, &further, 300).exec_async(&mut redis).await.expect("Redis");
    work.orders.extend(further);
    work.drained().await;
    let found = books(&work, StageName::Reservation).await;
    assert_eq!(found, Books { missing: Some(0), lost: 0, redriven: 300 });
    let told = fires(&api, "deliveries_lost").await;
    assert!(told["message"].as_str().is_some_and(|message| message.contains("300 were given out again")), "{told}");
    api.running.says("messages were delivered to nobody").await;
    let [noted] = history(&work, "deliveries_lost").await.try_into().expect("one finding");
    assert!(noted["detail"].as_str().is_some_and(|detail| detail.starts_with("incoming: 300 messages")), "{noted}");
    let status = work.program.run(&["status"]).await.exits(0).stdout;
    assert!(status.contains("300 messages were delivered to nobody"), "{status}");
    let metrics = api.get("/metrics").await.text;
    let line = "orderstream_stream_group_redriven_total{group=\"reservation\",stream=\"incoming\"} 300";
    assert!(metrics.contains(line), "{metrics}");
    work.drained().await;
    api.running.stop().await.exits(0);
    work.is_right().await;
}

#[tokio::test]
async fn what_was_trimmed_deleted_or_skipped_unread_is_found_from_the_stream() {
    let mut work = work().await;
    let api = Api::start(&work.program, "run", &["--batch", "20"], &[]).await;
    let stream = work.stream(StageName::Reservation);
    work.program.run(&["pause", "reservation"]).await.exits(0);
    // A worker that waits for messages does not see the pause at once.
    api.running.says("paused").await;
    work.program.stack.publish(&orders("TRIMMED", 30)).await;
    work.publish("KEPT", 20).await;
    work.redis(&["XTRIM", &stream, "MAXLEN", "20"]).await;
    let told = fires(&api, "deliveries_lost").await;
    assert_eq!(
        told["message"],
        "30 messages of incoming were delivered to nobody, and wait for a worker of reservation."
    );
    work.program.run(&["resume", "reservation"]).await.exits(0);
    work.drained().await;
    eventually("they are counted", async || books(&work, StageName::Reservation).await.lost == 30).await;
    eventually("it is in the history", async || !history(&work, "deliveries_lost").await.is_empty()).await;

    work.program.run(&["pause", "reservation"]).await.exits(0);
    let mut redis = work.program.stack.connection().await;
    eventually("it is paused", async || api.running.told().matches(" paused").count() >= 2).await;
    work.program.stack.publish(&orders("DELETED", 3)).await;
    let ids: Vec<(String, Vec<String>)> = redis::cmd("XREVRANGE")
        .arg(&stream)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(3)
        .query_async(&mut redis)
        .await
        .expect("ids");
    work.publish("SKIPPED", 40).await;
    for (id, _) in &ids {
        work.redis(&["XDEL", &stream, id]).await;
    }
    work.redis(&["XGROUP", "SETID", &stream, "reservation", "$"]).await;
    work.program.run(&["resume", "reservation"]).await.exits(0);
    work.drained().await;
    let is_found =
        async || books(&work, StageName::Reservation).await == Books { missing: Some(0), lost: 33, redriven: 40 };
    eventually("all is found", is_found).await;
    work.drained().await;
    api.running.stop().await.exits(0);
    work.is_right().await;
}

#[tokio::test]
async fn a_stream_that_is_deleted_with_unread_messages_is_missed() {
    let mut work = work().await;
    let api = Api::start(&work.program, "run", &[], &[]).await;
    let stream = work.stream(StageName::Reservation);
    work.program.run(&["pause", "reservation"]).await.exits(0);
    api.running.says("paused").await;
    work.program.stack.publish(&orders("DELETED", 30)).await;
    let seen = async || api.get("/v1/overview").await.ok(200)["stages"][0]["lag"] == 30;
    eventually("the monitor has seen them", seen).await;
    // What it shows is one look old; the next one comes after the note of this.
    work.program.run(&["pause", "payment"]).await.exits(0);
    let looked = async || api.get("/v1/overview").await.ok(200)["remarks"].to_string().contains("Payment is paused");
    eventually("it has looked once more", looked).await;
    work.redis(&["DEL", &stream]).await;
    for stage in ["payment", "reservation"] {
        work.program.run(&["resume", stage]).await.exits(0);
    }
    work.publish("LATER", 20).await;
    work.drained().await;
    eventually("they are counted", async || books(&work, StageName::Reservation).await.lost == 30).await;
    let told = fires(&api, "deliveries_lost").await;
    assert!(told["message"].to_string().contains("30 messages"), "{told}");
    eventually("it is in the history", async || !history(&work, "deliveries_lost").await.is_empty()).await;
    api.running.stop().await.exits(0);
    work.is_right().await;
}

#[tokio::test]
async fn books_balance_whatever_workers_go_through() {
    let mut work = Work::of(1_000).await;
    for _ in 0..3 {
        let (one, other) = (work.workers(), work.workers());
        work.gets_on(50).await;
        work.redis(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        one.crash().await;
        work.program.run(&["pause", "payment", "--for", "1s"]).await.exits(0);
        other.crash().await;
        work.publish(&format!("MORE-{}", work.orders.len()), 300).await;
    }
    work.program.stack.end(Server::Redis, "INT");
    eventually("Redis is away", async || !work.program.stack.answers(Server::Redis).await).await;
    work.program.stack.start_again(Server::Redis).await;
    let workers = work.workers();
    work.drained().await;
    for stage in StageName::ALL {
        assert_eq!(books(&work, stage).await, Books { missing: Some(0), lost: 0, redriven: 0 }, "{stage}");
    }
    assert_eq!(history(&work, "redis_went_back").await.len(), 0);
    work.ends(workers).await;
}

#[tokio::test]
async fn a_redis_that_was_emptied_or_restored_to_an_older_state_is_noticed() {
    let work = work().await;
    let api = Api::start(&work.program, "run", &["--batch", "20", "--reconcile-every", "1"], &[]).await;
    let known = "SELECT coalesce(max(mark), 0) FROM redis_marks";
    let mark = async |above: i64| {
        eventually("the mark grows", async || work.program.stack.value::<i64>(known).await > above).await;
        work.program.stack.value::<i64>(known).await
    };
    let first = mark(0).await;
    let socket = PathBuf::from(work.program.stack.redis_url().strip_prefix("unix://").expect("a socket"));
    let file = socket.parent().expect("a folder").join("appendonlydir/appendonly.aof.1.incr.aof");
    let older = fs::read(&file).expect("the file");
    mark(first).await;
    work.program.stack.end(Server::Redis, "INT");
    // Its socket goes last: nothing is written to the file after that.
    eventually("Redis has ended", async || !socket.exists()).await;
    let open = fs::OpenOptions::new().write(true).truncate(true).open(&file).expect("the file");
    std::io::Write::write_all(&mut &open, &older).expect("written");
    work.program.stack.start_again(Server::Redis).await;
    eventually("it is in the history", async || !history(&work, "redis_went_back").await.is_empty()).await;
    let told = fires(&api, "server_went_back").await;
    assert!(told["message"].as_str().is_some_and(|message| message.contains("Redis went back from")), "{told}");
    api.running.says("Redis lost what it was told").await;
    assert_eq!(history(&work, "redis_went_back").await.len(), 1);

    work.redis(&["FLUSHALL"]).await;
    eventually("that is, too", async || !history(&work, "redis_emptied").await.is_empty()).await;
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains("orderstream_redis_setbacks_total 2"), "{metrics}");
    work.drained().await;
    api.running.stop().await.exits(0);
    work.is_right().await;

    // Whoever starts later knows it from Postgres.
    work.redis(&["FLUSHALL"]).await;
    let api = Api::start(&work.program, "run", &[], &[]).await;
    eventually("it is noticed once more", async || history(&work, "redis_emptied").await.len() == 2).await;
    api.running.stop().await.exits(0);
}
