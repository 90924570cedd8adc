//! The commands, as scripts and operators use them: exit codes, crashes, paging, the local stack.

use std::{collections::BTreeSet, net::TcpListener, process::Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::program::{
    Local, Orderstream, Program, Running,
    harness::eventually,
    model::{self, ModelOrder},
};

const CUSTOMERS: i64 = 50;
const STOCKS: [i64; 40] = [1_000_000; 40];

async fn generate(program: &Program, rows: &str) -> Vec<ModelOrder> {
    let options = ["--customers", "50", "--products", "40", "--rows", rows];
    model::orders(&program.generate("orders.csv", &options).await)
}

/// A few hundred orders that came to every end but `unknown_product`.
async fn settled() -> (Program, Vec<ModelOrder>) {
    let program = Program::seeded(CUSTOMERS - 1, &[30; 40]).await;
    let orders = generate(&program, "1500").await;
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    program.drain().await;
    (program, orders)
}

#[tokio::test]
async fn workers_that_are_killed_again_and_again_lose_nothing_and_double_nothing() {
    const KILLS: u64 = 10;
    let program = Program::seeded(CUSTOMERS, &STOCKS).await;
    let orders = generate(&program, "100000").await;
    let import = program.start(&["import", "orders.csv", "--no-wait"]);
    let mut dice = ChaCha8Rng::seed_from_u64(20_261_122);
    for kill in 0..KILLS {
        let run = program.start(&["run", "--claim-idle", "1", "--batch", "300", "--workers", "2"]);
        // Each time at another step of the way, after a number of orders that nobody chose.
        let progress = match kill % 3 {
            0 => "SELECT count(*) FROM orders",
            1 => "SELECT count(*) FROM payments",
            _ => "SELECT last_seq FROM event_counter",
        };
        let before: i64 = program.stack.value(progress).await;
        let further = before + 1 + i64::try_from(dice.next_u64() % 1_500).expect("a small number");
        eventually("the workers get on", async || program.stack.value::<i64>(progress).await >= further).await;
        run.crash().await;
    }
    import.end().await.exits(0);
    program.drain().await;

    let ends = model::ends(&orders, CUSTOMERS, &STOCKS);
    assert_eq!(program.ends().await, ends);
    assert_eq!(program.board().await, model::board(&orders, &ends));
    assert_eq!(program.dead_letters().await, 0);
    program.audit().await;
}

#[tokio::test]
async fn an_empty_system_is_drained() {
    let program = Program::get().await;
    program.run(&["run", "--until-drained", "--claim-idle", "86400"]).await.exits(0);
    program.audit().await;
}

#[tokio::test]
async fn workers_end_when_they_are_asked_to_and_leave_their_groups() {
    let program = Program::get().await;
    let stage = pipeline::topology::StageName::Settlement;
    let mut redis = program.stack.connection().await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let run = program.start(&["run"]);
        eventually("settlement has a consumer", async || {
            let group = program.stack.redis.group_state(&mut redis, 0, stage).await.expect("Redis");
            group.is_some_and(|group| !group.consumers.is_empty())
        })
        .await;
        run.signal(signal);
        run.end().await.exits(0);
        let group = program.stack.redis.group_state(&mut redis, 0, stage).await.expect("Redis");
        assert!(group.expect("the group stays").consumers.is_empty());
    }
}

#[tokio::test]
async fn a_redis_that_may_lose_orders_is_refused_unless_that_is_meant() {
    let program = Program::alone(1, &[1]).await;
    let mut redis = program.stack.connection().await;
    let set = async |redis: &mut redis::aio::MultiplexedConnection, name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec_async(redis).await.expect("Redis");
    };
    program.write("orders.csv", "order_code,customer_id,product_id,quantity,unit_price\nX,1,1,1,1.00\n");
    for (name, unsafe_value, safe_value) in
        [("maxmemory-policy", "allkeys-lru", "noeviction"), ("appendonly", "no", "yes")]
    {
        set(&mut redis, name, unsafe_value).await;
        for command in [&["run"][..], &["import", "orders.csv"]] {
            let refused = program.run(command).await.exits(2);
            assert!(refused.stderr.contains(&format!("CONFIG SET {name} {safe_value}")), "{}", refused.stderr);
        }
        program.run(&["run", "--until-drained", "--allow-volatile-redis"]).await.exits(0);
        set(&mut redis, name, safe_value).await;
    }
    program.run(&["run", "--until-drained"]).await.exits(0);
}

