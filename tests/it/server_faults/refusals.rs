//! Servers that answer and refuse: what is asked, what is shown and what is logged says so, and says why.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Work;
use crate::program::{Orderstream, Running, client::Api, harness::eventually};

fn an_order(code: &str) -> Value {
    json!({ "order_code": code, "customer_id": 1, "lines": [{ "product_id": 1, "quantity": 1, "unit_price": "1" }] })
}

async fn alert(api: &Api, rule: &str) -> Value {
    let alerts = api.get("/v1/alerts").await.ok(200);
    let alerts = alerts["alerts"].as_array().expect("alerts");
    alerts.iter().find(|alert| alert["rule"] == rule).cloned().unwrap_or_default()
}

async fn is_ready(api: &Api) -> bool {
    api.get("/readyz").await.status == 200
}

/// Everything that can be asked says this of a server that refuses so.
async fn is_told(api: &Api, server: &str, code: &str, why: &str) {
    let mut last = String::new();
    eventually(&format!("readiness says: {why}"), async || {
        last = api.get("/readyz").await.text;
        last.contains(why)
    })
    .await;
    let not_ready = api.get("/readyz").await.problem(503, "not_ready");
    assert!(not_ready["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{not_ready}");
    eventually("the alert fires", async || alert(api, "server_refuses").await["state"] == "firing").await;
    let firing = alert(api, "server_refuses").await;
    let message = firing["message"].as_str().expect("a message").to_owned();
    assert!(message.starts_with(&format!("{server} refuses")) && message.contains(why), "{message}");
    // Connections that were cut to begin with are no outage for long.
    eventually("no server is away", async || alert(api, "server_away").await["state"] != "firing").await;
    assert_ne!(alert(api, "no_consumer").await["state"], "firing");
    let overview = api.get("/v1/overview").await.ok(200);
    assert!(overview["sentence"].as_str().is_some_and(|sentence| sentence.contains(why)), "{overview}");
    if server == "Redis" {
        let refused = api.post("/v1/orders", &an_order("REFUSED")).await.problem(503, code);
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{refused}");
        // As long as that lasts, nobody is said not to be there.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_ne!(alert(api, "no_consumer").await["state"], "firing");
        let overview = api.get("/v1/overview").await.ok(200);
        assert!(!overview.to_string().contains("No worker"), "{overview}");
    }
}

async fn is_calm_again(api: &Api, code: &str) {
    eventually("it is ready again", async || is_ready(api).await).await;
    eventually("the alert is calm", async || alert(api, "server_refuses").await["state"] == "calm").await;
    eventually("orders are taken", async || api.post("/v1/orders", &an_order(code)).await.status == 202).await;
}

/// Runs statements over a connection of their own: they end those of others.
async fn by_itself(work: &Work, statements: &[String]) {
    let mut postgres = PgConnection::connect(&work.program.stack.database_url).await.expect("Postgres");
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str())).execute(&mut postgres).await.expect("done");
    }
}

/// How often the log says this.
fn times(told: &str, text: &str) -> usize {
    told.lines().filter(|line| line.contains(text)).count()
}

