//! Everything that can come to stand in the streams, made by the real program, held against the schemas.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::{
    domain::{EventKind, FailureReason, Refusal},
    message::DeadReason,
};
use redis::{aio::MultiplexedConnection, streams::StreamRangeReply};
use serde_json::{Value, json};

use super::document::{Document, assert_valid};
use crate::program::{
    Orderstream, Program, Running,
    harness::eventually,
    provider::{KEY, Provider},
};

/// Names and values of an entry; of a name that stands twice, the last value.
type Fields = BTreeMap<String, String>;

/// A program beside ours, which knows the document and nothing else.
struct Reader<'a> {
    program: &'a Program,
    document: Document,
    redis: MultiplexedConnection,
}

impl<'a> Reader<'a> {
    async fn of(program: &'a Program) -> Self {
        Self { program, document: Document::committed(), redis: program.stack.connection().await }
    }

    fn key(&self, channel: &str) -> String {
        self.document.key(channel, &self.program.stack.namespace)
    }

    async fn add(&mut self, channel: &str, fields: &[(&str, &[u8])]) -> String {
        let key = self.key(channel);
        let mut command = redis::cmd("XADD");
        command.arg(key).arg("*");
        for (name, value) in fields {
            command.arg(*name).arg(*value);
        }
        command.query_async(&mut self.redis).await.expect("an id")
    }

    async fn add_body(&mut self, channel: &str, body: &Value) -> String {
        self.add(channel, &[("body", body.to_string().as_bytes())]).await
    }

