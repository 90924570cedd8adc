//! `audit --gateway`: the provider's ledger and ours, one to one.

use pipeline::gateway::Gateway;
use serde_json::Value;

use super::raw;
use crate::program::{
    Orderstream, Program, Running,
    provider::{KEY, Provider, charge, charges, refund},
};

/// The two checks, by the program itself.
async fn audited(program: &Program, provider: &Provider) -> (Value, Value) {
    let args = ["audit", "--gateway", &provider.url, "--json"];
    let mut command = program.command(&args);
    command.env("ORDERSTREAM_GATEWAY_KEY", KEY);
    let report = Running::spawn(&mut command, &args).end().await.json();
    let check = |name: &str| {
        let checks = report["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["name"] == name).expect("the check").clone()
    };
    (check("gateway_charges"), check("gateway_refunds"))
}

fn differences(check: &Value) -> Vec<&str> {
    check["examples"].as_array().expect("examples").iter().map(|text| text.as_str().expect("a text")).collect()
}

#[tokio::test]
async fn the_audit_finds_every_difference_between_the_ledgers() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::get().await;
    let client = provider.client();
    // More than a page of them.
    let count = 6_000;
    for batch in charges(1..count + 1).chunks(1_000) {
        client.charge(batch).await;
    }
    let count = i64::from(count);
    client.give_back(&[refund("r-1", "ORD-1", 100), refund("r-2", "ORD-2", 200)]).await;
    // As an earlier version wrote them down: with references that do not name the installation.
    let ours = format!(
        "INSERT INTO gateways (name, kind, url, currency, reference_prefix) VALUES ('http', 'http', '{}', 'EUR', '');
         INSERT INTO gateways (name, kind, reference_prefix) VALUES ('simulator', 'simulator', '');
         INSERT INTO orders (id, code, customer_id, status, total_cents, content_hash, received_at, settled_at, partition)
         SELECT n, 'ORD-' || n, 1, 'completed', 3998, 0, now(), now(), 0 FROM generate_series(1, {count}) n;
         INSERT INTO payments (order_id, amount_cents, status, gateway, term)
         SELECT n, 3998, 'approved', 'http', 0 FROM generate_series(1, {count}) n;
         INSERT INTO refunds (key, order_id, order_code, amount_cents, status, settled_at, gateway, reference_prefix, request_hash)
         SELECT 'r-' || n, n, 'ORD-' || n, 100 * n, 'succeeded', now(), 'http', '', 0 FROM generate_series(1, 2) n",
        provider.url
    );
    program.stack.sql(&ours).await;
    let (charges, refunds) = audited(&program, &provider).await;
    assert_eq!((differences(&charges), differences(&refunds)), (vec![], vec![]));
    assert_eq!((&charges["figure"]["value"], &refunds["figure"]["value"]), (&count.into(), &2.into()));

    // Each of these is a difference; of another gateway, or still open, it is none.
    program
        .stack
        .sql(
            "UPDATE payments SET status = 'declined' WHERE order_id = 1;
             UPDATE payments SET amount_cents = 1 WHERE order_id = 2;
             UPDATE payments SET status = 'late' WHERE order_id = 3;
             UPDATE payments SET status = 'pending', due_at = now(), expires_at = now() WHERE order_id = 4;
             UPDATE payments SET gateway = 'simulator' WHERE order_id = 5;
             UPDATE payments SET status = 'expired' WHERE order_id = 6;
             UPDATE orders SET code = 'ELSE' WHERE id = 7;
             UPDATE refunds SET status = 'failed', refusal = 'gateway_refused' WHERE key = 'r-1';
             UPDATE refunds SET amount_cents = 1 WHERE key = 'r-2'",
        )
        .await;
    let body = r#"{"amount":"39.98","currency":"EUR","reference":"ORD-8"}"#;
    provider.post("charges", "a second one", body).await;
    let (charges, refunds) = audited(&program, &provider).await;
    assert_eq!(
        differences(&charges),
        [
            "order ELSE: 39.98 EUR here, no charge at the provider",
            "order ORD-1: 1 × charge of 39.98 EUR at the provider, 0 here",
            "order ORD-2: 0.01 EUR here, 39.98 EUR at the provider",
            "order ORD-5: 1 × charge of 39.98 EUR at the provider, 0 here",
            "order ORD-6: 1 × charge of 39.98 EUR at the provider, 0 here",
            "order ORD-7: 1 × charge of 39.98 EUR at the provider, 0 here",
            "order ORD-8: 2 × charge of 39.98 EUR at the provider, 1 here",
        ]
    );
    assert_eq!(
        differences(&refunds),
        [
            "refund r-1: 1 × refund of 1.00 EUR at the provider, 0 here",
            "refund r-2: 0.01 EUR here, 2.00 EUR at the provider"
        ]
    );
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_is_no_clean_one() {
    let program = Program::get().await;
    for (answer, why) in [
        (raw::response("404 Not Found", "", ""), "404"),
        (raw::response("200 OK", "", "{\"kind\":\"charge\""), "has no end"),
        (raw::response("200 OK", "", "garbage\n"), "line 1"),
        (raw::response("200 OK", "", &"x".repeat(1 << 20)), "a line of more than"),
        (raw::response("200 OK", "", "").replace("length: 0", "length: 9"), "broke off"),
    ] {
        let server = raw::Raw::serve(move |_, connection| {
            let answer = answer.clone();
            async move { raw::send(connection, &answer).await }
        })
        .await;
        let gateway = format!(
            "TRUNCATE gateways CASCADE;
             INSERT INTO gateways (name, kind, url, currency, reference_prefix) VALUES ('http', 'http', '{}', 'EUR', '')",
            server.url
        );
        program.stack.sql(&gateway).await;
        let failed = program.run(&["audit", "--gateway", &server.url]).await.exits(1);
        assert!(failed.stderr.contains(why), "{failed:?}");
    }
}

#[tokio::test]
async fn two_accounts_at_one_url_have_two_ledgers_each_opened_with_its_own_key() {
    let program = Program::get().await;
    let server = raw::Raw::serve(|seen, connection| async move {
        let of = |reference: &str, currency: &str| {
            format!(r#"{{"kind":"charge","id":"c","status":"approved","reference":"{reference}","amount":"39.98","currency":"{currency}"}}"#)
                + "\n"
        };
        // The first account charges in two currencies.
        let ledger = match seen.head.to_lowercase() {
            head if head.contains("bearer sk_one") => of("A", "EUR") + &of("B", "USD"),
            head if head.contains("bearer sk_two") => of("C", "EUR"),
            _ => of("A", "EUR"),
        };
        raw::send(connection, &raw::response("200 OK", "", &ledger)).await;
    })
    .await;
    let ours = format!(
        "INSERT INTO gateways (name, kind, url, currency, reference_prefix) VALUES
             ('one', 'http', '{0}', 'EUR', ''), ('one-usd', 'http', '{0}', 'USD', ''), ('two', 'http', '{0}', 'EUR', '');
         INSERT INTO orders (id, code, customer_id, status, total_cents, content_hash, received_at, settled_at, partition)
         SELECT n, chr(64 + n), 1, 'completed', 3998, 0, now(), now(), 0 FROM generate_series(1, 3) n;
         INSERT INTO payments (order_id, amount_cents, status, gateway, term)
         VALUES (1, 3998, 'approved', 'one', 0), (2, 3998, 'approved', 'one-usd', 0), (3, 3998, 'approved', 'two', 0)",
        server.url
    );
    program.stack.sql(&ours).await;
    let with_keys = async |args: &[&str]| {
        let mut command = program.command(args);
        command.env("ORDERSTREAM_GATEWAY_KEY", "sk_one").env("ORDERSTREAM_GATEWAY_KEY_TWO", "sk_two");
        Running::spawn(&mut command, args).end().await
    };
    for name in ["one", "one-usd", "two"] {
        with_keys(&["provider", "key", name, "--unverified"]).await.exits(0);
    }
    let report = with_keys(&["audit", "--ledgers", "--json"]).await.json();
    let check = report["checks"].as_array().expect("checks").iter().find(|check| check["name"] == "gateway_charges");
    let check = check.expect("the check");
    assert_eq!((differences(check), &check["figure"]["value"]), (vec![], &3.into()), "{report}");
}

#[tokio::test]
async fn an_account_whose_key_is_being_changed_has_one_ledger_whichever_key_opens_it() {
    let program = Program::get().await;
    let server = raw::Raw::serve(|seen, connection| async move {
        let line = |reference: &str, currency: &str| {
            format!(r#"{{"kind":"charge","id":"c","status":"approved","reference":"{reference}","amount":"39.98","currency":"{currency}"}}"#)
                + "\n"
        };
        // The old key is not let in any more.
        let answer = match seen.head.to_lowercase().contains("bearer sk_two") {
            true => raw::response("200 OK", "", &(line("A", "EUR") + &line("B", "USD"))),
            false => raw::response("401 Unauthorized", "", ""),
        };
        raw::send(connection, &answer).await;
    })
    .await;
    let ours = format!(
        "INSERT INTO gateways (name, kind, url, currency, reference_prefix) VALUES
             ('http', 'http', '{0}', 'EUR', ''), ('http-2', 'http', '{0}', 'USD', '');
         INSERT INTO orders (id, code, customer_id, status, total_cents, content_hash, received_at, settled_at, partition)
         SELECT n, chr(64 + n), 1, 'completed', 3998, 0, now(), now(), 0 FROM generate_series(1, 2) n;
         INSERT INTO payments (order_id, amount_cents, status, gateway, term)
         VALUES (1, 3998, 'approved', 'http', 0), (2, 3998, 'approved', 'http-2', 0)",
        server.url
    );
    program.stack.sql(&ours).await;
    let with_keys = async |key: &str, of_http: &str, args: &[&str]| {
        let mut command = program.command(args);
        command.env("ORDERSTREAM_GATEWAY_KEY", key).env("ORDERSTREAM_GATEWAY_KEY_HTTP", of_http);
        Running::spawn(&mut command, args).end().await
    };
    for (key, name) in [("sk_one", "http"), ("sk_one", "http-2"), ("sk_two", "http-2")] {
        with_keys(key, key, &["provider", "key", name, "--unverified"]).await.exits(0);
    }
    // Of the one gateway this process has the new key, of the other the old one.
    for of_http in ["sk_one", "sk_two"] {
        let report = with_keys("sk_two", of_http, &["audit", "--ledgers", "--json"]).await.json();
        let checks = report["checks"].as_array().expect("checks");
        let check = checks.iter().find(|check| check["name"] == "gateway_charges").expect("the check");
        assert_eq!((differences(check), &check["figure"]["value"]), (vec![], &2.into()), "{report}");
    }
}

#[tokio::test]
async fn lines_that_nobody_understands_are_differences_if_they_are_ours_and_nothing_to_us_if_not() {
    let program = Program::get().await;
    let server = raw::Raw::serve(|_, connection| async move {
        let line = |reference: &str, status: &str, amount: &str| {
            format!(r#"{{"kind":"charge","id":"c","status":"{status}","reference":"{reference}","amount":{amount},"currency":"EUR"}}"#)
                + "\n"
        };
        let ledger = [
            line("eeeeeeeeeeee:A", "approved", r#""1.234""#),
            line("eeeeeeeeeeee:B", "disputed", r#""39.98""#),
            line("eeeeeeeeeeee:C", "approved", "39.98"),
            line("eeeeeeeeeeee:D", "succeeded", r#""39.98""#),
            line("aaaaaaaaaaaa:A", "approved", r#""1.234""#),
            line("aaaaaaaaaaaa:B", "disputed", r#""39.98""#),
            line("aaaaaaaaaaaa:C", "approved", r#""39.98""#),
            line("aaaaaaaaaaaa:D", "succeeded", r#""39.98""#),
        ];
        raw::send(connection, &raw::response("200 OK", "", &ledger.concat())).await;
    })
    .await;
    let ours = format!(
        "INSERT INTO gateways (name, kind, url, currency, reference_prefix) VALUES ('http', 'http', '{}', 'EUR', 'aaaaaaaaaaaa:');
         INSERT INTO orders (id, code, customer_id, status, total_cents, content_hash, received_at, settled_at, partition)
         SELECT n, chr(64 + n), 1, 'completed', 3998, 0, now(), now(), 0 FROM generate_series(1, 3) n;
         INSERT INTO payments (order_id, amount_cents, status, gateway, term)
         SELECT n, 3998, 'approved', 'http', 0 FROM generate_series(1, 3) n",
        server.url
    );
    program.stack.sql(&format!("{}; {ours}", installation('a'))).await;
    let report = program.run(&["audit", "--gateway", &server.url, "--json"]).await.exits(4).json();
    assert_eq!(report["of_other_installations"], 4, "{report}");
    let checks = report["checks"].as_array().expect("checks");
    let found = differences(checks.iter().find(|check| check["name"] == "gateway_charges").expect("the check"));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("entry aaaaaaaaaaaa:B: not understood: unknown variant `disputed`"), "{found:?}");
    assert_eq!(
        found[1..],
        [
            "entry aaaaaaaaaaaa:D: not understood: a Charge that is Succeeded",
            r#"order A: 39.98 EUR here, "1.234" EUR at the provider"#,
            "order B: 39.98 EUR here, no charge at the provider",
        ]
    );
}

/// Gives the installation an id, whose references begin with twelve times this digit.
fn installation(digit: char) -> String {
    let digits = |count: usize| digit.to_string().repeat(count);
    let id = [8, 4, 4, 4, 12].map(digits).join("-");
    format!("UPDATE settings SET value = '{id}' WHERE key = 'installation'")
}

#[tokio::test]
async fn what_a_copy_of_the_database_refunds_is_missed_in_the_books_of_the_original_and_not_the_reverse() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let (original, copy) = (Program::get().await, Program::get().await);
    let client = provider.client();
    client.charge(&["X-1", "X-2"].map(|code| charge(&format!("aaaaaaaaaaaa:{code}")))).await;
    let refunds = [("aaaaaaaaaaaa:before", 100), ("aaaaaaaaaaaa:after", 200), ("bbbbbbbbbbbb:after", 400)];
    client.give_back(&refunds.map(|(key, cents)| refund(key, "aaaaaaaaaaaa:X-1", cents))).await;
    let of_both = format!(
        "INSERT INTO gateways (name, kind, url, currency, reference_prefix) VALUES ('http', 'http', '{}', 'EUR', 'aaaaaaaaaaaa:');
         INSERT INTO orders (id, code, customer_id, status, total_cents, content_hash, received_at, settled_at, partition)
         SELECT n, 'X-' || n, 1, 'completed', 3998, 0, now(), now(), 0 FROM generate_series(1, 2) n;
         INSERT INTO payments (order_id, amount_cents, status, gateway, term) VALUES (1, 3998, 'approved', 'http', 0)",
        provider.url
    );
    let refunded = |key: &str, mark: &str, cents: i64| {
        format!(
            "INSERT INTO refunds (key, order_id, order_code, amount_cents, status, settled_at, gateway, reference_prefix, request_hash)
             VALUES ('{key}', 1, 'X-1', {cents}, 'succeeded', now(), 'http', '{mark}:', 0)"
        )
    };
    // X-2 was charged and "after" went back by the original when there was a copy, which refunds the same anew.
    let later =
        "INSERT INTO payments (order_id, amount_cents, status, gateway, term) VALUES (2, 3998, 'approved', 'http', 0)";
    let its_own = format!(
        "INSERT INTO gateways (name, kind, url, currency, reference_prefix) VALUES ('http-2', 'http', '{}', 'EUR', 'bbbbbbbbbbbb:')",
        provider.url
    );
    let before = refunded("before", "aaaaaaaaaaaa", 100);
    let after = (refunded("after", "aaaaaaaaaaaa", 200), refunded("after", "bbbbbbbbbbbb", 400));
    for (program, sql) in [
        (&original, [&installation('a'), &of_both, &before, later, &after.0]),
        (&copy, [&installation('b'), &of_both, &before, &its_own, &after.1]),
    ] {
        program.stack.sql(&sql.join(";\n")).await;
    }
    let (charges, refunds) = audited(&original, &provider).await;
    assert_eq!(differences(&charges), [""; 0]);
    assert_eq!(
        differences(&refunds),
        ["refund bbbbbbbbbbbb:after: another installation gave back 4.00 EUR of our charge aaaaaaaaaaaa:X-1"]
    );
    // What the original does after that is no business of the copy.
    let (charges, refunds) = audited(&copy, &provider).await;
    assert_eq!((differences(&charges), differences(&refunds)), (vec![], vec![]));
}

#[tokio::test]
async fn the_provider_that_takes_new_payments_is_missed_also_by_books_that_know_none_of_its_charges() {
    let mut provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000]).await;
    let keyed = async |args: &[&str]| {
        Running::spawn(program.command(args).env("ORDERSTREAM_GATEWAY_KEY", KEY), args).end().await
    };
    keyed(&["provider", "set", &provider.url]).await.exits(0);
    // Whatever it charged, the books of a backup do not know it.
    provider.kill().await;
    let failed = keyed(&["audit", "--ledgers"]).await.exits(1);
    assert!(failed.stderr.contains("not reached"), "{failed:?}");
    let audit = keyed(&["audit"]).await.exits(0);
    for text in ["Not compared with the ledger of the provider of http", "as far as they were compared"] {
        assert!(audit.stdout.contains(text), "{text:?} is not in {audit:?}");
    }
}
