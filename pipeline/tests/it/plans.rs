//! How Postgres goes about the statements of workers: by key, whatever the tables held when the plan was made.

use std::collections::BTreeMap;

use pipeline::{
    message::{Incoming, OrderRef},
    payments::{PaymentLimits, Payments},
    stage::{Ending, Payment, Reservation, Settlement, Stage},
    store::{Store, WorkerSettings},
};
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::harness::{Stack, eventually, orders, simulated};

/// The messages for the next stage.
fn forwarded(endings: &[Ending]) -> Vec<OrderRef> {
    let forward = |ending: &Ending| match ending {
        Ending::Forward(_, message) => Some(message.clone()),
        Ending::Done | Ending::Dead(..) => None,
    };
    endings.iter().filter_map(forward).collect()
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
    let batch: Vec<Incoming> = orders("ORD", 50)
        .into_iter()
        .map(|order| Incoming { order, import_id: None, received_ms: 1_700_000_000_000 })
        .collect();
    let messages = forwarded(&Reservation::new(reserving.clone(), 0).process(&batch).await.expect("processed"));
    // Read once by each process, from tables of a few rows.
    let gateways = simulated(1.0);
    gateways.load(&stack.reports).await.expect("the first one");
    let messages = forwarded(
        &Payment::new(Payments::new(paying.clone(), gateways, PaymentLimits::default()))
            .process(&messages)
            .await
            .expect("processed"),
    );
    Settlement::new(settling.clone()).process(&messages).await.expect("processed");
    {
        let mut connection = relaying.pool().acquire().await.expect("Postgres");
        pipeline::store::last_event_seq(&mut connection).await.expect("a number");
        let events = pipeline::store::board_events_after(&mut connection, 0, 10).await.expect("events");
        pipeline::store::pieces_sold_in(&mut connection, &events).await.expect("pieces");
    }
    let mut seen = 0;
    for (who, store) in [("reservation", reserving), ("payment", paying), ("settlement", settling), ("relay", relaying)]
    {
        for (statement, plan) in plans(&store.pool()).await {
            seen += 1;
            let found = faults(&plan);
            assert!(found.is_empty(), "{who}: {found:?} in\n{statement}\n{}", plan.join("\n"));
        }
    }
    assert!(seen >= 14, "only {seen} statements were looked at");
}

#[tokio::test]
async fn a_batch_of_orders_is_settled_on_the_pages_that_it_was_written_to() {
    const ORDERS: i64 = 2_000;
    let stack = Stack::get().await;
    stack.seed(5, &[5_000_000; 3]).await;
    let store = || Store::new(&stack.database_url, WorkerSettings::Worker, 1).expect("a URL");
    let (reserving, settling) = (store(), store());
    let batch: Vec<Incoming> = orders("ORD", ORDERS)
        .into_iter()
        .map(|order| Incoming { order, import_id: None, received_ms: 1_700_000_000_000 })
        .collect();
    let messages = forwarded(&Reservation::new(reserving.clone(), 0).process(&batch).await.expect("processed"));
    // Half of them declined: their rows become the longest.
    let gateways = simulated(0.5);
    gateways.load(&stack.reports).await.expect("the first one");
    let payment = Payment::new(Payments::new(reserving.clone(), gateways, PaymentLimits::default()));
    let messages = forwarded(&payment.process(&messages).await.expect("processed"));
    Settlement::new(settling.clone()).process(&messages).await.expect("processed");
    // A session that ends has told what it did.
    settling.close().await;
    let mut updates = (0_i64, 0_i64);
    eventually("the updates are counted", async || {
        updates = sqlx::query_as("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'orders'")
            .fetch_one(&stack.reports.pool())
            .await
            .expect("counts");
        updates.0 > 0
    })
    .await;
    assert_eq!(updates, (ORDERS, ORDERS), "all, and those that touched no index");
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
