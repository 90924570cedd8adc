//! The relay: a board that equals Postgres, whatever Redis loses and however many relays there are.

mod harness;

use std::time::Duration;

use harness::{Stack, eventually, order, orders};
use pipeline::{
    domain::TOTAL_CENTS_MAX,
    message::BODY,
    relay::{Board, BoardSnapshot},
    topology::StageName,
};

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
    let workers = stack.start(&stack.config(&StageName::WAY)).await;
    stack.forget_keys().await.expect("Redis");
    eventually("the board is complete", async || board(&stack).await == shown).await;
    // And the streams work again.
    stack.publish(&orders("MORE", 100)).await;
    eventually("all orders are settled", async || {
        stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await == 400
    })
    .await;
    stack.drained(&StageName::WAY).await;
    assert!(workers.stop(Duration::from_secs(10)).await);
    stack.books_balance().await;
}

#[tokio::test]
async fn of_several_relays_one_carries_each_event_once() {
    let stack = Stack::get().await;
    stack.seed(5, &[1_000_000; 3]).await;
    let relays = [stack.start(&stack.config(&StageName::WAY)).await, stack.start(&stack.config(&[])).await];
    for part in 0..5 {
        stack.publish(&orders(&format!("ORD-{part}"), 100)).await;
    }
    stack.drained(&StageName::WAY).await;
    let [first, second] = relays;
    assert!(first.stop(Duration::from_secs(10)).await);
    stack.publish(&orders("LATER", 100)).await;
    stack.drain().await;
    assert!(second.stop(Duration::from_secs(10)).await);
    let bodies = stack.field(&stack.redis.keys().events(), BODY).await;
    let seq = |body: &String| serde_json::from_str::<serde_json::Value>(body).expect("JSON")["seq"].as_i64();
    assert_eq!(bodies.iter().map(seq).collect::<Vec<_>>(), (1..=600).map(Some).collect::<Vec<_>>());
    stack.books_balance().await;
}

#[tokio::test]
async fn the_largest_orders_add_up_exactly() {
    const ORDERS: i64 = 900;
    let stack = Stack::get().await;
    stack.seed(1, &[1_000_000_000]).await;
    let largest = |n: i64| order(&format!("ORD-{n}"), 1, &[(1, 1_000, 9_999_999_999), (1, 1, 1_000)]);
    assert_eq!(largest(0).total().get(), TOTAL_CENTS_MAX);
    stack.publish(&(0..ORDERS).map(largest).collect::<Vec<_>>()).await;
    stack.publish(&[order("ODD", 1, &[(1, 1, 1)])]).await;
    stack.drain().await;
    stack.books_balance().await;
}
