//! The whole way of money: orders over a real payment provider with all its faults, callbacks through the HTTP API,
//! kills of everything, refunds by all three ways. `PAYMENTS_ORDERS`, `PAYMENTS_KILLS`, `REFUNDS_ORDERS` and
//! `REFUNDS_THREADS` make the runs as large as one likes.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use orderstream::provider::{Fault, Faults};
use pipeline::{
    domain::RefundRequest,
    message::{BODY, encode_refund},
    topology::StageName,
};
use serde_json::{Value, json};

use crate::program::{Orderstream, Running, harness::eventually, provider::KEY, shop::Shop};

/// Longest wait for a large run to come to its end.
const LONG: Duration = Duration::from_secs(600);

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Waits for as long as a large run may take.
async fn at_last(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < LONG, "waited in vain for this: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn orders_over_a_faulty_provider_are_charged_once_through_kills_and_late_money_goes_back() {
    let (orders, kills) = (from_env("PAYMENTS_ORDERS", 1_500), from_env("PAYMENTS_KILLS", 4));
    let shop = Shop::open(
        &[10_000_000, 10_000_000],
        &[
            "--timeouts",
            "0.05",
            "--doubled",
            "0.05",
            "--early",
            "0.05",
            "--lost",
            "0.05",
            "--late",
            "0.02",
            "--errors",
            "0.02",
            "--late-after",
            "12000",
            "--latency",
            "5",
        ],
        &["--payment-timeout", "8", "--gateway-timeout", "1", "--batch", "200"],
    )
    .await;
    let codes: Vec<String> = (0..orders).map(|n| format!("ORD-{n}")).collect();
    shop.publish(&codes).await;
    for kill in 0..kills {
        let run = shop.run(&[]);
        let before = shop.count("SELECT count(*) FROM payments").await;
        let further = i64::try_from(orders / (kills + 1)).expect("a small number");
        let whole = i64::try_from(orders).expect("a small number");
        at_last("payments get on", async || {
            shop.count("SELECT count(*) FROM payments").await >= (before + further).min(whole)
        })
        .await;
        // Each time at another moment of the answers.
        tokio::time::sleep(Duration::from_millis(37 * kill)).await;
        run.crash().await;
    }
    let run = shop.run(&[]);
    let whole = i64::try_from(orders).expect("a small number");
    at_last("all orders are final", async || {
        shop.count("SELECT count(*) FROM orders WHERE status IN ('completed', 'failed')").await == whole
    })
    .await;
    at_last("the provider has decided everything", async || {
        let ledger = shop.provider.ledger().await;
        !ledger.is_empty() && ledger.values().flatten().all(|line| line["status"] != "pending")
    })
    .await;
    at_last("the provider's ledger and ours agree", async || shop.audit().await.0 == Some(0)).await;
    at_last("late money is back", async || {
        shop.count("SELECT count(*) FROM refunds WHERE status NOT IN ('succeeded', 'failed')").await == 0
    })
    .await;
    run.stop().await.exits(0);

    // No order was charged twice, and what was charged of failed orders went back.
    let charged = shop.charged().await;
    let twice: Vec<_> = charged.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "charged twice: {twice:?}");
    assert_eq!(
        shop.count(
            "SELECT count(*) FROM payments p JOIN orders o ON o.id = p.order_id
             WHERE p.status = 'late' AND NOT EXISTS
                 (SELECT FROM refunds r WHERE r.order_id = o.id AND r.automatic AND r.status = 'succeeded')"
        )
        .await,
        0
    );
    let kept = shop.count("SELECT count(*) FROM orders WHERE status = 'completed'").await;
    let late = shop.count("SELECT count(*) FROM payments WHERE status = 'late'").await;
    assert_eq!(kept + late, i64::try_from(charged.len()).expect("a small number"));

    // Every fault was there to be hit, and those that only time tells were.
    for (fault, share) in [
        (Fault::Timeouts, 0.05),
        (Fault::Doubled, 0.05),
        (Fault::Early, 0.05),
        (Fault::Lost, 0.05),
        (Fault::Late, 0.02),
        (Fault::Errors, 0.02),
    ] {
        let faults = Faults::none(1).with(fault, share);
        assert!(codes.iter().any(|code| faults.hit(fault, code)), "{fault:?} hits nobody");
    }
    assert!(late > 0, "no money came late");
    assert!(shop.count("SELECT count(*) FROM payment_callbacks WHERE outcome = 'applied'").await > 0);
    // A declined code is declined here as there, whatever happened on the way.
    assert_eq!(shop.count("SELECT count(*) FROM payments WHERE status = 'pending'").await, 0);
    assert_eq!(shop.program.dead_letters().await, 0);
    shop.program.audit().await;
    shop.api.stop().await.exits(0);
}

