//! What strangers copy: the examples of docs/examples and every command of docs/INTEGRATION.md, run as they stand there,
//! against the real program.

mod integration;
mod scene;

use scene::{Language, Scene};

/// The first numbers of event lines.
async fn next(reader: &mut scene::Reader) -> (i64, String) {
    let line = reader.line().await;
    let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    (event["seq"].as_i64().expect("a number"), event["kind"].as_str().expect("a kind").to_owned())
}

fn event(seq: i64, kind: &str) -> (i64, String) {
    (seq, kind.to_owned())
}

/// Orders and refunds by stream, asked for twice, and a reader of events that is killed on the way.
async fn by_stream(language: Language, reader: &[&str]) {
    let mut scene = Scene::with_workers().await;
    for _ in 0..2 {
        let id = scene.run(language, "order_by_stream", &["ORD-1", "7", "3", "2", "19.99"]).await;
        assert!(id.trim().split_once('-').is_some(), "the id of an entry: {id}");
    }
    let mut events = scene.start(language, reader).await;
    assert_eq!(next(&mut events).await, event(1, "completed"));
    scene.remembers(1).await;
    events.kill().await;

    for _ in 0..2 {
        scene.run(language, "refund_by_stream", &["r-1", "ORD-1", "10.00", "damaged"]).await;
    }
    scene.run(language, "refund_by_stream", &["r-2", "ORD-1", "-", "the rest"]).await;
    let mut events = scene.start(language, reader).await;
    assert_eq!(next(&mut events).await, event(2, "refunded"), "the first event is not told again");
    assert_eq!(next(&mut events).await, event(3, "refunded"));
    scene.remembers(3).await;
    scene.cut_connections();

    // Redis loses everything: the same events come again, and the reader lets them pass.
    scene.program.stack.forget_keys().await.expect("Redis");
    scene.published(3).await;
    scene.run(language, "order_by_stream", &["ORD-2", "7", "3", "1", "5"]).await;
    assert_eq!(next(&mut events).await, event(4, "completed"));
    events.kill().await;

    let refunds: i64 = scene.program.stack.value("SELECT sum(amount_cents)::bigint FROM refunds").await;
    let left: i64 = scene.program.stack.value("SELECT stock FROM products WHERE id = 3").await;
    assert_eq!((refunds, left), (3_998, 1_000 - 3));
    scene.program.audit().await;
}

#[tokio::test]
async fn python_orders_and_refunds_by_stream_and_reads_each_event_once() {
    by_stream(Language::Python, &["events", "seen.txt"]).await;
}

#[tokio::test]
async fn python_reads_each_event_once_as_a_consumer_group() {
    by_stream(Language::Python, &["events_group", "mailer", "seen.txt"]).await;
}

#[tokio::test]
async fn node_orders_and_refunds_by_stream_and_reads_each_event_once() {
    by_stream(Language::Node, &["events", "seen.txt"]).await;
}

#[tokio::test]
async fn examples_reach_a_redis_on_a_socket() {
    let mut scene = Scene::with_workers().await;
    scene.by_socket();
    scene.run(Language::Python, "order_by_stream", &["ORD-1", "7", "3", "2", "19.99"]).await;
    scene.run(Language::Node, "order_by_stream", &["ORD-2", "7", "3", "2", "19.99"]).await;
    scene.published(2).await;
    assert_eq!(scene.program.ends().await.len(), 2);
}
