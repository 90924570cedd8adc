//! Guards that only show at a moment which a failpoint holds still.

use nix::sys::signal::Signal;

use crate::program::{
    Orderstream, Program, Running,
    harness::{eventually, order, orders},
};

/// Starts a command that fails where `failpoints` say.
fn failing(program: &Program, failpoints: &str, args: &[&str]) -> Running {
    Running::spawn(program.command(args).env("FAILPOINTS", failpoints), args)
}

#[tokio::test]
async fn a_relay_that_was_stopped_and_replaced_applies_nothing_twice() {
    let program = Program::seeded(5, &[500_000; 3]).await;
    let stale = failing(&program, "relay.before_script=1*return(stop)->off", &["run", "--stages", "relay"]);
    program.stack.publish(&orders("A", 40)).await;
    let stages = program.start(&["run", "--stages", "reservation,payment,settlement"]);
    stale.says("failpoint relay.before_script: stop").await;
    eventually("every order is settled", async || {
        program.stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await == 40
    })
    .await;
    // Postgres takes the lock from the stopped one, as it does when its machine vanishes.
    let taken = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
                 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(program.stack.value::<i64>(taken).await, 1, "one relay has the lock");
    let fresh = program.start(&["run", "--stages", "relay"]);
    program.stack.drained(&[]).await;
    stale.signal(Signal::SIGCONT);
    // It has noticed by now that its lock is gone; what it held in hand came first.
    stale.says("Postgres failed").await;
    for running in [stale, fresh, stages] {
        running.stop().await.exits(0);
    }
    program.audit().await;
}

#[tokio::test]
async fn a_message_that_kills_its_workers_is_set_aside_alone() {
    let program = Program::seeded(5, &[500_000; 3]).await;
    program.stack.publish(&orders("A", 150)).await;
    program.stack.publish(&[order("POISON", 1, &[(1, 1, 100)])]).await;
    program.stack.publish(&orders("B", 150)).await;
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, pipeline::topology::StageName::Reservation);
    let mut deaths = 0;
    let args = ["run", "--until-drained", "--claim-idle", "1", "--attempts-max", "5"];
    // A supervisor that starts the worker again whenever it dies.
    loop {
        let done = failing(&program, "stage.process=return(abort:POISON)", &args).end().await;
        if done.code == Some(0) {
            break;
        }
        assert!(done.stderr.contains("failpoint stage.process: abort"), "{}", done.stderr);
        deaths += 1;
        assert!(deaths < 10, "it kills again and again");
    }
    assert_eq!(deaths, 5, "two with a batch, two with a part of it, one with it alone");
    let letters = program.run(&["dead", "list", "--json"]).await.exits(0).json();
    assert_eq!(letters["letters"].as_array().map(Vec::len), Some(1), "{letters}");
    assert_eq!(letters["letters"][0]["reason"], "attempts_exhausted");
    assert_eq!(letters["letters"][0]["order_code"], "POISON");
    let settled = "SELECT count(*) FROM orders WHERE settled_at IS NOT NULL";
    assert_eq!(program.stack.value::<i64>(settled).await, 300, "all its neighbours");
    let left: Option<u64> = redis::cmd("XPENDING")
        .arg(&stream)
        .arg("reservation")
        .query_async::<(u64, Option<String>, Option<String>, Option<redis::Value>)>(&mut redis)
        .await
        .map(|(pending, ..)| pending)
        .ok();
    assert_eq!(left, Some(0));
    program.audit().await;
}

