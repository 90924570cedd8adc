//! The stages under everything that at-least-once delivery brings: the same batch again, several workers at once, lost
//! replies, refused values.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline::{
    domain::{Cents, FailureReason, Order, OrderId, PaymentStatus},
    message::{Entry, Incoming, Message, OrderRef},
    stage::{Ending, Payment, Reservation, Settlement, Stage},
    store::{self, ErrorKind, GatewayKind, NewGateway, NewPayments, SetGateway},
    streams::Consumer,
    topology::StageName,
};
use sqlx::AssertSqlSafe;

use crate::harness::{PATIENCE, SUCCESS_RATE, Stack, eventually, order, orders, set_by_test};

fn payment(stack: &Stack) -> Payment {
    Payment::new(stack.payments(SUCCESS_RATE))
}

fn incoming(orders: &[Order]) -> Vec<Incoming> {
    let incoming = |order: &Order| Incoming { order: order.clone(), import_id: None, received_ms: 1_700_000_000_000 };
    orders.iter().map(incoming).collect()
}

/// The messages for the next stage.
fn forwarded(endings: &[Ending]) -> Vec<OrderRef> {
    let forward = |ending: &Ending| match ending {
        Ending::Forward(_, message) => Some(message.clone()),
        Ending::Done | Ending::Dead(..) => None,
    };
    endings.iter().filter_map(forward).collect()
}

/// Everything that an order's way changes.
async fn books(stack: &Stack) -> Vec<String> {
    let mut rows = Vec::new();
    for table in [
        "SELECT o::text FROM (SELECT id, code, status, failure_reason, total_cents, settled_at FROM orders) o",
        "SELECT l::text FROM order_lines l",
        "SELECT p::text FROM products p",
        "SELECT p::text FROM payments p",
        "SELECT e::text FROM events e",
        "SELECT c::text FROM event_counter c",
    ] {
        let statement = AssertSqlSafe(format!("{table} ORDER BY 1"));
        rows.extend(sqlx::query_scalar::<_, String>(statement).fetch_all(&stack.reports.pool()).await.expect("rows"));
    }
    rows
}

/// Processes the batch twice: the endings must be the same, and nothing may change. Returns the messages that follow.
async fn twice<S: Stage>(stack: &Stack, stage: &S, batch: &[S::Message]) -> Vec<OrderRef> {
    let first = stage.process(batch).await.expect("processed");
    let after = books(stack).await;
    for _ in 0..2 {
        assert_eq!(stage.process(batch).await.expect("processed"), first, "{}", S::NAME);
        assert_eq!(books(stack).await, after, "{}", S::NAME);
    }
    forwarded(&first)
}

#[tokio::test]
async fn a_batch_that_comes_again_ends_the_same_way_and_changes_nothing() {
    let stack = Stack::get().await;
    stack.seed(4, &[5_000; 3]).await;
    let reservation = Reservation::new(stack.store.clone(), 0);
    let reserved = twice(&stack, &reservation, &incoming(&orders("ORD", 100))).await;
    assert!(reserved.len() > 50 && reserved.len() < 100, "some fail: {}", reserved.len());
    let paid = twice(&stack, &payment(&stack), &reserved).await;
    assert_eq!(paid, reserved);
    assert!(twice(&stack, &Settlement::new(stack.store.clone()), &paid).await.is_empty());
    stack.run(&[]).await;
    stack.books_balance().await;
}

#[tokio::test]
async fn an_order_may_stand_in_a_batch_many_times() {
    let stack = Stack::get().await;
    stack.seed(5, &[100; 3]).await;
    let once = [order("ORD-1", 1, &[(1, 2, 100), (1, 3, 100)]), order("ORD-2", 1, &[(2, 1, 100)])];
    let many: Vec<Order> = once.iter().cycle().take(20).cloned().collect();
    let endings = Reservation::new(stack.store.clone(), 0).process(&incoming(&many)).await.expect("processed");
    let reserved = forwarded(&endings);
    assert_eq!(reserved.len(), 2, "the first of each goes on");
    let many: Vec<OrderRef> = reserved.iter().cycle().take(20).cloned().collect();
    let paid = forwarded(&payment(&stack).process(&many).await.expect("processed"));
    assert_eq!(paid.len(), 20, "a duplicate is harmless");
    Settlement::new(stack.store.clone()).process(&paid).await.expect("processed");
    assert_eq!(stack.value::<i64>("SELECT stock FROM products WHERE id = 1").await, 95);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM events").await, 2);
    stack.run(&[]).await;
    stack.books_balance().await;
}

