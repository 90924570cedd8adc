//! Webhooks from payment providers, and from those who would like to be one.

use chrono::{DateTime, Utc};
use orderstream::signature::{Secret, sign};
use pipeline::{
    domain::{CallbackKind, Cents},
    message::encode_callback,
};
use reqwest::Method;

use crate::program::{
    Orderstream, Program,
    client::{Answer, Api, NEW_SECRET, SECRET},
    harness::{eventually, order},
};

fn body(reference: &str) -> Vec<u8> {
    encode_callback(CallbackKind::ChargeApproved, "ch_1", reference, Cents::new(3998), "EUR")
}

async fn stored(program: &Program) -> i64 {
    program.stack.value("SELECT count(*) FROM payment_callbacks").await
}

#[tokio::test]
async fn a_signed_callback_is_stored_once() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    assert_eq!(api.webhook(SECRET, "msg_1", 10, &body("A")).await.ok(200)["status"], "stored");
    let reference: String =
        program.stack.value("SELECT reference || ' ' || kind || ' ' || gateway FROM payment_callbacks").await;
    assert_eq!(reference, "A charge.approved http");

    // Its sender tells us again, and signs anew.
    assert_eq!(api.webhook(SECRET, "msg_1", 5, &body("A")).await.ok(200)["status"], "known");
    let at: DateTime<Utc> = program.stack.value("SELECT sent_at FROM payment_callbacks").await;
    // Somebody recorded it.
    api.webhook(SECRET, "msg_1", 20, &body("A")).await.problem(409, "webhook_replayed");
    let recorded = api.signed(SECRET, "msg_2", 0, &body("A"));
    let again = recorded.try_clone().expect("bytes");
    Answer::of(recorded).await.ok(200);
    Answer::of(again).await.problem(409, "webhook_replayed");
    api.webhook(SECRET, "msg_1", 0, &body("B")).await.problem(409, "webhook_id_reused");
    assert_eq!(stored(&program).await, 2);
    assert_eq!(
        program.stack.value::<DateTime<Utc>>("SELECT sent_at FROM payment_callbacks WHERE event_id = 'msg_1'").await,
        at
    );
}

#[tokio::test]
async fn what_its_sender_did_not_sign_now_changes_nothing() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    api.webhook(NEW_SECRET, "m", 0, &body("A")).await.problem(401, "bad_signature");
    api.webhook(SECRET, "m", 310, &body("A")).await.problem(401, "signature_expired");
    api.webhook(SECRET, "m", -310, &body("A")).await.problem(401, "signature_expired");
    for header in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut request = api.signed(SECRET, "m", 0, &body("A")).build().expect("a request");
        request.headers_mut().remove(header).expect("it was there");
        let answer = api.client.execute(request).await.expect("an answer");
        assert_eq!(answer.status(), 401, "{header}");
    }
    for (header, value) in [
        ("webhook-timestamp", "now"),
        ("webhook-timestamp", "99999999999999999999"),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1,AAAA v1,BBBB"),
        ("webhook-signature", "v2,x"),
        ("webhook-id", "other"),
    ] {
        let mut request = api.signed(SECRET, "m", 0, &body("A")).build().expect("a request");
        request.headers_mut().insert(header, value.parse().expect("a header"));
        let answer = api.client.execute(request).await.expect("an answer");
        assert_eq!(answer.status(), 401, "{header}: {value}");
    }
    // Signed, but not what is documented.
    for bad in ["", "{", "[]", "null", "{\"type\":\"charge.approved\"}", "\u{feff}{}", "{\"type\":1e999}"] {
        let answer = api.webhook(SECRET, "m", 0, bad.as_bytes()).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{bad:?}: {}", answer.text);
    }
    api.webhook(SECRET, "m", 0, &[b"[".repeat(30_000), b"]".repeat(30_000)].concat())
        .await
        .problem(400, "malformed_json");
    api.webhook(SECRET, "m", 0, &vec![b' '; 65 * 1024]).await.problem(413, "too_large");
    assert_eq!(stored(&program).await, 0);
}

