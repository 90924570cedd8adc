//! The audit notices: each test corrupts one thing in otherwise balanced books, and sees the check for it fail, and no
//! other.

use std::collections::BTreeSet;

use pipeline::{
    audit::{CheckResult, Report},
    domain::Order,
    gateway::Simulator,
    message::BODY,
    relay::Board,
    store::sql_checks,
    topology::{Leaderboard, StageName},
};

use crate::harness::{PATIENCE, SUCCESS_RATE, Stack, order};

const CUSTOMERS: i64 = 10;

/// An order that completes, of customer 2, who places no order that is refunded.
const COMPLETED: &str = "ORD-11";

/// A completed order, of which 50.00 came back in two refunds.
const REFUNDED: &str = "ORD-2";

/// An order that failed before payment.
const OUT_OF_STOCK: &str = "ORD-16";

/// Open, without payment; its message waits for payment.
const UNPAID: &str = "OPEN-1";

/// Open, with an approved payment; its message waits for settlement.
const PAID: &str = "OPEN-2";

/// Fifty orders that came to every end there is, a refund, and two orders on their way.
async fn books() -> Stack {
    let stack = Stack::get().await;
    stack.seed(CUSTOMERS, &[1_000, 1_000, 1_000, 3]).await;
    stack.publish(&(1..=50).map(settled_order).collect::<Vec<_>>()).await;
    stack.drain().await;
    refund(&stack, REFUNDED, &[3_000, 2_000]).await;
    stack.publish(&[order(PAID, 3, &[(1, 2, 1_000), (2, 1, 500)])]).await;
    stack.run(&[StageName::Reservation, StageName::Payment]).await;
    stack.publish(&[order(UNPAID, 4, &[(1, 1, 1_000), (1, 2, 900)])]).await;
    stack.run(&[StageName::Reservation]).await;
    stack
}

fn settled_order(n: i64) -> Order {
    let customer = if n % 10 == 7 { 99 } else { 1 + n % CUSTOMERS };
    let scarce_or_unknown = match n % 10 {
        8 => 77,
        6 => 4,
        _ => 1,
    };
    let quantity = if n % 10 == 6 { 4 } else { 1 };
    order(&format!("ORD-{n}"), customer, &[(2, 3, 1_999), (scarce_or_unknown, quantity, 2_550), (3, 1, 7)])
}

/// Books succeeded refunds, as a stage would in one transaction, and shows them on the board.
async fn refund(stack: &Stack, code: &str, amounts: &[i64]) {
    for (n, amount) in amounts.iter().enumerate() {
        stack
            .sql(&format!(
                "INSERT INTO refunds (key, order_id, order_code, amount_cents, status, request_hash, gateway,
                                      reference_prefix, settled_at)
                 SELECT '{code}-refund-{n}', id, code, {amount}, 'succeeded', 0, 'simulator', reference_mark(), now()
                 FROM orders WHERE code = '{code}';
                 UPDATE orders SET refunded_cents = refunded_cents + {amount} WHERE code = '{code}';
                 {}",
                event_of_refund(code, "refunded", &amount.to_string(), &format!("'{code}-refund-{n}'"))
            ))
            .await;
    }
    stack.run(&[]).await;
}

/// The statement that appends an event.
fn event(code: &str, kind: &str, amount: &str) -> String {
    event_of_refund(code, kind, amount, "NULL")
}

/// The statement that appends an event that tells of a refund.
fn event_of_refund(code: &str, kind: &str, amount: &str, key: &str) -> String {
    format!(
        "WITH counter AS (UPDATE event_counter SET last_seq = last_seq + 1 RETURNING last_seq)
         INSERT INTO events (seq, order_id, kind, amount_cents, refund_key)
         SELECT last_seq, id, '{kind}', {amount}, {key} FROM counter, orders WHERE code = '{code}'"
    )
}

/// Runs statements that must change something.
async fn corrupt(stack: &Stack, statements: &str) {
    assert!(stack.sql(statements).await > 0, "nothing was corrupted by {statements}");
}

/// Runs a Redis command that must change something.
async fn corrupt_redis(stack: &Stack, command: &mut redis::Cmd) {
    let mut connection = stack.connection().await;
    let reply: redis::Value = command.query_async(&mut connection).await.expect("Redis");
    assert_ne!(reply, redis::Value::Int(0), "nothing was corrupted");
}

