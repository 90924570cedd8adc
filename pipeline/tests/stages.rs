//! Stages, hand-offs and the relay under everything that at-least-once delivery brings: the same batch again, several
//! workers at once, lost replies, lost keys.

mod harness;

use std::{collections::BTreeMap, time::Duration};

use harness::{Stack, eventually, order};
use pipeline::{
    domain::Order,
    gateway::Simulator,
    message::{BODY, Entry, EntryId, Incoming, Message, OrderRef, encode_order},
    relay::{Board, BoardSnapshot},
    stage::{Ending, Payment, Reservation, Settlement, Stage},
    store::{ErrorKind, Store, WorkerSettings},
    streams::{Consumer, HandOff, HandOffCounts, Publisher},
    topology::StageName,
};
use redis::aio::MultiplexedConnection;
use sqlx::{AssertSqlSafe, PgPool, Row};

fn payment(stack: &Stack) -> Payment<Simulator> {
    Payment::new(stack.store.clone(), Simulator::new(harness::SUCCESS_RATE, Duration::ZERO).expect("a rate"))
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

/// Orders of two products in turn, some too large for the stock.
fn orders(name: &str, count: i64) -> Vec<Order> {
    let lines = |n: i64| [(1 + n % 3, 1 + i32::from(n % 7 == 0) * 10_000, 250), (1 + (n + 1) % 3, 2, 100 + n)];
    (0..count).map(|n| order(&format!("{name}-{n}"), 1 + n % 5, &lines(n))).collect()
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
        rows.extend(sqlx::query_scalar::<_, String>(statement).fetch_all(stack.reports.pool()).await.expect("rows"));
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
        consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries")
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
    assert!(workers.stop(Duration::from_secs(10)).await);
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
    assert!(workers.stop(Duration::from_secs(10)).await);
    assert_eq!(retries, 0, "a deadlock or a race was resolved by processing a batch again");
    let held: Vec<i64> = sqlx::query_scalar("SELECT reserved FROM products ORDER BY id")
        .fetch_all(stack.reports.pool())
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
    let mut config = stack.config(&StageName::ALL);
    config.workers_per_stage = 4;
    config.limits.batch_messages_max = 100;
    let workers = stack.start(&config).await;
    stack.drained(&StageName::ALL).await;
    assert!(workers.stop(Duration::from_secs(10)).await);
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
    let reasons = fields(&mut redis, &stack.redis.keys().dead(0), "reason").await;
    assert!(reasons.iter().all(|reason| reason == "refused_by_database"), "{reasons:?}");
    stack.books_balance().await;
}

#[tokio::test]
#[ignore = "open: ids drawn before Postgres lost commits are taken for bad values of the orders"]
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

/// One field of every entry of a stream.
async fn fields(redis: &mut MultiplexedConnection, key: &str, name: &str) -> Vec<String> {
    let range: redis::streams::StreamRangeReply =
        redis::cmd("XRANGE").arg(key).arg("-").arg("+").query_async(redis).await.expect("a stream");
    range.ids.iter().map(|entry| entry.get(name).expect("the field")).collect()
}

async fn board(stack: &Stack) -> BoardSnapshot {
    Board::new(stack.redis.keys().clone()).snapshot(&mut stack.connection().await).await.expect("Redis")
}

/// A board with some orders on it.
async fn with_board() -> (Stack, BoardSnapshot) {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    stack.publish(&orders("ORD", 300)).await;
    stack.drain().await;
    let shown = board(&stack).await;
    assert_eq!(shown.cursor, 300);
    (stack, shown)
}

#[tokio::test]
async fn a_board_without_its_cursor_is_built_anew() {
    let (stack, shown) = with_board().await;
    let mut redis = stack.connection().await;
    // First before the relay starts, then under its hands.
    for under_its_hands in [false, true] {
        let workers = if under_its_hands { Some(stack.start(&stack.config(&[])).await) } else { None };
        redis::cmd("DEL").arg(stack.redis.keys().cursor()).exec_async(&mut redis).await.expect("Redis");
        let workers = match workers {
            Some(workers) => workers,
            None => stack.start(&stack.config(&[])).await,
        };
        eventually("the board is complete", async || board(&stack).await == shown).await;
        assert!(workers.stop(Duration::from_secs(10)).await);
        stack.books_balance().await;
    }
}

#[tokio::test]
async fn a_redis_that_lost_everything_gets_its_board_back() {
    let (stack, shown) = with_board().await;
    let workers = stack.start(&stack.config(&StageName::ALL)).await;
    stack.forget_keys().await.expect("Redis");
    eventually("the board is complete", async || board(&stack).await == shown).await;
    // And the streams work again.
    stack.publish(&orders("MORE", 100)).await;
    eventually("all orders are settled", async || {
        stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await == 400
    })
    .await;
    stack.drained(&StageName::ALL).await;
    assert!(workers.stop(Duration::from_secs(10)).await);
    stack.books_balance().await;
}

#[tokio::test]
async fn of_several_relays_one_carries_each_event_once() {
    let stack = Stack::get().await;
    stack.seed(5, &[1_000_000; 3]).await;
    let relays = [stack.start(&stack.config(&StageName::ALL)).await, stack.start(&stack.config(&[])).await];
    for part in 0..5 {
        stack.publish(&orders(&format!("ORD-{part}"), 100)).await;
    }
    stack.drained(&StageName::ALL).await;
    let [first, second] = relays;
    assert!(first.stop(Duration::from_secs(10)).await);
    stack.publish(&orders("LATER", 100)).await;
    stack.drain().await;
    assert!(second.stop(Duration::from_secs(10)).await);
    let mut redis = stack.connection().await;
    let bodies = fields(&mut redis, &stack.redis.keys().events(), BODY).await;
    let seq = |body: &String| serde_json::from_str::<serde_json::Value>(body).expect("JSON")["seq"].as_i64();
    assert_eq!(bodies.iter().map(seq).collect::<Vec<_>>(), (1..=600).map(Some).collect::<Vec<_>>());
    stack.books_balance().await;
}

#[tokio::test]
#[ignore = "open: scores are exact below 2^53 for one order only, not for the sum of a customer's"]
async fn the_revenue_of_a_customer_is_exact_beyond_2_to_the_53() {
    let stack = Stack::get().await;
    stack.seed(1, &[10_000_000]).await;
    let largest = order("ORD-1", 1, &[(1, 900_719, 9_999_999_999), (1, 1, 9_254_741_710)]);
    assert_eq!(largest.total().get(), (1 << 53) - 1);
    stack.publish(&[largest, order("ORD-2", 1, &[(1, 1, 2)])]).await;
    stack.drain().await;
    stack.books_balance().await;
}

/// A consumer that has read these entries.
async fn reader(stack: &Stack, name: &str, codes: &[&str]) -> (Consumer, Vec<EntryId>) {
    stack.publish(&codes.iter().map(|code| order(code, 1, &[(1, 1, 100)])).collect::<Vec<_>>()).await;
    let mut consumer = Consumer::join(&stack.redis, StageName::Reservation, 0, name).await.expect("Redis");
    let entries = consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries");
    assert_eq!(entries.len(), codes.len());
    (consumer, entries.into_iter().map(|entry| entry.id).collect())
}

fn on_to_payment(ids: &[EntryId]) -> Vec<(EntryId, HandOff)> {
    let forward = |_: &EntryId| HandOff::Forward {
        to: StageName::Payment,
        fields: vec![(BODY.as_bytes().to_vec(), b"{}".to_vec())],
    };
    ids.iter().map(|id| (*id, forward(id))).collect()
}

async fn length(redis: &mut MultiplexedConnection, key: &str) -> u64 {
    redis::cmd("XLEN").arg(key).query_async(redis).await.expect("a stream")
}

async fn pending(stack: &Stack, redis: &mut MultiplexedConnection) -> u64 {
    let group = stack.redis.group_state(redis, 0, StageName::Reservation).await.expect("Redis");
    group.expect("the group").pending
}

#[tokio::test]
async fn a_second_hand_off_of_the_same_entries_adds_nothing() {
    let stack = Stack::get().await;
    let mut redis = stack.connection().await;
    let (mut first, ids) = reader(&stack, "first", &["A", "B", "C"]).await;
    let mut second = Consumer::join(&stack.redis, StageName::Reservation, 0, "second").await.expect("Redis");
    let done = second.hand_off(on_to_payment(&ids[..2])).await.expect("handed off");
    assert_eq!(done, HandOffCounts { handed: 2, already: 0 }, "whoever is first hands off");
    let done = first.hand_off(on_to_payment(&ids)).await.expect("handed off");
    assert_eq!(done, HandOffCounts { handed: 1, already: 2 });
    let done = first.hand_off(on_to_payment(&ids)).await.expect("handed off");
    assert_eq!(done, HandOffCounts { handed: 0, already: 3 });
    assert_eq!(length(&mut redis, &stack.redis.keys().stream(0, StageName::Payment)).await, 3);
    assert_eq!(pending(&stack, &mut redis).await, 0);
}

#[tokio::test]
async fn only_the_owner_of_an_entry_can_bury_it() {
    let stack = Stack::get().await;
    let mut redis = stack.connection().await;
    let (mut slow, ids) = reader(&stack, "slow", &["A", "B"]).await;
    let mut fast = Consumer::join(&stack.redis, StageName::Reservation, 0, "fast").await.expect("Redis");
    assert_eq!(fast.claim(Duration::ZERO, "0-0", 1).await.expect("claimed").entries.len(), 1);
    let dead = || ids.iter().map(|id| (*id, HandOff::Dead { fields: vec![(b"reason".to_vec(), b"x".to_vec())] }));
    let done = slow.hand_off(dead().collect()).await.expect("handed off");
    assert_eq!(done, HandOffCounts { handed: 1, already: 1 }, "A is the fast one's");
    assert_eq!(stack.redis.dead_letters(&mut redis, 0).await.expect("Redis"), 1);
    assert_eq!(pending(&stack, &mut redis).await, 1);
}

#[tokio::test]
async fn a_hand_off_without_its_group_is_an_error_and_adds_nothing() {
    let stack = Stack::get().await;
    let mut redis = stack.connection().await;
    let (mut consumer, ids) = reader(&stack, "one", &["A", "B"]).await;
    let source = stack.redis.keys().stream(0, StageName::Reservation);
    let destroy = redis::cmd("XGROUP").arg("DESTROY").arg(&source).arg("reservation").to_owned();
    destroy.exec_async(&mut redis).await.expect("Redis");
    let error = consumer.hand_off(on_to_payment(&ids)).await.expect_err("not silent");
    assert!(error.is_group_missing(), "{error}");
    redis::cmd("DEL").arg(&source).exec_async(&mut redis).await.expect("Redis");
    let error = consumer.hand_off(on_to_payment(&ids)).await.expect_err("not silent");
    assert!(error.is_group_missing(), "{error}");
    assert_eq!(length(&mut redis, &stack.redis.keys().stream(0, StageName::Payment)).await, 0);
}

#[tokio::test]
async fn a_hand_off_to_something_that_is_no_stream_acknowledges_nothing() {
    let stack = Stack::get().await;
    let mut redis = stack.connection().await;
    let (mut consumer, ids) = reader(&stack, "one", &["A", "B"]).await;
    for wrong in [stack.redis.keys().stream(0, StageName::Payment), stack.redis.keys().dead(0)] {
        redis::cmd("SET").arg(&wrong).arg("text").exec_async(&mut redis).await.expect("Redis");
        let error = consumer.hand_off(on_to_payment(&ids)).await.expect_err("refused");
        assert!(error.to_string().contains(&wrong), "{error}");
        assert_eq!(pending(&stack, &mut redis).await, 2);
        redis::cmd("DEL").arg(&wrong).exec_async(&mut redis).await.expect("Redis");
    }
    assert_eq!(consumer.hand_off(on_to_payment(&ids)).await.expect("handed off").handed, 2);
}

/// The ids that a stream still has.
async fn ids(redis: &mut MultiplexedConnection, key: &str) -> Vec<String> {
    let range: redis::streams::StreamRangeReply =
        redis::cmd("XRANGE").arg(key).arg("-").arg("+").query_async(redis).await.expect("a stream");
    range.ids.into_iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn trimming_leaves_what_any_group_has_not_acknowledged() {
    let stack = Stack::get().await;
    let mut redis = stack.connection().await;
    let mut consumer = Consumer::join(&stack.redis, StageName::Reservation, 0, "one").await.expect("Redis");
    let source = stack.redis.keys().stream(0, StageName::Reservation);
    let create = redis::cmd("XGROUP").arg("CREATE").arg(&source).arg("foreign").arg("0").to_owned();
    create.exec_async(&mut redis).await.expect("Redis");
    let bodies: Vec<Vec<u8>> = orders("ORD", 2_000).iter().map(encode_order).collect();
    Publisher::connect(&stack.redis, 0).await.expect("Redis").publish(&bodies, None).await.expect("published");
    let all = ids(&mut redis, &source).await;
    let read = consumer.read_new(2_000, Duration::from_millis(1)).await.expect("entries");
    let kept_from = async |redis: &mut MultiplexedConnection, consumer: &mut Consumer, needed: usize| {
        consumer.trim().await.expect("trimmed");
        let left = ids(redis, &source).await;
        assert_eq!(left, all[all.len() - left.len()..], "only from the beginning");
        assert!(left.len() >= all.len() - needed, "{} are left, from {needed} on is needed", left.len());
        left.len()
    };
    // Our group has acknowledged all but one in the middle; the other has read nothing.
    let done = |range: &[Entry]| range.iter().map(|entry| (entry.id, HandOff::Done)).collect::<Vec<_>>();
    consumer.hand_off(done(&read[..1_200])).await.expect("handed off");
    consumer.hand_off(done(&read[1_201..])).await.expect("handed off");
    assert_eq!(kept_from(&mut redis, &mut consumer, 0).await, 2_000);
    // It reads 1,500 and acknowledges the first 900.
    let mut foreign = redis::cmd("XREADGROUP");
    foreign.arg("GROUP").arg("foreign").arg("f").arg("COUNT").arg(1_500).arg("STREAMS").arg(&source).arg(">");
    foreign.exec_async(&mut redis).await.expect("Redis");
    redis::cmd("XACK").arg(&source).arg("foreign").arg(&all[..900]).exec_async(&mut redis).await.expect("Redis");
    assert!(kept_from(&mut redis, &mut consumer, 900).await < 1_300, "and the rest is gone");
    // Then all that it has read: our pending one is next, then its unread ones.
    redis::cmd("XACK").arg(&source).arg("foreign").arg(&all[900..1_500]).exec_async(&mut redis).await.expect("Redis");
    assert!(kept_from(&mut redis, &mut consumer, 1_200).await < 1_000);
    consumer.hand_off(done(&read[1_200..1_201])).await.expect("handed off");
    assert!(kept_from(&mut redis, &mut consumer, 1_500).await < 700);
}

#[tokio::test]
#[ignore = "open: ids pass through a double, which rounds beyond 2^53"]
async fn trimming_is_exact_for_every_id_that_redis_can_have() {
    for base in ["9223372036854775000-", "5-9223372036854775"] {
        let stack = Stack::get().await;
        let mut redis = stack.connection().await;
        let mut consumer = Consumer::join(&stack.redis, StageName::Reservation, 0, "one").await.expect("Redis");
        let source = stack.redis.keys().stream(0, StageName::Reservation);
        for n in 0..800 {
            let mut add = redis::cmd("XADD");
            add.arg(&source).arg(format!("{base}{n:03}")).arg("n").arg(n).exec_async(&mut redis).await.expect("added");
        }
        consumer.trim().await.expect("trimmed");
        assert_eq!(length(&mut redis, &source).await, 800, "nobody has read anything");
        consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries");
        consumer.trim().await.expect("trimmed");
        assert_eq!(length(&mut redis, &source).await, 800, "nothing is acknowledged");
    }
}

#[tokio::test]
#[ignore = "open: the successor of the largest id overflows, and every session of the worker ends with it"]
async fn the_largest_id_that_redis_can_have_does_not_stop_a_worker() {
    let stack = Stack::get().await;
    let mut redis = stack.connection().await;
    let mut consumer = Consumer::join(&stack.redis, StageName::Reservation, 0, "one").await.expect("Redis");
    let source = stack.redis.keys().stream(0, StageName::Reservation);
    let mut add = redis::cmd("XADD");
    add.arg(&source).arg("5-18446744073709551615").arg("n").arg(1).exec_async(&mut redis).await.expect("added");
    let entries = consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries");
    consumer.hand_off(vec![(entries[0].id, HandOff::Done)]).await.expect("handed off");
    consumer.trim().await.expect("trimmed");
}

#[tokio::test]
#[ignore = "open: what a batch reads and sends back is bounded by its entries only, the first time and after a restart"]
async fn large_messages_are_handed_off_in_portions_that_redis_takes() {
    let stack = Stack::alone().await;
    let mut redis = stack.connection().await;
    let limit = redis::cmd("CONFIG").arg("SET").arg("client-query-buffer-limit").arg(64 << 20).to_owned();
    limit.exec_async(&mut redis).await.expect("Redis");
    // A foreign client adds 100 messages of 1 MB: far below what Redis holds, but each becomes a dead letter.
    let body = vec![b'x'; 1 << 20];
    let source = stack.redis.keys().stream(0, StageName::Reservation);
    for _ in 0..100 {
        let mut add = redis::cmd("XADD");
        add.arg(&source).arg("*").arg(BODY).arg(&body).exec_async(&mut redis).await.expect("added");
    }
    stack.run(&[StageName::Reservation]).await;
    assert_eq!(stack.redis.dead_letters(&mut redis, 0).await.expect("Redis"), 100);
}

/// The lines of a plan for a statement that some connection of the pool has prepared.
async fn plans(pool: &PgPool) -> BTreeMap<String, Vec<String>> {
    let mut connection = pool.acquire().await.expect("Postgres");
    let prepared = sqlx::raw_sql(
        "SELECT name, statement, cardinality(parameter_types) AS parameters FROM pg_prepared_statements
         WHERE statement ~* '^\\s*(SELECT|WITH|INSERT|UPDATE|DELETE)' AND statement !~ 'pg_prepared_statements'",
    )
    .fetch_all(&mut *connection)
    .await
    .expect("prepared statements");
    let mut plans = BTreeMap::new();
    for row in prepared {
        let (name, statement, parameters): (String, String, Option<i32>) = (row.get(0), row.get(1), row.get(2));
        let nulls = vec!["NULL"; usize::try_from(parameters.unwrap_or(0)).expect("a count")].join(", ");
        let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
        let explain = AssertSqlSafe(format!("EXPLAIN (COSTS OFF) EXECUTE \"{name}\"{arguments}"));
        let plan = sqlx::raw_sql(explain).fetch_all(&mut *connection).await.expect("a plan");
        plans.insert(statement, plan.iter().map(|line| line.get(0)).collect());
    }
    plans
}

/// What must not stand in the plan of a worker's statement: it would read tables as a whole once they are large.
fn faults(plan: &[String]) -> Vec<&'static str> {
    let has = |what: &str| plan.iter().any(|line| line.contains(what));
    let mut faults: Vec<&'static str> = ["Seq Scan", "Hash Join", "Merge Join", "Bitmap", "Materialize"]
        .into_iter()
        .filter(|node| {
            has(node)
                && !(*node == "Seq Scan"
                    && plan.iter().all(|line| !line.contains(node) || line.contains("event_counter")))
        })
        .collect();
    // An index scan without a condition reads the whole index.
    let unbounded = plan.iter().enumerate().any(|(at, line)| {
        let is_scan = line.contains("Index Scan") || line.contains("Index Only Scan");
        let depth = line.len() - line.trim_start().len();
        let details = plan[at + 1..].iter().take_while(|next| next.len() - next.trim_start().len() > depth);
        is_scan && !line.contains("event_counter") && !details.into_iter().any(|next| next.contains("Index Cond"))
    });
    if unbounded {
        faults.push("an index scan without a condition");
    }
    faults
}

#[tokio::test]
async fn the_plans_of_workers_find_rows_by_key_even_when_made_while_tables_are_empty() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    // One connection each, so that all statements of a stage are prepared on the one that is looked at.
    let store = || Store::new(&stack.database_url, WorkerSettings::Worker, 1).expect("a URL");
    let (reserving, paying, settling, relaying) = (store(), store(), store(), store());
    let batch = incoming(&orders("ORD", 50));
    let reserved = Reservation::new(reserving.clone(), 0);
    let messages = forwarded(&reserved.process(&batch).await.expect("processed"));
    let gateway = Simulator::new(1.0, Duration::ZERO).expect("a rate");
    let messages = forwarded(&Payment::new(paying.clone(), gateway).process(&messages).await.expect("processed"));
    Settlement::new(settling.clone()).process(&messages).await.expect("processed");
    {
        let mut connection = relaying.pool().acquire().await.expect("Postgres");
        pipeline::store::last_event_seq(&mut connection).await.expect("a number");
        pipeline::store::board_events_after(&mut connection, 0, 10).await.expect("events");
        pipeline::store::pieces_sold_between(&mut connection, 0, 10).await.expect("pieces");
    }
    let mut seen = 0;
    for (who, store) in [("reservation", reserving), ("payment", paying), ("settlement", settling), ("relay", relaying)]
    {
        for (statement, plan) in plans(store.pool()).await {
            seen += 1;
            let found = faults(&plan);
            assert!(found.is_empty(), "{who}: {found:?} in\n{statement}\n{}", plan.join("\n"));
        }
    }
    assert!(seen >= 14, "only {seen} statements were looked at");
}

#[test]
fn a_bad_plan_is_recognised() {
    let plan = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(faults(&plan("Nested Loop\n  ->  Seq Scan on orders o")), ["Seq Scan"]);
    assert_eq!(faults(&plan("Hash Join\n  ->  Index Scan using x on y\n        Index Cond: (a = $1)")), ["Hash Join"]);
    let whole =
        "Nested Loop\n  ->  Function Scan on new\n  ->  Index Scan using orders_pkey on orders o\n        Filter: x";
    assert_eq!(faults(&plan(whole)), ["an index scan without a condition"]);
    let next = "Nested Loop\n  ->  Index Scan using a on b\n  ->  Index Scan using c on d\n        Index Cond: (e = f)";
    assert_eq!(faults(&plan(next)), ["an index scan without a condition"]);
}
