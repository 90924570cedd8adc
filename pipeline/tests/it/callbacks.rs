//! Callbacks, in batches as the stage stores them, and what they do to payments.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline::{
    domain::{CallbackKind, Cents, OrderId},
    message::{Callback, decode_callback, encode_callback},
    runner::PipelineConfig,
    store::{self, CallbacksOf, GatewayKind, Insertion, NewGateway, SetGateway, Teller, insert_callbacks},
    topology::StageName,
};

use crate::harness::{PATIENCE, Stack, eventually, order, set_by_test, simulated};

fn callback(id: &str, reference: &str, sent_at: DateTime<Utc>) -> Callback {
    let body = encode_callback(CallbackKind::ChargeApproved, "ch_1", reference, Cents::new(100), "EUR");
    decode_callback(&body, id, sent_at).expect("valid")
}

async fn insert(stack: &Stack, callbacks: &[Callback]) -> Vec<Insertion> {
    let mut transaction = stack.store.begin().await.expect("Postgres");
    let inserted = insert_callbacks(&mut transaction, callbacks, "test", &Teller::default()).await.expect("inserted");
    transaction.commit().await.expect("Postgres");
    inserted
}

#[tokio::test]
async fn each_callback_of_a_batch_has_its_own_end() {
    use Insertion::{IdReused, Known, Replayed, Stored};
    let stack = Stack::get().await;
    let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
    let later = at + TimeDelta::seconds(1);
    assert_eq!(insert(&stack, &[]).await, []);
    assert_eq!(insert(&stack, &[callback("a", "A", at), callback("b", "B", at)]).await, [Stored, Stored]);
    let batch = [
        callback("c", "C", at),
        // The first one of an id counts, in the batch as in the table.
        callback("c", "C", at),
        callback("c", "C", later),
        callback("c", "other", later),
        callback("a", "A", later),
        callback("a", "A", later),
        callback("b", "other", later),
        callback("b", "B", at),
    ];
    let ends = [Stored, Replayed, Known, IdReused, Known, Replayed, IdReused, Replayed];
    assert_eq!(insert(&stack, &batch).await, ends);
    let rows: String = stack
        .value("SELECT string_agg(event_id || reference || extract(epoch FROM sent_at)::bigint, ' ' ORDER BY event_id) FROM payment_callbacks")
        .await;
    assert_eq!(rows, "aA1700000001 bB1700000000 cC1700000001");
}

#[tokio::test]
async fn batches_with_the_same_callbacks_in_opposite_order_store_each_once() {
    let stack = Stack::get().await;
    let at = Utc::now();
    let there: Vec<Callback> = (0..200).map(|number| callback(&format!("m-{number}"), "A", at)).collect();
    let back: Vec<Callback> = there.iter().rev().cloned().collect();
    for _ in 0..5 {
        let (one, other) = tokio::join!(insert(&stack, &there), insert(&stack, &back));
        assert_eq!((one.len(), other.len()), (200, 200));
    }
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM payment_callbacks").await, 200);
}

/// The provider of these tests, whose callbacks we make up.
const GATEWAY: &str = "http";

/// Has it take new payments; what stands before our codes in its references.
async fn provider(stack: &Stack) -> String {
    let kind = GatewayKind::Http { url: Some("http://127.0.0.1:1".to_owned()) };
    let wanted = NewGateway { name: Some(GATEWAY.to_owned()), kind, currency: "EUR".to_owned(), key_fingerprint: None };
    match store::set_gateway(&stack.store, &wanted, false, set_by_test).await.expect("Postgres") {
        SetGateway::Set { gateway, .. } | SetGateway::Kept(gateway) => gateway.reference_prefix,
        SetGateway::NameTaken(gateway) | SetGateway::OtherKey(gateway) => panic!("{gateway:?}"),
    }
}

/// Reserved orders A-0, A-1, … of 7.00 each.
async fn reserved(count: i64) -> Stack {
    let stack = Stack::get().await;
    stack.seed(1, &[1_000]).await;
    let orders: Vec<_> = (0..count).map(|n| order(&format!("A-{n}"), 1, &[(1, 1, 700)])).collect();
    stack.publish(&orders).await;
    stack.run(&[StageName::Reservation]).await;
    stack
}

/// Stores attempts for all orders that may be asked for money, as if their provider was being asked; for how many.
async fn begin(stack: &Stack) -> Vec<OrderId> {
    provider(stack).await;
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM orders ORDER BY id").fetch_all(&stack.reports.pool()).await.expect("orders");
    let mut transaction = stack.store.begin().await.expect("Postgres");
    let begun = store::begin_payments(&mut transaction, GATEWAY, &ids, 3_600.0, 3_600.0).await.expect("begun");
    transaction.commit().await.expect("Postgres");
    begun
}

