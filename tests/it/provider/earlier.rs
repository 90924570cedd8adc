//! An installation of a version that did not record who takes the money.

use std::collections::BTreeMap;

use sqlx::{Connection, PgConnection, migrate::Migrator};

use super::installed::{QUICK, charged, keyed, ledgers_agree, orders, standing};
use crate::program::{Orderstream, Program, harness::eventually, provider::Provider};

/// The last migration of that version.
const LAST_MIGRATION: i64 = 9;

/// Empties the database, and brings it to the schema of that version.
async fn go_back(program: &Program) -> PgConnection {
    let mut database = PgConnection::connect(&program.stack.database_url).await.expect("Postgres");
    sqlx::raw_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public").execute(&mut database).await.expect("emptied");
    let mut migrator = Migrator::new(std::path::Path::new("migrations")).await.expect("the migrations");
    migrator.migrations.to_mut().retain(|migration| migration.version <= LAST_MIGRATION);
    migrator.run(&mut database).await.expect("the earlier schema");
    database
}

/// As that version left it: completed orders and one that waits for its provider, whose references are the codes alone.
async fn with_payments(database: &mut PgConnection, gateway: &str) {
    let sql = format!(
        "INSERT INTO customers (id, name, email) VALUES (1, 'A', 'a@example.com');
         INSERT INTO products (id, sku, name, unit_price_cents, stock, reserved, received) VALUES (1, 'S', 'P', 3998, 99, 1, 100);
         INSERT INTO orders (id, code, customer_id, status, total_cents, content_hash, received_at, settled_at, partition)
         VALUES (1, 'ORD-1', 1, 'completed', 3998, 0, now(), now(), 0), (2, 'ORD-2', 1, 'paying', 3998, 0, now(), NULL, 0);
         INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_cents) VALUES (1, 1, 1, 1, 3998), (2, 1, 1, 1, 3998);
         -- It meant to ask about every payment again, final or not.
         INSERT INTO payments (order_id, amount_cents, status, gateway, check_at)
         VALUES (1, 3998, 'approved', '{gateway}', now() + interval '1 hour');
         INSERT INTO payments (order_id, amount_cents, status, gateway, check_at, expires_at)
         VALUES (2, 3998, 'pending', '{gateway}', now(), now() + interval '1 hour');
         UPDATE event_counter SET last_seq = 1;
         INSERT INTO events (seq, order_id, kind, amount_cents) VALUES (1, 1, 'completed', 3998)"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(database).await.expect("payments of an earlier version");
}

#[tokio::test]
async fn whoever_meets_its_schema_is_told_how_to_bring_it_up_to_date() {
    let program = Program::get().await;
    with_payments(&mut go_back(&program).await, "http").await;
    program.write("orders.csv", orders(["A".to_owned()]));
    for args in [
        &["run"][..],
        &["run", "--until-drained"],
        &["serve", "--http", "127.0.0.1:0"],
        &["import", "orders.csv"],
        &["provider"],
        &["provider", "set", "http://127.0.0.1:9"],
        &["audit"],
        &["orders"],
        &["order", "A"],
        &["kpi"],
    ] {
        let refused = program.run(args).await.exits(1);
        assert!(refused.stderr.contains("orderstream migrate"), "{args:?}: {refused:?}");
    }
    program.run(&["migrate"]).await.exits(0);
    program.run(&["orders"]).await.exits(0);
}

