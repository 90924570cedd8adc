//! What the program tells of itself: spans, to a real collector, and lines of its log.

mod collector;
mod log;

use std::{collections::BTreeSet, time::Instant};

use axum::http::StatusCode;
use collector::{Collected, Collector};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use pipeline::topology::StageName;

use crate::program::{Done, Orderstream, Program, Running, harness::eventually};

/// Spans come within a moment, not within five seconds.
const QUICK: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

fn trace_id(number: u8) -> String {
    format!("4bf92f3577b34da6a3ce929d0e0e47{number:02x}")
}

fn traceparent(number: u8) -> String {
    format!("00-{}-00f067aa0ba902b7-01", trace_id(number))
}

fn body(code: &str) -> String {
    format!(
        r#"{{"order_code":"{code}","customer_id":1,"lines":[{{"product_id":1,"quantity":1,"unit_price":"1.00"}}]}}"#
    )
}

async fn add(program: &Program, fields: &[(&str, &str)]) {
    let mut command = redis::cmd("XADD");
    command.arg(program.stack.redis.keys().stream(0, StageName::Reservation)).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    command.exec_async(&mut program.stack.connection().await).await.expect("Redis");
}

/// Every value of a field in a stream of this test.
async fn told(program: &Program, stream: &str, field: &str) -> Vec<Option<String>> {
    let key = format!("{}:{stream}", program.stack.namespace);
    let mut redis = program.stack.connection().await;
    let entries: redis::streams::StreamRangeReply =
        redis::cmd("XRANGE").arg(key).arg("-").arg("+").query_async(&mut redis).await.expect("a stream");
    entries.ids.iter().map(|entry| entry.get(field)).collect()
}

fn start(program: &Program, env: &[(&str, &str)], args: &[&str]) -> Running {
    Running::spawn(program.command(args).envs(env.iter().copied()).envs([QUICK]), args)
}

async fn traced(program: &Program, collector: &Collector, args: &[&str]) -> Done {
    start(program, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)], args).end().await.exits(0)
}

const DRAIN: [&str; 4] = ["run", "--until-drained", "--claim-idle", "1"];

/// What the conventions for messaging say of every span.
fn assert_messaging(span: &Collected, operation: &str, stream: &str, kind: SpanKind, messages: usize) {
    let expected = [
        ("messaging.system", "redis"),
        ("messaging.operation.name", operation),
        ("messaging.operation.type", operation),
        ("messaging.destination.name", stream),
        ("messaging.destination.partition.id", "0"),
        ("messaging.batch.message_count", &messages.to_string()),
    ];
    for (key, value) in expected {
        assert_eq!(span.attribute(key).as_deref(), Some(value), "{key} of {span:#?}");
    }
    assert_eq!(span.kind(), kind, "{span:#?}");
    assert_eq!(span.span.name, format!("{operation} {stream}"));
}