#[tokio::test]
async fn after_a_lost_hand_off_the_next_delivery_makes_up_for_it() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    let all = orders("ORD", 60);
    stack.publish(&all).await;
    let mut redis = stack.connection().await;
    let stage_reads = async |stage: StageName| -> Vec<Entry> {
        let mut consumer = Consumer::join(&stack.redis, stage, 0, "killed").await.expect("Redis");
        let read = consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries");
        read.into_iter().map(|delivery| delivery.entry).collect()
    };
    // Each stage commits its work and dies before the hand-off; another one takes over.
    let decode = |entries: &[Entry]| -> Vec<OrderRef> {
        entries.iter().map(|entry| OrderRef::decode(entry).expect("ours")).collect()
    };
    let entries = stage_reads(StageName::Reservation).await;
    let batch: Vec<Incoming> = entries.iter().map(|entry| Incoming::decode(entry).expect("ours")).collect();
    Reservation::new(stack.store.clone(), 0).process(&batch).await.expect("processed");
    take_over(&stack, StageName::Reservation).await;
    let entries = stage_reads(StageName::Payment).await;
    payment(&stack).process(&decode(&entries)).await.expect("processed");
    take_over(&stack, StageName::Payment).await;
    let entries = stage_reads(StageName::Settlement).await;
    Settlement::new(stack.store.clone()).process(&decode(&entries)).await.expect("processed");
    take_over(&stack, StageName::Settlement).await;

    assert_eq!(stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await, 60);
    assert_eq!(stack.redis.dead_letters(&mut redis, 0).await.expect("Redis"), 0);
    stack.books_balance().await;
}

/// A stage whose worker waits for nobody's silence.
async fn take_over(stack: &Stack, stage: StageName) {
    let mut config = stack.config(&[stage]);
    config.limits.claim_idle = Duration::from_millis(1);
    let workers = stack.start(&config).await;
    stack.drained(&[stage]).await;
    assert!(workers.stop(PATIENCE).await);
}

#[tokio::test]
async fn workers_that_want_the_same_products_in_opposite_order_neither_deadlock_nor_oversell() {
    const STOCK: i64 = 700;
    let stack = Stack::get().await;
    stack.seed(5, &[STOCK; 5]).await;
    let all: Vec<Order> = (0..2_000_i64)
        .map(|n| {
            let mut lines: Vec<(i64, i32, i64)> = (0..3).map(|k| (1 + (n + k) % 5, 1, 100)).collect();
            if n % 2 == 0 {
                lines.reverse();
            }
            order(&format!("ORD-{n}"), 1 + n % 5, &lines)
        })
        .collect();
    stack.publish(&all).await;
    let mut config = stack.config(&[StageName::Reservation]);
    config.workers_per_stage = 4;
    config.limits.batch_messages_max = 50;
    let workers = stack.start(&config).await;
    stack.drained(&[StageName::Reservation]).await;
    let retries: u64 = workers.counters().values().map(|counters| counters.snapshot().retries).sum();
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(retries, 0, "a deadlock or a race was resolved by processing a batch again");
    let held: Vec<i64> = sqlx::query_scalar("SELECT reserved FROM products ORDER BY id")
        .fetch_all(&stack.reports.pool())
        .await
        .expect("products");
    assert!(held.iter().all(|&held| held <= STOCK && held > STOCK - 3), "all that can be sold is held: {held:?}");
    let by_lines: i64 = stack
        .value("SELECT sum(quantity)::bigint FROM order_lines JOIN orders ON id = order_id WHERE status = 'reserved'")
        .await;
    assert_eq!(by_lines, held.iter().sum::<i64>());
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM orders").await, 2_000);
    stack.drain().await;
    stack.books_balance().await;
}

#[tokio::test]
async fn workers_that_read_the_same_orders_at_once_take_each_in_once() {
    let stack = Stack::get().await;
    stack.seed(5, &[1_000_000; 3]).await;
    let all = orders("ORD", 500);
    for _ in 0..4 {
        stack.publish(&all).await;
    }
    let mut config = stack.config(&StageName::WAY);
    config.workers_per_stage = 4;
    config.limits.batch_messages_max = 100;
    let workers = stack.start(&config).await;
    stack.drained(&StageName::WAY).await;
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM orders").await, 500);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM events").await, 500);
    let mut redis = stack.connection().await;
    assert_eq!(stack.redis.dead_letters(&mut redis, 0).await.expect("Redis"), 0);
    stack.books_balance().await;
}

/// Makes the database refuse an order that passes all our own checks: one for which nobody has thought of a check.
const REFUSAL: &str = "ALTER TABLE order_lines ADD CONSTRAINT unlucky CHECK (quantity <> 13)";

#[tokio::test]
async fn an_order_that_the_database_refuses_is_parked_alone() {
    let stack = Stack::get().await;
    stack.seed(5, &[1_000_000; 3]).await;
    stack.sql(REFUSAL).await;
    let unlucky = |n: i64| n % 40 == 13;
    let all: Vec<Order> =
        (0..200_i64).map(|n| order(&format!("ORD-{n}"), 1, &[(1, if unlucky(n) { 13 } else { 1 }, 100)])).collect();
    stack.publish(&all).await;
    stack.drain().await;
    let refused = (0..200).filter(|n| unlucky(*n)).count();
    let mut redis = stack.connection().await;
    assert_eq!(stack.redis.dead_letters(&mut redis, 0).await.expect("Redis"), refused as u64);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM orders").await, 200 - i64::try_from(refused).expect("few"));
    let reasons = stack.field(&stack.redis.keys().dead(0), "reason").await;
    assert!(reasons.iter().all(|reason| reason == "refused_by_database"), "{reasons:?}");
    stack.books_balance().await;
}