#[tokio::test]
async fn two_secrets_are_good_while_one_replaces_the_other() {
    let program = Program::get().await;
    let both = format!("{NEW_SECRET} {SECRET}");
    let api = Api::start(&program, "serve", &[], &[("ORDERSTREAM_WEBHOOK_SECRET", &both)]).await;
    api.webhook(SECRET, "m1", 0, &body("A")).await.ok(200);
    api.webhook(NEW_SECRET, "m2", 0, &body("A")).await.ok(200);
    api.running.stop().await.exits(0);
    let api = Api::start(&program, "serve", &[], &[("ORDERSTREAM_WEBHOOK_SECRET", NEW_SECRET)]).await;
    api.webhook(SECRET, "m3", 0, &body("A")).await.problem(401, "bad_signature");
    api.webhook(NEW_SECRET, "m4", 0, &body("A")).await.ok(200);
    assert_eq!(stored(&program).await, 3);
}

#[tokio::test]
async fn the_secret_of_one_provider_says_nothing_of_a_payment_at_another() {
    const COMMON: &str = "whsec_QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=";
    let program = Program::seeded(5, &[1_000]).await;
    // Nobody answers there: each provider owes its answer.
    for (code, url) in [("A", "http://127.0.0.1:8"), ("B", "http://127.0.0.1:9")] {
        program.run(&["provider", "set", url]).await.exits(0);
        program.stack.publish(&[order(code, 1, &[(1, 2, 1_000)])]).await;
        let run = program.start(&["run", "--gateway-timeout", "1"]);
        let paying = format!("SELECT count(*) FROM orders WHERE status = 'paying' AND code = '{code}'");
        eventually("it was asked for", async || program.stack.value::<i64>(&paying).await == 1).await;
        run.stop().await.exits(0);
    }
    let env = [
        ("ORDERSTREAM_WEBHOOK_SECRET", COMMON),
        ("ORDERSTREAM_WEBHOOK_SECRET_HTTP", SECRET),
        ("ORDERSTREAM_WEBHOOK_SECRET_HTTP_2", NEW_SECRET),
    ];
    let api = Api::start(&program, "run", &["--gateway-timeout", "1"], &env).await;
    let mark: String = program.stack.value("SELECT reference_mark()").await;
    let told = async |secret: &str, code: &str, word: CallbackKind| {
        let id = format!("{code}-{word}-{}", &secret[6..10]);
        let body = encode_callback(word, "ch_1", &format!("{mark}{code}"), Cents::new(2_000), "EUR");
        api.webhook(secret, &id, 0, &body).await.ok(200);
        let outcome = format!("SELECT outcome FROM payment_callbacks WHERE event_id = '{id}'");
        eventually("it is decided", async || program.stack.value::<String>(&outcome).await != "waiting").await;
        program.stack.value::<String>(&outcome).await
    };
    for (secret, code) in [(NEW_SECRET, "A"), (SECRET, "B"), (COMMON, "A"), (COMMON, "B")] {
        assert_eq!(told(secret, code, CallbackKind::ChargeDeclined).await, "mismatched", "{code}");
    }
    for (secret, code) in [(SECRET, "A"), (NEW_SECRET, "B")] {
        assert_eq!(told(secret, code, CallbackKind::ChargeApproved).await, "applied", "{code}");
    }
    let completed = "SELECT count(*) FROM orders WHERE status = 'completed'";
    eventually("both are paid", async || program.stack.value::<i64>(completed).await == 2).await;
    api.running.stop().await.exits(0);
    // A gateway may be spoken for by its own secret alone, or by the common one that others have.
    let api = Api::start(&program, "serve", &[], &[("ORDERSTREAM_WEBHOOK_SECRET_HTTP_2", NEW_SECRET)]).await;
    api.webhook(COMMON, "m", 0, &body("A")).await.problem(401, "bad_signature");
    api.webhook(NEW_SECRET, "m", 0, &body("A")).await.ok(200);
    let nobody = Api::start(&program, "serve", &[], &[("ORDERSTREAM_WEBHOOK_SECRET_HTPP", SECRET)]).await;
    nobody.running.says("ORDERSTREAM_WEBHOOK_SECRET_HTPP is the secret of no gateway").await;
    let wrong =
        program.command(&["serve", "--http", "127.0.0.1:0"]).env("ORDERSTREAM_WEBHOOK_SECRET_HTTP", "secret").output();
    let wrong = String::from_utf8(wrong.await.expect("it ends").stderr).expect("text");
    assert!(wrong.contains("ORDERSTREAM_WEBHOOK_SECRET_HTTP: a secret begins with whsec_"), "{wrong}");
}

