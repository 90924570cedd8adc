//! Orders whose message Redis has lost get a new one; those that wait in a backlog do not.

use std::time::Duration;

use pipeline::{
    message::DeadReason,
    metrics::Metrics,
    reconciler::{Found, Mode, Reconciler},
    relay::Board,
    runner::PipelineConfig,
    shutdown::Shutdown,
    store,
    topology::StageName,
};

use crate::harness::{PATIENCE, Stack, eventually, orders};

fn reconciler(stack: &Stack) -> Reconciler {
    Reconciler::new(stack.reports.clone(), stack.redis.clone(), Duration::from_millis(20), &Metrics::default())
}

async fn sweep(stack: &Stack, mode: Mode) -> Found {
    reconciler(stack).once(mode, &Shutdown::default()).await.expect("a sweep").expect("to its end")
}

fn with_reconciler(stack: &Stack) -> PipelineConfig {
    PipelineConfig { reconcile_every: Some(Duration::from_millis(20)), ..stack.config(&StageName::WAY) }
}

async fn settled(stack: &Stack, orders: i64) {
    eventually("every order has reached its end", async || {
        stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL").await == orders
    })
    .await;
}

#[tokio::test]
async fn orders_whose_stream_is_gone_get_a_message_for_the_stage_that_their_state_calls_for() {
    for (lost, run) in [
        (StageName::Payment, &[StageName::Reservation][..]),
        (StageName::Settlement, &[StageName::Reservation, StageName::Payment]),
    ] {
        let stack = Stack::get().await;
        stack.seed(5, &[5_000; 3]).await;
        stack.publish(&orders("ORD", 60)).await;
        stack.run(run).await;
        let open: i64 = stack.value("SELECT count(*) FROM orders WHERE status = 'reserved'").await;
        stack.forget_keys().await.expect("forgotten");

        let open = u64::try_from(open).expect("a count");
        let looked = sweep(&stack, Mode::Look).await;
        let counts = |found: &Found| (found.to_payment, found.to_settlement);
        let expected = if lost == StageName::Payment { (open, 0) } else { (0, open) };
        assert_eq!(counts(&looked), expected);
        assert_eq!(sweep(&stack, Mode::Repair).await, looked, "looking emits nothing");
        stack.drain().await;
        settled(&stack, 60).await;
        assert!(sweep(&stack, Mode::Repair).await.is_nothing());
        let mut postgres = stack.reports.pool().acquire().await.expect("Postgres");
        let history = store::reconciliations(&mut postgres, 10).await.expect("rows");
        assert_eq!(history.len(), 1, "one sweep found something");
        assert_eq!(history[0].cause, "messages_lost");
        assert_eq!(
            (history[0].to_payment, history[0].to_settlement),
            (expected.0.cast_signed(), expected.1.cast_signed())
        );
        stack.books_balance().await;
    }
}

#[tokio::test]
async fn a_backlog_is_waited_for_and_not_emitted_again() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    stack.publish(&orders("ORD", 60)).await;
    let mut redis = stack.connection().await;
    stack.redis.pause(&mut redis, 0, StageName::Settlement, None, "").await.expect("paused");
    let workers = stack.start(&with_reconciler(&stack)).await;
    stack.drained(&[StageName::Reservation, StageName::Payment]).await;
    let reserved: i64 = stack.value("SELECT count(*) FROM orders WHERE status = 'reserved'").await;
    let reconciler = reconciler(&stack);
    let shutdown = Shutdown::default();
    // It has every chance to be wrong: many times its rest.
    let early = tokio::time::timeout(Duration::from_secs(1), reconciler.once(Mode::Repair, &shutdown)).await;
    assert!(early.is_err(), "a sweep ended although settlement had not acknowledged anything: {early:?}");
    let paid = stack.redis.keys().stream(0, StageName::Settlement);
    let waiting: i64 = redis::cmd("XLEN").arg(&paid).query_async(&mut redis).await.expect("a stream");
    assert_eq!(waiting, reserved, "each order has one message");
    stack.redis.resume(&mut redis, 0, StageName::Settlement).await.expect("resumed");
    settled(&stack, 60).await;
    let found = reconciler.once(Mode::Repair, &shutdown).await.expect("a sweep").expect("to its end");
    assert!(found.is_nothing(), "{found:?}");
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM reconciliations").await, 0);
    stack.books_balance().await;
}

#[tokio::test]
async fn redis_may_be_emptied_again_and_again_under_running_workers() {
    let stack = Stack::get().await;
    stack.seed(5, &[500_000; 3]).await;
    let workers = stack.start(&with_reconciler(&stack)).await;
    for round in 0..5 {
        let all = orders(&format!("R{round}"), 300);
        stack.publish(&all).await;
        // Once they are known, Redis is no longer needed for them; before that, only their source can send them again.
        eventually("every order is known", async || {
            stack.value::<i64>("SELECT count(*) FROM orders").await == (round + 1) * 300
        })
        .await;
        stack.forget_keys().await.expect("forgotten");
    }
    settled(&stack, 1_500).await;
    stack.drained(&StageName::WAY).await;
    assert!(workers.stop(PATIENCE).await);
    stack.books_balance().await;
}

