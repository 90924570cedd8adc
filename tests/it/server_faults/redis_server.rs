//! Faults of Redis.

use std::{fs, time::Duration};

use pipeline::{
    message::{BODY, encode_order},
    topology::StageName,
};

use super::Work;
use crate::program::{
    Orderstream, Running,
    harness::{Server, eventually, order},
};

#[tokio::test]
async fn connections_to_redis_that_are_cut_again_and_again_lose_nothing() {
    let work = Work::of(2_000).await;
    let workers = work.workers();
    work.gets_on(1).await;
    for _ in 0..100 {
        work.redis(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        // The pace of the fault, not a wait for anything.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    workers.says("Redis failed; trying again until it is back").await;
    work.ends(workers).await;
}

#[tokio::test]
async fn a_redis_that_pauses_and_forgets_its_scripts_is_told_them_again() {
    let work = Work::of(2_000).await;
    let workers = work.workers();
    for _ in 0..8 {
        work.gets_on(50).await;
        work.redis(&["SCRIPT", "FLUSH"]).await;
        work.redis(&["CLIENT", "PAUSE", "100"]).await;
    }
    let counts = work.ends(workers).await;
    let mut redis = work.program.stack.connection().await;
    let errors: String = redis::cmd("INFO").arg("errorstats").query_async(&mut redis).await.expect("Redis");
    assert!(errors.contains("errorstat_NOSCRIPT"), "{errors}");
    assert_eq!(counts["reservation"]["claimed"], 0, "nobody was silent for long");
}

#[tokio::test]
async fn a_full_redis_drains_while_it_takes_no_orders() {
    let work = Work::of(2_000).await;
    let workers = work.workers();
    work.gets_on(1).await;
    work.redis(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let mut redis = work.program.stack.connection().await;
    let body = encode_order(&order("LATE", 1, &[(1, 1, 100)]));
    let mut add = redis::cmd("XADD");
    add.arg(work.stream(StageName::Reservation)).arg("*").arg(BODY).arg(body);
    let refused = add.exec_async(&mut redis).await.expect_err("it is full");
    assert_eq!(refused.code(), Some("OOM"));
    work.drained().await;
    // The audit reads in a transaction, which a full Redis refuses.
    work.redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
    work.ends(workers).await;
}

#[tokio::test]
async fn work_stays_pending_while_the_next_stream_is_no_stream() {
    let mut work = Work::of(100).await;
    let workers = work.workers();
    work.drained().await;
    let reserved = work.stream(StageName::Payment);
    work.redis(&["SET", &reserved, "not a stream"]).await;
    work.publish("B", 100).await;
    workers.says("WRONGTYPE").await;
    let mut redis = work.program.stack.connection().await;
    let group = work.program.stack.redis.group_state(&mut redis, 0, StageName::Reservation).await.expect("Redis");
    assert!(group.expect("a group").pending > 0);
    work.redis(&["DEL", &reserved]).await;
    work.ends(workers).await;
}

#[tokio::test]
async fn work_stays_pending_while_redis_forbids_to_add_messages() {
    let mut work = Work::of(100).await;
    work.redis(&["ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all"]).await;
    let url = format!("{}?user=worker&pass=secret", work.program.stack.redis_url());
    let args = ["run", "--json", "--batch", "20", "--claim-idle", "1"];
    let workers = Running::spawn(work.program.command(&args).env("REDIS_URL", url), &args);
    work.drained().await;
    work.redis(&["ACL", "SETUSER", "worker", "-xadd"]).await;
    work.publish("B", 100).await;
    let mut redis = work.program.stack.connection().await;
    eventually("it was forbidden", async || {
        let log: Vec<redis::Value> = redis::cmd("ACL").arg("LOG").query_async(&mut redis).await.expect("Redis");
        !log.is_empty()
    })
    .await;
    eventually("what cannot be handed off stays pending", async || {
        let group = work.program.stack.redis.group_state(&mut redis, 0, StageName::Reservation).await.expect("Redis");
        group.expect("a group").pending > 0
    })
    .await;
    work.redis(&["ACL", "SETUSER", "worker", "+xadd"]).await;
    work.ends(workers).await;
}

#[tokio::test]
async fn a_redis_whose_file_was_cut_anywhere_is_made_up_for() {
    const CUTS: usize = 6;
    let work = Work::of(200).await;
    let workers = work.workers();
    work.drained().await;
    let socket = work.program.stack.redis_url().strip_prefix("unix://").expect("a socket").to_owned();
    let folder = std::path::Path::new(&socket).parent().expect("a folder");
    let file = folder.join("appendonlydir/appendonly.aof.1.incr.aof");
    let away = async || !work.program.stack.answers(Server::Redis).await;
    work.program.stack.end(Server::Redis, "INT");
    eventually("Redis is away", away).await;
    let whole = fs::read(&file).expect("the file");
    assert!(whole.len() > 10_000, "a recorded run");
    for cut in 0..CUTS {
        let length = whole.len() * cut / CUTS + cut;
        let open = fs::OpenOptions::new().write(true).truncate(true).open(&file).expect("the file");
        std::io::Write::write_all(&mut &open, &whole[..length]).expect("written");
        drop(open);
        work.program.stack.start_again(Server::Redis).await;
        work.program.stack.publish(&work.orders).await;
        work.drained().await;
        work.program.stack.end(Server::Redis, "KILL");
        eventually("Redis is away", away).await;
    }
    work.program.stack.start_again(Server::Redis).await;
    work.ends(workers).await;
}

#[tokio::test]
async fn entries_of_other_clocks_go_all_the_way() {
    const HOUR_MS: i64 = 3_600_000;
    let mut work = Work::of(0).await;
    let mut redis = work.program.stack.connection().await;
    let now = chrono::Utc::now().timestamp_millis();
    for (n, ms) in [(0, now - HOUR_MS), (1, now + HOUR_MS)] {
        for (seq, order) in super::orders(&format!("CLOCK{n}"), 50).into_iter().enumerate() {
            let id = format!("{ms}-{seq}");
            let added = redis::cmd("XADD")
                .arg(work.stream(StageName::Reservation))
                .arg(id)
                .arg(BODY)
                .arg(encode_order(&order))
                .exec_async(&mut redis)
                .await;
            added.expect("added");
            work.orders.push(order);
        }
    }
    let workers = work.workers();
    work.drained().await;
    work.publish("AFTER", 50).await;
    work.ends(workers).await;
}
