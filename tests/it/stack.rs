//! The local stack, while its servers are killed under it.

use std::process::Stdio;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::program::{Local, Orderstream, Running, harness::eventually, model};

const PIDS: [&str; 2] = ["postgres/postmaster.pid", "redis/redis.pid"];

/// Orders that the stack's Postgres knows, if it answers.
async fn known(local: &Local) -> Option<i64> {
    let url = format!("postgres://orderstream@localhost/orderstream?host={}/run", local.state().display());
    let mut postgres = PgConnection::connect(&url).await.ok()?;
    sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut postgres).await.ok()
}

async fn get_on(local: &Local, further: i64) {
    let mut target = None;
    eventually("the workers get on", async || match known(local).await {
        Some(known) => known >= *target.get_or_insert(known + further),
        None => false,
    })
    .await;
}

/// Kills a server and waits for its successor.
async fn kill_server(local: &Local, pid_file: &str) {
    let before = local.server(pid_file);
    kill(before, Signal::SIGKILL).expect("it runs");
    let pid = || {
        let text = std::fs::read_to_string(local.state().join(pid_file)).ok()?;
        text.lines().next()?.trim().parse().ok().map(Pid::from_raw)
    };
    eventually("the server is started again", async || pid().is_some_and(|pid| pid != before)).await;
}

#[tokio::test]
async fn servers_that_are_killed_under_dev_are_started_again_and_an_import_goes_on() {
    const ROUNDS: usize = 3;
    let local = Local::prepared();
    let orders = model::orders(&local.generate("orders.csv", &["--rows", "60000"]).await);
    local.run(&["seed"]).await.exits(0);
    let dev = local.start(&["dev", "--batch", "50"]);
    dev.says("running").await;
    let import = local.start(&["import", "orders.csv", "--json", "--max-backlog", "3000"]);
    for _ in 0..ROUNDS {
        for server in PIDS {
            get_on(&local, 300).await;
            kill_server(&local, server).await;
        }
    }
    let summary = import.end().await.exits(0).import();
    assert_eq!(summary["known"]["new_orders"], Value::from(orders.len()));
    // What Redis lost of its last second is taken up by importing the file again.
    local.run(&["import", "orders.csv"]).await.exits(0);
    local.run(&["run", "--until-drained"]).await.exits(0);
    let audit = local.run(&["audit"]).await.exits(0);
    assert!(audit.stdout.contains("The books balance."), "{audit:?}");
    dev.stop().await.exits(0);
    assert!(!local.servers_run(), "nobody starts them any more");
}

#[tokio::test]
async fn an_import_looks_after_the_stack_that_it_brought_up() {
    let local = Local::prepared();
    let orders = model::orders(&local.generate("orders.csv", &["--rows", "40000"]).await);
    local.run(&["seed"]).await.exits(0);
    let import = local.start(&["import", "orders.csv", "--json", "--max-backlog", "3000"]);
    for server in PIDS {
        get_on(&local, 300).await;
        kill_server(&local, server).await;
    }
    let summary = import.end().await.exits(0).import();
    assert_eq!(summary["known"]["new_orders"], Value::from(orders.len()));
    assert!(!local.servers_run());
    local.run(&["import", "orders.csv"]).await.exits(0);
    local.run(&["audit"]).await.exits(0);
}

#[tokio::test]
async fn whoever_is_left_looks_after_the_stack() {
    let local = Local::prepared();
    let first = local.start(&["dev", "--no-workers"]);
    first.says("the local stack runs").await;
    let second = local.start(&["dev", "--no-workers"]);
    second.says("the local stack runs").await;
    // Both look after it: one of them starts the server, and it stays the only one.
    for server in PIDS {
        kill_server(&local, server).await;
    }
    local.run(&["status"]).await.exits(0);
    first.stop().await.exits(0);
    for server in PIDS {
        kill_server(&local, server).await;
    }
    local.run(&["status"]).await.exits(0);
    second.stop().await.exits(0);
    assert!(!local.servers_run());
}

