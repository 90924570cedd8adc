//! Callbacks, in batches as the stage stores them, and what they do to payments.

mod harness;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use harness::{Stack, eventually, order, simulated};
use pipeline::{
    domain::{CallbackKind, Cents, OrderId},
    message::{Callback, decode_callback, encode_callback},
    runner::PipelineConfig,
    store::{self, Insertion, insert_callbacks},
    topology::StageName,
};

fn callback(id: &str, reference: &str, sent_at: DateTime<Utc>) -> Callback {
    let body = encode_callback(CallbackKind::ChargeApproved, "ch_1", reference, Cents::new(100), "EUR");
    decode_callback(&body, id, sent_at).expect("valid")
}

async fn insert(stack: &Stack, callbacks: &[Callback]) -> Vec<Insertion> {
    let mut transaction = stack.store.begin().await.expect("Postgres");
    let inserted = insert_callbacks(&mut transaction, callbacks, "test").await.expect("inserted");
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

/// The provider of these tests: the simulator, whose callbacks we make up.
const GATEWAY: &str = "simulator";

/// Reserved orders, … of 7.00 each.
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
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM orders ORDER BY id").fetch_all(&stack.reports.pool()).await.expect("orders");
    let mut transaction = stack.store.begin().await.expect("Postgres");
    let begun = store::begin_payments(&mut transaction, GATEWAY, &ids, 3_600.0, 3_600.0).await.expect("begun");
    transaction.commit().await.expect("Postgres");
    begun
}

/// Stores callbacks of (kind, reference, cents, currency, gateway) in this sequence, and applies them at once.
async fn told(stack: &Stack, callbacks: &[(CallbackKind, &str, i64, &str, &str)]) {
    for (n, (kind, reference, cents, currency, gateway)) in callbacks.iter().enumerate() {
        let body = encode_callback(*kind, "ch_1", reference, Cents::new(*cents), currency);
        let callback = decode_callback(&body, &format!("told-{n}"), Utc::now()).expect("valid");
        let mut connection = stack.store.pool().acquire().await.expect("Postgres");
        insert_callbacks(&mut connection, &[callback], gateway).await.expect("inserted");
    }
    stack.payments(1.0).apply_callbacks(pipeline::store::CallbacksOf::Charges).await.expect("applied");
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
async fn a_callback_with_another_amount_currency_or_gateway_is_not_believed() {
    use CallbackKind::ChargeApproved;
    let stack = reserved(1).await;
    begin(&stack).await;
    let callbacks = [
        (ChargeApproved, "A-0", 699, "EUR", GATEWAY),
        (ChargeApproved, "A-0", 700, "USD", GATEWAY),
        (ChargeApproved, "A-0", 700, "EUR", "other"),
    ];
    told(&stack, &callbacks).await;
    assert_eq!(outcomes(&stack).await, "mismatched mismatched mismatched");
    assert_eq!(states(&stack).await, "paying pending");
}

#[tokio::test]
async fn of_several_words_the_first_final_one_counts_and_late_money_goes_back() {
    use CallbackKind::{ChargeApproved, ChargeDeclined, ChargePending};
    let stack = reserved(2).await;
    begin(&stack).await;
    let callbacks = [
        (ChargePending, "A-0", 700, "EUR", GATEWAY),
        (ChargeApproved, "A-0", 700, "EUR", GATEWAY),
        (ChargeApproved, "A-0", 700, "EUR", GATEWAY),
        (ChargeDeclined, "A-0", 700, "EUR", GATEWAY),
        (ChargeDeclined, "A-1", 700, "EUR", GATEWAY),
        (ChargeApproved, "A-1", 700, "EUR", GATEWAY),
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
    const BACK: &str = "SELECT EXISTS (SELECT FROM refunds WHERE key = 'auto:A-1' AND status = 'succeeded')";
    eventually("late money is back", async || stack.value::<bool>(BACK).await).await;
    eventually("both orders have their end", async || states(&stack).await == "completed approved, failed late").await;
    stack.drained(&StageName::WAY).await;
    assert!(workers.stop(Duration::from_secs(30)).await);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM refunds").await, 1);
    stack.books_balance().await;
}
