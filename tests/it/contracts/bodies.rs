//! Bodies near every bound: what a schema says of them, and what the decoder does with them.

use chrono::DateTime;
use pipeline::message::{decode_callback, decode_order, decode_refund};
use proptest::{
    prelude::*,
    sample::{Index, select},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use serde_json::{Value, json};

use super::document::{Document, faults};

/// How many bodies of each kind.
const BODIES: usize = 3_000;

/// Where in a body something is put, and what.
type Candidates = Vec<(&'static str, Vec<Value>)>;

/// What is put in place of anything.
fn anything() -> Vec<Value> {
    vec![json!(null), json!(true), json!(1), json!(1.5), json!(""), json!("x"), json!([]), json!({}), json!(["x"])]
}

fn names() -> Vec<Value> {
    let mut names = anything();
    let texts = [
        "A",
        " A",
        "A ",
        "A B",
        "\tA",
        "A\n",
        "A\nB",
        "A\0",
        "A\u{7f}",
        "A\u{85}",
        "\u{9f}",
        "\u{a0}A",
        "A\u{1680}",
        "\u{2003}A",
        "A\u{2028}",
        "\u{3000}",
        "A\u{3000}B",
        "\u{feff}A",
        "\u{200b}",
        "A\u{200b}B",
        "A\u{ad}B",
        "A\u{202e}B",
        "A\u{a0}B",
        "A\u{fe0f}",
        "Übergröße-🦀",
        "auto:1",
        "auto",
        "Auto:1",
        "x auto:",
        "'; DROP TABLE orders;--",
        "a\\b\"c",
    ];
    names.extend(texts.map(Value::from));
    // The bound is one of bytes: these have exactly as many, and one more.
    names.extend(["x".repeat(128), "x".repeat(129), "ü".repeat(64), "🦀".repeat(32)].map(Value::from));
    names.extend(["x".repeat(256), "x".repeat(257), "x".repeat(500), "x".repeat(501)].map(Value::from));
    names
}

fn ids() -> Vec<Value> {
    let mut ids = anything();
    ids.extend([json!(0), json!(-1), json!(i64::MAX), json!(u64::MAX), json!(i64::MIN), json!("7"), json!(1e300)]);
    ids.push(json!(i64::MAX as u64 + 1));
    ids
}

fn amounts() -> Vec<Value> {
    let mut amounts = anything();
    let texts = [
        "0",
        "00",
        "0.0",
        "0.00",
        "0.01",
        "1",
        "1.",
        ".",
        ".5",
        "1.5",
        "1.50",
        "1.005",
        "1,5",
        "-1",
        "+1",
        "1e2",
        " 1",
        "1 ",
        "NaN",
        "٣",
        "1.٣",
        "99999999.99",
        "100000000",
        "100000000.00",
        "000000000000099999999.99",
        "99999999999.99",
        "100000000000",
        "100000000000.00",
        "100000000000.01",
        "0100000000000.0",
        "999999999999",
        "12345678901234567",
        "0000000000000000000000000000001",
    ];
    amounts.extend(texts.map(Value::from));
    amounts
}

fn quantities() -> Vec<Value> {
    let mut quantities = ids();
    quantities.extend([json!(i32::MAX), json!(i64::from(i32::MAX) + 1), json!(i32::MIN)]);
    quantities
}

fn line() -> Value {
    json!({ "product_id": 3, "quantity": 2, "unit_price": "19.99" })
}

fn order() -> (Value, Candidates) {
    let mut lines = anything();
    lines.extend([json!([line(), line()]), json!([[3, 2, "19.99"]]), json!([null]), json!([line(), 1])]);
    lines.extend([json!(vec![line(); 1_000]), json!(vec![line(); 1_001])]);
    let candidates = vec![
        ("", anything()),
        ("/order_code", names()),
        ("/customer_id", ids()),
        ("/total", amounts()),
        ("/currency", anything()),
        ("/Total", amounts()),
        ("/ order-code:", names()),
        ("/order_currency", anything()),
        ("/lines/0/Unit_Price", amounts()),
        ("/CURRENCY", anything()),
        ("/lines/0/total", amounts()),
        ("/lines/0/currency", anything()),
        ("/lines", lines),
        ("/lines/0/product_id", ids()),
        ("/lines/0/quantity", quantities()),
        ("/lines/0/unit_price", amounts()),
        ("/note", anything()),
        ("/lines/0/note", anything()),
    ];
    (json!({ "order_code": "ORD-1", "customer_id": 7, "lines": [line()] }), candidates)
}

fn refund() -> (Value, Candidates) {
    let candidates = vec![
        ("", anything()),
        ("/refund_key", names()),
        ("/order_code", names()),
        ("/amount", amounts()),
        // Blanks at the ends are cut off before anybody counts: see what the schema does not say.
        ("/reason", names().into_iter().filter(|name| name.as_str().is_none_or(|text| text.trim() == text)).collect()),
        ("/restock", anything()),
        ("/note", anything()),
    ];
    (json!({ "refund_key": "r-1", "order_code": "ORD-1", "amount": "10.00", "reason": "damaged" }), candidates)
}

fn callback() -> (Value, Candidates) {
    let mut currencies = anything();
    currencies.extend(["EUR", "eur", "EURO", "EU", "E1R", "ÄÖÜ"].map(Value::from));
    let mut kinds = anything();
    kinds.extend(
        ["charge.approved", "charge.lost", "refund.failed", "Charge.approved", "charge.approved "].map(Value::from),
    );
    let candidates = vec![
        ("", anything()),
        ("/type", kinds),
        ("/data", anything()),
        ("/data/id", names()),
        ("/data/reference", names()),
        ("/data/amount", amounts()),
        ("/data/currency", currencies),
        ("/data/note", anything()),
    ];
    let data = json!({ "id": "ch_1", "reference": "ORD-1", "amount": "39.98", "currency": "EUR" });
    (json!({ "type": "charge.approved", "data": data }), candidates)
}

/// Puts a value where the path points, if there is such a place; `None` takes away what is there.
fn put(body: &mut Value, path: &str, value: Option<Value>) {
    if path.is_empty() {
        *body = value.unwrap_or(Value::Null);
    } else if let Some((parent, name)) = path.rsplit_once('/')
        && let Some(parent) = body.pointer_mut(parent).and_then(Value::as_object_mut)
    {
        match value {
            Some(value) => parent.insert(name.to_owned(), value),
            None => parent.remove(name),
        };
    }
}

/// Bodies with up to three of the candidates in place of what is right.
fn bodies((good, candidates): (Value, Candidates)) -> impl Strategy<Value = Value> {
    let change = select(candidates).prop_flat_map(|(path, values)| {
        let value = prop_oneof![9 => any::<Index>().prop_map(Some), 1 => Just(None)];
        value.prop_map(move |index| (path, index.map(|index| index.get(&values).clone())))
    });
    prop::collection::vec(change, 0..4).prop_map(move |changes| {
        let mut body = good.clone();
        for (path, value) in changes {
            put(&mut body, path, value);
        }
        body
    })
}

/// What keeps the decoder from taking a body.
type Decode = fn(&[u8]) -> Option<String>;

const DECODERS: [(&str, Decode); 3] = [
    ("order", |body| decode_order(body).err().map(|error| error.detail)),
    ("refund", |body| decode_refund(body).err().map(|error| error.detail)),
    ("callback", |body| decode_callback(body, "msg_1", DateTime::UNIX_EPOCH).err().map(|error| error.detail)),
];

fn decoder(message: &str) -> Decode {
    DECODERS.iter().find(|(name, _)| *name == message).expect("a decoder").1
}

#[tokio::test]
async fn the_decoder_takes_what_the_schema_takes_and_refuses_what_it_refuses() {
    let mut runner = TestRunner::deterministic();
    let mut cases = Vec::new();
    for (message, parts) in [("order", order()), ("refund", refund()), ("callback", callback())] {
        let (good, candidates) = parts.clone();
        // Each alone, and then any together.
        for (path, values) in candidates {
            for value in values.into_iter().map(Some).chain([None]) {
                let mut body = good.clone();
                put(&mut body, path, value);
                cases.push((message.to_owned(), body));
            }
        }
        let bodies = bodies(parts);
        for _ in 0..BODIES {
            let body = bodies.new_tree(&mut runner).expect("a body").current();
            cases.push((message.to_owned(), body));
        }
    }
    let faults = faults(&Document::committed().schemas(), &cases).await;
    let (mut taken, mut refused) = (0, 0);
    for ((message, body), faults) in cases.iter().zip(faults) {
        let error = decoder(message)(body.to_string().as_bytes());
        match &error {
            // The sum of the lines: no schema can say that.
            Some(error) if error.contains("total exceeds") || error.contains("total must be") => continue,
            Some(_) => refused += 1,
            None => taken += 1,
        }
        assert_eq!(error.is_some(), !faults.is_empty(), "{message} {body:.600}: {error:?} and {faults:?}");
    }
    assert!(taken > BODIES / 2 && refused > BODIES / 2, "{taken} taken, {refused} refused");
}

/// What docs/INTEGRATION.md lists: bodies on which schema and decoder differ, and which of them takes it.
#[tokio::test]
async fn what_the_schemas_cannot_say_is_what_the_documentation_lists() {
    let (order, refund, callback) = (order().0, refund().0, callback().0);
    let with = |body: &Value, path: &str, value: Value| {
        let mut body = body.clone();
        put(&mut body, path, Some(value));
        body.to_string()
    };
    let dear = json!({ "product_id": 1, "quantity": i32::MAX, "unit_price": "99999999.99" });
    let stricter_decoder = [
        ("order", with(&order, "/order_code", json!("ü".repeat(65)))),
        ("refund", with(&refund, "/refund_key", json!("ü".repeat(65)))),
        ("refund", with(&refund, "/reason", json!("ü".repeat(251)))),
        ("order", with(&order, "/lines", json!([dear]))),
        ("order", with(&order, "/total", json!("0.01"))),
        ("order", with(&order, "/t\u{43e}tal", json!("39.98"))),
        ("callback", with(&callback, "/data/amount", json!("92233720368547758.08"))),
        ("order", order.to_string().replace("\"customer_id\":7", "\"customer_id\":7.0")),
        ("order", order.to_string().replace("\"customer_id\":7", "\"customer_id\":6,\"customer_id\":7")),
    ];
    let lenient_decoder = [
        ("refund", with(&refund, "/reason", json!("damaged\n"))),
        ("refund", with(&refund, "/reason", json!(" ".repeat(501)))),
    ];
    let all = stricter_decoder.iter().chain(&lenient_decoder);
    let cases: Vec<_> =
        all.clone().map(|(name, body)| ((*name).to_owned(), serde_json::from_str(body).expect("JSON"))).collect();
    let faults = faults(&Document::committed().schemas(), &cases).await;
    for (at, ((message, body), faults)) in all.zip(faults).enumerate() {
        let schema_takes_it = at < stricter_decoder.len();
        assert_eq!(faults.is_empty(), schema_takes_it, "{message} {body:.200}: {faults:?}");
        assert_eq!(decoder(message)(body.as_bytes()).is_some(), schema_takes_it, "{message} {body:.200}");
    }
}
