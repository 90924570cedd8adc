//! What pages and lists ask Postgres: filters, cursors, and stock that drifted.

use pipeline::{
    domain::{FailureReason, OrderStatus},
    store::{self, FoundOrders, OrderFilter, StockFilter, Store, WorkerSettings},
};

use crate::harness::{Stack, orders};

/// A stack with settled orders, and the connections that pages use.
async fn with_orders() -> (Stack, Store) {
    let stack = Stack::get().await;
    stack.seed(5, &[5_000, 4_000, 3_000]).await;
    stack.publish(&orders("ORD", 300)).await;
    stack.drain().await;
    let pages = Store::new(&stack.database_url, WorkerSettings::Page, 2).expect("a URL");
    (stack, pages)
}

/// A page, however long it takes.
async fn search(store: &Store, filter: OrderFilter, limit: usize) -> FoundOrders {
    store::search_orders(&store.pool(), filter, limit, None).await.expect("found").expect("a place to start")
}

#[tokio::test]
async fn a_search_for_orders_finds_each_once_page_by_page_whatever_the_filter() {
    let (stack, pages) = with_orders().await;
    stack
        .sql("UPDATE orders SET created_at = created_at - interval '3 days', import_id = 7 WHERE customer_id <= 2")
        .await;
    let day = stack.value("SELECT min(created_at) FROM orders WHERE customer_id > 2").await;
    let filters = [
        ("true", OrderFilter::default()),
        ("status = 'failed'", OrderFilter { status: Some(OrderStatus::Failed), ..OrderFilter::default() }),
        (
            "failure_reason = 'out_of_stock'",
            OrderFilter { reason: Some(FailureReason::OutOfStock), ..OrderFilter::default() },
        ),
        ("customer_id = 3", OrderFilter { customer_id: Some(3), ..OrderFilter::default() }),
        ("customer_id = 999", OrderFilter { customer_id: Some(999), ..OrderFilter::default() }),
        ("import_id = 7", OrderFilter { import_id: Some(7), ..OrderFilter::default() }),
        ("customer_id > 2", OrderFilter { since: Some(day), ..OrderFilter::default() }),
        (
            "customer_id = 1 AND status = 'completed'",
            OrderFilter {
                until: Some(day),
                customer_id: Some(1),
                status: Some(OrderStatus::Completed),
                ..OrderFilter::default()
            },
        ),
    ];
    for (condition, filter) in filters {
        let expected: Option<Vec<String>> = stack
            .value(&format!("SELECT array_agg(code ORDER BY created_at DESC, id DESC) FROM orders WHERE {condition}"))
            .await;
        let (mut codes, mut after_id) = (Vec::new(), None);
        loop {
            let found = search(&pages, OrderFilter { after_id, ..filter }, 17).await;
            assert!(!found.cut_short, "300 orders take no time");
            codes.extend(found.orders.into_iter().map(|order| order.code));
            match found.next {
                Some(next) => after_id = Some(next),
                None => break,
            }
        }
        assert_eq!(codes, expected.unwrap_or_default(), "{condition}");
    }
}

#[tokio::test]
async fn a_search_without_orders_ends_at_once() {
    let stack = Stack::get().await;
    let found = search(&stack.reports, OrderFilter::default(), 10).await;
    assert!(found.orders.is_empty() && found.next.is_none());
    let after = OrderFilter { after_id: Some(7), ..OrderFilter::default() };
    let unknown = store::search_orders(&stack.reports.pool(), after, 10, None).await.expect("an answer");
    assert!(unknown.is_none(), "there is no order 7");
}