#[tokio::test]
async fn whoever_is_asked_to_end_leaves_no_servers_behind_be_it_by_a_terminal_that_is_closed() {
    let local = Local::prepared();
    // Amid the first start: nobody listens but for the sake of the servers.
    // Any moment of it may be met: one in four of Redis' was missed.
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT].repeat(4) {
        let status = local.start(&["status"]);
        // As soon as there is something to leave.
        eventually("a server runs", async || local.servers_run()).await;
        status.signal(signal);
        let done = status.end().await;
        assert!([Some(130), Some(0)].contains(&done.code), "{signal}: {done:?}");
        assert!(!local.servers_run(), "{signal}");
    }
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        let dev = local.start(&["dev", "--no-workers"]);
        dev.says("the local stack runs").await;
        dev.signal(signal);
        dev.end().await.exits(0);
        assert!(!local.servers_run(), "{signal}");
    }
    // The command that it runs around hears of it, too.
    let around =
        ["dev", "--no-workers", "--", "sh", "-c", "trap 'exit 7' HUP; touch runs; while :; do sleep 0.1; done"];
    let dev = local.start(&around);
    eventually("the command runs", async || local.path("runs").exists()).await;
    dev.signal(Signal::SIGHUP);
    dev.end().await.exits(7);
    assert!(!local.servers_run());
}

#[tokio::test]
async fn a_stack_whose_hangup_is_ignored_outlives_its_terminal() {
    let local = Local::prepared();
    let args = ["-c", "trap '' HUP; exec \"$0\" dev --no-workers", env!("CARGO_BIN_EXE_orderstream")];
    let mut command = tokio::process::Command::new("sh");
    command.env("ORDERSTREAM_STATE_DIR", local.state());
    for name in ["DATABASE_URL", "REDIS_URL", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.args(args).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let dev = Running::spawn(&mut command, &args);
    dev.says("the local stack runs").await;
    dev.signal(Signal::SIGHUP);
    // Whoever came to its end would be asked in vain.
    local.run(&["status"]).await.exits(0);
    assert!(local.servers_run());
    dev.stop().await.exits(0);
    assert!(!local.servers_run());
}

#[tokio::test]
async fn a_folder_whose_name_the_servers_would_misread_is_refused() {
    let local = Local::new();
    for name in ["a[1]", "what?", "it's", "a#b", "100%", "a,b", "a\\b", "$HOME", "a\nb"] {
        let refused = local.run(&["--state-dir", name, "status"]).await.exits(2);
        assert!(refused.stderr.contains("--state-dir") && refused.stderr.contains("state folder"), "{refused:?}");
        assert!(!local.path(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn a_redis_that_cannot_save_is_no_redis_that_does_not_start() {
    let local = Local::prepared();
    let dev = local.start(&["dev", "--no-workers"]);
    dev.says("the local stack runs").await;
    // A folder where its file should be moved to.
    std::fs::create_dir(local.state().join("redis/dump.rdb")).expect("a folder");
    let url = format!("unix://{}/run/redis.sock", local.state().display());
    let client = redis::Client::open(url).expect("an address");
    let mut redis = client.get_multiplexed_async_connection().await.expect("it runs");
    redis::cmd("CONFIG").arg(&["SET", "save", "3600 1"]).exec_async(&mut redis).await.expect("set");
    redis::cmd("BGSAVE").exec_async(&mut redis).await.expect("begun");
    let misconf = async || redis::cmd("PING").exec_async(&mut redis.clone()).await.is_err();
    eventually("it refuses even a PING", misconf).await;
    local.run(&["status"]).await.exits(0);
    let refused = local.run(&["pause", "payment"]).await.exits(1);
    assert!(refused.stderr.contains("Redis refuses: ") && refused.stderr.contains("ServerRefuses.md"), "{refused:?}");
    // Else it does not end: it would save first.
    redis::cmd("CONFIG").arg(&["SET", "save", ""]).exec_async(&mut redis).await.expect("set");
    dev.stop().await.exits(0);
}

#[tokio::test]
async fn a_server_that_cannot_be_started_is_tried_again_and_told_once() {
    let local = Local::prepared();
    let dev = local.start(&["dev", "--no-workers"]);
    dev.says("the local stack runs").await;
    // A folder where its configuration should be written.
    let config = local.state().join("redis/redis.conf");
    std::fs::remove_file(&config).expect("a file");
    std::fs::create_dir(&config).expect("a folder");
    kill(local.server("redis/redis.pid"), Signal::SIGKILL).expect("it runs");
    dev.says("Redis of the local stack does not start").await;
    std::fs::remove_dir(&config).expect("a folder");
    dev.says("Redis of the local stack runs again").await;
    local.run(&["status"]).await.exits(0);
    let done = dev.stop().await.exits(0);
    assert_eq!(done.stderr.matches("has ended").count(), 1, "{}", done.stderr);
    assert_eq!(done.stderr.matches("does not start").count(), 1, "{}", done.stderr);
}
