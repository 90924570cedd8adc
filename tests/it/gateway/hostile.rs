//! Servers that mean no good: each gives `Unknown`, in bounded time, and its neighbours are answered.

use std::time::Duration;

use pipeline::gateway::{Charge, ChargeAnswer, Gateway, ReturnAnswer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::raw::{Raw, Seen, approved, response, send};
use crate::program::{
    harness::PATIENCE,
    provider::{charge, client, refund},
};

/// What the server does to a charge of this reference, and what the client has to say of it.
const HOSTILE: [(&str, &str); 19] = [
    ("never-answers", "no answer within"),
    ("closes", "the connection failed"),
    ("closes-in-the-head", "the connection failed"),
    ("closes-in-the-body", "the connection failed"),
    ("no-http", "the connection failed"),
    ("drips", "no answer within"),
    ("endless-body", "longer than"),
    ("endless-chunks", "longer than"),
    ("endless-head", "the connection failed"),
    ("redirects", "302"),
    ("not-found", "404"),
    ("fails", "500"),
    ("declines-with-400", "400"),
    ("says-nothing", "cannot be read"),
    ("garbage", "cannot be read"),
    ("deep", "cannot be read"),
    ("other-amount", "the amount"),
    ("other-currency", "the currency"),
    ("other-reference", "the reference"),
];

async fn serve(Seen { body, .. }: Seen, mut connection: TcpStream) {
    let asked: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let good = approved(&body);
    let answer = match asked["reference"].as_str().expect("a reference") {
        "never-answers" => {
            // Until the client goes.
            connection.read_to_end(&mut Vec::new()).await.ok();
            return;
        }
        "closes" => return,
        "closes-in-the-head" => "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
        "closes-in-the-body" => response("200 OK", "", &good).replace("content-length: ", "content-length: 9"),
        "no-http" => "220 smtp.example.com ESMTP\r\n".to_owned(),
        "drips" => {
            let drops = response("200 OK", "", &good).into_bytes().into_iter();
            for drop in drops {
                if connection.write_all(&[drop]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            return;
        }
        "endless-body" => return endless(connection, "HTTP/1.1 200 OK\r\n\r\n", "          ").await,
        "endless-chunks" => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            return endless(connection, head, "4\r\n    \r\n").await;
        }
        "endless-head" => return endless(connection, "HTTP/1.1 200 OK\r\n", "x-more: and more\r\n").await,
        "redirects" => response("302 Found", "location: http://127.0.0.1:1/charges\r\n", &good),
        "not-found" => response("404 Not Found", "", &good),
        "fails" => response("500 Internal Server Error", "", &good),
        "declines-with-400" => response("400 Bad Request", "", &good.replace("approved", "declined")),
        "says-nothing" => response("200 OK", "", ""),
        "garbage" => response("200 OK", "", "<html>\0\u{ffff}</html>"),
        "deep" => response("200 OK", "", &r#"{"id":"#.repeat(50_000 / 6)),
        "other-amount" => response("200 OK", "", &good.replace("39.98", "39.99")),
        "other-currency" => response("200 OK", "", &good.replace("EUR", "JPY")),
        "other-reference" => response("200 OK", "", &good.replace("other-reference", "another-reference")),
        _ => response("201 Created", "", &good),
    };
    send(connection, &answer).await;
}

async fn endless(mut connection: TcpStream, head: &str, more: &str) {
    let more = more.repeat(1_000);
    let mut sent = connection.write_all(head.as_bytes()).await;
    while sent.is_ok() {
        sent = connection.write_all(more.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_hostile_answer_is_unknown_in_bounded_time_and_its_neighbours_are_answered() {
    let server = Raw::serve(serve).await;
    let client = client(&server.url, |settings| settings.timeout = Duration::from_secs(10));
    let neighbours = (0..20).map(|n| (format!("good-{n}"), None));
    let hostile = HOSTILE.iter().map(|(reference, why)| ((*reference).to_owned(), Some(*why)));
    let (references, expected): (Vec<String>, Vec<_>) = hostile.zip(neighbours).flat_map(<[_; 2]>::from).unzip();
    let charges: Vec<Charge> = references.iter().map(|reference| charge(reference)).collect();
    let answers = tokio::time::timeout(PATIENCE, client.charge(&charges)).await.expect("an end");
    for ((reference, expected), answer) in references.iter().zip(expected).zip(answers) {
        match (expected, &answer) {
            (None, ChargeAnswer::Approved(id)) => assert_eq!(id, "ch_1"),
            (Some(expected), ChargeAnswer::Unknown(why)) => assert!(why.contains(expected), "{reference}: {why}"),
            _ => panic!("{reference}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_hostile_answer_to_a_question_is_never_an_absence() {
    let server = Raw::serve(async |seen: Seen, connection| {
        let reference = seen.head.split(['=', ' ']).nth(2).unwrap_or_default().to_owned();
        let answer = match reference.as_str() {
            "empty" => response("200 OK", "", ""),
            "object" => response("200 OK", "", "{}"),
            "list" => response("200 OK", "", "[]"),
            "null" => response("200 OK", "", r#"{"charges":null,"refunds":null}"#),
            "missing" => response("404 Not Found", "", r#"{"charges":[],"refunds":[]}"#),
            "redirect" => response("301 Moved Permanently", "location: /\r\n", r#"{"charges":[],"refunds":[]}"#),
            "accepted" => response("202 Accepted", "", r#"{"charges":[],"refunds":[]}"#),
            "another" => response("200 OK", "", r#"{"charges":[{"id":"x","status":"declined","reference":"else","amount":"39.98","currency":"EUR"}],"refunds":[{"id":"x","status":"failed","reference":"else","amount":"1.00","currency":"EUR"}]}"#),
            _ => response("200 OK", "", r#"{"charges":[],"refunds":[]}"#),
        };
        send(connection, &answer).await;
    })
    .await;
    let client = client(&server.url, |settings| settings.timeout = Duration::from_secs(2));
    let references = ["empty", "object", "list", "null", "missing", "redirect", "accepted", "another", "really-none"];
    let charges: Vec<Charge> = references.iter().map(|reference| charge(reference)).collect();
    let refunds: Vec<_> = references.iter().map(|reference| refund(reference, "ORD-1", 100)).collect();
    let (charges, refunds) = (client.find_charges(&charges).await, client.find_returns(&refunds).await);
    for (reference, (charge, refund)) in references.iter().zip(charges.into_iter().zip(refunds)) {
        if *reference == "really-none" {
            assert_eq!((charge, refund), (ChargeAnswer::Absent, ReturnAnswer::Absent));
        } else {
            assert!(matches!(charge, ChargeAnswer::Unknown(_)), "{reference}: {charge:?}");
            assert!(matches!(refund, ReturnAnswer::Unknown(_)), "{reference}: {refund:?}");
        }
    }
}