#[tokio::test]
async fn the_newest_order_stands_first_whatever_block_its_id_is_of_and_many_may_be_of_one_instant() {
    let (stack, pages) = with_orders().await;
    // As two workers number: the one whose block comes later took its orders in first. A transaction has one time.
    stack
        .sql("UPDATE orders SET created_at = timestamptz '2026-11-22' + interval '1 s' * ((1000 - id % 1000) / 40)")
        .await;
    let by_time = "SELECT array_agg(code ORDER BY created_at DESC, id DESC) FROM orders WHERE customer_id <> 2";
    let expected: Vec<String> = stack.value(by_time).await;
    let by_id: Vec<String> = stack.value(&by_time.replace("created_at DESC, ", "")).await;
    assert_ne!(expected, by_id);
    let (mut codes, mut after_id) = (Vec::new(), None);
    loop {
        let found = search(&pages, OrderFilter { after_id, ..OrderFilter::default() }, 7).await;
        codes.extend(found.orders.into_iter().filter(|order| order.customer_id != 2).map(|order| order.code));
        match found.next {
            Some(next) => after_id = Some(next),
            None => break,
        }
    }
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn a_search_that_finds_little_gives_up_in_time_and_goes_on_where_it_stopped() {
    let stack = Stack::get().await;
    // More than one part, and the two that are looked for stand at its end.
    stack
        .sql(
            "INSERT INTO orders (id, code, customer_id, total_cents, content_hash, received_at, created_at, partition, status)
             SELECT n, 'ORD-' || n, CASE WHEN n <= 2 THEN 7 ELSE 1 END, 100, 0, now(),
                    timestamptz '2026-11-22' + n * interval '1 ms', 0, 'reserved'
             FROM generate_series(1, 120000) n",
        )
        .await;
    let pages = Store::new(&stack.database_url, WorkerSettings::Page, 2).expect("a URL");
    let filter = OrderFilter { customer_id: Some(7), ..OrderFilter::default() };
    let at_once = Some(std::time::Duration::ZERO);
    let first = store::search_orders(&pages.pool(), filter, 10, at_once).await.expect("found").expect("a start");
    assert!(first.cut_short && first.orders.is_empty() && first.next.is_some());
    let (mut after_id, mut codes, mut parts) = (first.next, Vec::new(), 1);
    while after_id.is_some() {
        let filter = OrderFilter { after_id, ..filter };
        let found = store::search_orders(&pages.pool(), filter, 10, at_once).await.expect("found").expect("a start");
        codes.extend(found.orders.into_iter().map(|order| order.code));
        (after_id, parts) = (found.next, parts + 1);
    }
    assert_eq!((codes, parts), (vec!["ORD-2".to_owned(), "ORD-1".to_owned()], 3));
    let whole = search(&pages, filter, 10).await;
    assert!(!whole.cut_short && whole.orders.len() == 2, "who has time finds them at once");
}

#[tokio::test]
async fn stock_that_drifted_is_counted_and_named() {
    let (stack, pages) = with_orders().await;
    let mut connection = pages.pool().acquire().await.expect("Postgres");
    assert_eq!(store::stock_drift(&mut connection).await.expect("a number"), 0);
    assert_eq!(store::list_stock_drift(&pages.pool(), 10).await.expect("a list"), []);
    // An open order holds pieces of two products that say nothing of it; a third says that it holds some.
    stack
        .sql(
            "UPDATE orders SET status = 'reserved', settled_at = NULL
             WHERE id = (SELECT min(id) FROM orders WHERE status = 'completed' AND refunded_cents = 0);
             UPDATE products SET reserved = 5 WHERE id = 3;",
        )
        .await;
    let expected: i64 = stack
        .value(
            "SELECT count(*) FROM products p WHERE p.reserved <> (
                SELECT coalesce(sum(l.quantity), 0) FROM order_lines l JOIN orders o ON o.id = l.order_id
                WHERE o.status = 'reserved' AND l.product_id = p.id)",
        )
        .await;
    assert!(expected >= 2, "{expected}");
    assert_eq!(store::stock_drift(&mut connection).await.expect("a number"), expected);
    let drift = store::list_stock_drift(&pages.pool(), 10).await.expect("a list");
    assert_eq!(drift.len() as i64, expected);
    assert!(drift.iter().any(|product| (product.product_id, product.reserved) == (3, 5)), "{drift:?}");
    let first = store::list_stock_drift(&pages.pool(), 1).await.expect("a list");
    assert_eq!(first, drift[..1]);
}

#[tokio::test]
async fn the_stock_is_listed_by_id_by_scarcity_and_by_what_is_searched_for() {
    let stack = Stack::get().await;
    stack.seed(1, &[30, 10, 20, 10, 0]).await;
    stack
        .sql("UPDATE products SET reserved = 5 WHERE id = 1; UPDATE products SET name = '50 % of_all' WHERE id = 3")
        .await;
    let list = async |filter: StockFilter<'_>, limit: i64| -> Vec<(i64, i64)> {
        let found = store::list_stock(&stack.reports.pool(), filter, limit).await.expect("products");
        found.into_iter().map(|product| (product.id, product.available)).collect()
    };
    let all = StockFilter::default();
    assert_eq!(list(all, 2).await, [(1, 25), (2, 10)]);
    assert_eq!(list(StockFilter { after: Some((0, 2)), ..all }, 9).await, [(3, 20), (4, 10), (5, 0)]);
    let scarce = StockFilter { scarce_first: true, available_max: Some(20), ..all };
    assert_eq!(list(scarce, 3).await, [(5, 0), (2, 10), (4, 10)]);
    assert_eq!(list(StockFilter { after: Some((10, 2)), ..scarce }, 9).await, [(4, 10), (3, 20)]);
    for (search, found) in [
        ("sku-4", vec![(4, 10)]),
        // By its id, and in a name.
        ("5", vec![(3, 20), (5, 0)]),
        ("PRODUCT", vec![(1, 25), (2, 10), (4, 10), (5, 0)]),
        ("%", vec![(3, 20)]),
        ("f_a", vec![(3, 20)]),
        ("nothing'; --", vec![]),
    ] {
        assert_eq!(list(StockFilter { search: Some(search), ..all }, 9).await, found, "{search}");
    }
}
