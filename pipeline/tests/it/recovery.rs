//! What becomes of entries whose consumer falls silent: taken over, counted, processed alone, set aside; handed back,
//! deleted under the worker, paused.

use std::time::Duration;

use pipeline::{
    message::EntryId,
    streams::{Consumer, Delivery, HandOff, Whose},
    topology::StageName,
};

use crate::harness::{PATIENCE, Stack, eventually, order, orders};

const COMPANY: u64 = 2;
const ANY: Whose = Whose::Idle(Duration::ZERO);

async fn consumer(stack: &Stack, stage: StageName, name: &str) -> Consumer {
    Consumer::join(&stack.redis, stage, 0, name).await.expect("Redis")
}

async fn take(consumer: &mut Consumer, whose: Whose) -> Vec<Delivery> {
    consumer.take(whose, EntryId::default(), 100, COMPANY).await.expect("taken").deliveries
}

fn before(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.before).collect()
}

#[tokio::test]
async fn an_entry_counts_those_who_fell_silent_with_it_and_nothing_else() {
    let stack = Stack::get().await;
    stack.publish(&orders("ORD", 2)).await;
    let mut one = consumer(&stack, StageName::Reservation, "one").await;
    let mut two = consumer(&stack, StageName::Reservation, "two").await;
    let read = one.read_new(10, Duration::from_millis(1)).await.expect("entries");
    assert_eq!(before(&read), [0, 0]);
    // A lost reply, however often, is nobody's fault.
    for _ in 0..5 {
        assert_eq!(before(&take(&mut one, Whose::Own { silenced: false }).await), [0, 0]);
    }
    one.keep_fresh(&read).await.expect("Redis");
    assert_eq!(before(&take(&mut two, ANY).await), [1, 1]);
    let taken = take(&mut one, ANY).await;
    assert_eq!(before(&taken), [2, 2], "from now on it is a suspect");
    for _ in 0..5 {
        assert_eq!(before(&take(&mut two, ANY).await), [2, 2], "who waits for its turn is not blamed");
    }
    // The first one's turn comes, and its consumer falls silent.
    two.count(&taken[..1]).await.expect("Redis");
    assert_eq!(before(&take(&mut one, ANY).await), [3, 2]);
    assert_eq!(before(&take(&mut one, Whose::Own { silenced: true }).await), [3, 2], "a panic is a silence, too");
}

#[tokio::test]
async fn what_is_handed_back_is_taken_at_once_and_was_never_delivered() {
    let stack = Stack::get().await;
    stack.publish(&orders("ORD", 3)).await;
    let mut one = consumer(&stack, StageName::Reservation, "one").await;
    let mut two = consumer(&stack, StageName::Reservation, "two").await;
    let read = one.read_new(10, Duration::from_millis(1)).await.expect("entries");
    let hour = Whose::Idle(Duration::from_secs(3_600));
    assert!(take(&mut two, hour).await.is_empty(), "they are fresh");
    one.hand_back(&read[..2]).await.expect("Redis");
    assert_eq!(before(&take(&mut two, hour).await), [0, 0]);
}

#[tokio::test]
async fn pages_of_pending_entries_are_taken_to_their_end() {
    let stack = Stack::get().await;
    stack.publish(&orders("ORD", 25)).await;
    let mut one = consumer(&stack, StageName::Reservation, "one").await;
    let mut two = consumer(&stack, StageName::Reservation, "two").await;
    one.read_new(100, Duration::from_millis(1)).await.expect("entries");
    let (mut after, mut pages) = (EntryId::default(), Vec::new());
    loop {
        let taken = two.take(ANY, after, 10, COMPANY).await.expect("taken");
        pages.push(taken.deliveries.len());
        after = taken.next;
        if after == EntryId::default() {
            break;
        }
    }
    assert_eq!(pages, [10, 10, 5]);
}

