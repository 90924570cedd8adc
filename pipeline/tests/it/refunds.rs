//! Refunds with the simulator: never more than was paid, each key once, figures and stock follow.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use pipeline::{
    domain::{Cents, RefundRequest, Refusal},
    message::{BODY, encode_refund},
    payments::{Granting, PaymentLimits, Payments},
    relay::Board,
    runner::PipelineConfig,
    topology::{Leaderboard, StageName},
};

use crate::harness::{PATIENCE, Stack, eventually, order, simulated};

/// The stages of an order and of a refund.
const STAGES: [StageName; 4] = [StageName::Reservation, StageName::Payment, StageName::Settlement, StageName::Refund];

/// What an order of [`paid`] costs, in cents.
const TOTAL: i64 = 10_001;

/// Completed orders A-0, A-1, … of customer 1: two pieces of product 1 and one of product 2 each.
async fn paid(count: i64) -> Stack {
    let stack = Stack::get().await;
    stack.seed(3, &[100_000, 100_000]).await;
    let one = |n| order(&format!("A-{n}"), 1, &[(1, 2, 5_000), (2, 1, 1)]);
    stack.publish(&(0..count).map(one).collect::<Vec<_>>()).await;
    run(&stack, 1.0, &StageName::WAY).await;
    stack
}

fn config(stack: &Stack, success_rate: f64, stages: &[StageName]) -> PipelineConfig {
    PipelineConfig { collector: true, gateways: simulated(success_rate), ..stack.config(stages) }
}

async fn run(stack: &Stack, success_rate: f64, stages: &[StageName]) {
    let workers = stack.start(&config(stack, success_rate, stages)).await;
    stack.drained(stages).await;
    assert!(workers.stop(PATIENCE).await);
}

fn request(key: &str, code: &str, amount: Option<&str>) -> RefundRequest {
    RefundRequest::new(key, code, amount, None, false).expect("valid")
}

async fn publish(stack: &Stack, requests: &[RefundRequest]) {
    let messages: Vec<_> = requests.iter().map(|it| vec![(BODY.into(), encode_refund(it))]).collect();
    let mut redis = stack.connection().await;
    stack.redis.publish(&mut redis, 0, StageName::Refund, &messages).await.expect("Redis");
}

/// Status and refusal of each refund by key.
async fn ends(stack: &Stack) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT key, concat_ws(' ', status, refusal) FROM refunds")
        .fetch_all(&stack.reports.pool())
        .await
        .expect("refunds");
    rows.into_iter().collect()
}

#[tokio::test]
async fn of_refunds_that_exceed_the_payment_together_only_as_many_succeed_as_fit() {
    const ORDERS: i64 = 40;
    let stack = paid(ORDERS).await;
    let workers = stack.start(&config(&stack, 1.0, &STAGES)).await;
    // By message, by four tasks at two desks at once: 60 % of each order, eight times.
    let sixty = |who: &str| -> Vec<RefundRequest> {
        (0..ORDERS).map(|n| request(&format!("{who}-{n}"), &format!("A-{n}"), Some("60.01"))).collect()
    };
    let desks: Vec<Payments> = (0..2).map(|_| stack.payments(1.0)).collect();
    let by_desk = join_all((0..4).map(|who| {
        let (desk, requests) = (desks[who % 2].clone(), sixty(&format!("desk-{who}")));
        async move {
            for request in requests.chunks(7) {
                let batch: Vec<_> = request.iter().map(|request| (request, None)).collect();
                // Who meets another at a key or a lock tries again, as a worker does.
                while desk.refund(&batch).await.is_err() {}
            }
        }
    }));
    let by_message = async {
        for who in 0..4 {
            publish(&stack, &sixty(&format!("message-{who}"))).await;
        }
    };
    tokio::join!(by_desk, by_message);
    stack.drained(&STAGES).await;
    assert!(workers.stop(PATIENCE).await);

    let mut succeeded = 0;
    for end in ends(&stack).await.values() {
        match end.as_str() {
            "succeeded" => succeeded += 1,
            other => assert_eq!(other, "refused exceeds_paid"),
        }
    }
    assert_eq!(succeeded, ORDERS);
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM refunds").await, 8 * ORDERS);
    assert_eq!(stack.value::<i64>("SELECT sum(refunded_cents)::bigint FROM orders").await, ORDERS * 6_001);
    stack.books_balance().await;
}

