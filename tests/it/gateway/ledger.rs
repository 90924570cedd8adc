//! The provider's ledger: what was answered is there, whatever happens, and once.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pipeline::gateway::{ChargeAnswer, Gateway, ReturnAnswer};
use serde_json::Value;

use crate::program::{
    Orderstream,
    harness::eventually,
    provider::{KEY, Provider, charge, client, refund},
};

fn charged(reference: &str) -> (String, String) {
    ("charge".to_owned(), reference.to_owned())
}

#[tokio::test]
async fn what_was_answered_outlives_a_kill_at_any_time_and_no_key_is_charged_twice() {
    const KILLS: usize = 12;
    let mut provider = Provider::start(&[]).await;
    let client = client(&provider.url, |settings| settings.timeout = Duration::from_millis(200));
    let answered: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let (count, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let charging: Vec<_> = (0..8)
        .map(|worker| {
            let (client, answered) = (client.clone(), Arc::clone(&answered));
            let (count, ended) = (Arc::clone(&count), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut number = 0;
                while !ended.load(Ordering::Relaxed) {
                    let charge = charge(&format!("{worker}-{number}"));
                    // The same again, until somebody answers.
                    match client.charge(std::slice::from_ref(&charge)).await.remove(0) {
                        ChargeAnswer::Approved(id) | ChargeAnswer::Declined(id) => {
                            answered.lock().expect("nobody panics").insert(charge.reference, id);
                            count.fetch_add(1, Ordering::Relaxed);
                            number += 1;
                        }
                        ChargeAnswer::Unknown(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    for kill in 0..KILLS {
        let enough = count.load(Ordering::Relaxed) + 1 + kill * 7;
        eventually("charges are answered", async || count.load(Ordering::Relaxed) >= enough).await;
        provider.kill().await;
        provider.start_again(&[]).await;
    }
    ended.store(true, Ordering::Relaxed);
    for charging in charging {
        charging.await.expect("no panic");
    }
    provider.kill().await;
    provider.start_again(&[]).await;
    let (ledger, answered) = (provider.ledger().await, answered.lock().expect("nobody panics"));
    assert!(answered.len() > KILLS);
    for (reference, id) in answered.iter() {
        let lines = &ledger[&charged(reference)];
        assert_eq!((lines.len(), lines[0]["id"].as_str()), (1, Some(id.as_str())), "{reference}");
    }
    assert!(ledger.values().all(|lines| lines.len() == 1));
}

#[tokio::test]
async fn the_same_key_is_answered_the_same_and_another_body_under_it_is_refused() {
    let provider = Provider::start(&["--approve", "1", "--pending", "0.5", "--callback-after", "0"]).await;
    let body = |reference: &str, amount: &str| {
        format!(r#"{{"amount":"{amount}","currency":"EUR","reference":"{reference}"}}"#)
    };
    for number in 0..10 {
        let (key, body) = (format!("k-{number}"), body(&format!("ORD-{number}"), "5.00"));
        let first = provider.post("charges", &key, &body).await;
        // Decided or not: the first answer stays.
        for _ in 0..3 {
            assert_eq!(provider.post("charges", &key, &body).await, first);
        }
    }
    let (status, problem) = provider.post("charges", "k-0", &body("ORD-0", "5.01")).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("idempotency_key_reused")));
    // A real provider charges again under another key; its ledger shows it.
    provider.post("charges", "other", &body("ORD-0", "5.00")).await;
    assert_eq!(provider.ledger().await[&charged("ORD-0")].len(), 2);
    for (key, body) in [("", body("A", "1")), ("k", body("", "1")), ("k", body("A", "-1")), ("k", "{}".to_owned())] {
        assert_eq!(provider.post("charges", key, &body).await.0, 400, "{key} {body}");
    }
    assert_eq!(
        provider
            .post(
                "refunds",
                "r",
                r#"{"charge":null,"charge_reference":"none","amount":"1","currency":"EUR","reference":"r"}"#
            )
            .await
            .1["code"],
        "no_such_charge"
    );
}

#[tokio::test]
async fn all_callers_of_one_key_at_once_get_one_charge() {
    let provider = Provider::start(&[]).await;
    let client = provider.client();
    let same: Vec<_> = (0..100).map(|_| charge("ORD-1")).collect();
    let answers = client.charge(&same).await;
    assert!(matches!(&answers[0], ChargeAnswer::Approved(_)));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let sixty: Vec<_> = (0..16).map(|n| refund(&format!("r-{n}"), "ORD-1", 2399)).collect();
    let succeeded = client.give_back(&sixty).await;
    let succeeded = succeeded.iter().filter(|answer| matches!(answer, ReturnAnswer::Succeeded(_))).count();
    assert_eq!((succeeded, provider.ledger().await.len()), (1, 2));
}

#[tokio::test]
async fn a_torn_last_line_is_dropped_and_a_broken_one_before_it_is_refused() {
    let mut provider = Provider::start(&[]).await;
    provider.client().charge(&[charge("ORD-1"), charge("ORD-2")]).await;
    provider.kill().await;
    let path = provider.local.path("ledger.ndjson");
    let whole = fs::read(&path).expect("the ledger");
    for torn in ["{", r#"{"fact":"booked","kind":"charge","id":"ch_1","key":"#] {
        OpenOptions::new().append(true).open(&path).expect("the ledger").write_all(torn.as_bytes()).expect("written");
        provider.start_again(&[]).await;
        assert_eq!(provider.ledger().await.len(), 2);
        provider.kill().await;
        assert_eq!(fs::read(&path).expect("the ledger"), whole);
    }
    fs::write(&path, [b"{\n", &whole[..]].concat()).expect("written");
    let refused = provider.local.run(&["gateway", "--ledger", "ledger.ndjson"]).await.exits(1);
    assert!(refused.stderr.contains("line 1 of the ledger"), "{refused:?}");
    // Whole again, but twice: a key cannot be booked twice.
    fs::write(&path, [&whole[..], &whole[..]].concat()).expect("written");
    let refused = provider.local.run(&["gateway", "--ledger", "ledger.ndjson"]).await.exits(1);
    assert!(refused.stderr.contains("line 3 of the ledger"), "{refused:?}");
}

#[tokio::test]
async fn a_ledger_belongs_to_one_process_and_a_key_to_its_callers() {
    let provider = Provider::start(&[]).await;
    let second = provider.local.run(&["gateway", "--ledger", "ledger.ndjson"]).await.exits(1);
    assert!(second.stderr.contains("belongs to a running gateway"), "{second:?}");
    let other = client(&provider.url, |settings| settings.key = Some("another".to_owned()));
    let answers = other.charge(&[charge("ORD-1")]).await;
    assert!(matches!(&answers[0], ChargeAnswer::Unknown(why) if why.contains("401")), "{answers:?}");
    let none = reqwest::get(format!("{}/ledger", provider.url)).await.expect("an answer");
    assert_eq!(none.headers()["content-type"], "application/problem+json");
    assert_eq!(none.json::<Value>().await.expect("JSON")["code"], "unauthorized");
    let huge = format!(r#"{{"amount":"1","currency":"EUR","reference":"{}"}}"#, "x".repeat(1 << 17));
    let (status, problem) = provider.post("charges", "k", &huge).await;
    assert_eq!((status, problem["code"].as_str()), (413, Some("unreadable_body")));
    assert!(!format!("{:?}", provider.client()).contains(KEY), "a key is not printed");
    for (args, why) in [
        (&["gateway", "--ledger", "l", "--listen", "0.0.0.0:0"][..], "ORDERSTREAM_GATEWAY_KEY"),
        (&["gateway", "--ledger", "l", "--callback", "http://127.0.0.1:1/"], "ORDERSTREAM_WEBHOOK_SECRET"),
        (&["gateway", "--ledger", "l", "--lost", "1.5"], "share"),
        (&["run", "--gateway", "http://pay.example.com"], "--allow-plain-gateway"),
        (&["run", "--currency", "eur"], "capital"),
    ] {
        let refused = provider.local.run(args).await.exits(2);
        assert!(refused.stderr.contains(why), "{refused:?}");
    }
}