#[tokio::test]
async fn it_is_asked_which_provider_it_had_and_goes_on_with_it() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let body = |code: &str| format!(r#"{{"amount":"39.98","currency":"EUR","reference":"{code}"}}"#);
    for code in ["ORD-1", "ORD-2"] {
        provider.post("charges", code, &body(code)).await;
    }
    let program = Program::get().await;
    let mut database = go_back(&program).await;
    with_payments(&mut database, "http").await;
    // A refund that may have been asked for already.
    let pending = "INSERT INTO refunds (key, order_id, order_code, asked_cents, amount_cents, status, request_hash, gateway, check_at)
         VALUES ('before', 1, 'ORD-1', 100, 100, 'pending', 0, 'http', now())";
    sqlx::raw_sql(pending).execute(&mut database).await.expect("a refund of an earlier version");

    // The operator is told what is asked of him, and nobody is charged, or not, before he answers.
    let migrated = program.run(&["migrate"]).await.exits(0);
    assert!(migrated.stderr.contains("orderstream provider locate http URL"), "{migrated:?}");
    let due: Vec<i64> = sqlx::query_scalar("SELECT order_id FROM payments WHERE due_at IS NOT NULL")
        .fetch_all(&mut database)
        .await
        .expect("payments");
    assert_eq!(due, [2], "who is asked about");
    for args in [&["run", "--until-drained"][..], &["run", "--until-drained", "--gateway", &provider.url]] {
        let refused = keyed(&program, args).end().await.exits(6);
        assert!(refused.stderr.contains("orderstream provider locate http URL"), "{refused:?}");
    }
    program.run(&["provider", "set", &provider.url]).await.exits(6);
    keyed(&program, &["audit", "--ledgers"]).end().await.exits(6);

    // What cannot be noted is not changed.
    let locate = ["provider", "locate", "http", "http://127.0.0.1:9", "--currency", "USD", "--unverified"];
    program.stack.sql("ALTER TABLE actions ADD CONSTRAINT log_is_full CHECK (false) NOT VALID").await;
    program.run(&locate).await.exits(1);
    assert!(program.stack.value::<bool>("SELECT url IS NULL FROM gateways").await);
    program.stack.sql("ALTER TABLE actions DROP CONSTRAINT log_is_full").await;
    // A wrong word is corrected: nobody was charged by it.
    program.run(&locate).await.exits(0);
    let right = ["provider", "locate", "http", &provider.url, "--currency", "EUR"];
    let located = keyed(&program, &right).end().await.exits(0);
    assert!(located.stdout.contains("knows them as they are stored (1)"), "{located:?}");
    // Whoever had a provider does not fall back to the simulator.
    let refused = keyed(&program, &["run", "--until-drained"]).end().await.exits(6);
    assert!(refused.stderr.contains("orderstream provider set URL"), "{refused:?}");

    program.write("orders.csv", orders(["NEW-1".to_owned()]));
    let run = keyed(&program, &[&["run", "--gateway", &provider.url], &QUICK[..]].concat());
    program.run(&["import", "orders.csv"]).await.exits(0);
    eventually("the old ones and the new one completed", async || {
        standing(&program).await == ["http completed 2", "http-2 completed 1"]
    })
    .await;
    // Not charged again under another reference.
    assert_eq!(charged(&provider).await, (3, 3));
    keyed(&program, &["refund", "ORD-1", "--key", "back", "--wait", "30"]).end().await.exits(0);
    eventually("the refund of before is through", async || {
        program.stack.value("SELECT bool_and(status = 'succeeded') FROM refunds").await
    })
    .await;
    // It is asked for as it may have been asked for, and new ones name the installation, whoever took the payment.
    let expected = [("before".to_owned(), "1.00"), (format!("{}back", mark(&program).await), "38.98")];
    assert_eq!(refunded(&provider).await, expected.map(|(reference, amount)| (reference, amount.to_owned())).into());
    run.stop().await.exits(0);
    ledgers_agree(&program).await;
}

/// What references of an installation begin with.
async fn mark(program: &Program) -> String {
    program
        .stack
        .value("SELECT left(replace(value, '-', ''), 12) || ':' FROM settings WHERE key = 'installation'")
        .await
}

/// Refunds in a provider's own ledger: references and amounts.
async fn refunded(provider: &Provider) -> BTreeMap<String, String> {
    let ledger = provider.ledger().await;
    let refunds = ledger.into_iter().filter(|((kind, _), _)| kind == "refund");
    refunds
        .map(|((_, reference), lines)| {
            assert!(lines.len() == 1 && lines[0]["status"] == "succeeded", "{lines:?}");
            (reference, lines[0]["amount"].as_str().expect("a text").to_owned())
        })
        .collect()
}

