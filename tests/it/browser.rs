//! The dashboard in a real browser: what people see and click, by tests/python/browser.py. A failure leaves a picture in
//! `target/screenshots`; with `PICTURES=1` all pages do.

use std::{path::PathBuf, process::Stdio};

use pipeline::topology::StageName;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::program::{
    Orderstream, Program,
    client::Api,
    harness::{Server, eventually, order},
    python,
};

/// Every page that there is without anything in it.
const PAGES: &str =
    "/ /streams /streams/payment /dead /orders /refunds /stock /kpis /imports /workers /alerts /actions /help";

/// What a page must not run.
const HOSTILE: &str = r#"<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"#;

/// Where pictures go.
fn screenshots() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    let folder = target.join("screenshots");
    std::fs::create_dir_all(&folder).expect("a folder for pictures");
    folder
}

/// A scenario on its way.
struct Browser {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    async fn start(api: &Api, scenario: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(python::python().await);
        command.arg(python::script("browser.py")).arg(scenario);
        command.env("URL", format!("http://{}", api.address)).env("SHOTS", screenshots()).envs(env.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().expect("Python starts");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, stdin, stdout: BufReader::new(stdout).lines() }
    }

    /// Waits until the scenario says that it is so far.
    async fn says(&mut self, word: &str) {
        let said = self.stdout.next_line().await.expect("text");
        assert_eq!(said.as_deref(), Some(word), "the scenario ended early: its complaint stands above");
    }

    /// Lets it go on.
    async fn go_on(&mut self) {
        self.stdin.write_all(b"\n").await.expect("the scenario waits");
    }

    async fn end(mut self) {
        let status = self.child.wait().await.expect("a child of ours");
        assert!(status.success(), "the scenario failed: its complaint stands above");
    }
}

async fn browse(api: &Api, scenario: &str, env: &[(&str, &str)]) {
    Browser::start(api, scenario, env).await.end().await;
}

/// Orders that completed and failed, refunds, dead letters and a pause: something on every page.
async fn busy() -> (Program, Api) {
    let program = Program::seeded(50, &[&[40; 5][..], &[1_000_000; 15]].concat()).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    program.generate("orders.csv", &["--rows", "2000", "--customers", "55", "--products", "20"]).await;
    program.run(&["import", "orders.csv"]).await.exits(0);
    let completed = program.run(&["orders", "--state", "completed", "--limit", "3", "--json"]).await.exits(0).json();
    for (number, order) in completed["orders"].as_array().or(completed.as_array()).expect("orders").iter().enumerate() {
        let code = order["code"].as_str().expect("a code");
        program
            .run(&["refund", code, "--key", &format!("r-{number}"), "--amount", "1.00", "--reason", "damaged"])
            .await;
    }
    for body in ["{", r#"{"order_code":"X","customer_id":1,"lines":[]}"#, "no JSON"] {
        add(&program, body).await;
    }
    eventually("letters are dead", async || program.dead_letters().await >= 3).await;
    (program, api)
}

async fn add(program: &Program, body: &str) {
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    redis::cmd("XADD").arg(stream).arg("*").arg("body").arg(body).exec_async(&mut redis).await.expect("an entry");
}