#[tokio::test]
async fn half_a_choice_of_servers_is_wrong_usage() {
    let local = Local::new();
    for (given, missing) in [("DATABASE_URL", "REDIS_URL"), ("REDIS_URL", "DATABASE_URL")] {
        for command in [&["run"][..], &["status"], &["dev", "--", "true"]] {
            let refused = Running::spawn(local.command(command).env(given, "redis://localhost"), command);
            let refused = refused.end().await.exits(2);
            assert!(refused.stderr.contains(&format!("{missing} is not")), "{}", refused.stderr);
        }
    }
    let both = ["DATABASE_URL", "DATABASE_URL_FILE"].map(|name| (name, "x"));
    let refused = Running::spawn(local.command(&["status"]).envs(both), &["status"]).end().await.exits(2);
    assert!(refused.stderr.contains("set one"), "{}", refused.stderr);
    for url in [("DATABASE_URL", "nonsense"), ("REDIS_URL", "nonsense")] {
        let good = [("DATABASE_URL", "postgres:///x?host=/nowhere"), ("REDIS_URL", "unix:///nowhere")];
        let refused = Running::spawn(local.command(&["status"]).envs(good).envs([url]), &["status"]).end().await;
        let refused = refused.exits(2);
        assert!(refused.stderr.contains(url.0), "{}", refused.stderr);
    }
    assert!(!local.state().exists(), "no server was started");
}