#[tokio::test]
async fn equal_refund_keys_of_two_upgraded_installations_at_one_provider_are_two_refunds() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let (one, other) = (Program::get().await, Program::get().await);
    let mut expected = BTreeMap::new();
    for (program, code, amount) in [(&one, "ORD-1", "10.00"), (&other, "ELSE-1", "7.00")] {
        let mut database = go_back(program).await;
        with_payments(&mut database, "http").await;
        let codes = format!(
            "UPDATE orders SET code = '{code}' WHERE id = 1; DELETE FROM payments WHERE order_id = 2; UPDATE orders SET status = 'reserved' WHERE id = 2"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(codes)).execute(&mut database).await.expect("its own code");
        let body = format!(r#"{{"amount":"39.98","currency":"EUR","reference":"{code}"}}"#);
        provider.post("charges", code, &body).await;

        program.run(&["migrate"]).await.exits(0);
        keyed(program, &["provider", "locate", "http", &provider.url, "--currency", "EUR"]).end().await.exits(0);
        program.run(&["provider", "set", &provider.url]).await.exits(0);
        let args = ["refund", code, "--key", "back", "--amount", amount, "--wait", "30"];
        keyed(program, &args).end().await.exits(0);
        expected.insert(format!("{}back", mark(program).await), amount.to_owned());
    }
    assert_eq!(refunded(&provider).await, expected);
    for program in [&one, &other] {
        // Charges of before do not say whose they are; refunds do.
        let audit = keyed(program, &["audit", "--ledgers", "--json"]).end().await.json();
        let checks = audit["checks"].as_array().expect("checks");
        let check = checks.iter().find(|check| check["name"] == "gateway_refunds").expect("the check");
        assert_eq!((&check["differences"], &check["figure"]["value"]), (&0.into(), &2.into()), "{audit}");
        assert_eq!(audit["of_other_installations"], 1, "{audit}");
    }
}

