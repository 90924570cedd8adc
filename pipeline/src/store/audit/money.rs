//! Orders cost what their lines say, are paid once, and nothing more than that goes back.

use super::SqlCheck;

pub(super) const CHECKS: &[SqlCheck] = &[
    SqlCheck {
        name: "order_totals",
        proves: "every order has lines, and its total is their sum",
        unit: "orders",
        examined: "SELECT count(*) FROM orders",
        offending: "
            SELECT 'order ' || o.code,
                   CASE WHEN lines.order_id IS NULL THEN 'has no lines'
                        ELSE format('total_cents is %s, but its lines sum to %s', o.total_cents, lines.cents) END
            FROM orders o
            LEFT JOIN (SELECT order_id, sum(quantity::bigint * unit_price_cents) AS cents
                       FROM order_lines GROUP BY order_id) lines ON lines.order_id = o.id
            WHERE lines.cents IS DISTINCT FROM o.total_cents",
    },
    SqlCheck {
        name: "payment_of_completed_orders",
        proves: "every completed order has exactly one approved payment, of its total",
        unit: "completed orders",
        examined: "SELECT count(*) FROM orders WHERE status = 'completed'",
        offending: "
            SELECT 'order ' || o.code,
                   format('total_cents is %s; approved payments: %s, of %s cents together',
                          o.total_cents, coalesce(paid.payments, 0), coalesce(paid.cents, 0))
            FROM orders o
            LEFT JOIN (SELECT order_id, count(*) AS payments, sum(amount_cents) AS cents
                       FROM payments WHERE status = 'approved' GROUP BY order_id) paid ON paid.order_id = o.id
            WHERE o.status = 'completed'
              AND (paid.payments IS DISTINCT FROM 1 OR paid.cents IS DISTINCT FROM o.total_cents)",
    },
    SqlCheck {
        name: "no_payment_elsewhere",
        proves: "no failed order has an approved payment; an open one has at most one, of its total",
        unit: "failed and open orders",
        examined: "SELECT count(*) FROM orders WHERE status <> 'completed'",
        // An open order may be paid: its settlement is on the way.
        offending: "
            SELECT 'order ' || o.code,
                   format('is %s with a total_cents of %s; approved payments: %s, of %s cents together',
                          o.status, o.total_cents, paid.payments, paid.cents)
            FROM orders o
            JOIN (SELECT order_id, count(*) AS payments, sum(amount_cents) AS cents
                  FROM payments WHERE status = 'approved' GROUP BY order_id) paid ON paid.order_id = o.id
            WHERE o.status = 'failed'
               OR o.status <> 'completed' AND (paid.payments > 1 OR paid.cents <> o.total_cents)",
    },
    SqlCheck {
        name: "refunds_within_payment",
        proves: "no completed order was refunded more than was paid",
        unit: "succeeded refunds",
        examined: "SELECT count(*) FROM refunds WHERE status = 'succeeded'",
        offending: "
            SELECT 'order ' || o.code,
                   format('%s cents were refunded of %s paid', refunded.cents, coalesce(paid.cents, 0))
            FROM orders o
            JOIN (SELECT order_id, sum(amount_cents) AS cents
                  FROM refunds WHERE status = 'succeeded' GROUP BY order_id) refunded ON refunded.order_id = o.id
            LEFT JOIN (SELECT order_id, sum(amount_cents) AS cents
                       FROM payments WHERE status = 'approved' GROUP BY order_id) paid ON paid.order_id = o.id
            WHERE o.status = 'completed' AND refunded.cents > coalesce(paid.cents, 0)",
    },
    SqlCheck {
        name: "refunds_recorded",
        proves: "what an order says was refunded is the sum of its succeeded refunds",
        unit: "orders",
        examined: "SELECT count(*) FROM orders",
        offending: "
            SELECT 'order ' || o.code,
                   format('refunded_cents is %s, but its succeeded refunds sum to %s',
                          o.refunded_cents, coalesce(refunded.cents, 0))
            FROM orders o
            LEFT JOIN (SELECT order_id, sum(amount_cents) AS cents
                       FROM refunds WHERE status = 'succeeded' GROUP BY order_id) refunded ON refunded.order_id = o.id
            WHERE o.refunded_cents <> coalesce(refunded.cents, 0)",
    },
    SqlCheck {
        name: "refunds_of_completed_orders",
        proves: "only completed orders were refunded",
        unit: "succeeded refunds",
        examined: "SELECT count(*) FROM refunds WHERE status = 'succeeded'",
        offending: "
            SELECT 'refund ' || r.key, format('%s cents of order %s, which is %s', r.amount_cents, o.code, o.status)
            FROM refunds r JOIN orders o ON o.id = r.order_id
            WHERE r.status = 'succeeded' AND o.status <> 'completed'",
    },
];
