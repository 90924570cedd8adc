//! Programs of the version before, left running over the migration: what they write about money is refused, and not taken for
//! a fault of the orders. The statements are theirs, word for word.

use pipeline::{
    store::{Error, ErrorKind},
    topology::StageName,
};
use sqlx::AssertSqlSafe;

use crate::harness::{Stack, order};

/// The simulator's answers: the one statement that does not say when somebody has to look again.
const INSERT_PAYMENTS: &str = "INSERT INTO payments (order_id, amount_cents, status, gateway)
    SELECT order_id, amount_cents, status, $4
    FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS new (order_id, amount_cents, status)
    ON CONFLICT (order_id, attempt) DO NOTHING";

/// All others that begin, end or take in hand what moves money, by the functions that they were in.
const OTHERS: &[(&str, &str)] = &[
    (
        "begin_payments",
        "WITH locked AS MATERIALIZED (
              SELECT id, total_cents FROM orders
              WHERE id = ANY ($1) AND status = 'reserved'
              ORDER BY id FOR NO KEY UPDATE
          ),
          asked AS (
              INSERT INTO payments (order_id, amount_cents, status, gateway, check_at, expires_at)
              SELECT id, total_cents, 'pending', $2,
                     now() + least($3::float8, $4::float8) * interval '1 second', now() + $4::float8 * interval '1 second'
              FROM locked
              ON CONFLICT (order_id, attempt) DO NOTHING
              RETURNING order_id
          )
          UPDATE orders SET status = 'paying' FROM asked WHERE orders.id = asked.order_id
          RETURNING orders.id",
    ),
    (
        "change_payments",
        "UPDATE payments
          SET status = new.status,
              provider_id = coalesce(new.provider_id, payments.provider_id),
              answered_at = CASE WHEN new.status <> 'pending' AND new.status <> payments.status THEN now()
                                 ELSE payments.answered_at END,
              -- Before it has taken too long, and after that in growing steps.
              check_at = least(CASE WHEN new.status = 'pending' AND expires_at > now() THEN expires_at END,
                               now() + least(new.again * power(2, least(checks, 30)), $6)
                                     * (0.5 + random() / 2) * interval '1 second'),
              note = new.note
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::float8[], $5::text[])
               AS new (order_id, status, provider_id, again, note)
          WHERE payments.order_id = new.order_id AND payments.attempt = 1",
    ),
    (
        "claim_due_payments",
        r#"WITH due AS MATERIALIZED (
              SELECT order_id, attempt FROM payments WHERE check_at <= now()
              ORDER BY check_at LIMIT $1 FOR UPDATE SKIP LOCKED
          )
          UPDATE payments p SET check_at = now() + $2::float8 * interval '1 second', checks = p.checks + 1
          FROM due, orders o
          WHERE p.order_id = due.order_id AND p.attempt = due.attempt AND o.id = due.order_id
          RETURNING p.order_id, o.code, p.amount_cents, p.gateway, p.status = 'pending' AS "is_pending!",
                    coalesce(p.expires_at <= now(), false) AS "is_overdue!",
                    coalesce(extract(epoch FROM now() - p.expires_at), 0)::bigint AS "overdue_s!""#,
    ),
    (
        "write_refunds",
        "INSERT INTO refunds AS known (key, order_code, asked_cents, reason, restock, request_hash, import_id, order_id,
                               status, amount_cents, refusal, gateway, check_at, settled_at, waits_until)
          SELECT key, order_code, asked, reason, restock, hash, import_id, order_id, status, amount, refusal, gateway,
                 now() + CASE status WHEN 'waiting' THEN $13::float8 WHEN 'pending' THEN $16::float8 END * interval '1 second',
                 CASE WHEN status = 'refused' THEN now() END,
                 CASE WHEN status = 'waiting' THEN now()
                      + CASE WHEN order_id IS NULL THEN $15::float8 ELSE $14::float8 END * interval '1 second' END
          FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::boolean[], $6::bigint[], $7::bigint[],
                      $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[])
               AS new (key, order_code, asked, reason, restock, hash, import_id, order_id, status, amount, refusal, gateway)
          ORDER BY key
          ON CONFLICT (key) DO UPDATE
          SET order_id = excluded.order_id, status = excluded.status, amount_cents = excluded.amount_cents,
              refusal = excluded.refusal, gateway = excluded.gateway, settled_at = excluded.settled_at,
              check_at = CASE excluded.status
                             WHEN 'waiting' THEN now() + least($13 * power(2, least(known.checks, 10)), 5) * interval '1 second'
                             ELSE excluded.check_at END,
              checks = CASE excluded.status WHEN 'waiting' THEN known.checks ELSE 0 END,
              -- An order that has come in meanwhile gives its refund the time to wait for its end.
              waits_until = CASE WHEN known.order_id IS NULL AND excluded.order_id IS NOT NULL
                                 THEN excluded.waits_until ELSE known.waits_until END
          WHERE known.status = 'waiting' AND known.request_hash = excluded.request_hash",
    ),
    (
        "insert_automatic_refunds",
        "INSERT INTO refunds (key, order_id, order_code, asked_cents, amount_cents, status, reason, request_hash,
                               automatic, gateway, check_at)
          SELECT $2 || o.code, o.id, o.code, p.amount_cents, p.amount_cents, 'pending',
                 'paid after the order had failed', 0, true, p.gateway, now()
          FROM orders o JOIN payments p ON p.order_id = o.id AND p.attempt = 1
          -- Nothing was taken where nothing was to be paid.
          WHERE o.id = ANY ($1) AND p.amount_cents > 0
          ON CONFLICT (key) DO NOTHING",
    ),
    (
        "claim_waiting_refunds",
        r#"WITH due AS MATERIALIZED (
              SELECT key FROM refunds WHERE check_at <= now() AND status = 'waiting'
              ORDER BY check_at LIMIT $1 FOR UPDATE SKIP LOCKED
          )
          UPDATE refunds r SET check_at = now() + $2::float8 * interval '1 second', checks = r.checks + 1
          FROM due WHERE r.key = due.key
          RETURNING r.key, r.order_code, r.asked_cents, r.reason, r.restock, r.import_id,
                    r.waits_until <= now() AS "is_overdue!""#,
    ),
    (
        "claim_due_refunds",
        r#"WITH due AS MATERIALIZED (
              SELECT key FROM refunds WHERE check_at <= now() AND status = 'pending'
              ORDER BY check_at LIMIT $1 FOR UPDATE SKIP LOCKED
          )
          UPDATE refunds r SET check_at = now() + $2::float8 * interval '1 second', checks = r.checks + 1
          FROM due, payments p
          WHERE r.key = due.key AND p.order_id = r.order_id AND p.attempt = 1
          RETURNING r.key, r.order_code, p.provider_id, r.amount_cents AS "amount_cents!", r.gateway AS "gateway!""#,
    ),
    (
        "end_refunds",
        "UPDATE refunds
          SET status = ended.status, restocked = ended.restocked, settled_at = now(), check_at = NULL,
              provider_id = coalesce(ended.provider_id, refunds.provider_id), note = ended.note,
              refusal = CASE WHEN ended.status = 'failed' THEN 'gateway_refused' END
          FROM unnest($1::text[], $2::text[], $3::boolean[], $4::text[], $5::text[])
               AS ended (key, status, restocked, provider_id, note)
          WHERE refunds.key = ended.key AND refunds.status = 'pending'",
    ),
    (
        "postpone_refunds",
        "UPDATE refunds
          SET note = open.note,
              check_at = now() + least($3 * power(2, least(checks, 30)), 3600) * (0.5 + random() / 2) * interval '1 second'
          FROM unnest($1::text[], $2::text[]) AS open (key, note)
          WHERE refunds.key = open.key AND refunds.status = 'pending'",
    ),
];

