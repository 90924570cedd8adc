//! Two providers in turn, and a change of currency, with payments under way at each change and workers that are killed: what
//! every provider's own ledger says is what the books say, to the unit. `TURNS_ORDERS` and `TURNS_KILLS` make it as large
//! as one likes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pipeline::{
    domain::RefundRequest,
    message::{BODY, encode_refund},
    streams::Fields,
    topology::StageName,
};
use serde_json::Value;

use super::installed::ledgers_agree;
use crate::program::{
    Orderstream, Program, Running,
    harness::{PATIENCE, order},
    provider::{KEY, Provider},
};

/// What the providers do to whom. None refuses a refund: late money that cannot go back is a difference, rightly.
const FAULTS: [&str; 18] = [
    "--approve",
    "0.9",
    "--pending",
    "0.1",
    "--timeouts",
    "0.05",
    "--errors",
    "0.02",
    "--lost",
    "0.05",
    "--doubled",
    "0.02",
    "--late",
    "0.03",
    "--late-after",
    "9000",
    "--callback-after",
    "300",
];

const WORKERS: [&str; 11] = [
    "run",
    "--claim-idle",
    "1",
    "--reconcile-every",
    "1",
    "--payment-timeout",
    "6",
    "--gateway-timeout",
    "1",
    "--batch",
    "100",
];

/// Cents that came in, and that went back, by gateway and currency.
type Sums = BTreeMap<(String, String), (i64, i64)>;

