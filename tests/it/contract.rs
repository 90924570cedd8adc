//! The wire contract, held to by a client that shares nothing with the pipeline: another Redis library, its own JSON,
//! its own names of keys.

use std::collections::{BTreeMap, BTreeSet};

use fred::{
    prelude::*,
    types::{ClusterHash, CustomCommand},
};
use serde_json::Value as Json;

use crate::program::{Orderstream, Program, model};

/// A program that can `XADD`, as its author read the documentation.
struct Foreign {
    client: Client,
    namespace: String,
}

/// Names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

impl Foreign {
    async fn connect(program: &Program) -> Self {
        let url = program.stack.redis_url().replace("unix://", "redis+unix://");
        let config = Config::from_url(&url).expect("a URL");
        let client = Client::new(config, None, None, None);
        client.init().await.expect("Redis");
        Self { client, namespace: program.stack.namespace.clone() }
    }

    async fn call<T: FromValue>(&self, command: &'static str, args: Vec<Vec<u8>>) -> T {
        let args: Vec<Value> = args.into_iter().map(|arg| Value::Bytes(arg.into())).collect();
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        self.client.custom(command, args).await.expect("a reply")
    }

    fn key(&self, rest: &str) -> Vec<u8> {
        format!("{}:{rest}", self.namespace).into_bytes()
    }

