//! Connections that rest, end, or are all in use.

use std::time::Duration;

use futures::FutureExt;
use pipeline::{
    store::{self, Error, Store, WorkerSettings},
    streams::KeptConnection,
};

use crate::harness::{Server, Stack, eventually};

const PATIENCE: Duration = Duration::from_millis(500);

fn narrow(stack: &Stack) -> Store {
    Store::new(&stack.database_url, WorkerSettings::Page, 1).expect("a URL")
}

#[tokio::test]
async fn a_question_is_asked_though_every_connection_of_the_pool_is_in_use() {
    let stack = Stack::get().await;
    let store = narrow(&stack);
    let all_there_are = store.acquire().await.expect("Postgres");
    let asked = store.ask_if_reachable(PATIENCE, |postgres| store::has_tokens(postgres).boxed()).await;
    assert!(matches!(asked, Ok(Some(false))), "{asked:?}");
    drop(all_there_are);
}

#[tokio::test]
async fn only_a_postgres_that_cannot_be_reached_leaves_a_question_open() {
    let stack = Stack::alone().await;
    let store = narrow(&stack);
    // It is there, and does not answer: no reason to believe what was true a while ago.
    let mut locker = stack.store.pool().begin().await.expect("Postgres");
    sqlx::query("LOCK TABLE api_tokens IN ACCESS EXCLUSIVE MODE").execute(&mut *locker).await.expect("locked");
    let asked = store.ask_if_reachable(PATIENCE, |postgres| store::has_tokens(postgres).boxed()).await;
    assert!(matches!(asked, Err(Error::NoAnswer { .. })), "{asked:?}");
    locker.rollback().await.expect("unlocked");
    stack.end(Server::Postgres, "INT");
    eventually("Postgres is away", async || !stack.answers(Server::Postgres).await).await;
    let asked = store.ask_if_reachable(PATIENCE, |postgres| store::has_tokens(postgres).boxed()).await;
    assert!(matches!(asked, Ok(None)), "{asked:?}");
    stack.start_again(Server::Postgres).await;
}

#[tokio::test]
async fn a_session_that_postgres_ended_while_it_rested_is_given_to_nobody() {
    let stack = Stack::get().await;
    let store = narrow(&stack);
    let session = async || -> i32 {
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&store.pool()).await.expect("the first try works")
    };
    let before = session().await;
    // Of a pool with one connection, it is the one that was used a moment ago.
    stack.sql(&format!("SELECT pg_terminate_backend({before})")).await;
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {before}");
    eventually("it is gone", async || stack.value::<i64>(&gone).await == 0).await;
    tokio::time::sleep(PATIENCE).await;
    assert_ne!(session().await, before);
}

#[tokio::test]
async fn a_connection_that_redis_ended_while_it_rested_is_given_to_nobody() {
    let stack = Stack::get().await;
    let mut kept = KeptConnection::new(&stack.redis);
    let mut id = async || -> i64 {
        let connection = kept.get().await.expect("Redis");
        redis::cmd("CLIENT").arg("ID").query_async(connection).await.expect("the first try works")
    };
    let before = id().await;
    let mut other = stack.connection().await;
    redis::cmd("CLIENT").arg("KILL").arg("ID").arg(before).exec_async(&mut other).await.expect("Redis");
    tokio::time::sleep(PATIENCE).await;
    assert_ne!(id().await, before);
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused_before_anything_is_made_in_it() {
    let stack = Stack::get().await;
    let name = format!("latin_{}", stack.namespace);
    stack.sql(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")).await;
    let database: String = stack.value("SELECT current_database()::text").await;
    let store = Store::new(&stack.database_url.replace(&database, &name), WorkerSettings::Report, 1).expect("a URL");
    let refused = store.migrate().await.expect_err("it is refused");
    assert!(matches!(refused, Error::Encoding { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains(&name) && text.contains("LATIN1") && text.contains("ENCODING 'UTF8'"), "{text}");
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&store.pool())
        .await
        .expect("Postgres");
    assert_eq!(tables, 0);
    store.close().await;
    stack.sql(&format!("DROP DATABASE {name}")).await;
}