fn from_env(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

async fn at_last(what: &str, workers: &mut Running, mut holds: impl AsyncFnMut() -> bool) {
    let (begun, patience) =
        (Instant::now(), PATIENCE * u32::try_from(1 + from_env("TURNS_ORDERS", 0) / 1_000).expect("small"));
    while !holds().await {
        assert!(workers.runs(), "the workers ended before this: {what}\n{}", workers.told());
        assert!(begun.elapsed() < patience, "waited in vain for this: {what}\n{}", workers.told());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn start(program: &Program) -> Running {
    let mut command = program.command(&WORKERS);
    for name in ["HTTP", "HTTP_2", "HTTP_3"] {
        command.env(format!("ORDERSTREAM_GATEWAY_KEY_{name}"), KEY);
    }
    Running::spawn(&mut command, &WORKERS)
}

/// Orders of three different totals, and a refund of a part of every eighth.
async fn publish(program: &Program, name: &str, count: usize) {
    let orders: Vec<_> = (0..count)
        .map(|n| {
            let cents = 101 + i64::try_from(n % 3).expect("a small number") * 1_000;
            order(&format!("{name}-{n}"), 1, &[(1, 1, cents), (1, 2, 99)])
        })
        .collect();
    program.stack.publish(&orders).await;
    let refunds: Vec<Fields> = (0..count)
        .step_by(8)
        .map(|n| {
            RefundRequest::new(&format!("back-{name}-{n}"), &format!("{name}-{n}"), Some("1.01"), None, false)
                .expect("valid")
        })
        .map(|refund| vec![(BODY.into(), encode_refund(&refund))])
        .collect();
    let mut redis = program.stack.connection().await;
    program.stack.redis.publish(&mut redis, 0, StageName::Refund, &refunds).await.expect("Redis");
}

/// What the books say.
async fn booked(program: &Program) -> Sums {
    let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "SELECT g.name, g.currency,
                (SELECT coalesce(sum(amount_cents), 0)::bigint FROM payments p
                 WHERE p.gateway = g.name AND p.status IN ('approved', 'late')),
                (SELECT coalesce(sum(amount_cents), 0)::bigint FROM refunds r
                 WHERE r.gateway = g.name AND r.status = 'succeeded')
         FROM gateways g",
    )
    .fetch_all(&program.stack.reports.pool())
    .await
    .expect("sums");
    rows.into_iter().map(|(name, currency, came, went)| ((name, currency), (came, went))).collect()
}

/// What a provider's own ledger says, by currency.
async fn of_ledger(provider: &Provider) -> BTreeMap<String, (i64, i64)> {
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for line in provider.ledger().await.values().flatten() {
        let text = |name: &str| line[name].as_str().expect("a text");
        let cents: i64 = text("amount").replace('.', "").parse().expect("an amount with two digits after its point");
        let sum = sums.entry(text("currency").to_owned()).or_default();
        match text("status") {
            "approved" => sum.0 += cents,
            "succeeded" => sum.1 += cents,
            _ => {}
        }
    }
    sums
}

#[tokio::test]
async fn the_ledgers_of_two_providers_in_turn_are_the_books_to_the_unit_through_kills_and_a_change_of_currency() {
    let (orders, kills) = (from_env("TURNS_ORDERS", 450), from_env("TURNS_KILLS", 1));
    let (first, second) = (Provider::start(&FAULTS).await, Provider::start(&FAULTS).await);
    let program = Program::seeded(10, &[1_000_000_000]).await;
    // Who takes the money, in what, and as which gateway.
    let turns = [(&first, "EUR", "http"), (&second, "EUR", "http-2"), (&first, "USD", "http-3")];
    let count = async |query: String| program.stack.value::<i64>(&query).await;
    let whole = i64::try_from(orders / turns.len()).expect("a small number");
    for (turn, (provider, currency, gateway)) in turns.iter().enumerate() {
        program.run(&["provider", "set", &provider.url, "--currency", currency]).await.exits(0);
        publish(&program, &format!("TURN{turn}"), orders / turns.len()).await;
        for kill in 0..kills {
            let mut run = start(&program);
            let share = whole * i64::try_from(kill + 1).expect("small") / i64::try_from(kills + 1).expect("small");
            at_last("payments get on", &mut run, async || {
                count(format!("SELECT count(*) FROM payments WHERE gateway = '{gateway}'")).await >= share
            })
            .await;
            run.crash().await;
        }
        // The next change comes while some of this turn wait for an answer.
        let mut run = start(&program);
        at_last("all have begun", &mut run, async || {
            count(format!("SELECT count(*) FROM payments WHERE gateway = '{gateway}'")).await == whole
        })
        .await;
        assert!(count("SELECT count(*) FROM payments WHERE status = 'pending'".to_owned()).await > 0);
        run.crash().await;
    }
    let mut run = start(&program);
    let all = whole * 3;
    at_last("all orders are final", &mut run, async || {
        count("SELECT count(*) FROM orders WHERE status IN ('completed', 'failed')".to_owned()).await == all
    })
    .await;
    at_last("the providers have decided everything", &mut run, async || {
        let (first, second) = (first.ledger().await, second.ledger().await);
        first.values().chain(second.values()).flatten().all(|line: &Value| line["status"] != "pending")
    })
    .await;
    // Everybody is asked once more, and not after a pause that has grown. Who has never heard of a charge is asked for an hour.
    program.stack.sql("UPDATE payments SET due_at = now(), checks = 0 WHERE due_at IS NOT NULL").await;
    program.stack.sql("UPDATE refunds SET due_at = now(), checks = 0 WHERE due_at IS NOT NULL").await;
    at_last("nobody is owed anything", &mut run, async || {
        count(
            "SELECT (SELECT count(*) FROM refunds WHERE status IN ('waiting', 'pending'))
                 + (SELECT count(*) FROM payments
                    WHERE status = 'pending' OR due_at IS NOT NULL AND (provider_id IS NOT NULL OR checks = 0))"
                .to_owned(),
        )
        .await
            == 0
    })
    .await;
    assert_eq!(
        count("SELECT count(*) FROM payments WHERE due_at IS NOT NULL AND status <> 'expired'".to_owned()).await,
        0
    );
    run.stop().await.exits(0);
    ledgers_agree(&program).await;

    let booked = booked(&program).await;
    let (first, second) = (of_ledger(&first).await, of_ledger(&second).await);
    let told: Sums = [("http", "EUR", &first), ("http-2", "EUR", &second), ("http-3", "USD", &first)]
        .into_iter()
        .map(|(name, currency, sums)| ((name.to_owned(), currency.to_owned()), sums[currency]))
        .collect();
    assert_eq!(booked, told);
    assert!(told.values().all(|(came, went)| came > went && *went > 0), "{told:?}");
    assert_eq!((first.len(), second.len()), (2, 1), "a currency that was not asked for");
    assert_eq!(program.dead_letters().await, 0);
}