#[tokio::test]
async fn workers_that_are_replaced_one_after_the_other_hand_their_work_over_at_once() {
    let program = Program::seeded(5, &[500_000; 3]).await;
    // An hour of silence: whatever is not handed back would be seen to be missing.
    let args = ["run", "--claim-idle", "3600", "--batch", "20"];
    let mut old = program.start(&args);
    old.says("running").await;
    for round in 0..6 {
        program.stack.publish(&orders(&format!("R{round}"), 200)).await;
        let new = program.start(&args);
        new.says("running").await;
        old.stop().await.exits(0);
        old = new;
    }
    program.stack.drained(&pipeline::topology::StageName::WAY).await;
    old.stop().await.exits(0);
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await, 1_200);
    let status = program.run(&["status", "--json"]).await.exits(0).json();
    for stream in status["partitions"][0]["streams"].as_array().expect("streams") {
        assert_eq!(stream["groups"][0]["consumers"].as_array().map(Vec::len), Some(0), "everybody has left: {stream}");
    }
    program.audit().await;
}

#[tokio::test]
async fn pause_and_resume_are_commands_that_say_what_they_do() {
    let program = Program::seeded(1, &[10]).await;
    assert_eq!(program.run(&["pause"]).await.exits(0).stdout, "Nothing is paused.\n");
    let paused = program.run(&["pause", "payment", "--for", "10m", "--why", "gateway \u{1b}[31m"]).await.exits(0);
    assert!(paused.stdout.starts_with("payment is paused since "), "{}", paused.stdout);
    assert!(paused.stdout.contains("s more: gateway \\u{1b}[31m"), "{}", paused.stdout);
    let status = program.run(&["status"]).await.exits(0);
    assert!(status.stdout.contains("payment is paused since "), "{}", status.stdout);
    let list = program.run(&["pause", "--json"]).await.exits(0).json();
    assert_eq!(list["paused"][0]["stage"], "payment");
    let left = list["paused"][0]["seconds_left"].as_u64().expect("seconds");
    assert!((1..=600).contains(&left));
    program.stack.publish(&[order("A", 1, &[(1, 1, 100)])]).await;
    let run = program.start(&["run"]);
    run.says("paused").await;
    let refused = program.run(&["reconcile", "--wait", "1s"]).await.exits(1);
    assert!(refused.stderr.contains("or a stage paused"), "{}", refused.stderr);
    assert_eq!(program.run(&["resume"]).await.exits(0).stdout, "Resumed payment.\n");
    run.says("resumed").await;
    program.stack.drained(&pipeline::topology::StageName::WAY).await;
    let well = program.run(&["reconcile"]).await.exits(0);
    assert_eq!(well.stdout, "Every open order has its message.\n");
    run.stop().await.exits(0);
    assert_eq!(program.run(&["resume", "payment"]).await.exits(0).stdout, "Nothing was paused.\n");
    program.run(&["pause", "nonsense"]).await.exits(2);
    program.run(&["pause", "--for", "10m"]).await.exits(2);
    program.run(&["pause", "payment", "--for", "10"]).await.exits(2);
}

#[tokio::test]
async fn what_redis_lost_is_told_by_the_history_of_the_reconciler() {
    let program = Program::seeded(5, &[500_000; 3]).await;
    program.stack.publish(&orders("A", 30)).await;
    program.run(&["run", "--until-drained", "--stages", "reservation,relay"]).await.exits(0);
    program.stack.forget_keys().await.expect("forgotten");
    let looked = program.run(&["reconcile", "--dry-run", "--json"]).await.exits(0).json();
    let lost = looked["to_payment"].as_i64().expect("a number");
    assert!(lost > 20, "{looked}");
    let run = program.start(&["run", "--reconcile-every", "1"]);
    eventually("every order is settled", async || {
        program.stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await == 30
    })
    .await;
    run.says("orders had no message any more: emitted again").await;
    program.stack.drained(&pipeline::topology::StageName::WAY).await;
    run.stop().await.exits(0);
    let history = program.run(&["reconcile", "--history", "--json"]).await.exits(0).json();
    assert_eq!(history["reconciliations"][0]["to_payment"], lost);
    assert_eq!(history["reconciliations"][0]["cause"], "messages_lost");
    program.audit().await;
}