#[tokio::test]
async fn an_empty_variable_is_one_that_is_not_set() {
    let program = Program::seeded(1, &[10]).await;
    // Those of the README: a test of the documents sees to it that these are all.
    let table = include_str!("../../README.md").split("## Configuration").nth(1).expect("the section");
    let table = table.split("\n## ").next().expect("its end");
    let quoted = table.split('`').skip(1).step_by(2);
    let is_variable = |text: &&str| {
        ["ORDERSTREAM_", "OTEL_", "RUST_LOG", "NO_COLOR", "DATABASE_URL_", "REDIS_URL_"]
            .iter()
            .any(|start| text.starts_with(start))
    };
    let mut names: BTreeSet<&str> = quoted.filter(is_variable).filter(|text| !text.contains('…')).collect();
    names.extend(["TMPDIR", "DATABASE_URL_FILE", "REDIS_URL_FILE"]);
    assert!(names.len() > 50, "{names:?}");
    let empty = async |args: &[&str]| {
        let mut command = program.command(args);
        command.envs(names.iter().map(|name| (*name, "")).filter(|(name, _)| *name != "ORDERSTREAM_NAMESPACE"));
        Running::spawn(&mut command, args).end().await
    };
    program.write("orders.csv", "order_code,customer_id,product_id,quantity,unit_price\nX,1,1,1,1.00\n");
    empty(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    let run = empty(&["run", "--until-drained"]).await.exits(0);
    assert!(run.stderr.contains("INFO"), "an empty RUST_LOG silences nothing: {}", run.stderr);
    assert!(!run.stderr.contains("serving HTTP"), "{}", run.stderr);
    empty(&["audit"]).await.exits(0);
}

#[tokio::test]
async fn a_file_of_a_variable_that_cannot_be_used_is_a_wrong_configuration() {
    let program = Program::get().await;
    for (name, content) in [("empty", &b" \n"[..]), ("binary", b"\xff\xfe")] {
        program.write(name, content);
    }
    let webhook = ["--notify", "webhook", "--notify-webhook", "https://example.com/hook"];
    let alert = ["--alert", "webhook", "--alert-webhook", "https://example.com/hook"];
    for (name, args) in [
        ("DATABASE_URL_FILE", &["status"][..]),
        ("REDIS_URL_FILE", &["status"]),
        ("ORDERSTREAM_GATEWAY_KEY_FILE", &["gateway", "--ledger", "ledger.ndjson"]),
        ("ORDERSTREAM_WEBHOOK_SECRET_FILE", &["serve", "--http", "127.0.0.1:0"]),
        ("ORDERSTREAM_SMTP_URL_FILE", &["run", "--notify", "mail", "--mail-from", "shop@example.com"]),
        ("ORDERSTREAM_NOTIFY_SECRET_FILE", &[&["run"][..], &webhook].concat()),
        ("ORDERSTREAM_ALERT_SECRET_FILE", &[&["run"][..], &alert].concat()),
    ] {
        for file in ["missing", ".", "empty", "binary"] {
            let mut command = program.command(args);
            command.env(name.trim_end_matches("_FILE"), "").env(name, file);
            let done = Running::spawn(&mut command, args).end().await.exits(2);
            assert!(done.stderr.contains(name) && done.stderr.contains(file), "{name} {file}: {}", done.stderr);
        }
    }
}

#[tokio::test]
async fn an_address_to_listen_at_may_be_a_name_or_every_one_of_the_machine() {
    let program = Program::get().await;
    let gateway = ["gateway", "--ledger", "ledger.ndjson", "--listen"];
    let serve = ["serve", "--http"];
    // Others may reach the whole machine: then tokens, or a key, are needed.
    for (args, told) in [(&gateway[..], "ORDERSTREAM_GATEWAY_KEY"), (&serve, "no token is configured")] {
        let refused = program.run(&[args, &[":0"]].concat()).await.exits(2);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
        for wrong in ["8080", "localhost", "::1:80", "no.such.host.invalid:80", "http://localhost:80"] {
            let refused = program.run(&[args, &[wrong]].concat()).await.exits(2);
            assert!(refused.stderr.contains(wrong) && refused.stderr.contains("localhost:8080"), "{}", refused.stderr);
        }
    }
    let served = async |args: &[&str], env: &[(&str, &str)], line: &str| {
        let mut running = program.command(args).envs(env.iter().copied()).spawn().expect("it starts");
        let mut lines = BufReader::new(running.stdout.take().expect("a pipe")).lines();
        let told = lines.next_line().await.expect("text").unwrap_or_default();
        assert!(told.starts_with(line), "{args:?}: {told}");
        running.kill().await.expect("a child of ours");
    };
    served(&[&gateway[..], &["localhost:0"]].concat(), &[], "http://127.0.0.1:").await;
    served(&[&gateway[..], &[":0"]].concat(), &[("ORDERSTREAM_GATEWAY_KEY", "k")], "http://0.0.0.0:").await;
    served(&[&serve[..], &["localhost:0"]].concat(), &[], "HTTP=http://127.0.0.1:").await;
    served(&["serve"], &[("ORDERSTREAM_HTTP", "localhost:0")], "HTTP=http://127.0.0.1:").await;
    program.run(&["token", "create", "--role", "viewer", "--name", "somebody"]).await.exits(0);
    served(&[&serve[..], &[":0"]].concat(), &[], "HTTP=http://0.0.0.0:").await;
}

#[tokio::test]
async fn servers_that_cannot_be_reached_have_an_exit_code_of_their_own() {
    let program = Program::get().await;
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let away = [
        ("REDIS_URL", "unix:///tmp/nowhere/redis.sock".to_owned()),
        ("REDIS_URL", format!("redis://127.0.0.1:{port}")),
        ("DATABASE_URL", "postgres://nobody@localhost/nothing?host=/tmp/nowhere".to_owned()),
        ("DATABASE_URL", format!("postgres://nobody@127.0.0.1:{port}/nothing")),
    ];
    let runs = away.iter().flat_map(|url| [&["status"][..], &["audit"]].map(|command| (url, command)));
    let runs: Vec<_> = runs
        .map(|((name, url), command)| {
            Running::spawn(program.command(command).env(name, url), &[&[url.as_str()], command].concat())
        })
        .collect();
    for run in runs {
        let ended = run.end().await.exits(7);
        assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn an_order_is_shown_by_its_code_and_a_missing_one_is_not_found() {
    let (program, orders) = settled().await;
    let missing = program.run(&["order", "NOPE"]).await.exits(5);
    assert!(missing.stderr.contains("NOPE"), "{}", missing.stderr);
    assert!(missing.stdout.is_empty());
    program.run(&["order", "NOPE", "--json"]).await.exits(5);
    program.run(&["order", ""]).await.exits(5);
    program.run(&["order", "'; DROP TABLE orders; --"]).await.exits(5);

    let ends = program.ends().await;
    for state in ["completed", "failed"] {
        let order = orders.iter().find(|order| ends[&order.code].0 == state).expect("one of each");
        let shown = program.run(&["order", &order.code, "--json"]).await.exits(0).json();
        assert_eq!(shown["code"], order.code.as_str());
        assert_eq!(shown["status"], state);
        assert_eq!(model::cents(shown["total"].as_str().expect("an amount")), order.total_cents());
        let lines = shown["lines"].as_array().expect("lines").iter();
        let field = |line: &Value, name: &str| line[name].as_i64().expect("a number");
        let lines = lines.map(|line| {
            let cents = model::cents(line["unit_price"].as_str().expect("an amount"));
            (field(line, "product_id"), field(line, "quantity"), cents)
        });
        assert_eq!(lines.collect::<Vec<_>>(), order.lines, "in the sequence of the file");
        let text = program.run(&["order", &order.code]).await.exits(0);
        assert!(text.stdout.contains(&order.code) && text.stdout.contains(state), "{}", text.stdout);
    }
}

#[tokio::test]
async fn pages_of_orders_cover_all_of_them_exactly_once() {
    let (program, orders) = settled().await;
    let mut after: Option<String> = None;
    let mut ids: Vec<i64> = Vec::new();
    loop {
        let mut args = vec!["orders", "--limit", "37", "--json"];
        args.extend(after.as_ref().map(|id| ["--after", id.as_str()]).into_iter().flatten());
        let page = program.run(&args).await.exits(0).json();
        ids.extend(page["orders"].as_array().expect("orders").iter().map(|order| order["id"].as_i64().expect("an id")));
        match page["next"].as_i64() {
            Some(next) => after = Some(next.to_string()),
            None => break,
        }
    }
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first, none twice");
    assert_eq!(ids.len(), orders.len());

    let ends = program.ends().await;
    for reason in ["out_of_stock", "unknown_customer", "payment_declined"] {
        let args = ["orders", "--state", "failed", "--reason", reason, "--limit", "10000", "--json"];
        let page = program.run(&args).await.exits(0).json();
        let listed: BTreeSet<&str> = page["orders"]
            .as_array()
            .expect("orders")
            .iter()
            .map(|order| order["code"].as_str().expect("a code"))
            .collect();
        let expected: BTreeSet<&str> = ends
            .iter()
            .filter(|(_, (_, found))| found.as_deref() == Some(reason))
            .map(|(code, _)| code.as_str())
            .collect();
        assert!(!expected.is_empty(), "{reason}");
        assert_eq!(listed, expected, "{reason}");
    }
    let none = program.run(&["orders", "--state", "completed", "--reason", "out_of_stock", "--json"]).await.exits(0);
    assert_eq!(none.json()["orders"], Value::Array(Vec::new()));
    let future = program.run(&["orders", "--since", "2999-01-01", "--json"]).await.exits(0).json();
    assert_eq!(future["orders"], Value::Array(Vec::new()));
    for wrong in
        [["--state", "paid"], ["--reason", "bad_luck"], ["--limit", "0"], ["--since", "yesterday"], ["--after", "x"]]
    {
        program.run(&[&["orders"], &wrong[..]].concat()).await.exits(2);
    }
}

#[tokio::test]
async fn what_is_asked_for_as_json_is_one_document_and_nothing_else() {
    let (program, orders) = settled().await;
    let code = orders[0].code.as_str();
    let table: [(&[&str], &str); 9] = [
        (&["kpi"], "/net_revenue"),
        (&["kpi", "--day", "2020-02-29"], "/completed"),
        (&["leaderboard", "customers"], "/0/net_revenue"),
        (&["leaderboard", "products", "--top", "3"], "/2/pieces"),
        (&["orders"], "/orders/0/code"),
        (&["order", code], "/timeline/0/what"),
        (&["status"], "/partitions/0/streams/0/groups/0/lag"),
        (&["audit"], "/checks/0/proves"),
        (&["run", "--until-drained"], "/settlement/messages"),
    ];
    for (command, pointer) in table {
        let done = program.run(&[command, &["--json"]].concat()).await.exits(0);
        assert!(done.json().pointer(pointer).is_some(), "{pointer} in {}", done.stdout);
        let text = program.run(command).await.exits(0);
        assert!(!text.stdout.contains('\u{1b}'), "no colours where nobody looks");
    }
    let workers = program.start(&["run"]);
    program.write("more.csv", "order_code,customer_id,product_id,quantity,unit_price\nX,1,1,1,1.00\n");
    let import = program.run(&["import", "more.csv", "more.csv", "--json"]).await.exits(0).json();
    assert_eq!(import["imports"].as_array().expect("imports").len(), 2);
    workers.stop().await.exits(0);
}

#[tokio::test]
async fn a_command_runs_inside_the_local_stack_and_its_exit_code_comes_through() {
    let local = Local::prepared();
    local.run(&["dev", "--", "true"]).await.exits(0);
    local.run(&["dev", "--no-workers", "--", "false"]).await.exits(1);
    local.run(&["dev", "--no-workers", "--", "sh", "-c", "exit 42"]).await.exits(42);
    assert!(
        local
            .run(&["dev", "--no-workers", "--", "orderstream-no-such-program"])
            .await
            .exits(1)
            .stderr
            .contains("orderstream-no-such-program")
    );
    let program = env!("CARGO_BIN_EXE_orderstream");
    let inside = local.run(&["dev", "--no-workers", "--", program, "status", "--json"]).await.exits(0);
    assert_eq!(inside.json()["relay"]["last_event"], 0);
    assert!(!local.servers_run());
}

#[tokio::test]
async fn the_local_stack_waits_for_the_disk_unless_told_otherwise() {
    let local = Local::prepared();
    let ask = "psql \"$DATABASE_URL\" -Atc 'SHOW fsync'; redis-cli -s \"${REDIS_URL#unix://}\" CONFIG GET append*sync";
    let args = ["dev", "--no-workers", "--", "sh", "-c", ask];
    let durable = Running::spawn(local.command(&args).env_remove("ORDERSTREAM_NO_SYNC"), &args).end().await.exits(0);
    assert_eq!(durable.stdout, "on\nappendfsync\neverysec\n");
    let quick = local.run(&[&["--no-sync"], &args[..]].concat()).await.exits(0);
    assert_eq!(quick.stdout, "off\nappendfsync\nno\n");
}

/// A stack that runs until its standard input ends, and shows by a file that it does.
async fn dev(local: &Local, mark: &str) -> (Running, tokio::process::ChildStdin) {
    let wait = format!("touch {mark}; cat");
    let args = ["dev", "--no-workers", "--", "sh", "-c", &wait];
    let mut running = Running::spawn(local.command(&args).stdin(Stdio::piped()), &args);
    let stdin = running.stdin();
    eventually("the stack is ready", async || local.path(mark).exists()).await;
    (running, stdin)
}

/// Whether a process runs. Where nobody waits for ended ones, they stay in the table as zombies.
fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[tokio::test]
async fn commands_share_a_stack_and_the_last_one_stops_it() {
    let local = Local::prepared();
    let (first, first_input) = dev(&local, "first").await;
    let postgres = local.server("postgres/postmaster.pid");
    let (second, second_input) = dev(&local, "second").await;
    local.run(&["seed"]).await.exits(0);
    drop(first_input);
    first.end().await.exits(0);
    assert_eq!(local.server("postgres/postmaster.pid"), postgres, "the second one goes on with the same servers");
    local.run(&["status"]).await.exits(0);
    drop(second_input);
    second.end().await.exits(0);
    assert!(!local.servers_run());
    assert!(!is_alive(postgres), "it has ended");
}

#[tokio::test]
async fn after_a_crash_the_next_command_takes_over_what_it_finds() {
    const PIDS: [&str; 2] = ["postgres/postmaster.pid", "redis/redis.pid"];
    let local = Local::prepared();
    local.run(&["seed", "--products", "7"]).await.exits(0);
    let products = async || {
        let sql = "psql \"$DATABASE_URL\" -Atc 'SELECT count(*) FROM products'";
        let counted = local.run(&["dev", "--no-workers", "--", "sh", "-c", sql]).await.exits(0);
        counted.stdout.trim().to_owned()
    };

    // Only the command dies: its servers go on, and the next command finds them.
    let (first, input) = dev(&local, "first").await;
    let servers = PIDS.map(|name| local.server(name));
    first.crash().await;
    drop(input);
    assert!(servers.into_iter().all(is_alive), "the servers outlive it");
    assert_eq!(products().await, "7");
    assert!(!local.servers_run(), "and the next command stops them");

    // All die at once, and leave their pid files.
    let (second, input) = dev(&local, "second").await;
    let servers = PIDS.map(|name| local.server(name));
    second.crash().await;
    for server in servers {
        kill(server, Signal::SIGKILL).expect("it runs");
        eventually("the server is dead", async || !is_alive(server)).await;
    }
    drop(input);
    assert!(PIDS.iter().all(|name| local.state().join(name).exists()), "stale pid files");
    assert_eq!(products().await, "7");

    // The number of a dead server may belong to anything by now.
    for name in PIDS {
        local.write(&format!("state/{name}"), format!("{}\n", std::process::id()));
    }
    assert_eq!(products().await, "7");
    assert!(!local.servers_run());
}

#[tokio::test]
async fn the_server_of_another_stack_is_not_taken_for_ones_own() {
    let (local, other) = (Local::prepared(), Local::prepared());
    local.run(&["seed"]).await.exits(0);
    let (running, input) = dev(&other, "other").await;
    for name in ["postgres/postmaster.pid", "redis/redis.pid"] {
        local.write(&format!("state/{name}"), format!("{}\n", other.server(name)));
    }
    local.run(&["status"]).await.exits(0);
    drop(input);
    running.end().await.exits(0);
}
