//! A real Prometheus that reads real workers, with the rules as they are shipped.

use std::process::Stdio;

use pipeline::topology::StageName;
use reqwest::Client;
use serde_json::Value;

use super::shipped;
use crate::program::{
    Orderstream, Program, Running,
    harness::{eventually, order, orders},
};

/// Prometheus on a free port; killed when dropped.
struct Prometheus {
    running: Running,
    address: String,
    client: Client,
}

impl Prometheus {
    /// Reads `target` every second.
    async fn start(program: &Program, target: &str) -> Self {
        let rules =
            ["recording", "alerts"].map(|name| shipped::file(&format!("observability/prometheus/{name}.rules.yml")));
        let configuration = serde_json::json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": rules,
            "scrape_configs": [{
                "job_name": "orderstream",
                "static_configs": [{ "targets": [target], "labels": { "namespace": "test" } }],
            }],
        });
        // JSON is YAML.
        program.write("prometheus.yml", configuration.to_string());
        let args =
            ["--config.file=prometheus.yml", "--storage.tsdb.path=prometheus", "--web.listen-address=127.0.0.1:0"];
        let mut command = tokio::process::Command::new("prometheus");
        command.args(args).current_dir(program.folder()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = Running::spawn(&mut command, &["prometheus"]);
        running.says("Server is ready to receive web requests").await;
        let address = running.word_after("msg=\"Listening on\" address=").await;
        let _installed = rustls::crypto::ring::default_provider().install_default();
        Self { running, address, client: Client::new() }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let request = self.client.get(format!("http://{}/api/v1/{path}", self.address)).query(query);
        let answer: Value = request.send().await.expect("Prometheus").json().await.expect("JSON");
        assert_eq!(answer["status"], "success", "{path} {query:?}: {answer}");
        answer["data"].clone()
    }

    /// The series that an expression has now.
    async fn ask(&self, expression: &str) -> Vec<Value> {
        let data = self.get("query", &[("query", expression)]).await;
        data["result"].as_array().expect("series").clone()
    }

    /// The one value of an expression, if it has one.
    async fn value(&self, expression: &str) -> Option<f64> {
        let series = self.ask(expression).await;
        series.first().map(|series| series["value"][1].as_str().expect("a number").parse().expect("a number"))
    }

    /// Whether an alert of a stage is in this state.
    async fn alert_is(&self, alert: &str, stage: &str, state: &str) -> bool {
        let expression = format!("ALERTS{{alertname=\"{alert}\", stage=\"{stage}\", alertstate=\"{state}\"}}");
        self.value(&expression).await == Some(1.0)
    }
}

/// Workers that serve their metrics, and where.
async fn workers(program: &Program) -> (Running, String) {
    let run = program.start(&["run", "--http", "127.0.0.1:0"]);
    run.says("serving HTTP").await;
    let address = run.address().await;
    (run, address)
}

#[tokio::test]
async fn orders_that_wait_for_a_paused_stage_ring_and_fall_silent_when_it_goes_on() {
    let program = Program::seeded(5, &[500_000; 3]).await;
    program.run(&["pause", "payment", "--why", "a test"]).await.exits(0);
    // Their messages for payment are from a minute ago.
    program.stack.publish(&orders("A", 40)).await;
    program.run(&["run", "--stages", "reservation", "--until-drained"]).await.exits(0);
    make_older(&program, StageName::Payment, 60_000).await;

    let (run, address) = workers(&program).await;
    let prometheus = Prometheus::start(&program, &address).await;
    eventually("LagBehind is pending", async || prometheus.alert_is("LagBehind", "payment", "pending").await).await;
    let lag = prometheus.value("namespace_stage:orderstream_stream_group_lag:max{stage=\"payment\"}").await;
    assert_eq!(lag, Some(40.0));
    let paused = prometheus.value("namespace_stage:orderstream_stage_paused:max{stage=\"payment\"}").await;
    assert_eq!(paused, Some(1.0));
    eventually("LagBehind fires", async || prometheus.alert_is("LagBehind", "payment", "firing").await).await;
    let firing = prometheus.ask("ALERTS{alertstate=\"firing\"}").await;
    assert_eq!(firing.len(), 1, "nothing else is wrong: {firing:?}");

    program.run(&["resume", "payment"]).await.exits(0);
    eventually("it is calm again", async || prometheus.ask("ALERTS{alertname=\"LagBehind\"}").await.is_empty()).await;
    eventually("the lag is 0", async || {
        prometheus.value("namespace_stage:orderstream_stream_group_lag:max{stage=\"payment\"}").await == Some(0.0)
    })
    .await;
    run.stop().await.exits(0);
    program.audit().await;
}