#[tokio::test]
async fn a_lost_group_a_lost_stream_and_one_lost_entry_are_made_up_for() {
    let stack = Stack::get().await;
    stack.seed(5, &[500_000; 3]).await;
    let mut redis = stack.connection().await;
    let keys = [StageName::Payment, StageName::Settlement].map(|stage| stack.redis.keys().stream(0, stage));
    for (round, key) in [0, 1].into_iter().zip(&keys) {
        stack.publish(&orders(&format!("R{round}"), 60)).await;
        let stages = &StageName::WAY[..=round];
        stack.run(stages).await;
        let range: redis::streams::StreamRangeReply =
            redis::cmd("XRANGE").arg(key).arg("-").arg("+").query_async(&mut redis).await.expect("a stream");
        let some: Vec<String> = range.ids.iter().step_by(7).map(|entry| entry.id.clone()).collect();
        assert!(some.len() > 3);
        redis::cmd("XDEL").arg(key).arg(&some).exec_async(&mut redis).await.expect("deleted");
        let workers = stack.start(&with_reconciler(&stack)).await;
        settled(&stack, 60 * (i64::try_from(round).expect("small") + 1)).await;
        assert!(workers.stop(PATIENCE).await);
    }
    stack.drain().await;
    stack.books_balance().await;
}

#[tokio::test]
async fn a_parked_order_is_left_alone_for_as_long_as_its_letter_is_there() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    stack.publish(&orders("ORD", 2)[1..]).await;
    stack.run(&[StageName::Reservation]).await;
    let mut postgres = stack.reports.pool().acquire().await.expect("Postgres");
    let id = pipeline::domain::OrderId(stack.value("SELECT id FROM orders").await);
    let order = pipeline::message::OrderRef { order_id: id, order_code: "ORD-1".to_owned() };
    let another = pipeline::message::OrderRef { order_id: id, order_code: "X".to_owned() };
    for named in [another, order] {
        store::park_orders(&mut postgres, &[named], StageName::Payment, DeadReason::AttemptsExhausted)
            .await
            .expect("parked");
    }
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM parked").await, 1);
    let mut redis = stack.connection().await;
    let dead = stack.redis.keys().dead(0);
    let body = format!(r#"{{"order_id":{},"order_code":"ORD-1"}}"#, id.0);
    let letter =
        ["body", &body, "reason", "attempts_exhausted", "error", "x", "stage", "payment", "source_stream", "x"];
    let rest = ["source_id", "1-1", "first_at", "2026-01-01T00:00:00Z", "last_at", "2026-01-01T00:00:00Z"];
    redis::cmd("XADD").arg(&dead).arg("*").arg(&letter).arg(&rest).exec_async(&mut redis).await.expect("added");
    redis::cmd("DEL").arg(stack.redis.keys().stream(0, StageName::Payment)).exec_async(&mut redis).await.expect("gone");
    assert!(sweep(&stack, Mode::Repair).await.is_nothing(), "its letter is there");
    redis::cmd("DEL").arg(&dead).exec_async(&mut redis).await.expect("gone");
    assert_eq!(sweep(&stack, Mode::Look).await.letters_lost, 1);
    assert_eq!(sweep(&stack, Mode::Repair).await.letters_lost, 1, "nobody could ever replay it");
    assert_eq!(sweep(&stack, Mode::Repair).await.to_payment, 1);
    stack.drain().await;
    settled(&stack, 1).await;
}

#[tokio::test]
async fn a_postgres_with_another_history_is_reported_and_the_board_built_anew() {
    let stack = Stack::get().await;
    stack.seed(5, &[500_000; 3]).await;
    stack.publish(&orders("OLD", 40)).await;
    stack.drain().await;
    // Restored to its beginning, and grown beyond where it was: the numbers alone look right.
    stack
        .sql(
            "TRUNCATE orders, order_lines, payments, events;
             UPDATE event_counter SET last_seq = 0; UPDATE products SET stock = received, reserved = 0;",
        )
        .await;
    stack.publish(&orders("NEW", 80)).await;
    let workers = stack.start(&PipelineConfig { relay: false, ..stack.config(&StageName::WAY) }).await;
    settled(&stack, 80).await;
    assert!(workers.stop(PATIENCE).await);
    stack.drain().await;
    let mut redis = stack.connection().await;
    let board = Board::new(stack.redis.keys().clone());
    assert_eq!(board.cursor(&mut redis).await.expect("Redis"), Some(80));
    let causes = "SELECT string_agg(cause, ',') FROM reconciliations";
    assert_eq!(stack.value::<String>(causes).await, "postgres_restored");
    stack.books_balance().await;
}

#[tokio::test]
async fn an_order_that_is_committed_after_the_sweep_that_it_was_created_before_is_found_by_the_next() {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000; 3]).await;
    stack.publish(&orders("ORD", 3)[1..]).await;
    stack.run(&[StageName::Reservation]).await;
    stack.forget_keys().await.expect("forgotten");
    // One of the two is being reserved for half a minute already, and Redis lost its entry meanwhile.
    const LATE: &str = "UPDATE orders SET created_at = now() - interval '30 seconds' WHERE code = 'ORD-1'";
    stack.sql(LATE).await;
    let pool = stack.reports.pool();
    stack.sql("CREATE TABLE late AS SELECT * FROM orders WHERE code = 'ORD-1'").await;
    stack.sql("DELETE FROM orders WHERE code = 'ORD-1'").await;
    let mut reservation = pool.begin().await.expect("Postgres");
    sqlx::query("INSERT INTO orders SELECT * FROM late").execute(&mut *reservation).await.expect("inserted");

    let workers = stack.start(&with_reconciler(&stack)).await;
    // A sweep has found the other one, and the next ones begin with orders that are not older than that.
    settled(&stack, 1).await;
    reservation.commit().await.expect("committed");
    settled(&stack, 2).await;
    assert!(workers.stop(PATIENCE).await);
    stack.books_balance().await;
}