/// The one check that failed.
fn only<'a>(report: &'a Report, name: &str) -> &'a CheckResult {
    let failed: Vec<_> = report.failed().collect();
    assert!(failed.len() == 1 && failed[0].name == name, "only {name} should fail: {failed:#?}");
    failed[0]
}

/// Asserts that exactly this check failed, for exactly one reason, which names `culprit`.
async fn fails(stack: &Stack, name: &str, culprit: &str) {
    let report = stack.audit().await;
    let check = only(&report, name);
    assert_eq!((check.differences, check.examples.len()), (1, 1), "{check:#?}");
    assert!(check.examples[0].contains(culprit), "{culprit} is to blame, not {:?}", check.examples);
}

#[tokio::test]
async fn balanced_books_pass_every_check_and_every_check_looked_at_something() {
    let stack = books().await;
    stack.books_balance().await;
    let report = stack.audit().await;
    for check in &report.checks {
        assert!(check.figure.value > 0, "{} looked at {}", check.name, check.figure);
    }
    let names: BTreeSet<_> = report.checks.iter().map(|check| check.name).collect();
    assert_eq!(names.len(), report.checks.len(), "names are unique");
    assert!(sql_checks().all(|check| names.contains(check.name)));
}

#[tokio::test]
async fn the_fixture_has_orders_of_every_end() {
    let stack = books().await;
    let ends: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT concat_ws(' ', status, failure_reason) FROM orders ORDER BY 1")
            .fetch_all(&stack.reports.pool())
            .await
            .expect("orders");
    let expected = [
        "completed",
        "failed out_of_stock",
        "failed payment_declined",
        "failed unknown_customer",
        "failed unknown_product",
        "reserved",
    ];
    assert_eq!(ends, expected);
    let gateway = Simulator::new(SUCCESS_RATE, std::time::Duration::ZERO).expect("a rate");
    assert!(gateway.approves(PAID), "{PAID}");
}

#[tokio::test]
async fn empty_books_balance() {
    Stack::get().await.books_balance().await;
}

#[tokio::test]
async fn the_books_balance_while_the_system_runs() {
    let stack = books().await;
    let workers = stack.start(&stack.config(&StageName::WAY)).await;
    let mut audits = 0;
    for batch in 0..20 {
        let orders: Vec<Order> =
            (0..50).map(|n| order(&format!("LIVE-{batch}-{n}"), 1 + n % CUSTOMERS, &[(1 + n % 3, 1, 100)])).collect();
        stack.publish(&orders).await;
        stack.books_balance().await;
        audits += 1;
    }
    stack.drained(&StageName::WAY).await;
    stack.books_balance().await;
    assert_eq!(audits, 20);
    assert!(workers.stop(PATIENCE).await);
}

#[tokio::test]
async fn stock_out_of_nowhere_is_noticed() {
    let stack = books().await;
    corrupt(&stack, "UPDATE products SET stock = stock + 1 WHERE id = 3").await;
    fails(&stack, "stock_conserved", "product 3: stock is").await;
}

#[tokio::test]
async fn a_reservation_that_no_order_holds_is_noticed() {
    let stack = books().await;
    corrupt(&stack, "UPDATE products SET reserved = reserved + 1 WHERE id = 3").await;
    fails(&stack, "stock_reserved", "product 3: reserved is 1, but open orders hold 0").await;
}

#[tokio::test]
async fn an_oversold_product_is_noticed() {
    let stack = books().await;
    let oversell = "
        ALTER TABLE products DROP CONSTRAINT products_never_oversold;
        UPDATE products SET received = received - (stock - reserved + 1), stock = reserved - 1 WHERE id = 1";
    corrupt(&stack, oversell).await;
    fails(&stack, "stock_in_bounds", "product 1: reserved is 5 of a stock of 4").await;
}

#[tokio::test]
async fn a_total_that_is_not_the_sum_of_the_lines_is_noticed() {
    let stack = books().await;
    let reprice = format!(
        "UPDATE order_lines SET unit_price_cents = 8 WHERE line = 3 AND order_id = {}",
        stack.value::<i64>(&format!("SELECT id FROM orders WHERE code = '{COMPLETED}'")).await
    );
    corrupt(&stack, &reprice).await;
    fails(&stack, "order_totals", &format!("order {COMPLETED}: total_cents is 8554, but its lines sum to 8555")).await;
}

