//! The scripts that move entries on and out of their streams: what is acknowledged, what is added, what is trimmed.

use std::time::Duration;

use pipeline::{
    message::{BODY, EntryId, encode_order},
    streams::{Consumer, Delivery, HandOff, HandedOff, Publisher, Whose},
    topology::StageName,
};
use redis::aio::MultiplexedConnection;

use crate::harness::{Stack, order, orders};

/// A consumer that has read these entries.
async fn reader(stack: &Stack, name: &str, codes: &[&str]) -> (Consumer, Vec<EntryId>) {
    stack.publish(&codes.iter().map(|code| order(code, 1, &[(1, 1, 100)])).collect::<Vec<_>>()).await;
    let mut consumer = Consumer::join(&stack.redis, StageName::Reservation, 0, name).await.expect("Redis");
    let entries = consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries");
    assert_eq!(entries.len(), codes.len());
    (consumer, entries.into_iter().map(|delivery| delivery.entry.id).collect())
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
    assert_eq!(done, HandedOff { handed: 2, already: vec![] }, "whoever is first hands off");
    let done = first.hand_off(on_to_payment(&ids)).await.expect("handed off");
    assert_eq!(done, HandedOff { handed: 1, already: vec![0, 1] });
    let done = first.hand_off(on_to_payment(&ids)).await.expect("handed off");
    assert_eq!(done, HandedOff { handed: 0, already: vec![0, 1, 2] });
    assert_eq!(length(&mut redis, &stack.redis.keys().stream(0, StageName::Payment)).await, 3);
    assert_eq!(pending(&stack, &mut redis).await, 0);
}

#[tokio::test]
async fn only_the_owner_of_an_entry_can_bury_it() {
    let stack = Stack::get().await;
    let mut redis = stack.connection().await;
    let (mut slow, ids) = reader(&stack, "slow", &["A", "B"]).await;
    let mut fast = Consumer::join(&stack.redis, StageName::Reservation, 0, "fast").await.expect("Redis");
    let taken = fast.take(Whose::Idle(Duration::ZERO), EntryId::default(), 1, 2).await.expect("taken");
    assert_eq!(taken.deliveries.len(), 1);
    let letter = || HandOff::Dead { fields: vec![(b"reason".to_vec(), b"x".to_vec())], owned: true };
    let dead = || ids.iter().map(|id| (*id, letter()));
    let done = slow.hand_off(dead().collect()).await.expect("handed off");
    assert_eq!(done, HandedOff { handed: 1, already: vec![0] }, "A is the fast one's");
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
    Publisher::connect(&stack.redis, 0, StageName::Reservation)
        .await
        .expect("Redis")
        .publish(&bodies, None)
        .await
        .expect("published");
    let all = ids(&mut redis, &source).await;
    let read = consumer.read_new(2_000, Duration::from_millis(1)).await.expect("entries");
    let kept_from = async |redis: &mut MultiplexedConnection, consumer: &mut Consumer, needed: usize| {
        consumer.trim(true).await.expect("trimmed");
        let left = ids(redis, &source).await;
        assert_eq!(left, all[all.len() - left.len()..], "only from the beginning");
        assert!(left.len() >= all.len() - needed, "{} are left, from {needed} on is needed", left.len());
        left.len()
    };
    // Our group has acknowledged all but one in the middle; the other has read nothing.
    let done = |range: &[Delivery]| range.iter().map(|it| (it.entry.id, HandOff::Done)).collect::<Vec<_>>();
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
async fn trimming_is_exact_for_every_id_that_redis_can_have() {
    for base in ["9223372036854775400-", "5-9223372036854775"] {
        let stack = Stack::get().await;
        let mut redis = stack.connection().await;
        let mut consumer = Consumer::join(&stack.redis, StageName::Reservation, 0, "one").await.expect("Redis");
        let source = stack.redis.keys().stream(0, StageName::Reservation);
        for n in 300..800 {
            let mut add = redis::cmd("XADD");
            add.arg(&source).arg(format!("{base}{n:03}")).arg("n").arg(n).exec_async(&mut redis).await.expect("added");
        }
        consumer.trim(true).await.expect("trimmed");
        assert_eq!(length(&mut redis, &source).await, 500, "nobody has read anything");
        consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries");
        consumer.trim(true).await.expect("trimmed");
        assert_eq!(length(&mut redis, &source).await, 500, "nothing is acknowledged");
    }
}

#[tokio::test]
async fn the_largest_id_that_redis_can_have_does_not_stop_a_worker() {
    let stack = Stack::get().await;
    let mut redis = stack.connection().await;
    let mut consumer = Consumer::join(&stack.redis, StageName::Reservation, 0, "one").await.expect("Redis");
    let source = stack.redis.keys().stream(0, StageName::Reservation);
    let mut add = redis::cmd("XADD");
    add.arg(&source).arg("5-18446744073709551615").arg("n").arg(1).exec_async(&mut redis).await.expect("added");
    let entries = consumer.read_new(1_000, Duration::from_millis(1)).await.expect("entries");
    consumer.hand_off(vec![(entries[0].entry.id, HandOff::Done)]).await.expect("handed off");
    consumer.trim(true).await.expect("trimmed");
}
