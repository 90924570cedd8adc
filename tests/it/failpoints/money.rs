//! Faults at every step of money: a provider that disappoints, refunds of all kinds, callbacks that come again.

use std::fmt;

use pipeline::{
    domain::{Cents, Order, RefundRequest},
    message::{BODY, WEBHOOK_ID, encode_callback, encode_order, encode_refund},
    streams::Fields,
    topology::StageName,
};

use super::{
    places::{self, Action, MONEY, Place},
    scene::WORKERS,
};
use crate::program::{
    harness::{eventually, order},
    shop::Shop,
};

/// How many places one scene has: late money takes its time, and is waited for once in each.
const PLACES_MAX: usize = 6;

/// What the provider does to whom. Money that is late comes when its order has failed.
const PROVIDER: [&str; 16] = [
    "--pending",
    "0.3",
    "--timeouts",
    "0.05",
    "--errors",
    "0.05",
    "--lost",
    "0.05",
    "--doubled",
    "0.1",
    "--early",
    "0.1",
    "--late",
    "0.15",
    "--late-after",
    "4000",
];

/// How the workers deal with it. The same messages may be in hand at many faults, one place after the other.
const WORKER: [&str; 6] = ["--payment-timeout", "2", "--gateway-timeout", "3", "--attempts-max", "100"];

/// Orders of a lot: each kind of refund has two.
const ORDERS: usize = 8;

/// Stocks: enough for all but who wants more than there ever is.
const STOCKS: [i64; 2] = [100_000; 2];

/// Places that are gone through one after the other.
pub(crate) struct Places(Vec<Place>);

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|place| place.name).collect();
        write!(f, "money at {}", names.join(", "))
    }
}

/// All places of money, in as few scenes as go side by side.
pub(crate) fn cases() -> Vec<(Places, Vec<Action>)> {
    let places = places::of(MONEY);
    let scenes = places.len().div_ceil(PLACES_MAX);
    // Neighbours in the table fail at the same messages: they go to different scenes.
    let scene = |n| Places(places.iter().copied().skip(n).step_by(scenes).collect());
    places::runs()
        .into_iter()
        .flat_map(|actions| (0..scenes).map(move |n| (n, actions.clone())))
        .map(|(n, actions)| (scene(n), actions))
        .collect()
}

/// Lots of orders with their refunds.
#[derive(Default)]
struct Lots {
    lots: usize,
    refunds: usize,
}

impl Lots {
    /// Orders of a lot: one cannot be carried out.
    fn orders(lot: usize) -> Vec<Order> {
        let one =
            |n: usize| order(&format!("LOT{lot}-{n}"), 1, &[(1, 1, 1_250), (2, 1 + i32::from(n == 0) * 200_000, 1)]);
        (0..ORDERS).map(one).collect()
    }

    /// Refunds of a lot: whole, in parts, more than was paid, with the pieces and without.
    fn refunds(lot: usize, name: &str) -> Vec<RefundRequest> {
        let request = |n: usize, part: &str, amount, restock| {
            let (key, code) = (format!("{name}-{lot}-{n}-{part}"), format!("LOT{lot}-{n}"));
            RefundRequest::new(&key, &code, amount, None, restock).expect("valid")
        };
        (0..ORDERS)
            .flat_map(|n| match n % 4 {
                0 => vec![request(n, "whole", None, false)],
                1 => vec![request(n, "part", Some("5.00"), true), request(n, "rest", None, true)],
                2 => vec![request(n, "more", Some("12.52"), false), request(n, "cent", Some("0.01"), true)],
                _ => vec![request(n, "most", Some("12.00"), false), request(n, "other", Some("12.00"), false)],
            })
            .collect()
    }

    /// Publishes the next lot: refunds of it before its orders, more of them for the lot before, some of both twice, and
    /// what the provider has told so far.
    async fn publish(&mut self, shop: &Shop) {
        let mut refunds = Self::refunds(self.lots, "early");
        if let Some(before) = self.lots.checked_sub(1) {
            refunds.extend(Self::refunds(before, "after"));
        }
        self.refunds += refunds.len();
        refunds.extend_from_within(3..9);
        let refunds: Vec<Fields> = refunds.iter().map(|refund| vec![(BODY.into(), encode_refund(refund))]).collect();
        let mut orders = Self::orders(self.lots);
        orders.extend_from_within(3..6);
        let orders: Vec<Fields> = orders.iter().map(|order| vec![(BODY.into(), encode_order(order))]).collect();
        let told = self.told_again(shop).await;
        let mut redis = shop.program.stack.connection().await;
        for (stage, messages) in
            [(StageName::Refund, refunds), (StageName::Reservation, orders), (StageName::Callback, told)]
        {
            shop.program.stack.redis.publish(&mut redis, 0, stage, &messages).await.expect("Redis");
        }
        self.lots += 1;
    }