#[tokio::test]
async fn of_refunds_by_all_three_ways_at_once_exactly_one_of_each_order_succeeds() {
    let (orders, threads) = (from_env("REFUNDS_ORDERS", 60), from_env("REFUNDS_THREADS", 16));
    let threads = usize::try_from(threads).expect("a small number");
    let shop =
        Shop::open(&[10_000_000, 10_000_000], &["--approve", "1", "--timeouts", "0.02"], &["--gateway-timeout", "1"])
            .await;
    let codes: Vec<String> = (0..orders).map(|n| format!("ORD-{n}")).collect();
    shop.publish(&codes).await;
    let run = shop.run(&[]);
    let whole = i64::try_from(orders).expect("a small number");
    at_last("all orders are completed", async || {
        shop.count("SELECT count(*) FROM orders WHERE status = 'completed'").await == whole
    })
    .await;

    // 60 % of each order, from all threads at once: by message, over HTTP, by the command line.
    let client = reqwest::Client::new();
    let threads_run = (0..threads).map(|thread| {
        let (shop, codes, client) = (&shop, &codes, &client);
        async move {
            let mut redis = shop.program.stack.connection().await;
            for (n, code) in codes.iter().enumerate() {
                let key = format!("t{thread}-{code}");
                // A process for each order would take minutes: every sixteenth of each thread's.
                match (thread + n) % 16 {
                    0 => {
                        let args = [
                            "refund",
                            code,
                            "--key",
                            &key,
                            "--amount",
                            "60.01",
                            "--wait",
                            "0",
                            "--gateway",
                            &shop.provider.url,
                        ];
                        let refund =
                            Running::spawn(shop.program.command(&args).env("ORDERSTREAM_GATEWAY_KEY", KEY), &args);
                        let done = refund.end().await;
                        assert!(matches!(done.code, Some(0 | 6)), "{done:?}");
                    }
                    m if m % 2 == 1 => {
                        let body = json!({"refund_key": key, "order_code": code, "amount": "60.01"});
                        let answer = client.post(format!("{}/v1/refunds", shop.api_url)).json(&body).send().await;
                        let status = answer.expect("an answer").status().as_u16();
                        assert!(matches!(status, 200 | 202), "{status}");
                    }
                    _ => {
                        let request = RefundRequest::new(&key, code, Some("60.01"), None, false).expect("valid");
                        let messages = [vec![(BODY.into(), encode_refund(&request))]];
                        let added = shop.program.stack.redis.publish(&mut redis, 0, StageName::Refund, &messages);
                        added.await.expect("Redis");
                    }
                }
            }
        }
    });
    stream::iter(threads_run).buffer_unordered(threads).collect::<Vec<()>>().await;
    let all = whole * i64::try_from(threads).expect("a small number");
    at_last("every refund has its outcome", async || {
        shop.count("SELECT count(*) FROM refunds WHERE status IN ('succeeded', 'refused', 'failed')").await == all
    })
    .await;
    assert_eq!(shop.count("SELECT count(*) FROM refunds WHERE status = 'succeeded'").await, whole);
    assert_eq!(
        shop.count("SELECT count(*) FROM (SELECT FROM refunds WHERE status = 'succeeded' GROUP BY order_id) one").await,
        whole
    );
    assert_eq!(shop.count("SELECT count(*) FROM refunds WHERE refusal = 'exceeds_paid'").await, all - whole);
    eventually("the board shows every event, and the ledgers agree", async || shop.audit().await.0 == Some(0)).await;

    // The same key a hundred times over HTTP: one refund, and equal answers.
    let code = &codes[0];
    let body = json!({"refund_key": "again", "order_code": code, "amount": "10.00", "reason": "damaged"});
    let ask = || async {
        let answer = client.post(format!("{}/v1/refunds", shop.api_url)).json(&body).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
    };
    stream::iter((0..100).map(|_| ask())).buffer_unordered(16).collect::<Vec<()>>().await;
    let outcome = || async {
        let answer = client.get(format!("{}/v1/refunds/again", shop.api_url)).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")
    };
    eventually("it has its outcome", async || outcome().await["status"] == "succeeded").await;
    let answers = stream::iter((0..100).map(|_| outcome())).buffer_unordered(16).collect::<Vec<Value>>().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(shop.count("SELECT count(*) FROM refunds WHERE key = 'again'").await, 1);
    let other = json!({"refund_key": "again", "order_code": code, "amount": "10.01", "reason": "damaged"});
    let conflict = client.post(format!("{}/v1/refunds", shop.api_url)).json(&other).send().await.expect("an answer");
    assert_eq!(conflict.status().as_u16(), 409);

    let (code, report) = shop.audit().await;
    assert_eq!(code, Some(0), "{report}");
    run.stop().await.exits(0);
    shop.api.stop().await.exits(0);
}