/// The SQLSTATE of a refusal that has a process try again, as it would if Postgres was away.
fn refused(error: sqlx::Error) -> (String, String) {
    let (code, message) = match &error {
        sqlx::Error::Database(error) => (error.code().unwrap_or_default().into_owned(), error.message().to_owned()),
        error => panic!("{error}"),
    };
    // As the version before told kinds apart: neither refused values, which make dead letters, nor another transaction.
    assert_eq!(Error::from(error).kind(), ErrorKind::Unavailable, "{code}: {message}");
    (code, message)
}

#[tokio::test]
async fn nothing_that_a_program_of_the_version_before_writes_about_money_is_taken() {
    let stack = Stack::get().await;
    stack.seed(1, &[100]).await;
    stack.publish(&[order("A", 1, &[(1, 1, 100)])]).await;
    stack.run(&[StageName::Reservation]).await;
    let id: i64 = stack.value("SELECT id FROM orders").await;
    let pool = stack.reports.pool();

    for gateway in ["simulator", "http"] {
        let stored = sqlx::query(INSERT_PAYMENTS)
            .bind(vec![id])
            .bind(vec![100_i64])
            .bind(vec!["approved"])
            .bind(gateway)
            .execute(&pool)
            .await;
        let (code, message) = refused(stored.expect_err("it is refused"));
        assert_eq!(code, "OS002");
        assert!(message.contains("this program is older than the database"), "{message}");
    }
    for (function, statement) in OTHERS {
        let prepared = sqlx::raw_sql(AssertSqlSafe(format!("PREPARE theirs AS {statement}"))).execute(&pool).await;
        let Err(error) = prepared else { panic!("{function} is let in") };
        let (code, message) = refused(error);
        assert_eq!(code, "42703", "{function}: {message}");
        assert!(message.contains("check_at"), "{function}: {message}");
    }
    assert_eq!(stack.value::<i64>("SELECT count(*) FROM payments").await, 0);

    // This version goes on with the order.
    stack.run(&StageName::ALL).await;
    assert_eq!(stack.value::<i64>("SELECT term FROM payments").await, 1);
    stack.books_balance().await;
}