#[tokio::test]
async fn the_same_key_a_hundred_times_is_one_refund_with_one_answer() {
    let stack = paid(2).await;
    let desk = stack.payments(1.0);
    let asked = request("k", "A-0", Some("10.00"));
    let answers = join_all((0..100).map(|_| {
        let (desk, asked) = (desk.clone(), asked.clone());
        async move {
            loop {
                if let Ok(granting) = desk.refund(&[(&asked, None)]).await {
                    return granting[0];
                }
            }
        }
    }))
    .await;
    let granted = answers.iter().filter(|answer| matches!(answer, Granting::Granted(_))).count();
    assert_eq!(granted, 1);
    assert!(answers.iter().all(|answer| matches!(answer, Granting::Granted(_) | Granting::Repeated)));

    for other in [request("k", "A-0", Some("10.01")), request("k", "A-1", Some("10.00")), request("k", "A-0", None)] {
        assert_eq!(desk.refund(&[(&other, None)]).await.expect("Postgres"), [Granting::Conflict]);
    }
    // By message a conflict is a dead letter, and the repetition is nothing.
    publish(&stack, &[request("k", "A-1", None), asked]).await;
    run(&stack, 1.0, &STAGES).await;
    let dead = stack.field(&stack.redis.keys().dead(0), "reason").await;
    assert_eq!(dead, ["conflict"]);
    assert_eq!(ends(&stack).await, BTreeMap::from([("k".to_owned(), "succeeded".to_owned())]));
    stack.books_balance().await;
}

#[tokio::test]
async fn three_thirds_of_an_uneven_amount_sum_to_it_exactly() {
    let stack = paid(1).await;
    let desk = stack.payments(1.0);
    let thirds = [request("1", "A-0", Some("33.34")), request("2", "A-0", Some("33.34")), request("3", "A-0", None)];
    for third in &thirds {
        assert!(matches!(desk.refund(&[(third, None)]).await.expect("Postgres")[0], Granting::Granted(_)));
    }
    let rest = desk.refund(&[(&request("4", "A-0", None), None)]).await.expect("Postgres");
    assert_eq!(rest, [Granting::Refused(Refusal::NothingLeft)]);
    let cent = desk.refund(&[(&request("5", "A-0", Some("0.01")), None)]).await.expect("Postgres");
    assert_eq!(cent, [Granting::Refused(Refusal::ExceedsPaid)]);
    let amounts: Vec<i64> =
        sqlx::query_scalar("SELECT amount_cents FROM refunds WHERE status = 'succeeded' ORDER BY key")
            .fetch_all(&stack.reports.pool())
            .await
            .expect("refunds");
    assert_eq!(amounts, [3_334, 3_334, 3_333]);
    stack.run(&[]).await;
    stack.books_balance().await;
}

#[tokio::test]
async fn what_a_provider_has_still_to_give_back_is_not_granted_again() {
    let stack = paid(1).await;
    stack
        .sql(
            "INSERT INTO refunds (key, order_id, order_code, amount_cents, status, request_hash, gateway,
                                  reference_prefix, due_at)
             SELECT 'owed', id, code, 6001, 'pending', 0, 'simulator', reference_mark(), now() + interval '1 hour' FROM orders",
        )
        .await;
    let desk = stack.payments(1.0);
    let more = desk.refund(&[(&request("more", "A-0", Some("40.01")), None)]).await.expect("Postgres");
    assert_eq!(more, [Granting::Refused(Refusal::ExceedsPaid)]);
    let rest = desk.refund(&[(&request("rest", "A-0", None), None)]).await.expect("Postgres");
    assert_eq!(rest, [Granting::Granted(Cents::new(4_000))]);
}

