//! The log: lines that programs can read, and nothing in them that is nobody's business.

use std::collections::BTreeSet;

use orderstream::signature::{Secret, sign};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{DRAIN, add, body, start, traceparent};
use crate::program::{Local, Orderstream, Program, harness::eventually};

const OPERATIONS: &str = include_str!("../../../docs/OPERATIONS.md");

/// Everything that our own crates have to say, and what others say when they are asked.
const EVERYTHING: &str = "debug,orderstream=trace,pipeline=trace";

/// The names of fields that docs/OPERATIONS.md promises.
fn documented() -> BTreeSet<String> {
    let table =
        OPERATIONS.lines().skip_while(|line| *line != "### Fields of the log").take_while(|line| *line != "## Traces");
    let rows = table.filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| row.split('|').nth(1).expect("a cell").split(','))
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect()
}

fn lines(log: &str) -> Vec<Map<String, Value>> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    log.lines().map(parse).collect()
}

#[tokio::test]
async fn every_line_of_the_log_is_json_with_documented_names_where_that_is_asked_for() {
    let program = Program::seeded(1, &[100]).await;
    add(&program, &[("body", &body("ORD-1"))]).await;
    add(&program, &[("body", "no order")]).await;
    let json = [("ORDERSTREAM_LOG_FORMAT", "json"), ("RUST_LOG", "orderstream=trace,pipeline=trace")];
    let args = ["run", "--notify", "log", "--success-rate", "1", "--http", "127.0.0.1:0"];
    let run = start(&program, &json, &args);
    run.says("serving HTTP").await;
    run.says("\"notification\"").await;
    run.says("\"dead letters\"").await;
    let told = lines(&run.told());
    let serving = told.iter().find(|line| line["message"] == "serving HTTP").expect("that line");
    let url = format!("http://{}/v1/orders", serving["address"].as_str().expect("an address"));
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::new().post(url).header("x-request-id", "mine").body(body("ORD-2"));
    request.header("content-type", "application/json").send().await.expect("an answer");
    let pause = start(&program, &json, &["pause", "payment", "--why", "a test"]).end().await.exits(0);
    let done = run.stop().await.exits(0);
    // Errors of commands, too.
    let broken = [json[0], ("DATABASE_URL", "postgres:///?host=/nowhere"), ("REDIS_URL", "redis://127.0.0.1:1")];
    let failed = start(&program, &broken, &["status"]).end().await.exits(7);

    let documented = documented();
    for log in [&done.stderr, &failed.stderr, &pause.stderr] {
        for line in lines(log) {
            chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().expect("a text")).expect("a time");
            assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&line["level"].as_str().expect("a text")));
            assert!(line["message"].as_str().is_some_and(|message| !message.is_empty()), "{line:?}");
            let unknown: Vec<_> = line.keys().filter(|name| !documented.contains(*name)).collect();
            assert!(unknown.is_empty(), "{unknown:?} of {line:?} are not in docs/OPERATIONS.md");
        }
    }
    let log = lines(&done.stderr);
    let answered = log.iter().find(|line| line["message"] == "answered").expect("a line about the request");
    assert_eq!(answered["request_id"], "mine");
    assert_eq!(answered["status"], 202);
    let letters = log.iter().find(|line| line["message"] == "dead letters").expect("a line about dead letters");
    assert_eq!(
        (&letters["stage"], &letters["partition"], &letters["messages"]),
        (&"reservation".into(), &0.into(), &1.into())
    );
    let notification = log.iter().find(|line| line["message"] == "notification").expect("that line");
    assert_eq!((&notification["order"], &notification["kind"]), (&"ORD-1".into(), &"completed".into()));
    let error = &lines(&failed.stderr)[0];
    assert_eq!((&error["level"], &error["message"]), (&"ERROR".into(), &"the command failed".into()));
    assert!(error["hint"].is_string() && error["error"].is_string(), "{error:?}");
}

/// A mail server that refuses every recipient, and repeats the address as such servers do.
async fn refusing_mail_server() -> String {
    async fn converse(stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 mail.example.com\r\n").await?;
        while let Some(line) = lines.next_line().await? {
            let answer = match line.strip_prefix("RCPT TO:") {
                Some(address) => format!("550 {address} does not live here\r\n"),
                None if line.starts_with("EHLO") => "250 mail.example.com\r\n".to_owned(),
                None => "250 fine\r\n".to_owned(),
            };
            write.write_all(answer.as_bytes()).await?;
        }
        Ok(())
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("smtp://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream));
        }
    });
    url
}

