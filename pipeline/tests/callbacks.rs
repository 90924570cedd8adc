//! Callbacks, in batches as the stage stores them.

mod harness;

use chrono::{DateTime, TimeDelta, Utc};
use harness::Stack;
use pipeline::{
    domain::{CallbackKind, Cents},
    message::{Callback, decode_callback, encode_callback},
    store::{Insertion, insert_callbacks},
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