#[tokio::test]
async fn of_refunds_that_a_provider_will_give_back_only_as_many_are_granted_at_once_as_fit() {
    const ORDERS: i64 = 40;
    let stack = paid(ORDERS).await;
    // A provider that nobody here can ask: what is granted stays owed, and no figure of the order stops a second one.
    stack.sql("UPDATE payments SET gateway = 'elsewhere'").await;
    let desk = stack.payments(1.0);
    join_all((0..8).map(|who| {
        let desk = desk.clone();
        async move {
            let sixty = |n| request(&format!("{who}-{n}"), &format!("A-{n}"), Some("60.01"));
            let requests: Vec<RefundRequest> = (0..ORDERS).map(sixty).collect();
            let batch: Vec<_> = requests.iter().map(|request| (request, None)).collect();
            // Who meets another at a lock tries again, as a worker does.
            while desk.refund(&batch).await.is_err() {}
        }
    }))
    .await;
    let granted = async |sum: &str| {
        stack.value::<i64>(&format!("SELECT {sum}::bigint FROM refunds WHERE status = 'pending'")).await
    };
    assert_eq!((granted("count(*)").await, granted("count(DISTINCT order_id)").await), (ORDERS, ORDERS));
}

#[tokio::test]
async fn a_refund_that_overtakes_its_order_waits_for_it_and_not_for_ever() {
    let stack = Stack::get().await;
    stack.seed(3, &[100, 0]).await;
    publish(&stack, &[request("early", "A", None), request("hopeless", "B", None), request("nobody", "NEVER", None)])
        .await;
    let short = PaymentLimits { refund_wait: Duration::from_secs(3), ..PaymentLimits::default() };
    let workers = stack.start(&PipelineConfig { payments: short, ..config(&stack, 1.0, &STAGES) }).await;
    eventually("the refunds wait", async || ends(&stack).await.values().filter(|end| *end == "waiting").count() == 3)
        .await;
    stack.publish(&[order("A", 1, &[(1, 1, 700)]), order("B", 1, &[(2, 1, 700)])]).await;
    eventually("all have their answer", async || ends(&stack).await.values().all(|end| end != "waiting")).await;
    stack.drained(&STAGES).await;
    assert!(workers.stop(PATIENCE).await);
    let expected = [("early", "succeeded"), ("hopeless", "refused order_failed"), ("nobody", "refused unknown_order")];
    assert_eq!(ends(&stack).await, expected.map(|(key, end)| (key.to_owned(), end.to_owned())).into_iter().collect());
    stack.books_balance().await;
}

#[tokio::test]
async fn an_order_that_never_settles_keeps_no_refund_waiting() {
    let stack = Stack::get().await;
    stack.seed(3, &[100]).await;
    stack.publish(&[order("A", 1, &[(1, 1, 700)])]).await;
    stack.run(&[StageName::Reservation]).await;
    publish(&stack, &[request("r", "A", None)]).await;
    let short = PaymentLimits { refund_wait: Duration::from_secs(1), ..PaymentLimits::default() };
    let workers = stack.start(&PipelineConfig { payments: short, ..config(&stack, 1.0, &[StageName::Refund]) }).await;
    eventually("it is refused", async || ends(&stack).await.get("r").is_some_and(|end| end == "refused not_settled"))
        .await;
    assert!(workers.stop(PATIENCE).await);
    stack.run(&[]).await;
    stack.books_balance().await;
}