#[tokio::test]
async fn an_entry_that_was_deleted_under_its_consumer_is_a_dead_letter_and_not_forgotten() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    stack.publish(&orders("ORD", 3)).await;
    let mut redis = stack.connection().await;
    let mut killed = consumer(&stack, StageName::Reservation, "killed").await;
    let read = killed.read_new(10, Duration::from_millis(1)).await.expect("entries");
    let gone = read[1].entry.id.to_string();
    let source = stack.redis.keys().stream(0, StageName::Reservation);
    redis::cmd("XDEL").arg(&source).arg(&gone).exec_async(&mut redis).await.expect("deleted");
    let mut config = stack.config(&StageName::WAY);
    config.limits.claim_idle = Duration::from_millis(1);
    let workers = stack.start(&config).await;
    stack.drained(&StageName::WAY).await;
    let deleted = workers.counters()[&StageName::Reservation].snapshot().deleted;
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(deleted, 1);
    let dead = stack.redis.keys().dead(0);
    assert_eq!(stack.field(&dead, "reason").await, ["deleted"]);
    assert_eq!(stack.field(&dead, "source_id").await, [gone]);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM orders").await, 2);
}

#[tokio::test]
async fn a_suspect_is_set_aside_after_its_attempts_and_its_neighbours_go_on() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    stack.publish(&orders("ORD", 20)).await;
    stack.run(&[StageName::Reservation]).await;
    // Payment dies of them, again and again: with all of them, then with the third one.
    let mut killed = consumer(&stack, StageName::Payment, "killed").await;
    killed.read_new(100, Duration::from_millis(1)).await.expect("entries");
    take(&mut killed, ANY).await;
    let suspects = take(&mut killed, ANY).await;
    for attempt in 3..=7 {
        killed.count(&[Delivery { before: attempt - 1, ..suspects[2].clone() }]).await.expect("Redis");
    }
    let mut config = stack.config(&StageName::WAY);
    config.limits.claim_idle = Duration::from_millis(1);
    let workers = stack.start(&config).await;
    stack.drained(&StageName::WAY).await;
    let counts = workers.counters()[&StageName::Payment].snapshot();
    assert!(workers.stop(PATIENCE).await);

    assert_eq!(
        (counts.dead, counts.suspected + 1),
        (1, suspects.len() as u64),
        "each of the others was given a chance"
    );
    let dead = stack.redis.keys().dead(0);
    assert_eq!(stack.field(&dead, "reason").await, ["attempts_exhausted"]);
    assert_eq!(stack.field(&dead, "deliveries").await, ["8"]);
    let parked = "SELECT code || ' ' || stage || ' ' || reason FROM parked JOIN orders ON id = order_id";
    let code =
        pipeline::message::Message::decode(&suspects[2].entry).map(|it: pipeline::message::OrderRef| it.order_code);
    let expected = format!("{} payment attempts_exhausted", code.expect("ours"));
    assert_eq!(stack.value::<String>(parked).await, expected);
    assert_eq!(
        stack.value::<i64>("SELECT count(*) FROM orders WHERE status = 'reserved'").await,
        1,
        "it holds its stock"
    );
    stack.books_balance().await;
}

#[tokio::test]
async fn consumers_that_left_without_a_word_are_removed_once_they_hold_nothing() {
    let stack = Stack::get().await;
    stack.publish(&orders("ORD", 2)).await;
    let mut redis = stack.connection().await;
    let mut busy = consumer(&stack, StageName::Reservation, "busy").await;
    consumer(&stack, StageName::Reservation, "idle").await;
    let mut other = consumer(&stack, StageName::Reservation, "other").await;
    let read = busy.read_new(1, Duration::from_millis(1)).await.expect("entries");
    let names = async |redis: &mut redis::aio::MultiplexedConnection| -> Vec<String> {
        let group = stack.redis.group_state(redis, 0, StageName::Reservation).await.expect("Redis").expect("a group");
        group.consumers.into_iter().map(|consumer| consumer.name).collect()
    };
    assert_eq!(other.forget_silent(Duration::from_secs(3_600)).await.expect("Redis"), 0);
    assert_eq!(other.forget_silent(Duration::ZERO).await.expect("Redis"), 2, "all that hold nothing");
    assert_eq!(names(&mut redis).await, ["busy"]);
    // Who was removed and lives is there again with its next read, and nothing is lost.
    assert_eq!(other.read_new(1, Duration::from_millis(1)).await.expect("entries").len(), 1);
    busy.hand_off(vec![(read[0].entry.id, HandOff::Done)]).await.expect("handed off");
    busy.leave().await.expect("Redis");
    assert_eq!(names(&mut redis).await, ["other"]);
}