/// Stores callbacks of (kind, code, cents, currency) in this sequence, and applies them at once.
async fn told(stack: &Stack, callbacks: &[(CallbackKind, &str, i64, &str)]) {
    let prefix = provider(stack).await;
    let mut with_references = Vec::new();
    for (kind, code, cents, currency) in callbacks {
        with_references.push((*kind, format!("{prefix}{code}"), *cents, *currency));
    }
    told_of(stack, &with_references).await;
}

/// The same, with whole references.
async fn told_of(stack: &Stack, callbacks: &[(CallbackKind, String, i64, &str)]) {
    for (n, (kind, reference, cents, currency)) in callbacks.iter().enumerate() {
        let body = encode_callback(*kind, "ch_1", reference, Cents::new(*cents), currency);
        let callback = decode_callback(&body, &format!("told-{n}"), Utc::now()).expect("valid");
        let mut connection = stack.store.pool().acquire().await.expect("Postgres");
        insert_callbacks(&mut connection, &[callback], GATEWAY, &Teller::default()).await.expect("inserted");
    }
    for of in [CallbacksOf::Charges, CallbacksOf::Refunds] {
        stack.payments(1.0).apply_callbacks(of).await.expect("applied");
    }
}

/// What became of the callbacks.
async fn outcomes(stack: &Stack) -> String {
    stack.value("SELECT string_agg(outcome, ' ' ORDER BY id) FROM payment_callbacks").await
}

/// Where orders and their payments stand.
async fn states(stack: &Stack) -> String {
    const STATES: &str = "SELECT string_agg(concat_ws(' ', o.status, p.status), ', ' ORDER BY o.id)
        FROM orders o LEFT JOIN payments p ON p.order_id = o.id";
    stack.value(STATES).await
}

#[tokio::test]
async fn money_is_asked_for_a_reserved_order_once_and_for_no_other() {
    let stack = reserved(2).await;
    // As if its letter had been discarded.
    stack
        .sql(
            "UPDATE orders SET status = 'failed', failure_reason = 'abandoned', settled_at = now() WHERE code = 'A-1';
             UPDATE products SET reserved = 1;
             WITH counter AS (UPDATE event_counter SET last_seq = last_seq + 1 RETURNING last_seq)
             INSERT INTO events (seq, order_id, kind, amount_cents)
             SELECT last_seq, id, 'failed', total_cents FROM counter, orders WHERE code = 'A-1'",
        )
        .await;
    assert_eq!(begin(&stack).await.len(), 1);
    assert_eq!(begin(&stack).await, []);
    assert_eq!(states(&stack).await, "paying pending, failed");
    stack.books_balance().await;
}

#[tokio::test]
async fn a_callback_with_another_amount_currency_or_reference_is_not_believed() {
    use CallbackKind::ChargeApproved;
    let stack = reserved(1).await;
    begin(&stack).await;
    let prefix = provider(&stack).await;
    let callbacks = [
        (ChargeApproved, format!("{prefix}A-0"), 699, "EUR"),
        (ChargeApproved, format!("{prefix}A-0"), 700, "USD"),
        // An order of this code at the same provider, but of somebody else; as an earlier version would have asked for it.
        (ChargeApproved, "0123456789ab:A-0".to_owned(), 700, "EUR"),
        (ChargeApproved, "A-0".to_owned(), 700, "EUR"),
    ];
    told_of(&stack, &callbacks).await;
    assert_eq!(outcomes(&stack).await, "mismatched mismatched waiting mismatched");
    assert_eq!(states(&stack).await, "paying pending");
}

#[tokio::test]
async fn a_callback_about_another_charge_than_the_one_that_was_promised_is_not_believed() {
    let stack = reserved(2).await;
    begin(&stack).await;
    let prefix = provider(&stack).await;
    stack.sql("UPDATE payments SET provider_id = 'ch_' || order_id - (SELECT min(id) FROM orders) + 1").await;
    let callbacks = ["A-0", "A-1"].map(|code| (CallbackKind::ChargeApproved, format!("{prefix}{code}"), 700, "EUR"));
    told_of(&stack, &callbacks).await;
    assert_eq!(outcomes(&stack).await, "applied mismatched");
    assert_eq!(states(&stack).await, "paying approved, paying pending", "the provider is asked about the other one");
}