#[tokio::test]
async fn an_order_without_lines_is_noticed() {
    let stack = books().await;
    let strip = format!("DELETE FROM order_lines USING orders WHERE id = order_id AND code = '{OUT_OF_STOCK}'");
    corrupt(&stack, &strip).await;
    fails(&stack, "order_totals", &format!("order {OUT_OF_STOCK}: has no lines")).await;
}

#[tokio::test]
async fn a_completed_order_that_nobody_paid_is_noticed() {
    let stack = books().await;
    let decline =
        format!("UPDATE payments SET status = 'declined' FROM orders WHERE id = order_id AND code = '{COMPLETED}'");
    corrupt(&stack, &decline).await;
    fails(&stack, "payment_of_completed_orders", COMPLETED).await;
}

#[tokio::test]
async fn an_order_that_was_paid_twice_is_noticed() {
    let stack = books().await;
    let charge_again = format!(
        "INSERT INTO payments (order_id, attempt, amount_cents, status, gateway, term)
         SELECT id, 2, total_cents, 'approved', 'simulator', 1 FROM orders WHERE code = '{COMPLETED}'"
    );
    corrupt(&stack, &charge_again).await;
    fails(&stack, "payment_of_completed_orders", "approved payments: 2").await;
}

#[tokio::test]
async fn a_payment_by_another_gateway_than_the_installation_had_is_noticed() {
    let stack = books().await;
    let elsewhere = |gateway: &str| {
        format!("UPDATE payments SET gateway = '{gateway}' FROM orders WHERE id = order_id AND code = '{COMPLETED}'")
    };
    let other = "INSERT INTO gateways (name, kind, url, currency, reference_prefix) VALUES ('http', 'http', 'http://x', 'EUR', 'x:')";
    corrupt(&stack, other).await;
    for gateway in ["http", "of-nobody"] {
        corrupt(&stack, &elsewhere(gateway)).await;
        fails(
            &stack,
            "payments_by_installed_gateway",
            &format!("by {gateway}, but new payments were taken by simulator"),
        )
        .await;
    }
    // Begun under its own term it is as it should be.
    corrupt(&stack, "INSERT INTO gateway_terms (gateway, from_at) VALUES ('http', now())").await;
    corrupt(&stack, &format!("{}; UPDATE payments SET term = 2 WHERE gateway = 'http'", elsewhere("http"))).await;
    stack.books_balance().await;
    // An earlier version knew no terms: only what it stored has none.
    corrupt(&stack, "UPDATE payments SET term = 0 WHERE gateway = 'http'").await;
    fails(&stack, "payments_by_installed_gateway", "by http, but new payments were taken by nobody").await;
    corrupt(&stack, "UPDATE gateways SET reference_prefix = '' WHERE name = 'http'").await;
    fails(&stack, "payments_by_installed_gateway", "by http, but new payments were taken by nobody").await;
    corrupt(&stack, "UPDATE payments SET created_at = created_at - interval '1 day' WHERE gateway = 'http'").await;
    stack.books_balance().await;
}

#[tokio::test]
async fn money_that_goes_back_by_another_gateway_is_noticed() {
    let stack = books().await;
    corrupt(&stack, &format!("UPDATE refunds SET gateway = 'http' WHERE key = '{REFUNDED}-refund-0'")).await;
    fails(&stack, "refunds_by_paying_gateway", &format!("{REFUNDED}-refund-0")).await;
}

#[tokio::test]
async fn money_for_a_failed_order_is_noticed() {
    let stack = books().await;
    let charge = format!(
        "INSERT INTO payments (order_id, amount_cents, status, gateway, term)
         SELECT id, total_cents, 'approved', 'simulator', 1 FROM orders WHERE code = '{OUT_OF_STOCK}'"
    );
    corrupt(&stack, &charge).await;
    fails(&stack, "no_payment_elsewhere", OUT_OF_STOCK).await;
}

#[tokio::test]
async fn the_wrong_amount_for_an_open_order_is_noticed() {
    let stack = books().await;
    let overcharge = format!(
        "UPDATE payments SET amount_cents = amount_cents + 1 FROM orders WHERE id = order_id AND code = '{PAID}'"
    );
    corrupt(&stack, &overcharge).await;
    fails(&stack, "no_payment_elsewhere", PAID).await;
}