#[tokio::test]
async fn every_batch_of_every_stage_is_a_span_linked_to_the_traces_of_its_messages() {
    let program = Program::seeded(1, &[100]).await;
    let collector = Collector::start().await;
    for number in 1..=3 {
        let (code, trace) = (format!("ORD-{number}"), traceparent(number));
        add(&program, &[("body", &body(&code)), ("traceparent", &trace), ("tracestate", "shop=7")]).await;
    }
    add(&program, &[("body", &body("ORD-4"))]).await;
    add(&program, &[("body", &body("ORD-5")), ("traceparent", "no context")]).await;
    add(&program, &[("body", "no order"), ("traceparent", &traceparent(6))]).await;
    let log = traced(&program, &collector, &[&DRAIN[..], &["--log-format", "json"]].concat()).await.stderr;

    let incoming = collector.one("process incoming");
    assert_messaging(&incoming, "process", "incoming", SpanKind::Consumer, 6);
    assert_eq!(incoming.attribute("messaging.consumer.group.name").as_deref(), Some("reservation"));
    assert!(incoming.attribute("messaging.client.id").is_some());
    assert_eq!(incoming.parent(), "", "a trace of its own");
    assert_eq!(incoming.linked_traces(), [1, 2, 3, 6].map(trace_id).into());
    assert!(incoming.span.links.iter().any(|link| link.trace_state == "shop=7"));
    // One message became a dead letter.
    assert!(incoming.failed());
    assert_eq!(incoming.attribute("error.type").as_deref(), Some("undecodable"));
    assert_eq!(incoming.resource("service.name").as_deref(), Some("orderstream"));
    assert_eq!(incoming.resource("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));

    let settle = collector.one("settle incoming");
    assert_messaging(&settle, "settle", "incoming", SpanKind::Client, 6);
    assert!(settle.is_child_of(&incoming));
    let (forward, dead) = (collector.one("send reserved"), collector.one("send dead"));
    assert_messaging(&forward, "send", "reserved", SpanKind::Producer, 5);
    assert_messaging(&dead, "send", "dead", SpanKind::Producer, 1);
    assert!(forward.is_child_of(&settle) && dead.is_child_of(&settle));

    // What came without a context has that of the batch from there on; what nobody can read is carried, and linked to
    // by nobody.
    let reserved = collector.one("process reserved");
    assert_messaging(&reserved, "process", "reserved", SpanKind::Consumer, 5);
    assert!(!reserved.failed() && reserved.attribute("error.type").is_none(), "{reserved:#?}");
    let expected: BTreeSet<String> = [trace_id(1), trace_id(2), trace_id(3), incoming.trace_id()].into();
    assert_eq!(reserved.linked_traces(), expected);
    assert!(reserved.linked_spans().contains(&forward.id()));
    let paid = collector.one("process paid");
    assert_messaging(&paid, "process", "paid", SpanKind::Consumer, 5);
    assert_eq!(paid.linked_traces(), expected);
    assert_messaging(&collector.one("send paid"), "send", "paid", SpanKind::Producer, 5);
    assert_eq!(told(&program, "{0}:dead", "traceparent").await, [Some(traceparent(6))]);

    // A line of the log that belongs to a batch says which.
    let letters = log.lines().find(|line| line.contains("\"dead letters\"")).expect("a line about dead letters");
    assert!(letters.contains(&format!("\"trace_id\":\"{}\"", incoming.trace_id())), "{letters}");
}

#[tokio::test]
async fn a_dead_letter_and_its_replay_stay_in_the_trace_of_the_message() {
    let program = Program::seeded(1, &[100]).await;
    add(&program, &[("body", "no order"), ("traceparent", &traceparent(1)), ("tracestate", "shop=7")]).await;
    program.drain().await;
    let letters = program.run(&["dead", "list", "--json"]).await.exits(0).json();
    let id = letters["letters"][0]["id"].as_str().expect("an id");
    program.write("body.json", body("ORD-1"));
    program.run(&["dead", "replay", id, "--body", "body.json"]).await.exits(0);
    let collector = Collector::start().await;
    traced(&program, &collector, &DRAIN).await;
    for stream in ["incoming", "reserved", "paid"] {
        let span = collector.one(&format!("process {stream}"));
        assert_eq!(span.linked_traces(), [trace_id(1)].into(), "{stream}");
        assert_eq!(span.span.links[0].trace_state, "shop=7", "{stream}");
    }
    assert_eq!(program.ends().await["ORD-1"].0, "completed");
}

#[tokio::test]
async fn an_import_is_one_trace_that_all_its_batches_are_linked_to() {
    let program = Program::seeded(10, &[1_000; 10]).await;
    program.generate("orders.csv", &["--rows", "50", "--customers", "10", "--products", "10"]).await;
    let collector = Collector::start().await;
    traced(&program, &collector, &["import", "--no-wait", "orders.csv"]).await;
    let (import, send) = (collector.one("import orders"), collector.one("send incoming"));
    assert!(send.is_child_of(&import));
    assert_eq!(send.kind(), SpanKind::Producer);
    assert_eq!(import.attribute("orderstream.import.id").as_deref(), Some("1"));
    let context = Some(format!("00-{}-{}-01", import.trace_id(), send.id()));
    let contexts = told(&program, "{0}:incoming", "traceparent").await;
    assert!(!contexts.is_empty() && contexts.iter().all(|it| *it == context), "{contexts:?}");
    traced(&program, &collector, &DRAIN).await;
    for stream in ["incoming", "reserved", "paid"] {
        for batch in collector.named(&format!("process {stream}")) {
            assert_eq!(batch.linked_spans(), [send.id()].into(), "{stream}");
        }
    }
}

#[tokio::test]
async fn a_request_goes_on_with_the_trace_of_its_caller() {
    let program = Program::seeded(1, &[100]).await;
    let collector = Collector::start().await;
    let api = start(&program, &[], &["serve", "--http", "127.0.0.1:0", "--otlp", &collector.url]);
    let address = api.address().await;
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let posted = client.post(format!("http://{address}/v1/orders?x=hidden")).header("traceparent", traceparent(1));
    let posted = posted.header("content-type", "application/json").body(body("ORD-1")).send().await.expect("an answer");
    assert_eq!(posted.status().as_u16(), 202);
    for path in ["/livez", "/metrics", "/no/such/route"] {
        client.get(format!("http://{address}{path}")).send().await.expect("an answer");
    }
    api.stop().await.exits(0);

    let request = collector.one("POST /v1/orders");
    assert_eq!((request.kind(), request.trace_id()), (SpanKind::Server, trace_id(1)));
    assert_eq!(request.parent(), "00f067aa0ba902b7");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/orders"),
        ("http.response.status_code", "202"),
        ("url.path", "/v1/orders"),
    ] {
        assert_eq!(request.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert!(!format!("{:?}", collector.spans()).contains("hidden"));
    let send = collector.one("send incoming");
    assert!(send.is_child_of(&request));
    let context = format!("00-{}-{}-01", trace_id(1), send.id());
    assert_eq!(told(&program, "{0}:incoming", "traceparent").await, [Some(context)]);
    let unknown = collector.one("GET");
    assert_eq!(unknown.attribute("http.route"), None);
    assert_eq!(collector.spans().len(), 3, "what watches is not traced: {:#?}", collector.spans());
}

#[tokio::test]
async fn without_a_collector_messages_get_no_trace() {
    let program = Program::seeded(1, &[100]).await;
    add(&program, &[("body", &body("ORD-1"))]).await;
    program.run(&["run", "--stages", "reservation", "--until-drained"]).await.exits(0);
    assert_eq!(told(&program, "{0}:reserved", "traceparent").await, [None]);
    let off = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_SDK_DISABLED", "true")];
    start(&program, &off, &["run", "--stages", "payment", "--until-drained"]).end().await.exits(0);
    assert_eq!(told(&program, "{0}:paid", "traceparent").await, [None]);
}

#[tokio::test]
async fn the_variables_of_opentelemetry_are_heeded() {
    let program = Program::seeded(1, &[100]).await;
    add(&program, &[("body", &body("ORD-1"))]).await;
    let collector = Collector::start().await;
    let env = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*format!("{}/v1/traces", collector.url)),
        ("OTEL_SERVICE_NAME", "shop-orders"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=9"),
    ];
    start(&program, &env, &["run", "--stages", "reservation", "--until-drained"]).end().await.exits(0);
    let span = collector.one("process incoming");
    assert_eq!(span.resource("service.name").as_deref(), Some("shop-orders"));
    assert_eq!(span.resource("service.version").as_deref(), Some("9"));
    assert_eq!(span.resource("deployment.environment.name").as_deref(), Some("test"));
    let none = [env[0], ("OTEL_TRACES_SAMPLER", "always_off")];
    let before = collector.spans().len();
    start(&program, &none, &["run", "--stages", "payment", "--until-drained"]).end().await.exits(0);
    assert_eq!(collector.spans().len(), before);
    let wrong =
        start(&program, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://me:hush@x")], &["status"]).end().await.exits(2);
    assert!(wrong.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && !wrong.stderr.contains("hush"), "{}", wrong.stderr);
}

/// Takes connections, and says nothing.
async fn hanging() -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    (url, silent)
}

#[tokio::test]
async fn a_collector_that_is_down_or_hangs_stops_nothing_and_is_told_of_once() {
    let (hanging, _listens) = hanging().await;
    let refusing = Collector::answering(StatusCode::SERVICE_UNAVAILABLE).await;
    for (what, url) in [("down", "http://me:hush@127.0.0.1:1"), ("hangs", &hanging), ("refuses", &refusing.url)] {
        let program = Program::seeded(10, &[10_000; 10]).await;
        program.generate("orders.csv", &["--rows", "2000", "--customers", "10", "--products", "10"]).await;
        // A queue that is soon full.
        let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("OTEL_BSP_MAX_QUEUE_SIZE", "8")];
        let run = start(&program, &env, &["run", "--batch", "10", "--claim-idle", "1"]);
        run.says("running").await;
        start(&program, &env, &["import", "orders.csv"]).end().await.exits(0);
        eventually("all orders have ended", async || {
            program.stack.value::<i64>("SELECT count(*) FROM orders WHERE status IN ('reserved', 'paying')").await == 0
        })
        .await;
        run.signal(nix::sys::signal::Signal::SIGTERM);
        run.says("stopped").await;
        let stopped = Instant::now();
        let done = run.end().await.exits(0);
        // Two seconds for the last spans, and what a busy machine adds.
        assert!(stopped.elapsed().as_secs() < 5, "{what}: {:?}", stopped.elapsed());
        let warned = done.stderr.matches("the trace collector takes no spans").count();
        // One that hangs is known to be away only after ten seconds.
        assert!(if what == "hangs" { warned <= 1 } else { warned == 1 }, "{what}: {}", done.stderr);
        assert!(!done.stderr.contains("hush"), "{}", done.stderr);
        program.audit().await;
    }
}