#[tokio::test]
async fn a_lag_that_redis_cannot_tell_rings_and_has_no_number() {
    let program = Program::seeded(5, &[500_000; 3]).await;
    // Made by a look at nothing, so that there is a group.
    program.run(&["run", "--until-drained"]).await.exits(0);
    program.run(&["pause", "reservation", "--why", "a test"]).await.exits(0);
    program.stack.publish(&orders("A", 3)).await;
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    let entries: Vec<(String, Vec<(String, String)>)> =
        redis::cmd("XRANGE").arg(&stream).arg("-").arg("+").query_async(&mut redis).await.expect("entries");
    redis::cmd("XDEL").arg(&stream).arg(&entries[1].0).exec_async(&mut redis).await.expect("Redis");

    let (run, address) = workers(&program).await;
    let prometheus = Prometheus::start(&program, &address).await;
    eventually("LagUnknown is pending", async || prometheus.alert_is("LagUnknown", "reservation", "pending").await)
        .await;
    for series in ["orderstream_stream_group_lag{group", "namespace_stage:orderstream_stream_group_lag:max{stage"] {
        let lag = prometheus.ask(&format!("{series}=\"reservation\"}}")).await;
        assert!(lag.is_empty(), "nobody knows the lag: {lag:?}");
    }
    let seconds = prometheus.value("orderstream_stream_group_lag_seconds{group=\"reservation\"}").await;
    assert!(seconds.is_some_and(|seconds| seconds > 0.0), "its age is known: {seconds:?}");
    program.run(&["resume", "reservation"]).await.exits(0);
    eventually("the lag is known again", async || {
        prometheus.value("namespace_stage:orderstream_stream_group_lag:max{stage=\"reservation\"}").await == Some(0.0)
    })
    .await;
    run.stop().await.exits(0);
}

#[tokio::test]
async fn every_rule_can_be_evaluated_and_the_panels_of_a_busy_pipeline_show_something() {
    /// What there is only with a payment provider, after some minutes, or when something is wrong.
    const MAY_BE_EMPTY: &[&str] =
        &["Gateway: calls", "Gateway: time of a call", "Stock drift", "The program's own alerts", "annotations"];
    let program = Program::seeded(5, &[500_000; 3]).await;
    let (run, address) = workers(&program).await;
    let prometheus = Prometheus::start(&program, &address).await;
    let mut empty = shipped::dashboard_expressions();
    let mut batch = 0;
    eventually("every panel shows something", async || {
        batch += 1;
        program.stack.publish(&[order(&format!("A-{batch}"), 1, &[(1, 1, 1999)])]).await;
        let mut still = Vec::new();
        for (panel, expression) in std::mem::take(&mut empty) {
            let shows = !prometheus.ask(&expression).await.is_empty();
            if !shows && !MAY_BE_EMPTY.contains(&panel.as_str()) {
                still.push((panel, expression));
            }
        }
        empty = still;
        if batch % 100 == 0 {
            eprintln!("without anything to show so far: {empty:#?}");
        }
        empty.is_empty()
    })
    .await;
    eventually("every rule was evaluated", async || {
        let groups = prometheus.get("rules", &[]).await;
        let groups = groups["groups"].as_array().expect("groups").clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
        rules.clone().count() > 30 && rules.clone().all(|rule| rule["health"] == "ok")
    })
    .await;
    let told = prometheus.running.told();
    assert!(!told.contains("level=warn") && !told.contains("level=error"), "{told}");
    run.stop().await.exits(0);
}

/// Puts the messages that wait for a stage back into its stream, as if they had come earlier.
async fn make_older(program: &Program, stage: StageName, milliseconds: u64) {
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, stage);
    let entries: Vec<(String, Vec<(String, String)>)> =
        redis::cmd("XRANGE").arg(&stream).arg("-").arg("+").query_async(&mut redis).await.expect("entries");
    assert!(!entries.is_empty(), "something waits in {stream}");
    let mut again = redis::pipe();
    again.atomic().del(&stream);
    for (number, (id, fields)) in entries.iter().enumerate() {
        let at: u64 = id.split('-').next().and_then(|at| at.parse().ok()).expect("an id");
        again.cmd("XADD").arg(&stream).arg(format!("{}-{number}", at - milliseconds)).arg(fields);
    }
    again.exec_async(&mut redis).await.expect("Redis");
}