#[tokio::test]
async fn a_refund_of_more_than_was_paid_is_noticed() {
    let stack = books().await;
    stack.sql("ALTER TABLE orders DROP CONSTRAINT orders_check").await;
    refund(&stack, COMPLETED, &[8_555]).await;
    fails(&stack, "refunds_within_payment", "8555 cents were granted of 8554 paid").await;
}

#[tokio::test]
async fn a_refunded_amount_without_a_refund_is_noticed() {
    let stack = books().await;
    corrupt(&stack, &format!("UPDATE orders SET refunded_cents = 1 WHERE code = '{COMPLETED}'")).await;
    fails(&stack, "refunds_recorded", COMPLETED).await;
}

#[tokio::test]
async fn a_refund_of_a_failed_order_is_noticed() {
    let stack = books().await;
    stack.sql("ALTER TABLE orders DROP CONSTRAINT orders_refund_iff_completed").await;
    refund(&stack, OUT_OF_STOCK, &[1]).await;
    fails(&stack, "refunds_of_completed_orders", OUT_OF_STOCK).await;
}

#[tokio::test]
async fn an_event_number_that_was_skipped_is_noticed() {
    let stack = books().await;
    corrupt(&stack, "UPDATE events SET seq = 0 WHERE seq = 1").await;
    let report = stack.audit().await;
    let check = only(&report, "events_gap_free");
    assert_eq!(check.examples, ["event 0: follows event 0", "event 2: follows event 0"]);
}

#[tokio::test]
async fn a_counter_ahead_of_the_events_is_noticed() {
    let stack = books().await;
    corrupt(&stack, "UPDATE event_counter SET last_seq = last_seq + 1").await;
    fails(&stack, "events_gap_free", "the counter, at 53: follows event 52").await;
}

#[tokio::test]
async fn an_event_with_another_amount_than_its_order_is_noticed() {
    let stack = books().await;
    let alter = format!(
        "UPDATE events SET amount_cents = amount_cents + 1 FROM orders WHERE id = order_id AND code = '{OUT_OF_STOCK}'"
    );
    corrupt(&stack, &alter).await;
    fails(&stack, "events_match_orders", OUT_OF_STOCK).await;
}

#[tokio::test]
async fn an_event_that_ends_an_open_order_is_noticed() {
    let stack = books().await;
    corrupt(&stack, &event(PAID, "failed", "total_cents")).await;
    stack.run(&[]).await;
    fails(&stack, "events_match_orders", PAID).await;
}

#[tokio::test]
async fn refunds_and_their_events_are_compared_one_by_one() {
    let stack = books().await;
    corrupt(&stack, "UPDATE refunds SET amount_cents = 2500").await;
    let report = stack.audit().await;
    let check = only(&report, "events_match_refunds");
    assert_eq!(check.differences, 2, "{check:#?}");
    assert!(check.examples.iter().all(|example| example.starts_with(&format!("refund {REFUNDED}-refund-"))));
}

#[tokio::test]
async fn rows_of_an_order_that_does_not_exist_are_noticed() {
    let stack = books().await;
    let rows = "
        INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_cents) VALUES (-5, 1, 1, 1, 1);
        INSERT INTO payments (order_id, amount_cents, status, gateway, term) VALUES (-5, 1, 'approved', 'simulator', 1);
        INSERT INTO refunds (key, order_id, order_code, amount_cents, status, request_hash, reference_prefix, due_at)
            VALUES ('r', -5, 'X', 1, 'waiting', 0, '', now());
        UPDATE event_counter SET last_seq = last_seq + 1;
        INSERT INTO events (seq, order_id, kind, amount_cents) SELECT last_seq, -5, 'failed', 1 FROM event_counter";
    corrupt(&stack, rows).await;
    let report = stack.audit().await;
    let check = only(&report, "references_to_orders");
    let expected = ["event 53", "line 1 of order -5", "payment 1 of order -5", "refund r"];
    assert_eq!(check.examples, expected.map(|row| format!("{row}: order -5 does not exist")));
}

#[tokio::test]
async fn an_order_of_a_customer_who_does_not_exist_is_noticed() {
    let stack = books().await;
    corrupt(&stack, "DELETE FROM customers WHERE id = 2").await;
    let report = stack.audit().await;
    let check = only(&report, "references_to_catalogue");
    assert!(check.examples.contains(&format!("order {COMPLETED}: customer 2 does not exist")), "{check:#?}");
}