/// Commands of Redis, in words.
type Commands = &'static [&'static [&'static str]];

#[tokio::test]
async fn a_redis_that_refuses_writes_is_told_as_what_it_is_and_logged_once() {
    let work = Work::of(0).await;
    let api = Api::start(&work.program, "run", &["--batch", "20", "--claim-idle", "1"], &[]).await;
    eventually("it is ready", async || is_ready(&api).await).await;
    eventually("somebody evaluates alerts", async || alert(&api, "server_refuses").await["state"] == "calm").await;
    let folder = PathBuf::from(work.program.stack.redis_url().strip_prefix("unix://").expect("a socket"));
    // A snapshot is renamed to this name, which a folder has taken.
    let taken = folder.parent().expect("a folder").join("dump.rdb");
    let faults: [(&str, Commands, Commands); 4] = [
        ("it is full (maxmemory)", &[&["CONFIG", "SET", "maxmemory", "1"]], &[&["CONFIG", "SET", "maxmemory", "0"]]),
        (
            "its last snapshot failed",
            &[&["CONFIG", "SET", "save", "3600 1"], &["BGSAVE"]],
            &[&["CONFIG", "SET", "save", ""]],
        ),
        ("it is a read-only replica", &[&["REPLICAOF", "127.0.0.1", "1"]], &[&["REPLICAOF", "NO", "ONE"]]),
        (
            "too few replicas follow it",
            &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
            &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
        ),
    ];
    fs::create_dir_all(taken.join("in the way")).expect("a folder");
    for (n, (why, begin, end)) in faults.into_iter().enumerate() {
        for words in begin {
            work.redis(words).await;
        }
        is_told(&api, "Redis", "redis_refuses", why).await;
        // The command asks Redis itself: what is kept there may be from before.
        let listed = work.program.run(&["alerts", "--check", "--json"]).await.exits(8).json();
        let fires = |alert: &Value| {
            alert["rule"] == "server_refuses"
                && alert["state"] == "firing"
                && alert["message"].as_str().is_some_and(|message| message.contains(why))
        };
        assert!(listed["alerts"].as_array().expect("alerts").iter().any(fires), "{listed}");
        let refused = work.program.run(&["pause", "payment", "--why", "a test"]).await.exits(1);
        let error = format!("error: Redis refuses: {why}");
        assert!(
            [&error, "docs/runbooks/ServerRefuses.md"].iter().all(|&part| refused.stderr.contains(part)),
            "{refused:?}"
        );
        for words in end {
            work.redis(words).await;
        }
        is_calm_again(&api, &format!("AFTER-{n}")).await;
    }
    let told = api.running.stop().await.exits(0).stderr;
    for (why, ..) in faults {
        // Who has a connection works on while Redis is full: nobody but requests notices.
        assert!(times(&told, &format!("Redis refuses: {why}")) <= 1, "{told}");
        assert_eq!(times(&told, &format!("Redis refuses writes, so requests fail: {why}")), 1, "{told}");
    }
    assert_eq!(times(&told, "Redis failed"), 0, "{told}");
    assert!(times(&told, "Redis is back") <= 4, "{told}");
    assert_eq!(times(&told, "not ready"), 4, "{told}");
    assert!(told.contains("Redis refuses: its last snapshot failed"), "{told}");
    work.program.audit().await;
}

#[tokio::test]
async fn a_server_that_denies_us_something_is_told_as_what_it_is_and_is_no_defect_of_ours() {
    let work = Work::of(0).await;
    let api = Api::serve(&work.program, &[]).await;
    eventually("it is ready", async || is_ready(&api).await).await;
    // A connection that was cut just now is away, and no more than that.
    let denied = async || {
        let answer = api.post("/v1/orders", &an_order("DENIED")).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        answer.text.contains("redis_refuses") && answer.text.contains("it denies us")
    };
    work.redis(&["ACL", "SETUSER", "default", "-xadd"]).await;
    eventually("it says so", denied).await;
    work.redis(&["ACL", "SETUSER", "default", "+xadd"]).await;
    assert_eq!(api.post("/v1/orders", &an_order("ALLOWED")).await.status, 202);

    let mut redis = work.program.stack.connection().await;
    for words in
        [&["CONFIG", "SET", "requirepass", "secret"][..], &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]]
    {
        redis::cmd(words[0]).arg(&words[1..]).exec_async(&mut redis).await.expect("Redis");
    }
    eventually("it says so", denied).await;
    eventually("readiness says it", async || api.get("/readyz").await.text.contains("it denies us")).await;
    redis::cmd("CONFIG").arg(&["SET", "requirepass", ""]).exec_async(&mut redis).await.expect("Redis");
    eventually("it is ready again", async || is_ready(&api).await).await;

    work.program.stack.sql("CREATE ROLE clerk LOGIN").await;
    let args = ["orders"];
    let mut command = work.program.command(&args);
    command.env("DATABASE_URL", work.program.stack.database_url.replace("//orderstream@", "//clerk@"));
    let denied = Running::spawn(&mut command, &args).end().await.exits(1).stderr;
    assert!(denied.contains("permission denied for table") && !denied.contains("at line"), "{denied}");
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn a_command_that_redis_denies_is_told_by_whoever_needs_it() {
    const WHY: &str = "it denies us a command or a key";
    let work = Work::of(0).await;
    let api = Api::start(&work.program, "run", &[], &[]).await;
    eventually("it is ready", async || is_ready(&api).await).await;
    eventually("somebody evaluates alerts", async || alert(&api, "server_refuses").await["state"] == "calm").await;
    for (n, denied) in [&["-xadd"][..], &["-xack"], &["-xreadgroup"], &["-eval", "-evalsha"]].into_iter().enumerate() {
        work.redis(&[&["ACL", "SETUSER", "default"], denied].concat()).await;
        let posted = api.post("/v1/orders", &an_order(&format!("DENIED-{n}"))).await;
        assert_eq!(posted.status == 503, denied == ["-xadd"], "{}", posted.text);
        eventually(&format!("readiness says {denied:?}"), async || api.get("/readyz").await.text.contains(WHY)).await;
        let says = async || alert(&api, "server_refuses").await;
        eventually(&format!("the alert says {denied:?}"), async || says().await["state"] == "firing").await;
        assert!(says().await["message"].as_str().is_some_and(|message| message.contains(WHY)), "{}", says().await);
        assert_ne!(alert(&api, "server_away").await["state"], "firing");
        let overview = api.get("/v1/overview").await.ok(200);
        let sentence = overview["sentence"].as_str().expect("a sentence");
        assert!(sentence.starts_with("Redis refuses: ") && sentence.contains(WHY), "{sentence}");
        work.redis(&["ACL", "SETUSER", "default", "+@all"]).await;
        is_calm_again(&api, &format!("ALLOWED-{n}")).await;
    }
    eventually("no order is lost", async || {
        work.program.stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await == 7
    })
    .await;
    api.running.stop().await.exits(0);
    work.program.audit().await;
}

#[tokio::test]
async fn workers_that_start_while_redis_is_full_drain_it() {
    let work = Work::of(200).await;
    work.program.drain().await;
    let mut work = work;
    work.publish("MORE", 200).await;
    work.redis(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let workers = work.workers();
    work.drained().await;
    work.redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
    work.ends(workers).await;
}

#[tokio::test]
async fn a_postgres_that_refuses_is_told_as_what_it_is() {
    let work = Work::of(0).await;
    let api = Api::start(&work.program, "run", &["--batch", "20"], &[]).await;
    eventually("it is ready", async || is_ready(&api).await).await;
    eventually("somebody evaluates alerts", async || alert(&api, "server_refuses").await["state"] == "calm").await;
    let database: String = work.program.stack.value("SELECT current_database()::text").await;
    let ours = "application_name = 'orderstream' AND pid <> pg_backend_pid() AND datname = current_database()";
    let end_sessions = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}");

    work.program.stack.sql(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
    by_itself(&work, std::slice::from_ref(&end_sessions)).await;
    is_told(&api, "Postgres", "postgres_refuses", "it is read-only").await;
    let keyed = api.post_with("/v1/orders", &an_order("KEYED"), &[("idempotency-key", "one")]).await;
    let refused = keyed.problem(503, "postgres_refuses");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("it is read-only")), "{refused}");
    let writable = "SET default_transaction_read_only = off".to_owned();
    let reset = format!("ALTER DATABASE {database} RESET default_transaction_read_only");
    by_itself(&work, &[writable, reset, end_sessions]).await;
    is_calm_again(&api, "AFTER").await;

    // Whoever works says that a disk is full: a trigger says so in its place.
    let full = "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER no_room BEFORE INSERT ON orders FOR EACH STATEMENT EXECUTE FUNCTION no_room()";
    by_itself(&work, &[full.to_owned()]).await;
    api.post("/v1/orders", &an_order("FULL")).await.ok(202);
    is_told(&api, "Postgres", "postgres_refuses", "its disk is full").await;
    by_itself(&work, &["DROP TRIGGER no_room ON orders".to_owned()]).await;
    is_calm_again(&api, "ROOM").await;

    // Nobody may connect: told from outside, as nobody can say so from within.
    let outside = work.program.stack.database_url.replace(&database, "postgres");
    let mut server = PgConnection::connect(&outside).await.expect("Postgres");
    let mut allow = async |connections: bool| {
        let sql = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS {connections}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut server).await.expect("done");
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        sqlx::raw_sql(AssertSqlSafe(end)).execute(&mut server).await.expect("done");
    };
    allow(false).await;
    eventually("readiness says so", async || {
        api.get("/readyz").await.text.contains("its database takes no connections")
    })
    .await;
    allow(true).await;
    is_calm_again(&api, "OPEN").await;

    let told = api.running.stop().await.exits(0).stderr;
    assert_eq!(times(&told, "Postgres refuses: its disk is full"), 1, "{told}");
}