#[tokio::test]
async fn every_page_is_accessible_and_fits_when_there_is_something_on_it() {
    let (program, api) = busy().await;
    let orders = program.run(&["orders", "--state", "completed", "--limit", "1", "--json"]).await.exits(0).json();
    let code = orders["orders"][0]["code"].as_str().or(orders[0]["code"].as_str()).expect("a code").to_owned();
    let letters = program.run(&["dead", "list", "--json"]).await.exits(0).json();
    let letter = letters["letters"][0]["id"].as_str().expect("a letter").to_owned();
    let pages = format!("{PAGES} /orders/{code} /dead/{letter}");
    browse(&api, "pages", &[("PAGES", &pages), ("SCENE", "busy")]).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn every_page_is_accessible_and_fits_when_there_is_nothing_on_it() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    browse(&api, "pages", &[("PAGES", PAGES), ("SCENE", "empty")]).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn a_message_that_another_program_adds_is_seen_at_once_and_an_unknown_lag_is_unknown() {
    let program = Program::seeded(5, &[1_000]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    program.drain().await;
    program.run(&["pause", "reservation", "--why", "a test"]).await.exits(0);
    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    browse(&api, "live", &[("REDIS_URL", program.stack.redis_url()), ("STREAM", &stream)]).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn a_stage_is_paused_and_resumed_by_clicks() {
    let program = Program::seeded(5, &[1_000]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    browse(&api, "pause", &[]).await;
    assert_eq!(program.run(&["pause", "--json"]).await.exits(0).json()["paused"], serde_json::json!([]));
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn who_may_only_look_is_refused_by_the_server() {
    let (program, api) = busy().await;
    let token = program.run(&["token", "create", "--role", "viewer", "--name", "eyes", "--json"]).await.exits(0).json();
    let token = token["token"].as_str().expect("a token").to_owned();
    // That nobody had a token is believed for some seconds.
    eventually("a token is needed", async || api.get("/v1/overview").await.status == 401).await;
    browse(&api, "viewer", &[("PAGES", PAGES), ("TOKEN", &token)]).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn what_comes_from_anybody_does_nothing_to_a_page() {
    let program = Program::seeded(5, &[1_000]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    let code = serde_json::to_string(&HOSTILE).expect("a text");
    let order = |quantity| {
        format!(
            r#"{{"order_code":{code},"customer_id":1,"lines":[{{"product_id":1,"quantity":{quantity},"unit_price":"1.00"}}]}}"#
        )
    };
    add(&program, &order(1)).await;
    eventually("the order has ended", async || program.ends().await.contains_key(HOSTILE)).await;
    // The same code with other content, and what is no order at all.
    add(&program, &order(2)).await;
    add(&program, HOSTILE).await;
    eventually("letters are dead", async || program.dead_letters().await == 2).await;
    program.run(&["pause", "payment", "--why", HOSTILE]).await.exits(0);
    let letters = program.run(&["dead", "list", "--json"]).await.exits(0).json();
    let letters = letters["letters"].as_array().expect("letters").iter();
    let letters: String = letters.map(|letter| format!(" /dead/{}", letter["id"].as_str().expect("an id"))).collect();
    let path: String = HOSTILE.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let pages = format!("{PAGES}{letters} /orders/{path} /orders?q={path}");
    browse(&api, "hostile", &[("PAGES", &pages)]).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn old_numbers_are_never_shown_as_fresh() {
    let program = Program::alone(5, &[1_000]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    let mut browser = Browser::start(&api, "stale", &[("SCENE", "broken")]).await;
    browser.says("loaded").await;
    program.stack.end(Server::Redis, "KILL");
    browser.go_on().await;
    browser.says("seen").await;
    program.stack.start_again(Server::Redis).await;
    browser.go_on().await;
    browser.end().await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn somebody_new_puts_412_dead_letters_of_a_bad_deploy_right() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    // The deploy: a rule that refuses good orders.
    program.stack.sql("ALTER TABLE orders ADD CONSTRAINT bad_deploy CHECK (code NOT LIKE 'D-%')").await;
    for number in 0..412 {
        let order = format!(
            r#"{{"order_code":"D-{number}","customer_id":1,"lines":[{{"product_id":1,"quantity":1,"unit_price":"1.00"}}]}}"#
        );
        add(&program, &order).await;
    }
    eventually("all letters are dead", async || program.dead_letters().await == 412).await;
    program.stack.sql("ALTER TABLE orders DROP CONSTRAINT bad_deploy").await;
    browse(&api, "dead", &[("SCENE", "deploy")]).await;
    eventually("all orders have ended", async || program.ends().await.len() == 412).await;
    api.running.stop().await.exits(0);
    program.audit().await;
}

#[tokio::test]
async fn no_number_is_cut_or_broken_at_any_width() {
    // More than a trillion in all: twenty orders of a hundred thousand million, and some refunds.
    let program = Program::seeded(20, &[1_000_000; 3]).await;
    let code = |n| if n == 0 { format!("LONG-{}", "0123456789".repeat(5)) } else { format!("BIG-{n}") };
    let orders: Vec<_> = (0..20).map(|n| order(&code(n), 1 + n, &[(1, 1_000, 9_999_999_999)])).collect();
    program.stack.publish(&orders).await;
    let api = Api::start(&program, "run", &["--success-rate", "1"], &[]).await;
    eventually("all have ended", async || program.ends().await.len() == 20).await;
    for (code, amount) in [("BIG-1", "99999999989.99"), ("BIG-2", "12345678901.23")] {
        program.run(&["refund", code, "--key", &format!("r-{code}"), "--amount", amount]).await.exits(0);
    }
    eventually("the board shows it", async || {
        let today = api.get("/v1/overview").await.ok(200)["today"].clone();
        today["revenue_cents"] == 199_999_999_980_000_i64 && today["refunded_cents"] != 0
    })
    .await;
    program.run(&["pause", "payment", "--why", "a test"]).await.exits(0);
    add(&program, "no JSON").await;
    eventually("a letter is dead", async || program.dead_letters().await == 1).await;
    let pages = format!("{PAGES} /dead?view=letters /orders/BIG-1 /orders/BIG-2 /order/refund?code=BIG-2&amount=1");
    browse(&api, "numbers", &[("PAGES", &pages), ("SCENE", "big")]).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn a_refund_by_clicks_says_how_much_and_what_came_of_it_and_a_second_click_gives_nothing() {
    let program = Program::seeded(5, &[1_000]).await;
    program.stack.publish(&[order("ORD-1", 1, &[(1, 2, 1_000)])]).await;
    let api = Api::start(&program, "run", &["--success-rate", "1"], &[]).await;
    eventually("it has ended", async || program.ends().await.len() == 1).await;
    browse(&api, "refund", &[("SCENE", "refund")]).await;
    assert_eq!(program.stack.value::<i64>("SELECT refunded_cents FROM orders").await, 1_500);
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM refunds").await, 2);
    api.running.stop().await.exits(0);
    program.audit().await;
}
