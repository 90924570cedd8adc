//! Connections that a server ends while nobody uses them: idle ones, and all of them at a restart. Whoever asks next hears
//! nothing of it.

use serde_json::json;

use super::Work;
use crate::program::{
    Orderstream, Program,
    client::Api,
    harness::{Server, eventually},
};

/// The sessions of the process that serves.
async fn sessions(program: &Program) -> Vec<i32> {
    const QUERY: &str = "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE application_name = 'api'";
    program.stack.value(QUERY).await
}

/// Asks for everything that needs one of the servers; each is answered at the first try.
async fn everything_is_answered(api: &Api, code: &str) {
    let order = json!({
        "order_code": code, "customer_id": 1, "lines": [{ "product_id": 1, "quantity": 1, "unit_price": "1" }]
    });
    api.post("/v1/orders", &order).await.ok(202);
    for path in ["/readyz", "/v1/orders", "/v1/kpis", "/v1/streams", "/v1/actions", "/v1/leaderboards/products"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    assert_eq!(api.get("/kpis").await.status, 200, "a page");
}

#[tokio::test]
async fn connections_that_were_ended_while_they_rested_are_noticed_by_nobody() {
    let program = Program::alone(1, &[1_000_000]).await;
    // Before it starts: a session that rests already does not hear of it.
    program.stack.sql("ALTER SYSTEM SET idle_session_timeout = '300ms'").await;
    program.stack.sql("SELECT pg_reload_conf()").await;
    let url = format!("{}&application_name=api", program.stack.database_url);
    let api = Api::start(&program, "serve", &[], &[("DATABASE_URL", &url)]).await;
    everything_is_answered(&api, "BEFORE").await;

    // Postgres ends what is idle, as its own setting says.
    let before = sessions(&program).await;
    assert!(!before.is_empty());
    let gone = async || !sessions(&program).await.iter().any(|session| before.contains(session));
    eventually("Postgres has ended idle sessions", gone).await;
    // So does Redis; here at once.
    let mut redis = program.stack.connection().await;
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec_async(&mut redis).await.expect("Redis");
    everything_is_answered(&api, "IDLE").await;

    for server in [Server::Postgres, Server::Redis] {
        program.stack.end(server, "INT");
        // Else it is the old one that answers, on its way out.
        eventually("it is down", async || !program.stack.answers(server).await).await;
        program.stack.start_again(server).await;
    }
    everything_is_answered(&api, "RESTARTED").await;
    assert!(!api.running.told().contains("is away"), "{}", api.running.told());
}

#[tokio::test]
async fn connections_that_were_ended_right_after_they_were_used_are_noticed_by_nobody() {
    let program = Program::alone(1, &[1_000_000]).await;
    let url = format!("{}&application_name=api", program.stack.database_url);
    let api = Api::start(&program, "serve", &[], &[("DATABASE_URL", &url)]).await;
    let mut redis = program.stack.connection().await;
    for round in 0..20 {
        everything_is_answered(&api, &format!("ORD-{round}")).await;
        let kill = ["KILL", "TYPE", "normal", "SKIPME", "yes"];
        redis::cmd("CLIENT").arg(&kill).exec_async(&mut redis).await.expect("Redis");
        let before = sessions(&program).await;
        assert!(!before.is_empty());
        program
            .stack
            .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'api'")
            .await;
        let gone = async || !sessions(&program).await.iter().any(|session| before.contains(session));
        eventually("Postgres has ended them", gone).await;
    }
}

#[tokio::test]
async fn workers_and_leaders_outlive_servers_that_end_idle_connections() {
    let mut work = Work::of(100).await;
    work.program.stack.sql("ALTER SYSTEM SET idle_session_timeout = '300ms'").await;
    work.program.stack.sql("SELECT pg_reload_conf()").await;
    work.redis(&["CONFIG", "SET", "timeout", "1"]).await;
    let args = ["run", "--json", "--batch", "20", "--reconcile-every", "4", "--notify", "log"];
    let workers = work.program.start(&args);
    work.drained().await;
    const ENDED: &str = "SELECT sessions_fatal FROM pg_stat_database WHERE datname = current_database()";
    eventually("Postgres has ended idle sessions", async || work.program.stack.value::<i64>(ENDED).await > 10).await;
    work.publish("B", 100).await;
    work.drained().await;
    assert!(!workers.told().contains("failed; trying again"), "{}", workers.told());
    work.ends(workers).await;
}