    /// The newest callbacks under new ids.
    async fn told_again(&self, shop: &Shop) -> Vec<Fields> {
        let callbacks: Vec<(i64, String, String, String, i64, String)> = sqlx::query_as(
            "SELECT id, kind, provider_id, reference, amount_cents, currency FROM payment_callbacks
             ORDER BY id DESC LIMIT 20",
        )
        .fetch_all(&shop.program.stack.reports.pool())
        .await
        .expect("callbacks");
        let again =
            |(id, kind, provider_id, reference, cents, currency): (i64, String, String, String, i64, String)| {
                let kind = kind.parse().expect("a kind");
                let body = encode_callback(kind, &provider_id, &reference, Cents::new(cents), &currency);
                let name = format!("again-{}-{id}", self.lots);
                vec![(WEBHOOK_ID.into(), name.into_bytes()), (BODY.into(), body)]
            };
        callbacks.into_iter().map(again).collect()
    }

    /// Every order has its end, every refund its outcome, and the provider's ledger and ours agree.
    async fn all_ended(&self, shop: &Shop) {
        let orders = i64::try_from(self.lots * ORDERS).expect("a small number");
        let refunds = i64::try_from(self.refunds).expect("a small number");
        // Questions come in growing steps. Who was disappointed often enough would be asked about in an hour.
        let hurry = async || {
            for table in ["payments", "refunds"] {
                // Rows in hand are left to whoever has them: they could wait for each other.
                let soon = format!(
                    "UPDATE {table} SET due_at = now() WHERE ctid = ANY (ARRAY(
                         SELECT ctid FROM {table} WHERE due_at > now() + interval '5 seconds' FOR UPDATE SKIP LOCKED))"
                );
                shop.program.stack.sql(&soon).await;
            }
        };
        eventually("every order has its end", async || {
            hurry().await;
            shop.count("SELECT count(*) FROM orders WHERE status IN ('completed', 'failed')").await == orders
        })
        .await;
        eventually("every refund has its outcome", async || {
            const ASKED: &str =
                "SELECT count(*) FROM refunds WHERE NOT automatic AND status IN ('succeeded', 'refused')";
            hurry().await;
            shop.count(ASKED).await == refunds
        })
        .await;
        eventually("the provider's ledger and ours agree", async || {
            const OPEN: &str = "SELECT (SELECT count(*) FROM refunds WHERE status IN ('waiting', 'pending'))
                + (SELECT count(*) FROM payment_callbacks WHERE outcome = 'waiting')";
            hurry().await;
            shop.count(OPEN).await == 0 && shop.audit().await.0 == Some(0)
        })
        .await;
        let twice: Vec<_> = shop.charged().await.into_iter().filter(|(_, times)| *times > 1).collect();
        assert!(twice.is_empty(), "charged twice: {twice:?}");
        for (what, none) in [
            (
                "late money was kept",
                "SELECT count(*) FROM payments p WHERE status = 'late' AND NOT EXISTS
                     (SELECT FROM refunds r WHERE r.order_id = p.order_id AND r.automatic AND r.status = 'succeeded')",
            ),
            (
                "more went back than was paid",
                "SELECT count(*) FROM refunds WHERE key LIKE '%-more' AND status <> 'refused'",
            ),
            (
                "a true word was not believed",
                "SELECT count(*) FROM payment_callbacks WHERE outcome NOT IN ('applied', 'repeated')",
            ),
        ] {
            assert_eq!(shop.count(none).await, 0, "{what}");
        }
        for (what, some) in [
            ("no money came late", "SELECT count(*) FROM payments WHERE status = 'late'"),
            ("no pieces came back", "SELECT count(*) FROM refunds WHERE restocked"),
            ("nothing was told by message", "SELECT count(*) FROM payment_callbacks WHERE event_id LIKE 'again-%'"),
        ] {
            assert!(shop.count(some).await > 0, "{what}");
        }
        assert_eq!(shop.program.dead_letters().await, 0);
    }
}

/// The process that deals with money fails at each of these places in these ways, one after the other, while all others
/// are healthy.
pub(crate) async fn recovers(places: Places, actions: Vec<Action>) {
    let shop = Shop::open(&STOCKS, &PROVIDER, &[&WORKER[..], &["--batch", WORKERS[3]]].concat()).await;
    let healthy = shop.run(&["--stages", "reservation,settlement,relay,reconciler"]);
    let money = ["--stages", MONEY];
    let mut lots = Lots::default();

    // Some are paid, and the provider has something to say again.
    let unharmed = shop.run(&money);
    lots.publish(&shop).await;
    eventually("the provider has told something", async || {
        shop.count("SELECT count(*) FROM payment_callbacks").await > 0
            && shop.count("SELECT count(*) FROM orders WHERE status = 'completed'").await > 0
    })
    .await;
    unharmed.stop().await.exits(0);

    for place in &places.0 {
        let faulty = shop.faulty(&money, &place.faults(&actions));
        for action in &actions {
            lots.publish(&shop).await;
            faulty.says(&place.evidence(*action)).await;
        }
        if actions.last() == Some(&Action::Abort) {
            let done = faulty.end().await;
            assert_eq!(done.code, None, "a signal ended it: {}", done.stderr);
        } else {
            faulty.stop().await.exits(0);
        }
    }

    let again = shop.run(&money);
    lots.all_ended(&shop).await;
    again.stop().await.exits(0);
    healthy.stop().await.exits(0);
    shop.api.stop().await.exits(0);
}