    /// Adds an entry to the stream of orders; its id.
    async fn add(&self, fields: &Fields) -> String {
        let mut args = vec![self.key("{0}:incoming"), b"*".to_vec()];
        args.extend(fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
        self.call("XADD", args).await
    }

    async fn add_body(&self, body: impl AsRef<[u8]>) -> String {
        self.add(&fields(&[("body", body.as_ref())])).await
    }

    /// All entries of a stream: id and fields.
    async fn stream(&self, key: &str) -> Vec<(String, Fields)> {
        let entries: Vec<(String, Vec<Value>)> =
            self.call("XRANGE", vec![self.key(key), b"-".to_vec(), b"+".to_vec()]).await;
        let pair = |pair: &[Value]| (bytes(&pair[0]), bytes(&pair[1]));
        entries.into_iter().map(|(id, fields)| (id, fields.chunks(2).map(pair).collect())).collect()
    }

    /// The dead letters by the id of the entry that they were.
    async fn dead(&self) -> BTreeMap<String, Fields> {
        let letters = self.stream("{0}:dead").await;
        letters.into_iter().map(|(_, fields)| (field(&fields, "source_id"), fields)).collect()
    }

    /// The bodies of the events, in sequence.
    async fn events(&self) -> Vec<Json> {
        let entries = self.stream("{board}:events").await;
        entries.iter().map(|(_, fields)| serde_json::from_str(&field(fields, "body")).expect("JSON")).collect()
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_bytes().expect("bytes").to_vec()
}

fn fields(fields: &[(&str, &[u8])]) -> Fields {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

/// The last value of a field, as text.
fn field(fields: &Fields, name: &str) -> String {
    let found = fields.iter().rev().find(|(field, _)| field == name.as_bytes());
    String::from_utf8(found.unwrap_or_else(|| panic!("no field {name}")).1.clone()).expect("text")
}

/// Product, quantity, price.
type Line<'a> = (i64, i64, &'a str);

/// The JSON of an order.
fn body(code: &str, customer: i64, lines: &[Line<'_>]) -> String {
    let line = |(product, quantity, price): &Line<'_>| {
        format!(r#"{{"product_id":{product},"quantity":{quantity},"unit_price":"{price}"}}"#)
    };
    let lines: Vec<String> = lines.iter().map(line).collect();
    format!(r#"{{"order_code":"{code}","customer_id":{customer},"lines":[{}]}}"#, lines.join(","))
}

fn failed(reason: &str) -> (String, Option<String>) {
    ("failed".to_owned(), Some(reason.to_owned()))
}

#[tokio::test]
async fn an_order_ends_as_the_crc_of_its_code_predicts_and_everybody_can_read_what_came_of_it() {
    const ORDERS: i64 = 300;
    let program = Program::seeded(7, &[100_000; 5]).await;
    let foreign = Foreign::connect(&program).await;
    let mut orders = Vec::new();
    for n in 0..ORDERS {
        let order = model::ModelOrder {
            code: format!("Bestellung №{n} 🦀"),
            customer: 1 + n % 7,
            lines: vec![(1 + n % 5, 1 + n % 3, 1_999), (1 + (n + 1) % 5, 2, n)],
        };
        let price = format!("{}.{:02}", n / 100, n % 100);
        let lines = [(order.lines[0].0, order.lines[0].1, "19.99"), (order.lines[1].0, 2, price.as_str())];
        foreign.add_body(body(&order.code, order.customer, &lines)).await;
        orders.push(order);
    }
    program.drain().await;

    let ends = model::ends(&orders, 7, &[100_000; 5]);
    assert!(ends.values().any(|end| *end == failed("payment_declined")), "some are declined");
    assert_eq!(program.ends().await, ends);
    program.audit().await;

    let events = foreign.events().await;
    assert_eq!(events.len(), orders.len(), "one event for each end");
    for (seq, event) in (1..).zip(&events) {
        assert_eq!(event["seq"], seq, "gap-free and in order");
    }
    let mut expected: BTreeMap<&str, (&str, Option<&str>, i64, String)> = BTreeMap::new();
    for order in &orders {
        let (state, reason) = &ends[&order.code];
        let total = order.total_cents();
        let amount = format!("{}.{:02}", total / 100, total % 100);
        expected.insert(&order.code, (state, reason.as_deref(), order.customer, amount));
    }
    let told: BTreeMap<&str, (&str, Option<&str>, i64, String)> = events
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("{name} in {event}"));
            let customer = event["customer_id"].as_i64().expect("a number");
            (text("order_code"), (text("kind"), event["reason"].as_str(), customer, text("amount").to_owned()))
        })
        .collect();
    assert_eq!(told, expected);

    let board = model::board(&orders, &ends);
    let days: BTreeSet<&str> = events.iter().map(|event| event["day"].as_str().expect("a day")).collect();
    let (mut kpi, mut customers) = (BTreeMap::<String, i64>::new(), BTreeMap::<i64, i64>::new());
    for day in days {
        let hash: BTreeMap<String, i64> =
            foreign.call("HGETALL", vec![foreign.key(&format!("{{board}}:kpi:{day}"))]).await;
        hash.into_iter().for_each(|(field, by)| *kpi.entry(field).or_default() += by);
        for (customer, cents) in scores(&foreign, &format!("{{board}}:leaderboard:customers:{day}")).await {
            *customers.entry(customer).or_default() += cents;
        }
    }
    let figures = [("completed", board.completed), ("failed", board.failed), ("revenue_cents", board.revenue_cents)];
    let mut figures: BTreeMap<String, i64> = figures.map(|(name, value)| (name.to_owned(), value)).into();
    for reason in ends.values().filter_map(|(_, reason)| reason.as_ref()) {
        *figures.entry(format!("failed_{reason}")).or_default() += 1;
    }
    assert_eq!(kpi, figures);
    assert_eq!(customers, board.customers, "the leaderboards of the days sum up to that of all time");
    assert_eq!(scores(&foreign, "{board}:leaderboard:customers").await, board.customers);
    assert_eq!(scores(&foreign, "{board}:leaderboard:products").await, board.products);
    let cursor: i64 = foreign.call("GET", vec![foreign.key("{board}:cursor")]).await;
    assert_eq!(cursor, ORDERS);
}

async fn scores(foreign: &Foreign, key: &str) -> BTreeMap<i64, i64> {
    let args = vec![foreign.key(key), b"0".to_vec(), b"-1".to_vec(), b"WITHSCORES".to_vec()];
    let flat: Vec<String> = foreign.call("ZRANGE", args).await;
    let number = |text: &String| text.parse().expect("a whole number");
    flat.chunks(2).map(|pair| (number(&pair[0]), number(&pair[1]))).collect()
}

/// Entries that can never succeed, and the reason that each must be given.
fn hopeless() -> Vec<(&'static str, Fields)> {
    let good = body("HOPELESS", 1, &[(1, 1, "1.00")]);
    let with = |from: &str, to: &str| good.replace(from, to).into_bytes();
    let line = r#"{"product_id":1,"quantity":1,"unit_price":"1.00"}"#;
    let mut nul = good.clone().into_bytes();
    nul[17] = 0;
    let mut latin = good.clone().into_bytes();
    latin[17] = 0xe9;
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("undecodable", b"".to_vec()),
        ("undecodable", b"ORD-1;7;3".to_vec()),
        ("undecodable", b"null".to_vec()),
        ("undecodable", b"{}".to_vec()),
        ("undecodable", format!("{good} {good}").into_bytes()),
        ("undecodable", good.as_bytes()[..good.len() - 1].to_vec()),
        ("undecodable", with(r#""customer_id":1"#, r#""customer_id":"1""#)),
        ("undecodable", with(r#""customer_id":1"#, r#""customer_id":1.0"#)),
        ("undecodable", with(r#""customer_id":1"#, r#""customer_id":9223372036854775808"#)),
        ("undecodable", with(r#""HOPELESS""#, "5")),
        ("undecodable", with(r#""1.00""#, "1.00")),
        ("undecodable", with(r#""quantity":1"#, r#""quantity":4294967296"#)),
        ("undecodable", with(r#""quantity":1"#, r#""quantity":2147483648"#)),
        ("undecodable", with(r#""quantity":1"#, r#""quantity":1e0"#)),
        ("undecodable", with(r#""quantity":1"#, r#""quantity":null"#)),
        ("undecodable", with(r#""customer_id":1"#, r#""customer_id":1,"customer_id":1"#)),
        ("undecodable", with("HOPELESS", r"\ud800")),
        ("undecodable", nul),
        ("undecodable", latin),
        ("undecodable", vec![b'['; 100_000]),
        ("undecodable", br#"{"lines":"#.iter().copied().chain(std::iter::repeat_n(b'[', 100_000)).collect()),
        ("invalid_order", with("HOPELESS", "")),
        ("invalid_order", with("HOPELESS", r"A\u0000B")),
        ("invalid_order", with("HOPELESS", " A")),
        ("invalid_order", with("HOPELESS", &"A".repeat(129))),
        ("invalid_order", with(r#""customer_id":1"#, r#""customer_id":0"#)),
        ("invalid_order", with(r#""product_id":1"#, r#""product_id":-1"#)),
        ("invalid_order", with(r#""quantity":1"#, r#""quantity":0"#)),
        ("invalid_order", with(r#""quantity":1"#, r#""quantity":-1"#)),
        ("invalid_order", with("1.00", "1.005")),
        ("invalid_order", with("1.00", "-1.00")),
        ("invalid_order", with("1.00", "1e2")),
        ("invalid_order", with("1.00", "NaN")),
        ("invalid_order", with("1.00", "100000000.00")),
        ("invalid_order", with(line, "")),
        ("invalid_order", with(line, &vec![line; 1_001].join(","))),
        ("invalid_order", body("HOPELESS", 1, &[(1, 2_147_483_647, "99999999.99")]).into_bytes()),
        ("invalid_order", body("HOPELESS", 1, &[(1, 900_719, "99999999.99"), (1, 1_000, "99999999.99")]).into_bytes()),
        ("too_large", with("HOPELESS", &" ".repeat(300_000))),
        ("too_large", vec![b'x'; 5_000_000]),
    ];
    let mut entries: Vec<(&str, Fields)> =
        bodies.into_iter().map(|(reason, body)| (reason, fields(&[("body", &body)]))).collect();
    let many = (0..2_000).map(|n| (format!("field-{n}").into_bytes(), b"value".to_vec())).collect();
    entries.push(("no_body", many));
    entries.push(("no_body", fields(&[("Body", good.as_bytes()), ("data", b"\xff\0\r\n")])));
    entries.push(("no_body", fields(&[("", b"")])));
    entries.push(("undecodable", fields(&[("traceparent", b"t"), ("body", b"x"), ("body", good.as_bytes())])));
    entries
}

#[tokio::test]
async fn what_can_never_succeed_becomes_a_dead_letter_and_its_neighbours_go_on() {
    let program = Program::seeded(1, &[1_000_000]).await;
    let foreign = Foreign::connect(&program).await;
    let (mut expected, mut neighbours) = (BTreeMap::new(), BTreeSet::new());
    for (reason, fields) in hopeless() {
        for _ in 0..5 {
            let code = format!("GOOD-{}", neighbours.len());
            foreign.add_body(body(&code, 1, &[(1, 1, "1.00")])).await;
            neighbours.insert(code);
        }
        expected.insert(foreign.add(&fields).await, (reason, fields));
    }
    assert!(neighbours.len() >= 200);
    program.drain().await;

    let dead = foreign.dead().await;
    let codes: BTreeSet<String> = program.ends().await.into_keys().collect();
    let differences: Vec<&String> = codes.symmetric_difference(&neighbours).collect();
    assert!(differences.is_empty(), "every neighbour is known to Postgres, and nothing else: {differences:?}");
    for (id, (reason, original)) in &expected {
        let shown: Vec<String> = original
            .iter()
            .take(3)
            .map(|(_, value)| String::from_utf8_lossy(value).chars().take(90).collect())
            .collect();
        let letter = dead.get(id).unwrap_or_else(|| panic!("no dead letter for {shown:?}"));
        // So many fields of the original are kept.
        let kept = original.len().min(1_000);
        assert_eq!(letter[..kept], original[..kept], "untouched: {shown:?}");
        let names: Vec<&[u8]> = letter[kept..].iter().map(|(name, _)| name.as_slice()).collect();
        let ours = [
            "reason",
            "error",
            "stage",
            "source_stream",
            "source_id",
            "deliveries",
            "first_at",
            "last_at",
            "fields_cut",
        ];
        let ours = if kept == original.len() { &ours[..8] } else { &ours[..] };
        assert_eq!(names, ours.iter().map(|name| name.as_bytes()).collect::<Vec<_>>(), "{shown:?}");
        assert_eq!(field(letter, "reason"), *reason, "{shown:?}");
        assert!(!field(letter, "error").is_empty(), "{shown:?}");
        assert_eq!(field(letter, "stage"), "reservation");
        assert_eq!(field(letter, "source_stream"), format!("{}:{{0}}:incoming", foreign.namespace));
        let time = |name: &str| field(letter, name).parse::<chrono::DateTime<chrono::Utc>>().expect("an instant");
        let added: i64 = id.split('-').next().expect("milliseconds").parse().expect("a number");
        assert_eq!(time("first_at").timestamp_millis(), added);
        assert!(time("last_at") >= time("first_at"));
    }
    assert_eq!(dead.len(), expected.len());
    program.audit().await;
}

#[tokio::test]
async fn an_order_without_names_is_undecodable() {
    let program = Program::seeded(1, &[100]).await;
    let foreign = Foreign::connect(&program).await;
    let id = foreign.add_body(r#"["ORD-1",1,[[1,1,"1.00"]]]"#).await;
    program.drain().await;
    assert!(program.ends().await.is_empty(), "the documented shape is an object");
    assert_eq!(field(&foreign.dead().await[&id], "reason"), "undecodable");
}

#[tokio::test]
async fn a_field_that_is_not_the_body_is_nobodys_business() {
    let program = Program::seeded(1, &[100]).await;
    let foreign = Foreign::connect(&program).await;
    let mut many: Fields = (0..2_000).map(|n| (format!("field-{n}").into_bytes(), vec![0xff])).collect();
    many.push((b"body".to_vec(), body("MANY", 1, &[(1, 1, "1.00")]).into_bytes()));
    foreign.add(&many).await;
    let order = body("MARKED", 1, &[(1, 1, "1.00")]);
    foreign.add(&fields(&[("import", b"no number"), ("body", order.as_bytes()), ("reason", b"mine")])).await;
    let ignored = body("DEEP", 1, &[(1, 1, "1.00")]).replace('}', r#","note":[[{"lines":null}]]}"#);
    foreign.add_body(ignored).await;
    program.drain().await;
    let known: Vec<String> = program.ends().await.into_keys().collect();
    assert_eq!(known, ["DEEP", "MANY", "MARKED"]);
    assert!(foreign.dead().await.is_empty());
}

#[tokio::test]
async fn an_order_that_cannot_be_served_fails_with_its_reason() {
    let program = Program::seeded(2, &[10, 10]).await;
    let foreign = Foreign::connect(&program).await;
    let table: [(&str, i64, &[Line<'_>], &str); 5] = [
        ("NOBODY", 3, &[(1, 1, "1.00")], "unknown_customer"),
        ("NOTHING", 1, &[(1, 1, "1.00"), (9_223_372_036_854_775_807, 1, "1.00")], "unknown_product"),
        ("TOO-MANY", 1, &[(2, 1, "1.00"), (1, 11, "1.00")], "out_of_stock"),
        ("SUMMED", 2, &[(1, 6, "1.00"), (2, 1, "0"), (1, 5, "2.5")], "out_of_stock"),
        ("HUGE", 2, &[(1, 2_147_483_647, "0.01"), (1, 2_147_483_647, "0.01")], "out_of_stock"),
    ];
    for (code, customer, lines, _) in table {
        foreign.add_body(body(code, customer, lines)).await;
    }
    foreign.add_body(body("ORD-1", 1, &[(1, 10, "1.00"), (2, 10, "1.00")])).await;
    program.drain().await;
    let mut expected: model::Ends = table.map(|(code, .., reason)| (code.to_owned(), failed(reason))).into();
    expected.insert("ORD-1".to_owned(), ("completed".to_owned(), None));
    assert_eq!(program.ends().await, expected, "what failed held nothing of the stock");
    assert!(foreign.dead().await.is_empty());
    program.audit().await;
}

#[tokio::test]
async fn the_same_order_twice_has_one_effect_and_another_under_its_code_is_a_conflict() {
    let program = Program::seeded(2, &[100, 100]).await;
    let foreign = Foreign::connect(&program).await;
    let order = body("ORD-1", 1, &[(1, 2, "19.90"), (2, 1, "1")]);
    let same = body("ORD-1", 1, &[(1, 2, "19.9"), (2, 1, "1.00")]);
    let others = [
        body("ORD-1", 2, &[(1, 2, "19.90"), (2, 1, "1")]),
        body("ORD-1", 1, &[(1, 3, "19.90"), (2, 1, "1")]),
        body("ORD-1", 1, &[(1, 2, "19.91"), (2, 1, "1")]),
        body("ORD-1", 1, &[(1, 2, "19.90")]),
    ];
    // Once in one batch, once with the order at its end.
    let mut conflicts = BTreeSet::new();
    for _ in 0..2 {
        foreign.add_body(&order).await;
        foreign.add_body(&same).await;
        for other in &others {
            conflicts.insert(foreign.add_body(other).await);
        }
        foreign.add_body(&order).await;
        program.drain().await;
    }
    let dead = foreign.dead().await;
    assert_eq!(dead.keys().cloned().collect::<BTreeSet<_>>(), conflicts);
    assert!(dead.values().all(|letter| field(letter, "reason") == "conflict"));
    assert_eq!(foreign.events().await.len(), 1);
    let left: Vec<i64> = sqlx::query_scalar("SELECT stock FROM products ORDER BY id")
        .fetch_all(&program.stack.reports.pool())
        .await
        .expect("stock");
    assert_eq!(left, [98, 99]);
    program.audit().await;
}

#[tokio::test]
async fn the_trace_context_of_an_order_goes_with_it_from_stream_to_stream() {
    const TRACE: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let program = Program::seeded(1, &[100]).await;
    let foreign = Foreign::connect(&program).await;
    let order = body("ORD-1", 1, &[(1, 1, "1.00")]);
    foreign.add(&fields(&[("traceparent", TRACE), ("body", order.as_bytes()), ("tracestate", b"x=1")])).await;
    foreign.add_body(body("ORD-2", 1, &[(1, 1, "1.00")])).await;
    for (stage, next) in [("reservation", "{0}:reserved"), ("payment", "{0}:paid")] {
        program.run(&["run", "--stages", stage, "--until-drained"]).await.exits(0);
        let entries = foreign.stream(next).await;
        let told = |fields: &Fields| {
            let body: Json = serde_json::from_str(&field(fields, "body")).expect("JSON");
            let value =
                |name: &str| fields.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| value.clone());
            let code = body["order_code"].as_str().expect("a code").to_owned();
            (code, value("traceparent"), value("tracestate"))
        };
        let told: Vec<_> = entries.iter().map(|(_, fields)| told(fields)).collect();
        let traced = ("ORD-1".to_owned(), Some(TRACE.to_vec()), Some(b"x=1".to_vec()));
        assert_eq!(told, [traced, ("ORD-2".to_owned(), None, None)], "{next}");
    }
    program.drain().await;
    assert!(program.ends().await.values().all(|end| end.0 == "completed"));
}