#[tokio::test]
async fn no_log_has_secrets_payloads_or_addresses_in_it_whatever_its_level() {
    const WEBHOOK: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NOTIFY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let program = Program::seeded(1, &[100]).await;
    program.stack.sql("UPDATE customers SET email = 'hidden.person@example.com', name = 'Hidden Person'").await;
    let made = program.run(&["token", "create", "--role", "admin", "--name", "a test", "--json"]).await.exits(0).json();
    let token = made["token"].as_str().expect("a token").to_owned();
    let mail = refusing_mail_server().await;
    let env = [
        ("RUST_LOG", EVERYTHING),
        ("ORDERSTREAM_GATEWAY_KEY", "hidden-gateway-key"),
        ("ORDERSTREAM_WEBHOOK_SECRET", WEBHOOK),
        ("ORDERSTREAM_NOTIFY_SECRET", NOTIFY),
        ("ORDERSTREAM_SMTP_URL", &mail),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hidden-otlp-password@127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hidden-otlp-header"),
    ];

    let local = Local::prepared();
    let args = ["gateway", "--ledger", "ledger.ndjson", "--listen", "127.0.0.1:0"];
    let provider_log = local.path("gateway.log");
    let file = std::fs::File::create(&provider_log).expect("a file in the test's folder");
    let mut provider = local.command(&args).envs(env).stderr(file).spawn().expect("the program starts");
    let mut provider_says = BufReader::new(provider.stdout.take().expect("a pipe")).lines();
    let provider_url = provider_says.next_line().await.expect("text").expect("its address");
    let args = [
        "run",
        "--http",
        "127.0.0.1:0",
        "--gateway",
        &provider_url,
        "--claim-idle",
        "1",
        "--notify",
        "log,mail,webhook",
        "--mail-from",
        "Shop <shop@example.com>",
        "--notify-webhook",
        "http://127.0.0.1:1/hook?token=hidden-hook-token",
        "--notify-timeout",
        "1",
        "--notify-attempts-max",
        "1",
    ];
    let run = start(&program, &env, &args);
    let url = format!("http://{}", run.address().await);

    let secretive = body("ORD-1").replacen('{', r#"{"note":"hidden-payload","#, 1);
    add(&program, &[("body", &secretive), ("traceparent", &traceparent(1)), ("hidden-field", "hidden-value")]).await;
    add(&program, &[("body", "{hidden-payload")]).await;
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let post = |path: &str, body: &str| {
        client.post(format!("{url}{path}")).header("content-type", "application/json").body(body.to_owned())
    };
    for path in ["/v1/orders", "/v1/orders?key=hidden-query"] {
        for token in [&*token, "hidden-wrong-token"] {
            post(path, &secretive.replace("ORD-1", "ORD-2")).bearer_auth(token).send().await.expect("an answer");
        }
    }
    let refund = r#"{"refund_key":"r-1","order_code":"ORD-1","amount":"0.50","reason":"hidden-payload"}"#;
    post("/v1/refunds", refund).bearer_auth(&token).send().await.expect("an answer");
    let callback = r#"{"type":"charge.approved","data":{"id":"hidden-payload","reference":"ORD-9","amount":"1.00","currency":"EUR"}}"#;
    let at = chrono::Utc::now().timestamp();
    for signature in [
        sign(&Secret::parse(WEBHOOK).expect("a secret"), "msg_1", at, callback.as_bytes()),
        "v1,hidden-signature".to_owned(),
    ] {
        let request = post("/webhooks/payments", callback).header("webhook-id", "msg_1");
        let request = request.header("webhook-timestamp", at.to_string()).header("webhook-signature", &signature);
        request.send().await.expect("an answer");
    }
    run.says("dead letters").await;
    run.says("a notification is dead").await;
    eventually("the orders have their ends", async || {
        program.stack.value::<i64>("SELECT count(*) FROM orders WHERE status IN ('completed', 'failed')").await == 2
    })
    .await;
    let mut logs = vec![run.stop().await.exits(0).stderr];
    provider.kill().await.expect("a child of ours");
    logs.push(std::fs::read_to_string(&provider_log).expect("its log"));

    for (name, value) in [
        ("DATABASE_URL", "postgres://me:hidden-password@127.0.0.1:1/orders"),
        ("REDIS_URL", "redis://me:hidden-password@127.0.0.1:1"),
        ("DATABASE_URL", "postgres://me:hidden-password@:x/"),
        ("REDIS_URL", "http://me:hidden-password@x"),
    ] {
        for args in [&["status"][..], &["import", "no.csv"], &DRAIN] {
            // `run` waits for servers that are away.
            if args[0] == "run" && value.contains(":1") {
                continue;
            }
            logs.push(start(&program, &[env[0], (name, value)], args).end().await.stderr);
        }
    }
    let secrets =
        [&*token, WEBHOOK, NOTIFY, "AAECAwQFBgcICQoLDA0ODxAR", "MfKQ9r8GKYqrTwjUPD8", "hidden", "Hidden Person"];
    for log in &logs {
        for secret in secrets {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "has {secret:?}");
        }
    }
}
