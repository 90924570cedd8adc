//! What is said of a server that gives no connection: which one, where, why, and what names it. Never its password.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::program::{
    Done, Orderstream, Program, Running,
    harness::{Server, eventually},
};

/// Runs a command with other servers.
async fn with(program: &Program, servers: &[(&str, &str)], args: &[&str]) -> Done {
    Running::spawn(program.command(args).envs(servers.iter().copied()), args).end().await
}

fn says(done: &Done, texts: &[&str]) {
    for text in texts {
        assert!(done.stderr.contains(text), "{text:?} is not in {}", done.stderr);
    }
    assert!(!done.stderr.contains("secret"), "{}", done.stderr);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_with_its_address_the_cause_and_its_variable() {
    let program = Program::get().await;
    let name: String = program.stack.value("SELECT current_database()::text").await;
    let nobody = "postgres://orderstream:secret@127.0.0.1:1/shop";
    let postgres = ["Postgres at 127.0.0.1:1 cannot be reached", "Connection refused", "DATABASE_URL"];
    says(&with(&program, &[("DATABASE_URL", nobody)], &["orders"]).await.exits(7), &postgres);
    says(&with(&program, &[("DATABASE_URL", nobody)], &["migrate"]).await.exits(7), &postgres);
    let socket = format!("postgres://orderstream:secret@localhost/{name}?host=/nowhere");
    let done = with(&program, &[("DATABASE_URL", &socket)], &["orders"]).await.exits(7);
    says(&done, &["Postgres at /nowhere/.s.PGSQL.5432 cannot be reached", "No such file"]);

    let done = with(&program, &[("REDIS_URL", "redis://:secret@127.0.0.1:1")], &["kpi"]).await.exits(7);
    says(&done, &["Redis at 127.0.0.1:1 cannot be reached", "Connection refused", "REDIS_URL"]);
    let done = with(&program, &[("REDIS_URL", "unix:///nowhere/redis.sock?pass=secret")], &["kpi"]).await.exits(7);
    says(&done, &["Redis at /nowhere/redis.sock cannot be reached", "No such file"]);

    // What waits says it, too.
    let waits = Running::spawn(program.command(&["run"]).env("REDIS_URL", "redis://:secret@127.0.0.1:1"), &["run"]);
    waits.says("Redis at 127.0.0.1:1 failed: Connection refused").await;
    says(&waits.stop().await.exits(0), &[]);
}

#[tokio::test]
async fn an_address_that_is_none_and_a_server_that_lets_nobody_in_are_told_apart() {
    let program = Program::alone(1, &[1]).await;
    for (name, value, like) in [
        ("REDIS_URL", "secret:6379", "redis://:PASSWORD@HOST:6379"),
        ("REDIS_URL", "http://secret:6379", "redis://:PASSWORD@HOST:6379"),
        ("DATABASE_URL", "secret/shop", "postgres://USER:PASSWORD@HOST:5432/DATABASE"),
        ("DATABASE_URL", "mysql://root:secret@127.0.0.1/shop", "begins with neither postgres:// nor postgresql://"),
    ] {
        let done = with(&program, &[(name, value)], &["status"]).await.exits(2);
        says(&done, &[&format!("{name} is not the URL of a"), like]);
        assert!(!done.stderr.contains("InvalidClientConfig"), "{}", done.stderr);
    }
    let url = program.stack.database_url.replace("/orderstream_t_", "/orderstream_no_");
    let done = with(&program, &[("DATABASE_URL", &url)], &["orders"]).await.exits(1);
    says(&done, &["Postgres at /", "does not let us in", "does not exist", "DATABASE_URL"]);
}

#[tokio::test]
async fn a_server_of_another_kind_is_told_as_one() {
    let program = Program::alone(1, &[1]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            // Who hangs up without reading on resets the connection before the answer is read.
            caller.read_u8().await.ok();
            caller.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.ok();
            tokio::spawn(async move { caller.read_to_end(&mut Vec::new()).await });
        }
    });
    let url = format!("postgres://orderstream:secret@{address}/shop");
    let done = with(&program, &[("DATABASE_URL", &url)], &["orders"]).await.exits(1);
    says(&done, &[&format!("Postgres at {address} does not answer as a Postgres does"), "DATABASE_URL"]);
    let url = format!("redis://:secret@{address}");
    let done = with(&program, &[("REDIS_URL", &url)], &["kpi"]).await.exits(1);
    says(&done, &[&format!("Redis at {address} does not answer as a Redis does"), "REDIS_URL"]);
}

#[tokio::test]
async fn a_log_names_the_server_that_is_away() {
    let program = Program::alone(1, &[1]).await;
    let workers = program.start(&["run", "--log-format", "json"]);
    workers.says("\"running\"").await;
    program.stack.end(Server::Redis, "INT");
    workers.says("Redis failed; trying again until it is back").await;
    let socket = program.stack.redis_url().trim_start_matches("unix://").to_owned();
    let line = workers.told().lines().find(|line| line.contains("Redis failed")).expect("a line").to_owned();
    assert!(line.contains(&socket), "{line}");
    program.stack.start_again(Server::Redis).await;
    eventually("Redis is back", async || workers.told().contains("Redis is back")).await;
    workers.stop().await.exits(0);
}

#[tokio::test]
async fn a_database_of_another_encoding_is_wrong_configuration() {
    let program = Program::get().await;
    let database: String = program.stack.value("SELECT current_database()::text").await;
    let name = format!("{database}_l1");
    program.stack.sql(&format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")).await;
    let url = program.stack.database_url.replace(&database, &name);
    let done = with(&program, &[("DATABASE_URL", &url)], &["migrate"]).await.exits(2);
    says(&done, &[&name, "LATIN1", "CREATE DATABASE name ENCODING 'UTF8'"]);
    program.stack.sql(&format!("DROP DATABASE {name}")).await;
}