#[tokio::test]
async fn pieces_come_back_once_and_figures_follow_by_the_day_of_the_order() {
    let stack = paid(2).await;
    // The orders were taken in yesterday.
    stack.sql("UPDATE orders SET created_at = created_at - interval '1 day'").await;
    let mut redis = stack.connection().await;
    let board = Board::new(stack.redis.keys().clone());
    board.clear(&mut redis).await.expect("Redis");
    let restock = |key: &str, amount: &str| RefundRequest::new(key, "A-0", Some(amount), Some("damaged"), true);
    // One after the other: of several at once a test of their decision has the proof.
    for refund in [restock("1", "0.01"), restock("2", "50.00")] {
        publish(&stack, &[refund.expect("valid")]).await;
        run(&stack, 1.0, &STAGES).await;
    }

    let stock =
        async |product: i64| stack.value::<i64>(&format!("SELECT stock FROM products WHERE id = {product}")).await;
    assert_eq!((stock(1).await, stock(2).await), (99_998, 99_999));
    let restocked: Vec<String> = sqlx::query_scalar("SELECT key FROM refunds WHERE restocked")
        .fetch_all(&stack.reports.pool())
        .await
        .expect("refunds");
    assert_eq!(restocked.len(), 1);
    let yesterday: chrono::NaiveDate =
        stack.value("SELECT ((now() AT TIME ZONE 'UTC') - interval '1 day')::date").await;
    let day = board.day(&mut redis, yesterday).await.expect("Redis");
    assert_eq!((day.revenue_cents, day.refunded_cents, day.completed), (2 * TOTAL, 5_001, 2));
    // The money went back today: whoever counts money by the day on which it moved finds it there.
    let today = board.day(&mut redis, yesterday + chrono::Days::new(1)).await.expect("Redis");
    assert_eq!((day.paid_back_cents, today.paid_back_cents, today.refunded_cents), (0, 5_001, 0));
    let top = async |redis: &mut _, which| board.top(redis, which, None, 5).await.expect("Redis");
    assert_eq!(top(&mut redis, Leaderboard::Customers).await, [(1, 2 * TOTAL - 5_001)]);
    assert_eq!(top(&mut redis, Leaderboard::Products).await, [(1, 2), (2, 1)]);
    stack.books_balance().await;
}

#[tokio::test]
async fn pieces_come_back_without_money_once_whether_it_is_all_back_or_there_was_none() {
    let stack = paid(2).await;
    // The simulator, which approves nothing now, is not asked for nothing.
    stack.publish(&[order("FREE", 1, &[(1, 4, 0)])]).await;
    run(&stack, 0.0, &StageName::WAY).await;
    assert_eq!(stack.value::<String>("SELECT status FROM orders WHERE code = 'FREE'").await, "completed");
    assert_eq!(stack.value::<String>("SELECT gateway FROM payments WHERE amount_cents = 0").await, "none");

    let desk = stack.payments(1.0);
    let ask = async |request: RefundRequest| desk.refund(&[(&request, None)]).await.expect("Postgres")[0];
    let pieces = |key: &str, code: &str, amount| RefundRequest::new(key, code, amount, None, true).expect("valid");
    let (nothing, again) = (Granting::Granted(Cents::ZERO), Granting::Refused(Refusal::AlreadyRestocked));
    // All the money first; the pieces first, and the money stays; an order that was free.
    assert_eq!(ask(request("all", "A-0", None)).await, Granting::Granted(Cents::new(TOTAL)));
    for (code, amount) in [("A-0", None), ("A-1", Some("0")), ("FREE", None)] {
        assert_eq!(ask(pieces(code, code, amount)).await, nothing, "{code}");
        assert_eq!(ask(pieces(code, code, amount)).await, Granting::Repeated, "{code}");
        assert_eq!(ask(pieces(&format!("{code} again"), code, amount)).await, again, "{code}");
    }
    assert_eq!(ask(pieces("A-1", "A-1", None)).await, Granting::Conflict, "all that is left is another request");
    assert_eq!(ask(pieces("rest", "A-1", None)).await, Granting::Granted(Cents::new(TOTAL)));
    run(&stack, 1.0, &STAGES).await;

    let stock = "SELECT array_agg(stock ORDER BY id) FROM products";
    assert_eq!(stack.value::<Vec<i64>>(stock).await, [100_000, 100_000]);
    let restocked = "SELECT count(*) FROM refunds WHERE restocked AND amount_cents = 0 AND gateway = 'none'";
    assert_eq!(stack.value::<i64>(restocked).await, 3);
    let told = "SELECT count(*) FROM events WHERE kind = 'refunded' AND amount_cents = 0";
    assert_eq!(stack.value::<i64>(told).await, 3);
    let mut redis = stack.connection().await;
    let board = Board::new(stack.redis.keys().clone());
    let sold = board.top(&mut redis, Leaderboard::Products, None, 5).await.expect("Redis");
    assert!(sold.iter().all(|(_, pieces)| *pieces == 0), "{sold:?}");
    stack.books_balance().await;
}