#[tokio::test]
async fn a_callback_that_was_signed_for_another_gateway_is_not_believed() {
    let stack = reserved(1).await;
    begin(&stack).await;
    let reference = format!("{}A-0", provider(&stack).await);
    stack
        .sql(
            "INSERT INTO refunds (key, order_id, order_code, amount_cents, status, request_hash, gateway, reference_prefix, due_at)
             SELECT 'r', id, code, 100, 'pending', 0, 'http', reference_mark(), now() + interval '1 hour' FROM orders",
        )
        .await;
    let refund = reference.replace("A-0", "r");
    let only = |name: &str| Teller { only_for: Some(vec![name.to_owned()]), not_for: Vec::new() };
    let but = |name: &str| Teller { only_for: None, not_for: vec![name.to_owned()] };
    let tellers = [
        (only("HTTP_2"), "mismatched"),
        (but("HTTP"), "mismatched"),
        (but("HTTP_2"), "applied"),
        (only("HTTP"), "repeated"),
    ];
    for (n, (teller, outcome)) in tellers.iter().enumerate() {
        for (kind, reference, cents) in
            [(CallbackKind::ChargeApproved, &reference, 700), (CallbackKind::RefundFailed, &refund, 100)]
        {
            let body = encode_callback(kind, "ch_1", reference, Cents::new(cents), "EUR");
            let callback = decode_callback(&body, &format!("{kind}-{n}"), Utc::now()).expect("valid");
            let mut connection = stack.store.pool().acquire().await.expect("Postgres");
            insert_callbacks(&mut connection, &[callback], GATEWAY, teller).await.expect("inserted");
        }
        for of in [CallbacksOf::Charges, CallbacksOf::Refunds] {
            stack.payments(1.0).apply_callbacks(of).await.expect("applied");
        }
        let last: String =
            stack.value("SELECT string_agg(outcome, ' ' ORDER BY id DESC) FROM (SELECT * FROM payment_callbacks ORDER BY id DESC LIMIT 2) last").await;
        assert_eq!(last, format!("{outcome} {outcome}"), "{teller:?}");
    }
    assert_eq!(states(&stack).await, "paying approved");
}

#[tokio::test]
async fn of_several_words_the_first_final_one_counts_and_late_money_goes_back() {
    use CallbackKind::{ChargeApproved, ChargeDeclined, ChargePending};
    let stack = reserved(2).await;
    begin(&stack).await;
    let callbacks = [
        (ChargePending, "A-0", 700, "EUR"),
        (ChargeApproved, "A-0", 700, "EUR"),
        (ChargeApproved, "A-0", 700, "EUR"),
        (ChargeDeclined, "A-0", 700, "EUR"),
        (ChargeDeclined, "A-1", 700, "EUR"),
        (ChargeApproved, "A-1", 700, "EUR"),
    ];
    told(&stack, &callbacks).await;
    // The last one is judged when its order has failed.
    assert_eq!(outcomes(&stack).await, "applied applied repeated contradicts applied waiting");
    assert_eq!(states(&stack).await, "paying approved, paying declined");

    let every = Some(Duration::from_secs(1));
    let config = PipelineConfig {
        collector: true,
        reconcile_every: every,
        gateways: simulated(1.0),
        ..stack.config(&StageName::WAY)
    };
    let workers = stack.start(&config).await;
    const BACK: &str = "SELECT EXISTS (SELECT FROM refunds WHERE key = 'auto:A-1' AND status = 'succeeded' AND reference_prefix = reference_mark())";
    eventually("late money is back", async || stack.value::<bool>(BACK).await).await;
    eventually("both orders have their end", async || states(&stack).await == "completed approved, failed late").await;
    stack.drained(&StageName::WAY).await;
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM refunds").await, 1);
    stack.books_balance().await;
}

#[tokio::test]
async fn a_refund_of_an_earlier_versions_payment_is_told_under_the_mark_of_this_installation() {
    let stack = reserved(1).await;
    let mark = provider(&stack).await;
    begin(&stack).await;
    told(&stack, &[(CallbackKind::ChargeApproved, "A-0", 700, "EUR")]).await;
    // As an earlier version left the payment; one refund is of its time, the other of ours.
    stack
        .sql(
            "UPDATE gateways SET reference_prefix = '' WHERE name = 'http';
             UPDATE orders SET status = 'completed', settled_at = now();
             INSERT INTO refunds (key, order_id, order_code, amount_cents, status, request_hash, gateway,
                                  reference_prefix, due_at)
             SELECT key, id, code, 100, 'pending', 0, 'http', prefix, now() + interval '1 hour'
             FROM orders, (VALUES ('earlier', ''), ('ours', reference_mark())) refund (key, prefix)",
        )
        .await;
    let states =
        async || stack.value::<String>("SELECT string_agg(key || ' ' || status, ', ' ORDER BY key) FROM refunds").await;
    let told_as = async |references: [String; 2]| {
        let succeeded = |reference| (CallbackKind::RefundSucceeded, reference, 100, "EUR");
        stack.sql("TRUNCATE payment_callbacks").await;
        told_of(&stack, &references.map(succeeded)).await;
    };
    told_as(["ours".to_owned(), format!("{mark}earlier")]).await;
    assert_eq!(
        (outcomes(&stack).await, states().await),
        ("mismatched mismatched".into(), "earlier pending, ours pending".into())
    );
    told_as([format!("{mark}ours"), "earlier".to_owned()]).await;
    assert_eq!(
        (outcomes(&stack).await, states().await),
        ("applied applied".into(), "earlier succeeded, ours succeeded".into())
    );
}
