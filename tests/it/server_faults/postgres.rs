//! Faults of Postgres.

use std::time::Duration;

use pipeline::store::{Store, WorkerSettings};

use super::Work;
use crate::program::{Orderstream, harness::eventually};

const OTHERS: &str = "pid <> pg_backend_pid() AND datname = current_database() AND application_name = 'orderstream'";

#[tokio::test]
async fn sessions_that_postgres_ends_again_and_again_lose_nothing() {
    let work = Work::of(2_000).await;
    let workers = work.workers();
    work.gets_on(1).await;
    for _ in 0..50 {
        work.program
            .stack
            .sql(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}
            AND backend_type = 'client backend' AND state <> 'idle'"
            ))
            .await;
        // The pace of the fault, not a wait for anything.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counts = work.ends(workers).await;
    let retries = ["reservation", "payment", "settlement"].map(|stage| counts[stage]["retries"].as_u64().expect("it"));
    assert!(retries.iter().sum::<u64>() > 0, "{counts}");
}

#[tokio::test]
async fn a_database_that_is_serializable_by_default_changes_nothing() {
    let work = Work::of(1_000).await;
    let name: String = work.program.stack.value("SELECT current_database()::text").await;
    work.program.stack.sql(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")).await;
    let fresh = Store::new(&work.program.stack.database_url, WorkerSettings::Worker, 1).expect("a URL");
    let level: String =
        sqlx::query_scalar("SHOW transaction_isolation").fetch_one(&fresh.pool()).await.expect("Postgres");
    assert_eq!(level, "serializable");
    let args = ["run", "--json", "--batch", "20", "--claim-idle", "1", "--workers", "3"];
    let workers = work.program.start(&args);
    work.ends(workers).await;
}

#[tokio::test]
async fn a_product_that_is_locked_for_longer_than_a_worker_waits_stops_nothing_for_good() {
    let work = Work::of(200).await;
    let mut foreign = work.program.stack.reports.pool().begin().await.expect("Postgres");
    sqlx::query("SELECT FROM products WHERE id = 1 FOR UPDATE").execute(&mut *foreign).await.expect("locked");
    let workers = work.workers();
    let waits = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float8
        FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let waited = async || work.program.stack.value::<f64>(waits).await;
    eventually("a worker waits", async || waited().await > 9.0).await;
    eventually("it has given up and waits again", async || (0.01..5.0).contains(&waited().await)).await;
    foreign.rollback().await.expect("unlocked");
    let counts = work.ends(workers).await;
    assert!(counts["reservation"]["retries"].as_u64() > Some(0), "{counts}");
}

#[tokio::test]
async fn deadlocks_with_a_stranger_are_survived() {
    const DEADLOCKS: &str = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let work = Work::of(1_000).await;
    let workers = work.workers();
    let waiting =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())";
    eventually("there was a deadlock", async || {
        let mut foreign = work.program.stack.store.pool().begin().await.expect("Postgres");
        sqlx::query("SELECT FROM products WHERE id = 3 FOR UPDATE").execute(&mut *foreign).await.expect("locked");
        eventually("a worker waits", async || work.program.stack.value(waiting).await).await;
        // It holds the first product and wants the third one.
        let second = sqlx::query("SELECT FROM products WHERE id = 1 FOR UPDATE").execute(&mut *foreign).await;
        drop(second);
        foreign.rollback().await.expect("unlocked");
        work.program.stack.value::<i64>(DEADLOCKS).await > 0
    })
    .await;
    work.ends(workers).await;
}