#[tokio::test]
async fn refusals_are_told_as_events_with_their_key_and_reason() {
    let stack = paid(1).await;
    let workers = stack
        .start(&PipelineConfig {
            payments: PaymentLimits { refund_wait: Duration::ZERO, ..PaymentLimits::default() },
            ..config(&stack, 1.0, &STAGES)
        })
        .await;
    publish(&stack, &[request("a", "A-0", Some("1000.00")), request("b", "NEVER", None), request("c", "A-0", None)])
        .await;
    eventually("all have their answer", async || {
        let ends = ends(&stack).await;
        ends.len() == 3 && ends.values().all(|end| end != "waiting")
    })
    .await;
    stack.drained(&STAGES).await;
    assert!(workers.stop(PATIENCE).await);
    let told: Vec<serde_json::Value> = stack
        .field(&stack.redis.keys().events(), BODY)
        .await
        .iter()
        .map(|body| serde_json::from_str(body).expect("JSON"))
        .collect();
    let event = |key: &str| told.iter().find(|event| event["refund_key"] == key).expect("an event");
    assert_eq!((&event("a")["kind"], &event("a")["reason"]), (&"refund_refused".into(), &"exceeds_paid".into()));
    assert_eq!((&event("b")["kind"], &event("b")["reason"]), (&"refund_refused".into(), &"unknown_order".into()));
    assert_eq!((&event("b")["order_code"], &event("b")["customer_id"]), (&"NEVER".into(), &serde_json::Value::Null));
    assert_eq!((&event("c")["kind"], &event("c")["amount"]), (&"refunded".into(), &"100.01".into()));
    stack.books_balance().await;
}

#[tokio::test]
async fn money_of_an_order_that_was_given_up_meanwhile_goes_back() {
    let stack = Stack::get().await;
    stack.seed(3, &[100]).await;
    stack.publish(&[order("A", 1, &[(1, 1, 700)])]).await;
    stack.run(&[StageName::Reservation, StageName::Payment]).await;
    // As if its letter had been discarded while a second message of it was being paid.
    stack
        .sql(
            "UPDATE orders SET status = 'failed', failure_reason = 'abandoned', settled_at = now();
             UPDATE products SET reserved = 0;
             WITH counter AS (UPDATE event_counter SET last_seq = last_seq + 1 RETURNING last_seq)
             INSERT INTO events (seq, order_id, kind, amount_cents)
             SELECT last_seq, id, 'failed', total_cents FROM counter, orders",
        )
        .await;
    let workers = stack.start(&config(&stack, 1.0, &STAGES)).await;
    eventually("the money went back", async || ends(&stack).await.get("auto:A").is_some_and(|end| end == "succeeded"))
        .await;
    stack.drained(&STAGES).await;
    assert!(workers.stop(PATIENCE).await);
    assert_eq!(stack.value::<String>("SELECT status FROM payments").await, "late");
    assert_eq!(stack.value::<i64>("SELECT refunded_cents FROM orders").await, 0);
    stack.books_balance().await;
}