#[tokio::test]
async fn an_order_of_a_product_that_does_not_exist_is_noticed() {
    let stack = books().await;
    corrupt(&stack, "DELETE FROM products WHERE id = 3").await;
    let report = stack.audit().await;
    let check = only(&report, "references_to_catalogue");
    // 50 orders, less those that failed because customer or product are unknown.
    assert_eq!((check.differences, check.examples.len()), (40, 20), "{check:#?}");
}

#[tokio::test]
async fn a_constraint_that_was_never_validated_is_noticed() {
    let stack = books().await;
    stack.sql("ALTER TABLE orders ADD CONSTRAINT doubtful CHECK (total_cents > 0) NOT VALID").await;
    fails(&stack, "schema_in_force", "constraint doubtful").await;
}

#[tokio::test]
async fn an_index_that_cannot_be_used_is_noticed() {
    let stack = books().await;
    corrupt(&stack, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'refunds_order_id'::regclass").await;
    fails(&stack, "schema_in_force", "index refunds_order_id").await;
}

#[tokio::test]
async fn a_board_ahead_of_postgres_is_noticed() {
    let stack = books().await;
    let next = stack.value::<i64>("SELECT last_seq + 1 FROM event_counter").await;
    corrupt_redis(&stack, redis::cmd("SET").arg(stack.redis.keys().cursor()).arg(next)).await;
    fails(&stack, "board_cursor", "cursor").await;
}

#[tokio::test]
async fn a_wrong_kpi_is_noticed() {
    let stack = books().await;
    let day = stack.value("SELECT (created_at AT TIME ZONE 'UTC')::date FROM orders LIMIT 1").await;
    let key = stack.redis.keys().kpi(day);
    corrupt_redis(&stack, redis::cmd("HINCRBY").arg(key).arg("revenue_cents").arg(-1)).await;
    fails(&stack, "board_kpis", "revenue_cents").await;
}

#[tokio::test]
async fn a_day_that_had_no_orders_is_noticed() {
    let stack = books().await;
    let key = format!("{}kpi:1999-12-31", stack.redis.keys().board_prefix());
    corrupt_redis(&stack, redis::cmd("HSET").arg(key).arg("completed").arg(1)).await;
    fails(&stack, "board_kpis", "kpi:1999-12-31 completed: shows 1, but Postgres says 0").await;
}

#[tokio::test]
async fn a_wrong_score_of_a_customer_is_noticed() {
    let stack = books().await;
    let key = stack.redis.keys().leaderboard(Leaderboard::Customers, None);
    corrupt_redis(&stack, redis::cmd("ZINCRBY").arg(key).arg(1).arg(2)).await;
    fails(&stack, "board_customers", "leaderboard:customers 2: shows").await;
}

#[tokio::test]
async fn a_product_that_is_missing_on_the_board_is_noticed() {
    let stack = books().await;
    let key = stack.redis.keys().leaderboard(Leaderboard::Products, None);
    corrupt_redis(&stack, redis::cmd("ZREM").arg(key).arg(3)).await;
    fails(&stack, "board_products", "leaderboard:products 3: shows 0").await;
}

#[tokio::test]
async fn a_member_at_zero_is_no_difference() {
    let stack = books().await;
    let key = stack.redis.keys().leaderboard(Leaderboard::Products, None);
    corrupt_redis(&stack, redis::cmd("ZADD").arg(key).arg(0).arg("new")).await;
    stack.books_balance().await;
}

#[tokio::test]
async fn a_day_board_that_would_stay_for_ever_is_noticed() {
    let stack = books().await;
    let day = stack.value("SELECT (created_at AT TIME ZONE 'UTC')::date FROM orders LIMIT 1").await;
    let key = stack.redis.keys().leaderboard(Leaderboard::Customers, Some(day));
    corrupt_redis(&stack, redis::cmd("PERSIST").arg(key)).await;
    fails(&stack, "board_ends", "ends never").await;
}

#[tokio::test]
async fn day_boards_whose_time_is_over_are_not_missed() {
    let stack = books().await;
    corrupt(&stack, "UPDATE orders SET created_at = created_at - interval '100 days' WHERE id % 2 = 0").await;
    let mut redis = stack.connection().await;
    Board::new(stack.redis.keys().clone()).clear(&mut redis).await.expect("Redis");
    stack.run(&[]).await;
    stack.books_balance().await;
}

#[tokio::test]
async fn an_open_order_whose_message_was_deleted_is_noticed() {
    for (code, stage) in [(UNPAID, StageName::Payment), (PAID, StageName::Settlement)] {
        let stack = books().await;
        let id = first_entry(&stack, stage).await;
        corrupt_redis(&stack, redis::cmd("XDEL").arg(stack.redis.keys().stream(0, stage)).arg(id)).await;
        fails(&stack, "open_orders_explained", code).await;
    }
}

#[tokio::test]
async fn an_open_order_whose_message_was_acknowledged_for_nothing_is_noticed() {
    let stack = books().await;
    let stream = stack.redis.keys().stream(0, StageName::Settlement);
    let mut redis = stack.connection().await;
    let read: redis::Value = redis::cmd("XREADGROUP")
        .arg("GROUP")
        .arg("settlement")
        .arg("somebody")
        .arg("STREAMS")
        .arg(&stream)
        .arg(">")
        .query_async(&mut redis)
        .await
        .expect("Redis");
    assert_ne!(read, redis::Value::Nil);
    stack.books_balance().await;

    let id = first_entry(&stack, StageName::Settlement).await;
    corrupt_redis(&stack, redis::cmd("XACK").arg(&stream).arg("settlement").arg(id)).await;
    fails(&stack, "open_orders_explained", PAID).await;
}

#[tokio::test]
async fn an_open_order_is_explained_by_the_same_order_on_its_way_in_again() {
    let stack = books().await;
    let id = first_entry(&stack, StageName::Payment).await;
    corrupt_redis(&stack, redis::cmd("XDEL").arg(stack.redis.keys().stream(0, StageName::Payment)).arg(id)).await;
    stack.publish(&[order(UNPAID, 4, &[(1, 99, 1_000)])]).await;
    fails(&stack, "open_orders_explained", UNPAID).await;
    stack.publish(&[order(UNPAID, 4, &[(1, 1, 1_000), (1, 2, 900)])]).await;
    stack.books_balance().await;
    stack.drain().await;
    stack.books_balance().await;
}

#[tokio::test]
async fn a_message_beyond_the_first_page_is_found() {
    let stack = books().await;
    let stream = stack.redis.keys().stream(0, StageName::Payment);
    let mut redis = stack.connection().await;
    let body: Vec<u8> = {
        let id = first_entry(&stack, StageName::Payment).await;
        let entry: redis::streams::StreamRangeReply =
            redis::cmd("XRANGE").arg(&stream).arg(&id).arg(&id).query_async(&mut redis).await.expect("Redis");
        corrupt_redis(&stack, redis::cmd("XDEL").arg(&stream).arg(&id)).await;
        entry.ids[0].get(BODY).expect("a body")
    };
    let mut pipe = redis::pipe();
    for _ in 0..2_500 {
        pipe.cmd("XADD").arg(&stream).arg("*").arg(BODY).arg("not an order").ignore();
    }
    pipe.cmd("XADD").arg(&stream).arg("*").arg(BODY).arg(body).ignore();
    pipe.exec_async(&mut redis).await.expect("Redis");
    stack.books_balance().await;
    // All of them delivered, the last one included, and only the last one not acknowledged.
    let _: redis::Value = redis::cmd("XREADGROUP")
        .arg("GROUP")
        .arg("payment")
        .arg("somebody")
        .arg("COUNT")
        .arg(5_000)
        .arg("STREAMS")
        .arg(&stream)
        .arg(">")
        .query_async(&mut redis)
        .await
        .expect("Redis");
    stack.books_balance().await;
}

#[tokio::test]
async fn the_report_reads_well_as_json() {
    let stack = books().await;
    corrupt(&stack, "UPDATE products SET reserved = reserved + 1 WHERE id = 3").await;
    let report = serde_json::to_value(stack.audit().await).expect("JSON");
    let check = &report["checks"][1];
    let expected = serde_json::json!({
        "name": "stock_reserved",
        "proves": "the pieces reserved of a product are those on the lines of open orders",
        "figure": { "value": 4, "unit": "products" },
        "differences": 1,
        "examples": ["product 3: reserved is 1, but open orders hold 0"],
    });
    assert_eq!(*check, expected);
}

/// The id of the oldest entry that is not acknowledged.
async fn first_entry(stack: &Stack, stage: StageName) -> String {
    let mut redis = stack.connection().await;
    let group = stack.redis.group_state(&mut redis, 0, stage).await.expect("Redis").expect("a group");
    group.low_water.expect("an entry").to_string()
}