#[tokio::test]
async fn ids_that_postgres_has_given_twice_are_not_the_fault_of_an_order() {
    let stack = Stack::get().await;
    stack.seed(5, &[1_000_000; 3]).await;
    let all = orders("ORD", 4);
    let before = Reservation::new(stack.store.clone(), 0);
    before.process(&incoming(&all[..1])).await.expect("processed");
    // Postgres failed over to a standby that had not seen the draw; another worker draws the same block.
    stack.sql("ALTER SEQUENCE order_id_blocks RESTART").await;
    let after = Reservation::new(stack.store.clone(), 0);
    stack.sql("DELETE FROM orders; DELETE FROM order_lines; UPDATE products SET reserved = 0").await;
    after.process(&incoming(&all[1..3])).await.expect("processed");
    let kind = before.process(&incoming(&all[3..])).await.map_err(|error| error.kind());
    assert_ne!(kind, Err(ErrorKind::Values), "the order would become a dead letter");
}

#[tokio::test]
async fn an_order_that_has_reached_its_end_keeps_it_and_the_first_answer_of_a_gateway_counts() {
    let stack = Stack::get().await;
    stack.seed(1, &[10]).await;
    stack.publish(&[order("ORD-1", 1, &[(1, 1, 100)])]).await;
    stack.drain().await;
    let id = OrderId(stack.value("SELECT id FROM orders WHERE status = 'completed'").await);
    let mut transaction = stack.store.begin().await.expect("Postgres");
    store::mark_settled(&mut transaction, &[id.0], &[Some(FailureReason::PaymentDeclined)]).await.expect("no error");
    let mut payments = NewPayments::default();
    payments.push(id, Cents::new(100), PaymentStatus::Declined);
    store::insert_payments(&mut transaction, "simulator", &payments).await.expect("no error");
    store::commit(transaction).await.expect("committed");
    assert_eq!(stack.value::<String>("SELECT status FROM orders").await, "completed");
    assert_eq!(stack.value::<String>("SELECT status FROM payments").await, "approved");
    stack.books_balance().await;
}

/// A provider that is to take new payments.
fn provider() -> NewGateway {
    let kind = GatewayKind::Http { url: Some("http://127.0.0.1:1".to_owned()) };
    NewGateway { name: None, kind, currency: "EUR".to_owned(), key_fingerprint: None }
}

#[tokio::test]
async fn a_payment_is_stored_only_by_the_gateway_that_takes_new_ones() {
    let stack = Stack::get().await;
    stack.seed(1, &[100]).await;
    stack.publish(&[order("A", 1, &[(1, 1, 100)]), order("B", 1, &[(1, 1, 100)])]).await;
    stack.run(&[StageName::Reservation]).await;
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM orders ORDER BY id").fetch_all(&stack.reports.pool()).await.expect("orders");
    let payment_of = |id: i64| {
        let mut payments = NewPayments::default();
        payments.push(OrderId(id), Cents::new(100), PaymentStatus::Approved);
        payments
    };

    // Whoever changes it waits for payments that are being stored.
    let mut storing = stack.store.begin().await.expect("Postgres");
    store::insert_payments(&mut storing, "simulator", &payment_of(ids[0])).await.expect("it takes new payments");
    let changing = tokio::spawn({
        let reports = stack.reports.clone();
        async move { store::set_gateway(&reports, &provider(), false, set_by_test).await }
    });
    eventually("the change waits", async || {
        stack.value::<bool>("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)").await
    })
    .await;
    store::commit(storing).await.expect("Postgres");
    changing.await.expect("no panic").expect("Postgres");
    let from_at = store::gateway_terms(&stack.reports.pool()).await.expect("terms")[0].from_at;
    let stored: DateTime<Utc> = stack.value("SELECT created_at FROM payments").await;
    assert!(stored < from_at, "{stored} is not before {from_at}");

    // From then on neither way to store a payment takes the gateway of before.
    let mut connection = stack.store.pool().acquire().await.expect("Postgres");
    let late = store::insert_payments(&mut connection, "simulator", &payment_of(ids[1])).await;
    assert!(late.as_ref().is_err_and(store::Error::is_other_gateway), "{late:?}");
    assert_eq!(late.expect_err("refused").kind(), ErrorKind::Contention);
    let late = store::begin_payments(&mut connection, "simulator", &ids, 60.0, 60.0).await;
    assert!(late.as_ref().is_err_and(store::Error::is_other_gateway), "{late:?}");
    assert_eq!(store::begin_payments(&mut connection, "http", &ids[1..], 60.0, 60.0).await.expect("begun").len(), 1);
    assert_eq!(
        stack.value::<String>("SELECT string_agg(gateway, ' ' ORDER BY order_id) FROM payments").await,
        "simulator http"
    );
    // Nothing begins anew where it is so already.
    let kept = store::set_gateway(&stack.reports, &provider(), false, set_by_test).await.expect("Postgres");
    assert!(matches!(kept, SetGateway::Kept(_)), "{kept:?}");
    assert_eq!(store::gateway_terms(&stack.reports.pool()).await.expect("terms")[0].from_at, from_at);
}
