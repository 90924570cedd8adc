//! The relay: a board that equals Postgres, whatever Redis loses and however many relays there are.

use std::collections::BTreeMap;

use pipeline::{
    domain::TOTAL_CENTS_MAX,
    message::BODY,
    relay::{Board, BoardSnapshot},
    topology::StageName,
};

use crate::harness::{PATIENCE, Stack, eventually, order, orders};

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
        assert!(workers.stop(PATIENCE).await);
        stack.books_balance().await;
    }
}

#[tokio::test]
async fn failed_orders_are_counted_by_their_reasons() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    stack.publish(&orders("ORD", 300)).await;
    stack.publish(&[order("NOBODY", 77, &[(1, 1, 100)]), order("NOTHING", 1, &[(77, 1, 100)])]).await;
    stack.drain().await;
    let (mut failed, mut by_reason) = (0, BTreeMap::<String, i64>::new());
    for (name, table) in board(&stack).await.values.iter().filter(|(name, _)| name.starts_with("kpi:")) {
        let day = name["kpi:".len()..].parse().expect("a day");
        let shown =
            Board::new(stack.redis.keys().clone()).day(&mut stack.connection().await, day).await.expect("Redis");
        assert_eq!(shown.failed_by.values().sum::<i64>(), shown.failed);
        failed += shown.failed;
        for (field, orders) in table {
            if let Some(reason) = field.strip_prefix("failed_") {
                *by_reason.entry(reason.to_owned()).or_default() += orders;
            }
        }
    }
    let reasons = "SELECT string_agg(r, ' ' ORDER BY r) FROM (
        SELECT failure_reason || '=' || count(*) AS r FROM orders WHERE status = 'failed' GROUP BY failure_reason) reasons";
    let shown: Vec<String> = by_reason.iter().map(|(reason, orders)| format!("{reason}={orders}")).collect();
    assert_eq!(shown.join(" "), stack.value::<String>(reasons).await);
    assert_eq!(by_reason.len(), 4, "unknown customer and product, out of stock, declined: {by_reason:?}");
    assert_eq!(by_reason.values().sum::<i64>(), failed);
    stack.books_balance().await;
}

#[tokio::test]
async fn a_board_of_an_earlier_version_is_built_anew_once() {
    let (stack, shown) = with_board().await;
    let keys = stack.redis.keys();
    let mut redis = stack.connection().await;
    // As that version left it, and as it leaves one that it took over for a while: no reasons, and a layout at another
    // event, or none.
    for layout in [None, Some("1 300"), Some("2 299")] {
        for name in shown.values.keys().filter(|name| name.starts_with("kpi:")) {
            let mut forget = redis::cmd("HDEL");
            forget
                .arg(format!("{}{name}", keys.board_prefix()))
                .arg("failed_out_of_stock")
                .arg("failed_payment_declined");
            assert_eq!(forget.query_async::<i64>(&mut redis).await.expect("Redis"), 2);
        }
        let change = match layout {
            None => redis::cmd("DEL").arg(keys.layout()).exec_async(&mut redis).await,
            Some(layout) => redis::cmd("SET").arg(keys.layout()).arg(layout).exec_async(&mut redis).await,
        };
        change.expect("Redis");
        assert!(!stack.audit().await.is_clean(), "the audit sees what is missing");
        let workers = stack.start(&stack.config(&[])).await;
        eventually("the board is complete", async || board(&stack).await == shown).await;
        assert!(workers.stop(PATIENCE).await);
        let events = stack.field(&keys.events(), BODY).await.len();
        // Another start finds nothing to do.
        stack.drain().await;
        assert_eq!(stack.field(&keys.events(), BODY).await.len(), events);
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
    assert!(workers.stop(PATIENCE).await);
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
    assert!(first.stop(PATIENCE).await);
    stack.publish(&orders("LATER", 100)).await;
    stack.drain().await;
    assert!(second.stop(PATIENCE).await);
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