#[tokio::test]
async fn without_a_secret_there_are_no_webhooks() {
    let program = Program::get().await;
    let api = Api::start(&program, "serve", &[], &[]).await;
    api.webhook(SECRET, "m", 0, &body("A")).await.problem(404, "webhooks_off");
}

#[tokio::test]
async fn what_was_thanked_for_survives_a_crash() {
    let program = Program::get().await;
    for number in 0..5 {
        let api = Api::serve(&program, &[]).await;
        api.webhook(SECRET, &format!("m-{number}"), 0, &body("A")).await.ok(200);
        api.running.crash().await;
        assert_eq!(stored(&program).await, number + 1);
    }
}

#[tokio::test]
async fn the_same_callback_a_hundred_times_at_once_is_stored_once() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let request = api.signed(SECRET, "m", 0, &body("A"));
    let answers = (0..100).map(|_| Answer::of(request.try_clone().expect("bytes")));
    let answers = futures::future::join_all(answers).await;
    let stored_now = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(stored_now, 1);
    assert!(answers.iter().all(|answer| [200, 409].contains(&answer.status.as_u16())));
    assert_eq!(stored(&program).await, 1);
}

#[tokio::test]
async fn ten_thousand_hostile_requests_leave_memory_flat_and_nothing_behind() {
    const ROUNDS: usize = 10_000;
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let big = vec![b'x'; 60 * 1024];
    let at = Utc::now().timestamp();
    let forged = sign(&Secret::parse(NEW_SECRET).expect("a secret"), "m", at, &big);
    let fire = async |from: usize, to: usize| {
        let requests = (from..to).map(|number| {
            let request = match number % 5 {
                0 => api.request(Method::POST, "/webhooks/payments").body(big.clone()),
                1 => api
                    .request(Method::POST, "/webhooks/payments")
                    .header("webhook-id", format!("m{number}"))
                    .header("webhook-timestamp", at.to_string())
                    .header("webhook-signature", forged.clone())
                    .body(big.clone()),
                2 => api.request(Method::GET, &format!("/v1/none/{number}")),
                3 => api
                    .request(Method::POST, "/v1/orders")
                    .header("content-type", "application/json")
                    .body("[".repeat(5_000)),
                _ => api.request(Method::GET, "/v1/orders").header("authorization", format!("Bearer os_{number}")),
            };
            async move { Answer::of(request).await.status }
        });
        let statuses: Vec<_> = futures::StreamExt::collect::<Vec<_>>(futures::StreamExt::buffer_unordered(
            futures::stream::iter(requests),
            32,
        ))
        .await;
        assert!(statuses.iter().all(|status| status.is_client_error()), "{statuses:?}");
    };
    fire(0, ROUNDS / 10).await;
    let before = api.running.resident_kb();
    fire(ROUNDS / 10, ROUNDS).await;
    let after = api.running.resident_kb();
    assert!(after < before + 32 * 1024, "{before} kB became {after} kB");
    assert_eq!(stored(&program).await, 0);
}
