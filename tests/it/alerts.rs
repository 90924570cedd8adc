//! Built-in alerts: who is told of what a real pipeline does, and how often.

use pipeline::topology::StageName;
use serde_json::Value;

use crate::program::{
    Orderstream, Program,
    client::Api,
    harness::{Server, eventually},
    receiver::Receiver,
    smtp::SmtpServer,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A process that may evaluate alerts, and posts them to the receiver and writes them to its log.
async fn watcher(program: &Program, command: &str, receiver: &Receiver, flags: &[&str]) -> Api {
    let to_receiver = ["--alert", "log,webhook", "--alert-webhook", &receiver.url];
    Api::start(program, command, &[&to_receiver, flags].concat(), &[("ORDERSTREAM_ALERT_SECRET", SECRET)]).await
}

/// Where a rule stands, as this process shows it; null while nobody evaluates.
async fn alert(api: &Api, rule: &str) -> Value {
    let alerts = api.get("/v1/alerts").await.ok(200);
    let alerts = alerts["alerts"].as_array().expect("alerts");
    alerts.iter().find(|alert| alert["rule"] == rule).cloned().unwrap_or_default()
}

/// Waits until a rule stands so, and everybody who is to be told of it is.
async fn until(api: &Api, rule: &str, state: &str) -> Value {
    let mut last = Value::Null;
    eventually(&format!("{rule} is {state}, and told"), async || {
        last = alert(api, rule).await;
        last["state"] == state && last["unsent"] == serde_json::json!([])
    })
    .await;
    last
}

/// What the receiver was told of a rule.
fn states(receiver: &Receiver, rule: &str) -> Vec<String> {
    let told = receiver.all().into_iter().filter(|message| message["rule"] == rule);
    told.map(|message| message["state"].as_str().expect("a word").to_owned()).collect()
}

/// How often a log says this of a rule.
fn lines(told: &str, rule: &str, says: &str) -> usize {
    told.lines().filter(|line| line.contains(&format!("alert={rule}")) && line.contains(says)).count()
}

async fn leader(program: &Program) -> Option<String> {
    let key = program.stack.redis.keys().monitor_leader();
    redis::cmd("GET").arg(key).query_async(&mut program.stack.connection().await).await.expect("a name, or none")
}

async fn publish(program: &Program, rows: &str) {
    program.generate("orders.csv", &["--rows", rows, "--customers", "5", "--products", "5"]).await;
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
}

#[tokio::test]
async fn a_stage_that_falls_behind_is_told_of_once_and_once_more_when_it_is_calm_whoever_evaluates() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let receiver = Receiver::start(SECRET).await;
    let flags = ["--alert-lag", "2", "--environment", "test"];
    program.run(&["alerts", "--check"]).await.exits(1);
    let first = watcher(&program, "run", &receiver, &flags).await;
    until(&first, "lag_behind", "calm").await;
    let second = watcher(&program, "serve", &receiver, &flags).await;
    program.run(&["alerts", "--check"]).await.exits(0);

    program.run(&["pause", "payment", "--why", "a test"]).await.exits(0);
    publish(&program, "500").await;
    let firing = until(&first, "lag_behind", "firing").await;
    assert_eq!((&firing["stage"], &firing["severity"]), (&"payment".into(), &"critical".into()), "{firing}");
    assert_eq!(firing["runbook"], "docs/runbooks/LagBehind.md");
    // The same story, from another process, and in words.
    let same = until(&second, "lag_behind", "firing").await;
    assert_eq!((&same["since"], &same["changed_at"]), (&firing["since"], &firing["changed_at"]));
    let overview = second.get("/v1/overview").await.ok(200);
    let sentence = overview["sentence"].as_str().expect("a sentence");
    assert!(sentence.starts_with("Payment is paused (a test): "), "{sentence}");
    let listed = program.run(&["alerts", "--check", "--json"]).await.exits(8).json();
    assert_eq!(listed["alerts"].as_array().map(Vec::len), Some(orderstream::alerts::Rule::ALL.len()), "{listed}");
    let table = program.run(&["alerts"]).await.exits(0).stdout;
    assert!(table.lines().nth(1).expect("a row").starts_with("firing  lag_behind"), "{table}");
    let message = receiver.all().into_iter().find(|message| message["rule"] == "lag_behind").expect("a message");
    assert!(message["message"].as_str().expect("a sentence").starts_with("Payment is "), "{message}");
    assert!(message["value"].as_f64() > Some(2.0) && message["limit"] == 2.0, "{message}");
    assert_eq!((&message["environment"], &message["stage"]), (&"test".into(), &"payment".into()), "{message}");

    let before = leader(&program).await;
    let told = first.running.told();
    first.running.crash().await;
    eventually("somebody else evaluates", async || {
        let now = leader(&program).await;
        now.is_some() && now != before
    })
    .await;
    let third = watcher(&program, "run", &receiver, &flags).await;
    // Two looks of the new one, at least.
    let seq = async || second.get("/v1/overview").await.ok(200)["seq"].as_u64();
    let seen = seq().await;
    eventually("it has looked twice", async || seq().await > seen.map(|seen| seen + 2)).await;
    assert_eq!(until(&third, "lag_behind", "firing").await["since"], firing["since"]);
    program.run(&["resume", "payment"]).await.exits(0);
    let calm = until(&third, "lag_behind", "calm").await;
    assert!(calm["value"].is_null() && calm["message"] == "No stage is more than 1.0 s behind.", "{calm}");
    assert_eq!(states(&receiver, "lag_behind"), ["firing", "calm"]);
    let (second, third) = (second.running.stop().await.exits(0), third.running.stop().await.exits(0));
    let said = |says: &str| [&told, &second.stderr, &third.stderr].map(|log| lines(log, "lag_behind", says));
    assert_eq!(said("firing: "), [1, 0, 0], "{told}");
    assert_eq!(said("calm: "), [0, 1, 0], "{}", second.stderr);
    program.audit().await;
}