#[tokio::test]
async fn who_does_not_know_its_charges_is_not_recorded_as_its_provider() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let stranger = Provider::start(&["--approve", "1"]).await;
    provider.post("charges", "ORD-1", r#"{"amount":"39.98","currency":"EUR","reference":"ORD-1"}"#).await;
    let program = Program::get().await;
    with_payments(&mut go_back(&program).await, "http").await;
    program.run(&["migrate"]).await.exits(0);
    let locate = |url: &str, currency: &str, more: &[&str]| {
        keyed(&program, &[&["provider", "locate", "http", url, "--currency", currency], more].concat())
    };
    // What was asked, of whom, with which key, and what was answered.
    for (url, currency, answer) in [
        (&*stranger.url, "EUR", "it does not know it"),
        (&*provider.url, "USD", r#"the answer has the currency "EUR""#),
        ("http://127.0.0.1:9", "EUR", "not reached"),
    ] {
        let refused = locate(url, currency, &[]).end().await.exits(6);
        for text in [&format!("ORD-1 of 39.98 {currency}: {answer}"), url, "with the key ", "--unverified"] {
            assert!(refused.stderr.contains(text), "{text:?} is not in {refused:?}");
        }
    }
    let keyless = program.run(&["provider", "locate", "http", &provider.url, "--currency", "EUR"]).await.exits(6);
    assert!(keyless.stderr.contains("without a key") && keyless.stderr.contains("401"), "{keyless:?}");
    program.stack.sql("UPDATE payments SET amount_cents = 1 WHERE order_id = 1").await;
    let refused = locate(&provider.url, "EUR", &[]).end().await.exits(6);
    assert!(refused.stderr.contains(r#"the answer has the amount "39.98""#), "{refused:?}");
    assert!(program.stack.value::<bool>("SELECT url IS NULL AND currency IS NULL FROM gateways").await);

    // Where nothing can be asked it says so, and whoever insists gets his way.
    locate(&stranger.url, "EUR", &["--unverified"]).end().await.exits(0);
    program.stack.sql("UPDATE payments SET amount_cents = 3998, status = 'declined' WHERE order_id = 1").await;
    let refused = locate(&provider.url, "EUR", &[]).end().await.exits(6);
    assert!(refused.stderr.contains("wait for an answer"), "{refused:?}");
    program.stack.sql("UPDATE payments SET due_at = NULL, status = 'declined' WHERE order_id = 2").await;
    let located = locate(&provider.url, "EUR", &[]).end().await.exits(0);
    assert!(located.stdout.contains("It was not asked"), "{located:?}");
    assert_eq!(program.stack.value::<String>("SELECT url FROM gateways").await, provider.url);
}

#[tokio::test]
async fn new_payments_are_charged_in_the_currency_of_the_earlier_ones_unless_another_is_said() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::get().await;
    let mut database = go_back(&program).await;
    with_payments(&mut database, "http").await;
    program.run(&["migrate"]).await.exits(0);
    program.run(&["provider", "locate", "http", &provider.url, "--currency", "CHF", "--unverified"]).await.exits(0);
    let run = ["run", "--gateway", &provider.url];
    let first = keyed(&program, &run);
    let taken = async || {
        program
            .stack
            .value::<String>("SELECT string_agg(name || ' ' || currency, ', ' ORDER BY name) FROM gateways")
            .await
    };
    eventually("it has said who takes the money", async || taken().await == "http CHF, http-2 CHF").await;
    keyed(&program, &[&run[..], &["--currency", "EUR"]].concat()).end().await.exits(6);
    first.stop().await.exits(0);
    // Nor does a change of the provider change the currency.
    program.run(&["provider", "set", "http://127.0.0.1:9", "--name", "other"]).await.exits(0);
    assert_eq!(taken().await, "http CHF, http-2 CHF, other CHF");
}

#[tokio::test]
async fn between_the_currencies_of_earlier_payments_somebody_has_to_choose() {
    let providers = [Provider::start(&["--approve", "1"]).await, Provider::start(&["--approve", "1"]).await];
    let program = Program::get().await;
    let mut database = go_back(&program).await;
    with_payments(&mut database, "http").await;
    sqlx::raw_sql("UPDATE payments SET gateway = 'other' WHERE order_id = 2")
        .execute(&mut database)
        .await
        .expect("two");
    program.run(&["migrate"]).await.exits(0);
    for (name, provider, currency) in [("http", &providers[0], "CHF"), ("other", &providers[1], "EUR")] {
        program
            .run(&["provider", "locate", name, &provider.url, "--currency", currency, "--unverified"])
            .await
            .exits(0);
    }
    let run = ["run", "--gateway", &providers[0].url];
    let refused = keyed(&program, &run).end().await.exits(6);
    assert!(refused.stderr.contains("CHF and EUR") && refused.stderr.contains("--currency"), "{}", refused.stderr);
    let chosen = keyed(&program, &[&run[..], &["--currency", "EUR"]].concat());
    eventually("it has said what is charged in", async || {
        program.stack.value::<i64>("SELECT count(*) FROM gateways WHERE currency = 'EUR'").await == 2
    })
    .await;
    chosen.stop().await.exits(0);
}

#[tokio::test]
async fn one_that_only_ever_had_the_simulator_goes_on_with_what_it_is_told() {
    let program = Program::get().await;
    let mut database = go_back(&program).await;
    with_payments(&mut database, "simulator").await;
    sqlx::raw_sql("DELETE FROM payments WHERE order_id = 2; UPDATE orders SET status = 'reserved' WHERE id = 2")
        .execute(&mut database)
        .await
        .expect("as the simulator leaves it");
    let migrated = program.run(&["migrate"]).await.exits(0);
    assert!(!migrated.stderr.contains("locate"), "{migrated:?}");
    program
        .run(&["run", "--until-drained", "--success-rate", "1", "--currency", "USD", "--reconcile-every", "1"])
        .await
        .exits(0);
    let shown = program.run(&["provider", "--json"]).await.exits(0).json();
    assert_eq!(shown["gateways"].as_array().map(Vec::len), Some(2), "{shown}");
    program.run(&["run", "--until-drained", "--currency", "EUR"]).await.exits(6);
    program.audit().await;
}