#[tokio::test]
async fn a_paused_stage_takes_nothing_until_it_is_resumed_or_its_time_is_up() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    let mut redis = stack.connection().await;
    stack.redis.pause(&mut redis, 0, StageName::Payment, None, "a test").await.expect("paused");
    stack.publish(&orders("ORD", 30)).await;
    let workers = stack.start(&stack.config(&StageName::WAY)).await;
    stack.drained(&[StageName::Reservation]).await;
    // Settlement, which has nothing to do, has looked many times meanwhile.
    let waiting = stack.redis.group_state(&mut redis, 0, StageName::Payment).await.expect("Redis").expect("a group");
    assert_eq!(waiting.pending, 0);
    assert!(waiting.lag.is_some_and(|lag| lag > 20), "{waiting:?}");
    assert_eq!(workers.counters()[&StageName::Payment].snapshot().messages, 0);
    let pause = stack.redis.pause_of(&mut redis, 0, StageName::Payment).await.expect("Redis").expect("a pause");
    assert_eq!((pause.why.as_str(), pause.seconds_left), ("a test", None));

    // Paused again, for a moment: then it goes on by itself.
    let moment = Some(Duration::from_millis(50));
    stack.redis.pause(&mut redis, 0, StageName::Payment, moment, "shorter").await.expect("paused");
    stack.drained(&StageName::WAY).await;
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(stack.redis.pause_of(&mut redis, 0, StageName::Payment).await.expect("Redis"), None);
    assert!(!stack.redis.resume(&mut redis, 0, StageName::Payment).await.expect("Redis"), "nothing to resume");
    stack.books_balance().await;
}

#[tokio::test]
async fn streams_and_groups_that_redis_forgot_are_made_again_while_workers_run() {
    let stack = Stack::get().await;
    stack.seed(5, &[50_000; 3]).await;
    let mut redis = stack.connection().await;
    let workers = stack.start(&stack.config(&StageName::WAY)).await;
    for (round, stage) in StageName::WAY.into_iter().enumerate() {
        stack.publish(&orders(&format!("A{round}"), 10)).await;
        stack.drained(&StageName::WAY).await;
        let key = stack.redis.keys().stream(0, stage);
        redis::cmd("XGROUP").arg("DESTROY").arg(&key).arg(stage.as_str()).exec_async(&mut redis).await.expect("gone");
        stack.publish(&orders(&format!("B{round}"), 10)).await;
        stack.drained(&StageName::WAY).await;
        redis::cmd("DEL").arg(&key).exec_async(&mut redis).await.expect("gone");
        eventually("the group is there again", async || {
            stack.redis.group_state(&mut redis, 0, stage).await.expect("Redis").is_some()
        })
        .await;
        stack.publish(&orders(&format!("C{round}"), 10)).await;
        stack.drained(&StageName::WAY).await;
    }
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await, 90);
    stack.books_balance().await;
}

#[tokio::test]
async fn a_worker_whose_postgres_is_away_hands_its_batch_back_when_it_is_asked_to_end() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    let mut redis = stack.connection().await;
    // A table lock stands for a Postgres that does not get on: the worker waits for it, gives up, and tries again.
    let mut foreign = stack.reports.pool().begin().await.expect("Postgres");
    sqlx::query("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE").execute(&mut *foreign).await.expect("locked");
    stack.publish(&[order("A", 1, &[(1, 1, 100)])]).await;
    let mut config = stack.config(&[StageName::Reservation]);
    config.relay = false;
    config.limits.claim_idle = Duration::from_millis(300);
    config.limits.processing_max = Duration::from_millis(100);
    let workers = stack.start(&config).await;
    eventually("the worker has given up a try", async || {
        workers.counters()[&StageName::Reservation].snapshot().retries > 1
    })
    .await;
    assert!(workers.stop(PATIENCE).await);
    let mut other = consumer(&stack, StageName::Reservation, "other").await;
    let hour = Whose::Idle(Duration::from_secs(3_600));
    assert_eq!(before(&take(&mut other, hour).await), [0], "handed back, and not counted");
    foreign.rollback().await.expect("unlocked");
    let mut config = stack.config(&StageName::WAY);
    config.limits.claim_idle = Duration::from_millis(1);
    let workers = stack.start(&config).await;
    stack.drained(&StageName::WAY).await;
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(stack.redis.dead_letters(&mut redis, 0).await.expect("Redis"), 0);
    stack.books_balance().await;
}