    async fn entries(&mut self, key: &str) -> Vec<Fields> {
        let mut range = redis::cmd("XRANGE");
        range.arg(key).arg("-").arg("+");
        let range: StreamRangeReply = range.query_async(&mut self.redis).await.expect("a stream");
        let text = |value: &redis::Value| match value {
            redis::Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?} in a stream"),
        };
        range
            .ids
            .iter()
            .map(|entry| entry.map.iter().map(|(name, value)| (name.clone(), text(value))).collect())
            .collect()
    }

    /// The messages of a channel: name, and what stands in `body` as JSON.
    async fn bodies(&mut self, channel: &str) -> Vec<Value> {
        let key = self.key(channel);
        let entries = self.entries(&key).await;
        assert!(entries.iter().all(|entry| entry.len() == 1), "nothing but a body");
        entries.iter().map(|entry| serde_json::from_str(&entry["body"]).expect("JSON")).collect()
    }

    async fn command(&mut self, name: &str, args: &[&str]) {
        let mut command = redis::cmd(name);
        command.arg(args).exec_async(&mut self.redis).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn order(code: &str, customer: i64, product: i64, quantity: i64) -> Value {
    let lines = json!([{ "product_id": product, "quantity": quantity, "unit_price": "10.00" }]);
    json!({ "order_code": code, "customer_id": customer, "lines": lines })
}

fn refund(key: &str, code: &str, amount: Option<&str>, restock: bool) -> Value {
    json!({ "refund_key": key, "order_code": code, "amount": amount, "restock": restock })
}

/// Starts workers with these flags.
fn start(program: &Program, flags: &[&str]) -> Running {
    let args = [&["run", "--claim-idle", "1"], flags].concat();
    let mut command = program.command(&args);
    // All providers of this test have given the same key: that of the second is named.
    command.env("ORDERSTREAM_GATEWAY_KEY", KEY).env("ORDERSTREAM_GATEWAY_KEY_HTTP_2", KEY);
    Running::spawn(&mut command, &args)
}

/// Runs all workers until nothing is left to do.
async fn drain(program: &Program) {
    start(program, &["--until-drained"]).end().await.exits(0);
}

/// Waits for an event with these fields.
async fn told(reader: &mut Reader<'_>, kind: EventKind, field: &str, value: &str) {
    let what = format!("a {kind} event whose {field} is {value}");
    // `eventually` asks a closure that may borrow nothing for longer than a call.
    let (key, mut redis) = (reader.key("events"), reader.redis.clone());
    eventually(&what, async || {
        let mut range = redis::cmd("XRANGE");
        let range: StreamRangeReply =
            range.arg(&key).arg("-").arg("+").query_async(&mut redis).await.expect("a stream");
        range.ids.iter().any(|entry| {
            let body: String = entry.get("body").expect("a body");
            let event: Value = serde_json::from_str(&body).expect("JSON");
            event["kind"] == kind.as_str() && event[field] == value
        })
    })
    .await;
}

/// Orders and refunds of every end with the simulator, which can predict all of them.
async fn ends_with_the_simulator(program: &Program, reader: &mut Reader<'_>) {
    let declined =
        (0..).map(|n| format!("DECLINED-{n}")).find(|code| crc32fast::hash(code.as_bytes()) % 10_000 >= 9_000);
    let paid: Vec<String> = (0..)
        .map(|n| format!("PAID-{n}"))
        .filter(|code| crc32fast::hash(code.as_bytes()) % 10_000 < 9_000)
        .take(3)
        .collect();
    let declined = declined.expect("one in ten");
    for code in &paid {
        reader.add_body("orders", &order(code, 1, 1, 2)).await;
    }
    for body in
        [order(&declined, 1, 1, 1), order("NOBODY", 99, 1, 1), order("NOTHING", 1, 99, 1), order("MANY", 1, 2, 1_000)]
    {
        reader.add_body("orders", &body).await;
    }
    program.drain().await;
    let requests = [
        refund("part", &paid[0], Some("5.00"), false),
        refund("too-much", &paid[0], Some("15.01"), false),
        refund("rest", &paid[0], None, true),
        refund("nothing-left", &paid[0], None, false),
        refund("pieces-again", &paid[0], None, true),
        refund("failed-order", &declined, Some("1"), false),
        refund("no-such-order", "NEVER-SEEN", Some("1"), false),
    ];
    for request in &requests {
        reader.add_body("refunds", request).await;
    }
    let workers = start(program, &["--refund-wait", "1"]);
    told(reader, EventKind::RefundRefused, "refund_key", "no-such-order").await;
    workers.stop().await.exits(0);
    // The order waits for payment for longer than its refund waits for it.
    reader.add_body("orders", &order("SLOW", 1, 1, 1)).await;
    reader.add_body("refunds", &refund("too-early", "SLOW", None, false)).await;
    let workers = start(program, &["--refund-wait", "1", "--stages", "reservation,refund,collector,relay"]);
    told(reader, EventKind::RefundRefused, "refund_key", "too-early").await;
    workers.stop().await.exits(0);
    program.drain().await;
}

/// Ends that only a provider can bring about: no answer in time, and a refund that it refuses.
async fn ends_with_a_provider(program: &Program, reader: &mut Reader<'_>) {
    let refusing = Provider::start(&["--approve", "1", "--refund-failures", "1"]).await;
    program.run(&["provider", "set", &refusing.url]).await.exits(0);
    reader.add_body("orders", &order("NO-WAY-BACK", 1, 1, 1)).await;
    let workers = start(program, &["--gateway", &refusing.url]);
    told(reader, EventKind::Completed, "order_code", "NO-WAY-BACK").await;
    reader.add_body("refunds", &refund("refused", "NO-WAY-BACK", Some("1"), false)).await;
    told(reader, EventKind::RefundRefused, "refund_key", "refused").await;
    workers.stop().await.exits(0);

    // Decided long after the payment has expired.
    let late = Provider::start(&["--approve", "1", "--late", "1", "--late-after", "600000"]).await;
    program.run(&["provider", "set", &late.url]).await.exits(0);
    reader.add_body("orders", &order("TOO-LATE", 1, 1, 1)).await;
    let workers = start(program, &["--gateway", &late.url, "--payment-timeout", "1"]);
    told(reader, EventKind::Failed, "reason", FailureReason::PaymentExpired.as_str()).await;
    workers.stop().await.exits(0);
}

/// A dead letter for every reason.
async fn deaths(program: &Program, reader: &mut Reader<'_>) {
    program.stack.sql("ALTER TABLE orders ADD CONSTRAINT test CHECK (code <> 'FORBIDDEN')").await;
    reader.add_body("orders", &order("FORBIDDEN", 1, 1, 1)).await;
    reader.add("orders", &[("data", b"{}")]).await;
    reader.add("orders", &[("body", &vec![b' '; 300_000])]).await;
    reader.add("orders", &[("traceparent", b"00-x-y-01"), ("body", b"no order"), ("reason", b"mine")]).await;
    reader.add_body("orders", &order("", 1, 1, 1)).await;
    reader.add_body("orders", &order("PAID-0", 1, 1, 7)).await;
    reader.add_body("refunds", &refund("", "PAID-0", None, false)).await;
    reader.add_body("refunds", &refund("part", "PAID-0", Some("6.00"), false)).await;
    reader.add("refunds", &[("body", b"[]")]).await;
    let callback = json!({ "type": "charge.lost", "data": { "id": "i", "reference": "PAID-0", "amount": "1", "currency": "EUR" } });
    reader.add("callbacks", &[("webhook-id", b"msg_1"), ("body", callback.to_string().as_bytes())]).await;
    let unknown = format!("{}:{{0}}:reserved", program.stack.namespace);
    reader.command("XADD", &[&unknown, "*", "body", r#"{"order_id":1000000,"order_code":"GONE"}"#]).await;
    // Deleted while somebody who died had it in hand.
    let deleted = reader.add_body("orders", &order("DELETED", 1, 1, 1)).await;
    let orders = reader.key("orders");
    reader.command("XREADGROUP", &["GROUP", "reservation", "ghost", "COUNT", "100", "STREAMS", &orders, ">"]).await;
    reader.command("XDEL", &[&orders, &deleted]).await;
    drain(program).await;

    // A message with which so many consumers fell silent that nobody else may try.
    reader.add_body("orders", &order("POISON", 1, 1, 1)).await;
    program.run(&["run", "--stages", "reservation", "--until-drained"]).await.exits(0);
    let reserved = format!("{}:{{0}}:reserved", program.stack.namespace);
    reader.command("XREADGROUP", &["GROUP", "payment", "ghost", "STREAMS", &reserved, ">"]).await;
    let id: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
        .arg(&[&reserved, "payment", "-", "+", "10"])
        .query_async(&mut reader.redis)
        .await
        .expect("what is pending");
    assert_eq!(id.len(), 1);
    reader.command("XCLAIM", &[&reserved, "payment", "ghost", "0", &id[0].0, "RETRYCOUNT", "50"]).await;
    drain(program).await;
}

#[tokio::test]
async fn everything_in_the_streams_is_what_the_document_says() {
    let program = Program::seeded(3, &[1_000, 10]).await;
    let mut reader = Reader::of(&program).await;
    ends_with_the_simulator(&program, &mut reader).await;
    ends_with_a_provider(&program, &mut reader).await;
    deaths(&program, &mut reader).await;
    let (dead, letters) = (reader.key("dead"), program.path("letters"));
    let letters = letters.to_str().expect("a path");
    let mut cases = Vec::new();

    let mut reasons = BTreeSet::new();
    let documented = reader.document.schemas()["deadLetter headers"]["properties"].clone();
    for letter in reader.entries(&dead).await {
        // What the originals had, and beside it nothing that is not documented.
        let of_original = ["body", "data", "traceparent", "tracestate", "webhook-id"];
        let unknown = letter.keys().find(|name| documented[name].is_null() && !of_original.contains(&name.as_str()));
        assert_eq!(unknown, None, "{letter:?}");
        reasons.insert(letter["reason"].clone());
        cases.push(("deadLetter headers".to_owned(), json!(letter)));
    }
    let all: BTreeSet<String> = DeadReason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(reasons, all, "a letter died of every reason, and none of another");

    // An order whose letter is thrown away is given up.
    program.run(&["dead", "discard", "--reason", "attempts_exhausted"]).await.exits(0);
    drain(&program).await;
    let mut seen = BTreeSet::new();
    for event in reader.bodies("events").await {
        let kind = event["kind"].as_str().expect("a kind").to_owned();
        seen.insert((kind.clone(), event["reason"].as_str().map(str::to_owned)));
        cases.push((kind, event));
    }
    let with = |kind: EventKind, reason: Option<&str>| (kind.to_string(), reason.map(str::to_owned));
    let failures = FailureReason::ALL.iter().map(|reason| with(EventKind::Failed, Some(reason.as_str())));
    let refusals = Refusal::ALL.iter().map(|reason| with(EventKind::RefundRefused, Some(reason.as_str())));
    let good = [with(EventKind::Completed, None), with(EventKind::Refunded, None)];
    let all: BTreeSet<_> = good.into_iter().chain(failures).chain(refusals).collect();
    let difference: Vec<_> = seen.symmetric_difference(&all).collect();
    assert!(difference.is_empty(), "every kind of event is seen, and no other: {difference:?}");

    // Nobody works from here on: what replays, exports and imports add stays where it is.
    program.run(&["dead", "export", "--output", letters]).await.exits(0);
    program.run(&["dead", "discard", "--all", "--yes"]).await.exits(0);
    program.run(&["dead", "import", letters]).await.exits(0);
    let imported = reader.entries(&dead).await;
    assert!(imported.iter().all(|letter| letter.contains_key("imported_from")));
    cases.extend(imported.iter().map(|letter| ("deadLetter headers".to_owned(), json!(letter))));
    program.run(&["dead", "replay", "--all", "--force"]).await;
    program.write(
        "orders.csv",
        "order_code,customer_id,product_id,quantity,unit_price\nCSV-1,1,1,2,19.9\nCSV-2,2,1,1,5\n",
    );
    program.run(&["import", "--no-wait", "orders.csv"]).await.exits(0);
    let (mut replayed, mut orders) = (0, 0);
    for (channel, message) in [("orders", "order"), ("refunds", "refund"), ("callbacks", "callback")] {
        let key = reader.key(channel);
        for mut entry in reader.entries(&key).await {
            let body = entry.remove("body");
            replayed += usize::from(entry.contains_key("replayed_from"));
            let is_imported = entry.contains_key("import");
            cases.push((format!("{message} headers"), json!(entry)));
            if is_imported {
                orders += 1;
                cases.push((message.to_owned(), serde_json::from_str(&body.expect("a body")).expect("JSON")));
            }
        }
    }
    assert!(replayed >= 8, "{replayed} messages were replayed");
    assert_eq!(orders, 2, "as the importer writes them");

    let document = Document::committed();
    let events: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_valid(&document.closed_schemas(&events), &cases).await;
}
