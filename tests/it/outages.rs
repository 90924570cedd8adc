//! Servers that go away, come back, lose what they had or refuse, while `import` and `run` need them. The servers of each
//! test are its own.

use nix::sys::signal::Signal;
use redis::aio::MultiplexedConnection;
use serde_json::Value;

use crate::program::{
    Orderstream, Program, Running,
    harness::{Server, eventually},
    model::{self, ModelOrder},
};

const CUSTOMERS: i64 = 50;
const STOCKS: [i64; 40] = [1_000_000; 40];
const WAITING: &str = "SELECT EXISTS (SELECT FROM imports WHERE status = 'waiting')";

async fn alone() -> Program {
    Program::alone(CUSTOMERS, &STOCKS).await
}

async fn generate(program: &Program, rows: &str) -> Vec<ModelOrder> {
    let options = ["--customers", "50", "--products", "40", "--rows", rows];
    model::orders(&program.generate("orders.csv", &options).await)
}

fn number(summary: &Value, path: &str) -> u64 {
    summary.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {summary:#}"))
}

async fn command(redis: &mut MultiplexedConnection, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec_async(redis).await.expect("Redis");
}

async fn is_waiting(program: &Program) {
    eventually("everything is published", async || program.stack.value(WAITING).await).await;
}

/// Waits until so many more orders are known than at the last call.
async fn get_on(program: &Program, known: &mut i64, further: i64) {
    let target = *known + further;
    eventually("the workers get on", async || {
        *known = program.stack.value("SELECT count(*) FROM orders").await;
        *known >= target
    })
    .await;
}

/// Everything has come to the end that the model predicts, and the books balance.
async fn all_ended(program: &Program, orders: &[ModelOrder]) {
    let ends = model::ends(orders, CUSTOMERS, &STOCKS);
    assert_eq!(program.ends().await, ends);
    assert_eq!(program.board().await, model::board(orders, &ends));
    assert_eq!(program.dead_letters().await, 0);
    program.audit().await;
}

/// What Redis lost between two stages the reconciler makes up for.
async fn settled(program: &Program) {
    eventually("every order has reached its end", async || {
        program.stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NULL").await == 0
    })
    .await;
    program.stack.drained(&pipeline::topology::StageName::WAY).await;
}

#[tokio::test]
async fn an_import_brings_every_order_however_often_redis_is_emptied() {
    const TIMES: usize = 10;
    let program = alone().await;
    let orders = generate(&program, "50000").await;
    let import = program.start(&["import", "orders.csv", "--json"]);
    is_waiting(&program).await;
    let workers = program.start(&["run", "--batch", "50"]);
    let mut known = 0;
    for _ in 0..TIMES {
        get_on(&program, &mut known, 100).await;
        command(&mut program.stack.connection().await, &["FLUSHALL"]).await;
    }
    let summary = import.end().await.exits(0).import();
    assert_eq!(number(&summary, "/known/new_orders"), orders.len() as u64);
    assert_eq!(number(&summary, "/known/missing_orders"), 0);
    assert!(number(&summary, "/known/republished_orders") > 0);
    settled(&program).await;
    workers.stop().await.exits(0);
    all_ended(&program, &orders).await;
}

#[tokio::test]
async fn a_stream_or_a_group_that_somebody_deletes_is_made_up_for() {
    let program = alone().await;
    let orders = generate(&program, "50000").await;
    let stream = program.stack.redis.keys().stream(0, pipeline::topology::StageName::Reservation);
    let import = program.start(&["import", "orders.csv", "--json", "--max-backlog", "2000"]);
    let workers = program.start(&["run", "--batch", "50"]);
    let mut known = 0;
    let acts: [&[&str]; 6] = [
        &["XGROUP", "DESTROY", &stream, "reservation"],
        &["DEL", &stream],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["XTRIM", &stream, "MAXLEN", "0"],
        &["XGROUP", "DESTROY", &stream, "reservation"],
        &["CLIENT", "KILL", "TYPE", "normal"],
    ];
    for act in acts {
        get_on(&program, &mut known, 300).await;
        let mut redis = program.stack.connection().await;
        let done = redis::cmd(act[0]).arg(&act[1..]).exec_async(&mut redis).await;
        // It may be gone already: with the stream, or trimmed by the workers.
        if let Err(error) = done {
            assert!(error.to_string().contains("key to exist"), "{act:?}: {error}");
        }
    }
    let summary = import.end().await.exits(0).import();
    assert_eq!(number(&summary, "/known/new_orders"), orders.len() as u64);
    settled(&program).await;
    workers.stop().await.exits(0);
    let ends = model::ends(&orders, CUSTOMERS, &STOCKS);
    assert!(program.ends().await == ends, "some order ended otherwise than the model says");
    program.audit().await;
}

#[tokio::test]
async fn a_redis_that_is_killed_while_an_import_publishes_is_waited_for() {
    let program = alone().await;
    let orders = generate(&program, "50000").await;
    let import = program.start(&["import", "orders.csv", "--json", "--max-backlog", "2000"]);
    let workers = program.start(&["run", "--batch", "50"]);
    let mut known = 0;
    for _ in 0..3 {
        get_on(&program, &mut known, 500).await;
        program.stack.end(Server::Redis, "KILL");
        eventually("Redis is away", async || !program.stack.answers(Server::Redis).await).await;
        import.says("Redis is away, waiting").await;
        program.stack.start_again(Server::Redis).await;
    }
    let done = import.end().await.exits(0);
    assert!(done.stderr.contains("Redis is back after"), "{}", done.stderr);
    assert_eq!(number(&done.import(), "/known/new_orders"), orders.len() as u64);
    // The last second may be lost between two stages.
    program.run(&["import", "orders.csv"]).await.exits(0);
    program.drain().await;
    workers.stop().await.exits(0);
    all_ended(&program, &orders).await;
}

#[tokio::test]
async fn a_postgres_that_is_stopped_while_an_import_waits_is_waited_for() {
    let program = alone().await;
    let orders = generate(&program, "20000").await;
    let import = program.start(&["import", "orders.csv", "--json"]);
    is_waiting(&program).await;
    let workers = program.start(&["run", "--batch", "50"]);
    let mut known = 0;
    for signal in ["INT", "KILL"] {
        get_on(&program, &mut known, 300).await;
        program.stack.end(Server::Postgres, signal);
        import.says("Postgres is away, waiting").await;
        eventually("Postgres is away", async || !program.stack.answers(Server::Postgres).await).await;
        program.stack.start_again(Server::Postgres).await;
    }
    let done = import.end().await.exits(0);
    assert!(done.stderr.contains("Postgres is back after"), "{}", done.stderr);
    assert_eq!(number(&done.import(), "/known/new_orders"), orders.len() as u64);
    let status: String = program.stack.value("SELECT status FROM imports").await;
    assert_eq!(status, "done");
    program.drain().await;
    workers.stop().await.exits(0);
    all_ended(&program, &orders).await;
}

#[tokio::test]
async fn a_full_redis_is_waited_for() {
    let program = alone().await;
    let orders = generate(&program, "5000").await;
    let mut redis = program.stack.connection().await;
    command(&mut redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let import = program.start(&["import", "orders.csv", "--json"]);
    import.says("Redis is full (maxmemory), waiting").await;
    command(&mut redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    is_waiting(&program).await;
    program.drain().await;
    let summary = import.end().await.exits(0).import();
    assert_eq!(number(&summary, "/known/new_orders"), orders.len() as u64);
    all_ended(&program, &orders).await;
}

#[tokio::test]
async fn an_order_that_the_workers_refuse_ends_as_missing_and_the_others_are_known() {
    let program = alone().await;
    let orders = generate(&program, "5000").await;
    let refused = &orders[7].code;
    let rule = format!("ALTER TABLE orders ADD CONSTRAINT nobody_wants_it CHECK (code <> '{refused}')");
    program.stack.sql(&rule).await;
    let workers = program.start(&["run"]);
    let done = program.run(&["import", "orders.csv", "--json"]).await.exits(1);
    let summary = done.import();
    assert_eq!(number(&summary, "/known/missing_orders"), 1);
    assert_eq!(number(&summary, "/known/missing_rows"), orders[7].lines.len() as u64);
    assert_eq!(number(&summary, "/known/new_orders"), orders.len() as u64 - 1);
    assert_eq!(program.dead_letters().await, 1, "it was not tried again");

    // Its dead letter counts for that import alone: once the cause is put right, the next one brings it.
    program.stack.sql("ALTER TABLE orders DROP CONSTRAINT nobody_wants_it").await;
    let summary = program.run(&["import", "orders.csv", "--json"]).await.exits(0).import();
    assert_eq!(number(&summary, "/known/new_orders"), 1);
    program.drain().await;
    workers.stop().await.exits(0);
    program.audit().await;
}

#[tokio::test]
async fn an_order_is_refused_once_more_when_redis_has_lost_the_first_refusal() {
    let program = alone().await;
    let orders = generate(&program, "5000").await;
    let refused = &orders[7].code;
    let rule = format!("ALTER TABLE orders ADD CONSTRAINT nobody_wants_it CHECK (code <> '{refused}')");
    program.stack.sql(&rule).await;
    let import = program.start(&["import", "orders.csv", "--json"]);
    is_waiting(&program).await;
    // Refused while the import does not look.
    import.signal(Signal::SIGSTOP);
    program.drain().await;
    assert_eq!(program.dead_letters().await, 1);
    command(&mut program.stack.connection().await, &["FLUSHALL"]).await;
    import.signal(Signal::SIGCONT);
    let workers = program.start(&["run"]);
    let summary = import.end().await.exits(1).import();
    assert_eq!(number(&summary, "/known/missing_orders"), 1);
    assert_eq!(number(&summary, "/known/republished_orders"), 1);
    workers.stop().await.exits(0);
}

#[tokio::test]
async fn what_waiting_does_not_heal_ends_an_import_at_once() {
    let program = alone().await;
    generate(&program, "5000").await;
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, pipeline::topology::StageName::Reservation);
    command(&mut redis, &["SET", &stream, "not a stream"]).await;
    let failed = program.run(&["import", "orders.csv"]).await.exits(1);
    assert!(failed.stderr.contains("WRONGTYPE"), "{}", failed.stderr);
    command(&mut redis, &["DEL", &stream]).await;

    let import = program.start(&["import", "orders.csv"]);
    is_waiting(&program).await;
    command(&mut redis, &["CONFIG", "SET", "requirepass", "secret"]).await;
    command(&mut redis, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let failed = import.end().await.exits(1);
    assert!(failed.stderr.contains("NOAUTH"), "{}", failed.stderr);
    command(&mut redis, &["CONFIG", "SET", "requirepass", ""]).await;

    let import = program.start(&["import", "orders.csv"]);
    eventually("everything is published", async || {
        program.stack.value::<i64>("SELECT count(*) FROM imports WHERE status = 'waiting'").await == 1
    })
    .await;
    program.stack.sql("ALTER TABLE orders RENAME TO elsewhere").await;
    let failed = import.end().await.exits(1);
    assert!(failed.stderr.contains("orderstream migrate"), "{}", failed.stderr);
    program.run(&["import", "orders.csv", "--max-backlog", "0"]).await.exits(2);
}

#[tokio::test]
async fn an_import_that_waits_for_a_server_can_be_interrupted() {
    let program = alone().await;
    generate(&program, "5000").await;
    for server in [Server::Redis, Server::Postgres] {
        let before: i64 = program.stack.value("SELECT count(*) FROM imports WHERE status = 'waiting'").await;
        let import = program.start(&["import", "orders.csv"]);
        eventually("everything is published", async || {
            program.stack.value::<i64>("SELECT count(*) FROM imports WHERE status = 'waiting'").await > before
        })
        .await;
        program.stack.end(server, "INT");
        import.says(&format!("{server:?} is away, waiting")).await;
        import.signal(Signal::SIGINT);
        let import = import.end().await.exits(130);
        assert!(import.stderr.contains("again to go on"), "{}", import.stderr);
        program.stack.start_again(server).await;
    }
}

#[tokio::test]
async fn workers_that_start_before_their_servers_wait_for_them() {
    let program = alone().await;
    let orders = generate(&program, "5000").await;
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    for server in [Server::Redis, Server::Postgres] {
        program.stack.end(server, "INT");
        eventually("it is away", async || !program.stack.answers(server).await).await;
    }
    let workers = [program.start(&["run"]), program.start(&["run", "--until-drained"])];
    for run in &workers {
        run.says("Redis is away, waiting").await;
        run.says("Postgres is away, waiting").await;
    }
    let interrupted = program.start(&["run"]);
    interrupted.says("Redis is away, waiting").await;
    interrupted.stop().await.exits(0);
    for server in [Server::Postgres, Server::Redis] {
        program.stack.start_again(server).await;
    }
    let [run, drain] = workers;
    drain.end().await.exits(0);
    run.stop().await.exits(0);
    all_ended(&program, &orders).await;
}

#[tokio::test]
async fn workers_do_not_wait_for_what_is_wrong_for_good() {
    let program = alone().await;
    program.stack.end(Server::Redis, "INT");
    eventually("Redis is away", async || !program.stack.answers(Server::Redis).await).await;
    // The other server has an answer, and it is no.
    program.stack.sql("ALTER TABLE settings RENAME TO elsewhere").await;
    let failed = program.run(&["run"]).await.exits(1);
    assert!(failed.stderr.contains("orderstream migrate"), "{}", failed.stderr);
    program.stack.sql("ALTER TABLE elsewhere RENAME TO settings").await;

    // What it is to refuse is refused once it can be seen.
    let args = ["run"];
    let run = Running::spawn(&mut program.command(&args), &args);
    run.says("Redis is away, waiting").await;
    program.stack.start_again(Server::Redis).await;
    run.stop().await.exits(0);
    let mut redis = program.stack.connection().await;
    command(&mut redis, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    program.stack.end(Server::Postgres, "INT");
    program.run(&["run"]).await.exits(2);
    program.stack.start_again(Server::Postgres).await;
}
