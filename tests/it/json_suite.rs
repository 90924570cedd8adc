//! JSONTestSuite on everything that reads JSON from outside: what must be refused is, what must be accepted is, wherever
//! it stands in a body.

use chrono::DateTime;
use pipeline::message::{decode_callback, decode_order, decode_refund};
use reqwest::Method;
use serde::Deserialize;

use crate::program::{Program, client::Api};

#[derive(Deserialize)]
struct Suite {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    /// Begins with `y` (must be accepted), `n` (must be refused) or `i` (either).
    name: String,
    input: String,
}

const SUITE: &str = include_str!("../data/json_test_suite.json");

const ORDER: &str = r#""order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}]"#;
const REFUND: &str = r#""refund_key":"r","order_code":"A""#;
const CALLBACK: &str = r#""type":"charge.approved","data":{"id":"c","reference":"A","amount":"1","currency":"EUR"}"#;

fn cases() -> Vec<Case> {
    let Suite { cases } = serde_json::from_str(SUITE).expect("the suite");
    assert!(cases.len() > 250, "{} cases", cases.len());
    cases
}

/// Why a request for a refund is refused that is right but for a field that nobody knows: it may be a misspelt one.
const UNKNOWN: &str = "unknown field `x`";

/// A body that is right but for a field that nobody reads, which holds the case.
fn around(input: &str, rest: &str) -> String {
    format!("{{\"x\":{input},{rest}}}")
}

#[test]
fn a_body_is_read_exactly_when_all_of_it_is_json() {
    for Case { name, input } in cases() {
        let refund = decode_refund(around(&input, REFUND).as_bytes()).expect_err("a field that nobody knows");
        if name.starts_with('y') {
            assert!(refund.detail.contains(UNKNOWN), "{name}: {}", refund.detail);
        }
        let read = [
            ("order", decode_order(around(&input, ORDER).as_bytes()).is_ok()),
            ("callback", decode_callback(around(&input, CALLBACK).as_bytes(), "m", DateTime::UNIX_EPOCH).is_ok()),
        ];
        for (what, is_read) in read {
            match name.as_bytes()[0] {
                b'y' => assert!(is_read, "{what}: {name} must be accepted: {input:.80}"),
                b'n' => assert!(!is_read, "{what}: {name} must be refused: {input:.80}"),
                _ => {}
            }
        }
        // Alone none of them is anything of ours.
        assert!(decode_order(input.as_bytes()).is_err(), "{name}");
        assert!(decode_refund(input.as_bytes()).is_err(), "{name}");
    }
}

#[tokio::test]
async fn over_http_every_one_of_them_is_answered_and_those_that_are_no_json_are_refused() {
    let program = Program::seeded(1, &[1_000]).await;
    let api = Api::serve(&program, &["--http-rate", "100000"]).await;
    for Case { name, input } in cases() {
        for (path, rest) in [("/v1/orders", ORDER), ("/v1/refunds", REFUND)] {
            for body in [input.clone(), around(&input, rest)] {
                let request = api.request(Method::POST, path).header("content-type", "application/json");
                let answer = request.body(body.clone()).send().await.expect("an answer");
                let status = answer.status().as_u16();
                let fits = match (name.as_bytes()[0], body == input) {
                    (b'n', _) | (_, true) => (400..500).contains(&status),
                    (b'y', false) if path == "/v1/refunds" => {
                        status == 422 && answer.text().await.expect("a text").contains(UNKNOWN)
                    }
                    (b'y', false) => status == 202,
                    _ => status < 500,
                };
                assert!(fits, "{path}: {name} is answered by {status}: {body:.80}");
            }
        }
    }
    api.running.stop().await.exits(0);
}