#[tokio::test]
async fn dead_letters_are_mailed_of_and_a_lag_that_redis_cannot_tell_is_told_with_its_reason() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let server = SmtpServer::start().await;
    // The groups exist, and read nothing. Who led meanwhile does not come back.
    program.drain().await;
    let lease = program.stack.redis.keys().monitor_leader();
    let _gone: u64 =
        redis::cmd("DEL").arg(lease).query_async(&mut program.stack.connection().await).await.expect("a number");
    let mail = ["--alert", "mail", "--mail-from", "Shop <shop@example.com>", "--environment", "test"];
    let to = ["--alert-mail-to", "ops@example.com,Night <night@example.com>"];
    let api =
        Api::start(&program, "serve", &[&mail[..], &to].concat(), &[("ORDERSTREAM_SMTP_URL", &server.url())]).await;
    eventually("it evaluates", async || leader(&program).await.is_some()).await;
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    let _id: String =
        redis::cmd("XADD").arg(&stream).arg("*").arg("no").arg("body").query_async(&mut redis).await.expect("an id");
    program.drain().await;
    let firing = until(&api, "dead_letters", "firing").await;
    assert_eq!((&firing["value"], &firing["limit"]), (&1.0.into(), &1.0.into()), "{firing}");
    let mails = server.mails().await;
    let mail = mails.iter().find(|mail| mail.plain.contains("dead_letters (warning)")).expect("a mail");
    assert_eq!(mail.to, ["ops@example.com", "night@example.com"]);
    let subject = "[test] orderstream dead_letters firing: 1 dead letter (no_body) waits for somebody to decide.";
    assert_eq!(mail.headers["subject"], subject);
    assert!(mail.plain.contains("docs/runbooks/DeadLetters.md") && mail.defects.is_empty(), "{mail:?}");
    program.run(&["dead", "discard", "--all", "--yes"]).await.exits(0);
    assert_eq!(until(&api, "dead_letters", "calm").await["message"], "There are no dead letters.");
    let told = server.mails().await.iter().filter(|mail| mail.plain.contains("dead_letters (warning)")).count();
    assert_eq!(told, 2);

    program.run(&["pause", "reservation"]).await.exits(0);
    publish(&program, "50").await;
    let ids: Vec<(String, Vec<String>)> =
        redis::cmd("XRANGE").arg(&stream).arg("-").arg("+").query_async(&mut redis).await.expect("entries");
    let middle = &ids[ids.len() / 2].0;
    let deleted: i64 = redis::cmd("XDEL").arg(&stream).arg(middle).query_async(&mut redis).await.expect("a number");
    assert_eq!(deleted, 1);
    let unknown = until(&api, "lag_unknown", "firing").await;
    let message = unknown["message"].as_str().expect("a sentence");
    assert!(message.starts_with("How much waits for reservation is unknown (entries were deleted"), "{message}");
    program.run(&["resume", "reservation"]).await.exits(0);
    program.drain().await;
    assert_eq!(until(&api, "lag_unknown", "calm").await["message"], "Every lag is known.");
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_of_once_and_once_more_when_it_is_back() {
    let program = Program::alone(5, &[1_000_000; 5]).await;
    let receiver = Receiver::start(SECRET).await;
    let first = watcher(&program, "run", &receiver, &[]).await;
    until(&first, "server_away", "calm").await;
    let second = watcher(&program, "serve", &receiver, &[]).await;
    program.stack.end(Server::Redis, "KILL");
    eventually("somebody is told while Redis is away", async || states(&receiver, "server_away") == ["firing"]).await;
    let message = receiver.all().into_iter().find(|message| message["rule"] == "server_away").expect("a message");
    let text = message["message"].as_str().expect("a sentence");
    assert!(text.starts_with("Redis does not answer for "), "{text}");
    until(&first, "server_away", "firing").await;
    program.stack.start_again(Server::Redis).await;
    let calm = until(&first, "server_away", "calm").await;
    assert_eq!(calm["message"], "Redis and Postgres answer.");
    until(&second, "server_away", "calm").await;
    assert_eq!(states(&receiver, "server_away"), ["firing", "calm"]);
    first.running.stop().await.exits(0);
    second.running.stop().await.exits(0);
}

#[tokio::test]
async fn channels_that_lack_something_are_refused_at_the_start() {
    let program = Program::get().await;
    for (flags, says) in [
        (&["--alert", "webhook"][..], "--alert webhook needs --alert-webhook"),
        (&["--alert", "webhook", "--alert-webhook", "http://127.0.0.1:1"], "needs ORDERSTREAM_ALERT_SECRET"),
        (&["--alert", "mail"], "--alert mail needs ORDERSTREAM_SMTP_URL"),
        (&["--alert", "pager"], "is not one of log, mail, webhook"),
        (&["--alert-failed-ratio", "1.5"], "a share is between 0 and 1"),
    ] {
        for command in ["run", "serve"] {
            let refused = program.run(&[&[command], flags].concat()).await.exits(2);
            assert!(refused.stderr.contains(says), "{}", refused.stderr);
        }
    }
}
