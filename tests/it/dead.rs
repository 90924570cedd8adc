//! Dead letters, as operators meet them: looked at, replayed, repaired, discarded, exported and imported.

use std::time::Duration;

use nix::sys::signal::Signal;
use pipeline::{
    domain::OrderId,
    message::{DeadReason, OrderRef},
    store,
    streams::{Connection, Consumer, Delivery, Direction, HandOff},
    topology::StageName,
};
use serde_json::Value;

use crate::program::{
    Orderstream, Program,
    harness::{eventually, order},
};

/// Names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

const STOCKS: [i64; 2] = [1_000, 1_000];

fn fields(fields: &[(&str, &[u8])]) -> Fields {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

async fn add(redis: &mut Connection, stream: &str, fields: &Fields) -> String {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    command.query_async(redis).await.expect("an id")
}

async fn length(program: &Program, stream: &str) -> u64 {
    redis::cmd("XLEN").arg(stream).query_async(&mut program.stack.connection().await).await.expect("a stream")
}

/// Adds this to the stream of orders.
async fn publish(program: &Program, body: &[u8]) -> String {
    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    add(&mut program.stack.connection().await, &stream, &fields(&[("body", body)])).await
}

fn body(code: &str, price: &str) -> String {
    format!(
        r#"{{"order_code":"{code}","customer_id":1,"lines":[{{"product_id":1,"quantity":2,"unit_price":"{price}"}}]}}"#
    )
}

/// Makes dead letters of all that waits for a stage, as its worker does when it gives up.
async fn bury(program: &Program, stage: StageName, reason: DeadReason) {
    let mut consumer = Consumer::join(&program.stack.redis, stage, 0, "gravedigger").await.expect("Redis");
    let entries = consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries");
    assert!(!entries.is_empty(), "something waits for {stage}");
    let letters = entries.into_iter().map(|Delivery { entry, .. }| {
        let mut letter = entry.fields;
        letter.extend(fields(&[
            ("reason", reason.as_str().as_bytes()),
            ("error", b"made by a test"),
            ("stage", stage.as_str().as_bytes()),
            ("source_stream", program.stack.redis.keys().stream(0, stage).as_bytes()),
            ("source_id", entry.id.to_string().as_bytes()),
            ("deliveries", b"3"),
            ("first_at", b"2020-01-01T10:00:00.000Z"),
            ("last_at", b"2020-01-01T10:00:01.000Z"),
        ]));
        (entry.id, HandOff::Dead { fields: letter, owned: true })
    });
    consumer.hand_off(letters.collect()).await.expect("handed off");
    consumer.leave().await.expect("Redis");
}

/// One order that is parked at a stage, its message a dead letter.
async fn park(program: &Program, code: &str, stage: StageName) {
    program.stack.publish(&[order(code, 1, &[(1, 2, 500)])]).await;
    let stages: &[StageName] =
        if stage == StageName::Payment { &[StageName::Reservation] } else { &StageName::WAY[..2] };
    program.stack.run(stages).await;
    let id: i64 = program.stack.value(&format!("SELECT id FROM orders WHERE code = '{code}'")).await;
    let mut postgres = program.stack.store.pool().acquire().await.expect("Postgres");
    let reason = DeadReason::AttemptsExhausted;
    let order = OrderRef { order_id: OrderId(id), order_code: code.to_owned() };
    store::park_orders(&mut postgres, &[order], stage, reason).await.expect("parked");
    bury(program, stage, reason).await;
}

async fn letters(program: &Program, filter: &[&str]) -> Vec<Value> {
    let list = program.run(&[&["dead", "list", "--json"], filter].concat()).await.exits(0).json();
    list["letters"].as_array().expect("letters").clone()
}

async fn ids(program: &Program, filter: &[&str]) -> Vec<String> {
    let letters = letters(program, filter).await;
    letters.iter().map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect()
}

async fn only_id(program: &Program, filter: &[&str]) -> String {
    let [id] = ids(program, filter).await.try_into().expect("one letter");
    id
}

async fn parked(program: &Program) -> i64 {
    program.stack.value("SELECT count(*) FROM parked").await
}

/// All letters as they stand in the stream, without their ids.
async fn contents(program: &Program) -> Vec<Fields> {
    let (redis, mut connection) = (&program.stack.redis, program.stack.connection().await);
    let mut walk = redis.walk_dead_letters(&mut connection, 0, Direction::OldestFirst, None).await.expect("Redis");
    let mut contents = Vec::new();
    while let Some(page) = walk.next_page(redis, &mut connection).await.expect("a page") {
        contents.extend(page.iter().map(|letter| letter.fields().cloned().collect::<Fields>()));
    }
    contents
}

#[tokio::test]
async fn a_letter_is_replayed_once_and_says_how_often_its_message_came_back() {
    let program = Program::seeded(1, &STOCKS).await;
    let original = publish(&program, br#"{"order_code":"A","customer_id":"1""#).await;
    program.drain().await;
    let id = only_id(&program, &[]).await;
    let shown = program.run(&["dead", "show", &id, "--json"]).await.exits(0).json();
    assert_eq!((&shown["reason"], &shown["stage"]), (&"undecodable".into(), &"reservation".into()));
    assert_eq!((&shown["order_code"], &shown["source_id"]), (&"A".into(), &original.into()));
    assert_eq!((&shown["replayed"], &shown["replays"]), (&Value::Null, &0.into()));

    let incoming = program.stack.redis.keys().stream(0, StageName::Reservation);
    let before = length(&program, &incoming).await;
    let replayed = program.run(&["dead", "replay", &id, "--force", "--json"]).await.exits(0).json();
    assert_eq!(replayed["outcomes"], serde_json::json!({ "replayed": 1 }));
    let again = program.run(&["dead", "replay", &id, "--json"]).await.exits(0).json();
    assert_eq!(again["outcomes"], serde_json::json!({ "already": 1 }));
    assert_eq!(length(&program, &incoming).await, before + 1, "the second replay did nothing");

    program.drain().await;
    let [second, first] = letters(&program, &[]).await.try_into().expect("it died again, and the first stays");
    assert_eq!(first["id"], id.as_str());
    assert_eq!(first["replayed"]["as"], second["source_id"], "the letter says what it became");
    assert_eq!((&second["replays"], &second["replayed_from"]), (&1.into(), &id.as_str().into()));
    let second_id = second["id"].as_str().expect("an id");
    program.run(&["dead", "replay", second_id, "--force"]).await.exits(0);
    program.drain().await;
    let third = letters(&program, &["--limit", "1"]).await;
    assert_eq!((&third[0]["replays"], &third[0]["replayed_from"]), (&2.into(), &second_id.into()));
    let text = program.run(&["dead", "show", third[0]["id"].as_str().expect("an id")]).await.exits(0).stdout;
    assert!(text.contains("Came back   2 times"), "{text}");
    program.audit().await;
}

#[tokio::test]
async fn nothing_is_replayed_or_discarded_by_accident() {
    let program = Program::seeded(1, &STOCKS).await;
    for _ in 0..3 {
        publish(&program, b"nonsense").await;
    }
    program.drain().await;
    for verb in ["replay", "discard"] {
        let refused = program.run(&["dead", verb]).await.exits(2);
        assert!(refused.stderr.contains("--all"), "{}", refused.stderr);
        let force = if verb == "replay" { &["--force"][..] } else { &[] };
        let dry = [&["dead", verb, "--all", "--dry-run", "--json"], force].concat();
        let dry = program.run(&dry).await.exits(0).json();
        assert_eq!(dry["outcomes"].as_object().expect("outcomes").values().collect::<Vec<_>>(), [3]);
    }
    let refused = program.run(&["dead", "discard", "--reason", "undecodable"]).await.exits(2);
    assert!(refused.stderr.contains("3 letters") && refused.stderr.contains("--yes"), "{}", refused.stderr);
    let letters = letters(&program, &["--replayed", "no"]).await;
    assert_eq!(letters.len(), 3, "all is as it was");

    let id = letters[0]["id"].as_str().expect("an id");
    for command in
        [&["dead", "show", "1-1"][..], &["dead", "replay", "--force", "1-1", id], &["dead", "discard", "7/1-1"]]
    {
        let missing = program.run(command).await.exits(5);
        assert!(missing.stderr.contains("1-1"), "{}", missing.stderr);
    }
    assert_eq!(ids(&program, &["--replayed", "yes"]).await, [id], "an unknown id keeps no other from being replayed");
    program.run(&["dead", "discard", id, "--why", "twice"]).await.exits(0);
    program.run(&["dead", "show", id]).await.exits(5);
    let done = program.run(&["dead", "discard", "--all", "--yes", "--json"]).await.exits(0).json();
    assert_eq!(done["outcomes"], serde_json::json!({ "discarded": 2 }));
    assert_eq!(program.dead_letters().await, 0);
    let marks: u64 = redis::cmd("HLEN")
        .arg(program.stack.redis.keys().dead_replays(0))
        .query_async(&mut program.stack.connection().await)
        .await
        .expect("Redis");
    assert_eq!(marks, 0, "marks go with their letters");
}

#[tokio::test]
async fn letters_are_found_by_what_they_are() {
    let program = Program::seeded(1, &STOCKS).await;
    publish(&program, body("GOOD", "1.00").as_bytes()).await;
    publish(&program, body("BAD", "0.001").as_bytes()).await;
    publish(&program, br#"{"order_code":"CUT""#).await;
    program.drain().await;
    park(&program, "PARKED", StageName::Payment).await;
    for (filter, expected) in [
        (&[][..], 3),
        (&["--stage", "payment"], 1),
        (&["--stage", "reservation"], 2),
        (&["--stage", "settlement"], 0),
        (&["--reason", "invalid_order"], 1),
        (&["--reason", "conflict"], 0),
        (&["--order", "CUT"], 1),
        (&["--order", "PARKED"], 1),
        (&["--order", "GOOD"], 0),
        (&["--order", "BAD", "--reason", "undecodable"], 0),
        (&["--newer-than", "1h"], 2),
        (&["--older-than", "0s", "--order", "BAD"], 1),
        (&["--older-than", "1h"], 1),
        (&["--replayed", "no"], 3),
        (&["--replayed", "yes"], 0),
    ] {
        assert_eq!(ids(&program, filter).await.len(), expected, "{filter:?}");
    }

    let all = ids(&program, &[]).await;
    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut command = vec!["dead", "list", "--json", "--limit", "1"];
        command.extend(after.iter().flat_map(|after| ["--after", after]));
        let page = program.run(&command).await.exits(0).json();
        let letters = page["letters"].as_array().expect("letters");
        paged.extend(letters.iter().map(|letter| letter["id"].as_str().expect("an id").to_owned()));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(paged, all, "page by page, each letter once");
    let newest_first = {
        let mut sorted = all.clone();
        sorted.sort_by(|a, b| b.cmp(a));
        sorted
    };
    assert_eq!(all, newest_first);

    let replayed =
        program.run(&["dead", "replay", "--stage", "reservation", "--force", "--json"]).await.exits(0).json();
    assert_eq!(replayed["outcomes"], serde_json::json!({ "replayed": 2 }), "a filter replays what it finds");
    assert_eq!(ids(&program, &["--replayed", "no"]).await, ids(&program, &["--order", "PARKED"]).await);
}

#[tokio::test]
async fn an_order_that_was_sent_wrong_completes_with_a_repaired_body() {
    let program = Program::seeded(1, &STOCKS).await;
    publish(&program, body("REPAIRED", "0.001").as_bytes()).await;
    program.drain().await;
    let id = only_id(&program, &["--order", "REPAIRED"]).await;
    for (wrong, why) in
        [(body("REPAIRED", "0.002"), "unit_price"), ("{".to_owned(), "EOF"), (" ".repeat(262_145), "bytes")]
    {
        program.write("body.json", wrong);
        let refused = program.run(&["dead", "replay", &id, "--body", "body.json"]).await.exits(2);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
    program.run(&["dead", "replay", "--all", "--body", "body.json"]).await.exits(2);
    assert!(program.ends().await.is_empty());
    program.write("body.json", body("REPAIRED", "0.10"));
    program.run(&["dead", "replay", &id, "--body", "body.json"]).await.exits(0);
    program.drain().await;
    assert_eq!(program.ends().await["REPAIRED"].0, "completed");
    let shown = program.run(&["dead", "show", &id, "--json"]).await.exits(0).json();
    assert_eq!((&shown["replayed"]["edited"], &shown["replayed"]["times"]), (&true.into(), &1.into()));
    assert_eq!(shown["fields"][0]["value"], body("REPAIRED", "0.001"), "the letter keeps what was sent");
    program.audit().await;
}

#[tokio::test]
async fn what_is_exported_and_discarded_comes_back_and_completes() {
    let program = Program::seeded(1, &STOCKS).await;
    for n in 0..20 {
        publish(&program, body(&format!("ORDER-{n}"), "1.50").as_bytes()).await;
    }
    bury(&program, StageName::Reservation, DeadReason::RefusedByDatabase).await;
    let before = contents(&program).await;
    assert_eq!(before.len(), 20);
    program.run(&["dead", "export", "--output", "letters.ndjson"]).await.exits(0);
    let refused = program.run(&["dead", "export", "--output", "letters.ndjson"]).await.exits(6);
    assert!(refused.stderr.contains("exists"), "{}", refused.stderr);
    let streamed = program.run(&["dead", "export"]).await.exits(0).stdout;
    assert_eq!(std::fs::read_to_string(program.path("letters.ndjson")).expect("the export"), streamed);

    let import = async |file: &str, exit: i32| {
        let done = program.run(&["dead", "import", file, "--json"]).await.exits(exit).json();
        ["imported", "skipped", "refused"].map(|count| done[count].as_u64().expect("a count"))
    };
    assert_eq!(import("letters.ndjson", 0).await, [0, 20, 0], "all are there");
    program.run(&["dead", "discard", "--all", "--yes"]).await.exits(0);
    program.write("bad.ndjson", format!("nonsense\n\n{streamed}{{\"id\":\"1-1\",\"fields\":[]}}\n{{\"id\":\"9/1-1\",\"fields\":[{{\"name\":\"a\",\"value\":\"b\"}}]}}"));
    assert_eq!(import("bad.ndjson", 3).await, [20, 0, 3], "bad lines keep no letter from coming back");
    let bad = program.run(&["dead", "import", "bad.ndjson"]).await.exits(3);
    for line in ["line 1:", "line 23:", "line 24:"] {
        assert!(bad.stderr.contains(line), "{}", bad.stderr);
    }
    assert_eq!(import("letters.ndjson", 0).await, [0, 20, 0], "and come back once");
    // Exported anew, under other ids, they are still the same.
    let again = program.run(&["dead", "export"]).await.exits(0).stdout;
    program.write("again.ndjson", again);
    assert_eq!(import("again.ndjson", 0).await, [0, 20, 0]);
    let after = contents(&program).await;
    let unmarked: Vec<Fields> = after.iter().map(|letter| letter[..letter.len() - 1].to_vec()).collect();
    assert_eq!(unmarked, before);

    program.run(&["dead", "replay", "--all"]).await.exits(0);
    program.drain().await;
    let ends = program.ends().await;
    assert_eq!(ends.len(), 20);
    assert!(ends.values().any(|end| end.0 == "completed"));
    program.audit().await;
}

#[tokio::test]
async fn a_parked_order_fails_as_abandoned_when_its_letter_is_discarded() {
    let program = Program::seeded(1, &STOCKS).await;
    park(&program, "GIVEN-UP", StageName::Payment).await;
    assert_eq!(program.stack.value::<i64>("SELECT reserved FROM products WHERE id = 1").await, 2);
    let id = only_id(&program, &[]).await;
    let dry = program.run(&["dead", "discard", &id, "--dry-run", "--json"]).await.exits(0).json();
    assert_eq!(dry["outcomes"], serde_json::json!({ "abandoned": 1 }));
    assert_eq!(parked(&program).await, 1, "nothing happened yet");
    let done = program.run(&["dead", "discard", &id, "--json"]).await.exits(0).json();
    assert_eq!(done["outcomes"], serde_json::json!({ "abandoned": 1 }));

    assert_eq!(program.ends().await["GIVEN-UP"], ("failed".to_owned(), Some("abandoned".to_owned())));
    assert_eq!(program.stack.value::<i64>("SELECT reserved FROM products WHERE id = 1").await, 0);
    assert_eq!((parked(&program).await, program.dead_letters().await), (0, 0));
    program.drain().await;
    assert_eq!(program.board().await.failed, 1);
    program.audit().await;
}

#[tokio::test]
async fn a_paid_order_is_not_given_up_but_replayed() {
    let program = Program::seeded(1, &STOCKS).await;
    // Approved, as its code predicts.
    park(&program, "ORD-1", StageName::Settlement).await;
    let id = only_id(&program, &[]).await;
    for dry in [&["--dry-run"][..], &[]] {
        let refused = program.run(&[&["dead", "discard", &id], dry].concat()).await.exits(6);
        assert!(refused.stdout.contains(&format!("dead replay {id}")), "{}", refused.stdout);
    }
    assert_eq!((parked(&program).await, program.dead_letters().await), (1, 1), "all is as it was");

    program.run(&["dead", "replay", &id]).await.exits(0);
    assert_eq!(parked(&program).await, 0);
    program.drain().await;
    assert_eq!(program.ends().await["ORD-1"].0, "completed");
    program.run(&["dead", "discard", &id]).await.exits(0);
    assert_eq!(program.ends().await["ORD-1"].0, "completed");
    program.audit().await;
}

#[tokio::test]
async fn an_order_that_postgres_refuses_waits_for_its_letter_and_completes_with_its_replay() {
    let program = Program::seeded(1, &STOCKS).await;
    program.stack.sql("ALTER TABLE payments ADD CONSTRAINT test_check CHECK (amount_cents <> 1000)").await;
    let orders = [order("ORD-1", 1, &[(1, 2, 500)]), order("ORD-2", 1, &[(1, 2, 700)])];
    program.stack.publish(&orders).await;
    program.drain().await;
    let ends = program.ends().await;
    assert_eq!((ends["ORD-1"].0.as_str(), ends["ORD-2"].0.as_str()), ("reserved", "completed"));
    let letters = letters(&program, &["--stage", "payment", "--reason", "refused_by_database"]).await;
    assert_eq!((letters.len(), &letters[0]["order_code"], &letters[0]["deliveries"]), (1, &"ORD-1".into(), &1.into()));
    assert_eq!(parked(&program).await, 1);
    program.audit().await;

    program.stack.sql("ALTER TABLE payments DROP CONSTRAINT test_check").await;
    let id = letters[0]["id"].as_str().expect("an id");
    program.run(&["dead", "replay", id]).await.exits(0);
    program.drain().await;
    assert_eq!((program.ends().await["ORD-1"].0.as_str(), parked(&program).await), ("completed", 0));
    program.audit().await;
}

#[tokio::test]
async fn a_repaired_message_between_the_stages_is_read_as_its_stage_reads_it() {
    let program = Program::seeded(1, &STOCKS).await;
    park(&program, "ORD-1", StageName::Payment).await;
    let id = only_id(&program, &[]).await;
    program.write("body.json", body("ORD-1", "1.00"));
    let refused = program.run(&["dead", "replay", &id, "--body", "body.json"]).await.exits(2);
    assert!(refused.stderr.contains("order_id"), "{}", refused.stderr);
    assert_eq!(parked(&program).await, 1, "nothing happened yet");
    let order_id: i64 = program.stack.value("SELECT id FROM orders").await;
    let repaired = OrderRef { order_id: OrderId(order_id), order_code: "ORD-1".to_owned() };
    program.write("body.json", repaired.encode());
    program.run(&["dead", "replay", &id, "--body", "body.json"]).await.exits(0);
    assert_eq!(parked(&program).await, 0);
    program.drain().await;
    assert_eq!(program.ends().await["ORD-1"].0, "completed");
    program.audit().await;
}

#[tokio::test]
async fn only_the_last_letter_of_a_parked_order_decides_over_it() {
    let program = Program::seeded(1, &STOCKS).await;
    park(&program, "TWICE", StageName::Payment).await;
    let first = only_id(&program, &[]).await;
    program.run(&["dead", "replay", &first]).await.exits(0);
    let id: i64 = program.stack.value("SELECT id FROM orders").await;
    let mut postgres = program.stack.store.pool().acquire().await.expect("Postgres");
    let reason = DeadReason::AttemptsExhausted;
    let order = OrderRef { order_id: OrderId(id), order_code: "TWICE".to_owned() };
    store::park_orders(&mut postgres, &[order], StageName::Payment, reason).await.expect("parked");
    bury(&program, StageName::Payment, reason).await;

    program.run(&["dead", "discard", &first]).await.exits(0);
    assert_eq!(program.ends().await["TWICE"].0, "reserved", "the letter that came back still holds it");
    let last = only_id(&program, &[]).await;
    program.run(&["dead", "discard", &last]).await.exits(0);
    assert_eq!(program.ends().await["TWICE"].1.as_deref(), Some("abandoned"));
    program.drain().await;
    program.audit().await;
}

#[tokio::test]
async fn a_letter_about_another_order_of_the_same_number_gives_up_nothing() {
    let program = Program::seeded(1, &STOCKS).await;
    park(&program, "MINE", StageName::Payment).await;
    let id: i64 = program.stack.value("SELECT id FROM orders").await;
    let stranger = OrderRef { order_id: OrderId(id), order_code: "YOURS".to_owned() }.encode();
    let stream = program.stack.redis.keys().stream(0, StageName::Payment);
    add(&mut program.stack.connection().await, &stream, &fields(&[("body", &stranger)])).await;
    bury(&program, StageName::Payment, DeadReason::UnknownOrder).await;
    let done = program.run(&["dead", "discard", "--order", "YOURS", "--json"]).await.exits(0).json();
    assert_eq!(done["outcomes"], serde_json::json!({ "discarded": 1 }));
    assert_eq!((program.ends().await["MINE"].0.as_str(), parked(&program).await), ("reserved", 1));
}

#[tokio::test]
async fn hostile_letters_are_inert() {
    let program = Program::seeded(1, &STOCKS).await;
    let mut redis = program.stack.connection().await;
    let incoming = program.stack.redis.keys().stream(0, StageName::Reservation);
    let mut wide: Fields =
        (0_u16..1_500).map(|n| (format!("field-{n}").into_bytes(), [&[0xff][..], &n.to_le_bytes()].concat())).collect();
    wide.push((b"body".to_vec(), b"{\"order_code\":\"\\u001b[2J\\u202e\"}".to_vec()));
    add(&mut redis, &incoming, &wide).await;
    let forged = fields(&[
        ("reason", b"conflict\x1b[2J"),
        ("error", b"\x1b]0;title\x07\r\n"),
        ("stage", b"settlement"),
        ("source_stream", b"elsewhere"),
        ("source_id", b"1-1"),
        ("body", b"\x1b[31m\xfe\r{"),
        ("replays", b"99999999999999999999999"),
    ]);
    add(&mut redis, &incoming, &forged).await;
    program.drain().await;
    let dead = program.stack.redis.keys().dead(0);
    add(&mut redis, &dead, &fields(&[("\x1b[2J", b"no letter at all"), ("stage", b"reservation")])).await;
    let elsewhere = [&forged[..4], &forged[4..5], &fields(&[("last_at", b"never\x07")])].concat();
    add(&mut redis, &dead, &elsewhere).await;

    let all = ids(&program, &[]).await;
    assert_eq!(all.len(), 4);
    let mut outputs = vec![program.run(&["dead", "list"]).await.exits(0).stdout];
    for id in &all {
        outputs.push(program.run(&["dead", "show", id]).await.exits(0).stdout);
    }
    let dry = program.run(&["dead", "replay", "--all", "--dry-run"]).await.exits(6);
    outputs.extend([dry.stdout, dry.stderr, program.run(&["status"]).await.exits(0).stdout]);
    outputs.push(program.run(&["dead", "export"]).await.exits(0).stdout);
    for output in outputs {
        let active = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!output.contains(active), "{output:?}");
        assert!(output.len() < 100_000);
    }
    let stages: Vec<_> = letters(&program, &[]).await.iter().map(|letter| letter["stage"].clone()).collect();
    assert_eq!(
        stages,
        ["settlement", "null", "reservation", "reservation"].map(|stage| match stage {
            "null" => Value::Null,
            stage => stage.into(),
        }),
        "an original does not pass for a letter"
    );

    let before = contents(&program).await;
    program.run(&["dead", "export", "--output", "hostile.ndjson"]).await.exits(0);
    program.run(&["dead", "discard", "--all", "--yes"]).await.exits(0);
    program.run(&["dead", "import", "hostile.ndjson"]).await.exits(0);
    let mut after = contents(&program).await;
    after.iter_mut().for_each(|letter| drop(letter.pop()));
    assert_eq!(after, before, "byte for byte");

    let done = program.run(&["dead", "replay", "--all", "--force", "--json"]).await.exits(6).json();
    assert_eq!(done["outcomes"], serde_json::json!({ "replayed": 2, "refused": 2 }));
    assert_eq!(done["letters"][2]["outcome"], "refused", "no letter: it names no stage");
    program.drain().await;
    let again = letters(&program, &["--limit", "2"]).await;
    assert_eq!((&again[0]["replays"], &again[1]["replays"]), (&1.into(), &1.into()));
    program.audit().await;
}

#[tokio::test]
async fn a_replay_goes_where_the_stage_is_whatever_the_letter_says_of_its_stream() {
    let program = Program::seeded(1, &STOCKS).await;
    let mut redis = program.stack.connection().await;
    let victim = format!("{}:victim", program.stack.namespace);
    let letter = |stage: &str, reason: &str| {
        fields(&[
            ("body", body("WHERE", "1.00").as_bytes()),
            ("reason", reason.as_bytes()),
            ("error", b"x"),
            ("stage", stage.as_bytes()),
            ("source_stream", victim.as_bytes()),
            ("source_id", b"1-1"),
        ])
    };
    let dead = program.stack.redis.keys().dead(0);
    add(&mut redis, &dead, &letter("victim", "conflict")).await;
    add(&mut redis, &dead, &letter("reservation", "conflict")).await;
    add(&mut redis, &dead, &letter("reservation", "deleted")).await;
    let done = program.run(&["dead", "replay", "--all", "--json"]).await.exits(6).json();
    let outcomes: Vec<_> =
        done["letters"].as_array().expect("letters").iter().map(|it| it["outcome"].clone()).collect();
    assert_eq!(outcomes, ["refused", "replayed", "refused"]);
    assert_eq!(length(&program, &victim).await, 0);
    program.drain().await;
    assert!(program.ends().await.contains_key("WHERE"));
}

#[tokio::test]
async fn an_interrupted_replay_goes_on_where_it_ended() {
    const LETTERS: u64 = 30;
    let program = Program::seeded(1, &STOCKS).await;
    for _ in 0..LETTERS {
        publish(&program, b"nonsense").await;
    }
    bury(&program, StageName::Reservation, DeadReason::Undecodable).await;
    let incoming = program.stack.redis.keys().stream(0, StageName::Reservation);
    let before = length(&program, &incoming).await;
    let replay = program.start(&["dead", "replay", "--all", "--force", "--rate", "10", "--json"]);
    eventually("some are replayed", async || length(&program, &incoming).await >= before + 2).await;
    replay.signal(Signal::SIGINT);
    let interrupted = replay.end().await.exits(130).json();
    let first = interrupted["outcomes"]["replayed"].as_u64().expect("a count");
    assert_eq!(length(&program, &incoming).await, before + first);
    assert!((2..LETTERS).contains(&first), "{first}");
    let rest = program.run(&["dead", "replay", "--all", "--force", "--json"]).await.exits(0).json();
    assert_eq!(rest["outcomes"], serde_json::json!({ "already": first, "replayed": LETTERS - first }));
    assert_eq!(length(&program, &incoming).await, before + LETTERS, "each once");
}

#[tokio::test]
async fn replays_at_the_same_time_replay_each_letter_once() {
    const LETTERS: u64 = 200;
    let program = Program::seeded(1, &STOCKS).await;
    for _ in 0..LETTERS {
        publish(&program, b"nonsense").await;
    }
    bury(&program, StageName::Reservation, DeadReason::Undecodable).await;
    let incoming = program.stack.redis.keys().stream(0, StageName::Reservation);
    let before = length(&program, &incoming).await;
    let command = ["dead", "replay", "--all", "--force", "--json", "--rate", "100000"];
    let both = [program.start(&command), program.start(&command)];
    let mut replayed = 0;
    for one in both {
        replayed += one.end().await.exits(0).json()["outcomes"]["replayed"].as_u64().unwrap_or(0);
    }
    assert_eq!((replayed, length(&program, &incoming).await), (LETTERS, before + LETTERS));
}

#[tokio::test]
async fn beyond_the_bound_the_oldest_letters_go_with_their_marks() {
    let program = Program::get().await;
    let (redis, mut connection) = (&program.stack.redis, program.stack.connection().await);
    let keys = redis.keys();
    assert_eq!(redis.trim_dead(&mut connection, 0, 10).await.expect("Redis"), 0, "nothing is there");
    for n in 0..1_000 {
        let id = add(&mut connection, &keys.dead(0), &fields(&[("n", n.to_string().as_bytes())])).await;
        let mark = redis::cmd("HSET").arg(keys.dead_replays(0)).arg(id).arg("{}").to_owned();
        mark.exec_async(&mut connection).await.expect("Redis");
    }
    assert_eq!(redis.trim_dead(&mut connection, 0, 1_000).await.expect("Redis"), 0);
    let dropped = redis.trim_dead(&mut connection, 0, 300).await.expect("Redis");
    let left = length(&program, &keys.dead(0)).await;
    assert!((300..500).contains(&left), "{left}");
    assert_eq!(dropped, 1_000 - left);
    let marks: Vec<String> =
        redis::cmd("HKEYS").arg(keys.dead_replays(0)).query_async(&mut connection).await.expect("Redis");
    let mut letters = Vec::new();
    let mut walk = redis.walk_dead_letters(&mut connection, 0, Direction::OldestFirst, None).await.expect("Redis");
    while let Some(page) = walk.next_page(redis, &mut connection).await.expect("a page") {
        letters.extend(page.iter().map(|letter| letter.id.to_string()));
    }
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(marks), sorted(letters), "the marks of the letters that are left");
}

#[tokio::test]
async fn a_full_redis_takes_no_replay_and_can_be_relieved_of_letters() {
    let program = Program::alone(1, &STOCKS).await;
    publish(&program, b"nonsense").await;
    program.drain().await;
    let id = only_id(&program, &[]).await;
    let full = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1mb").to_owned();
    full.exec_async(&mut program.stack.connection().await).await.expect("Redis");
    let refused = program.run(&["dead", "replay", &id, "--force"]).await.exits(1);
    assert!(refused.stderr.contains("OOM"), "{}", refused.stderr);
    assert_eq!(only_id(&program, &["--replayed", "no"]).await, id, "nothing was noted");
    program.run(&["dead", "discard", &id]).await.exits(0);
    assert_eq!(program.dead_letters().await, 0);
}

#[tokio::test]
async fn status_names_what_needs_attention() {
    let program = Program::seeded(1, &STOCKS).await;
    publish(&program, b"nonsense").await;
    program.drain().await;
    park(&program, "PARKED", StageName::Payment).await;
    let quiet = program.run(&["status", "--json"]).await.exits(0).json();
    assert_eq!((&quiet["parked_orders"], &quiet["warnings"]), (&1.into(), &serde_json::json!([])));
    let reasons =
        serde_json::json!({ "undecided": 2, "reasons": { "attempts_exhausted": 1, "undecodable": 1 }, "of": 2 });
    assert_eq!(quiet["partitions"][0]["dead_letter_reasons"], reasons);

    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    let create = redis::cmd("XGROUP").arg("CREATE").arg(&stream).arg("curious").arg("0").to_owned();
    create.exec_async(&mut program.stack.connection().await).await.expect("Redis");
    let text = program.run(&["status"]).await.exits(0).stdout;
    assert!(text.contains("warning: the group \"curious\""), "{text}");
    assert!(text.contains("XGROUP DESTROY"), "{text}");
}
