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
        name: "payments_by_installed_gateway",
        proves: "every payment was begun by the gateway that took new payments at the time",
        unit: "payments",
        examined: "SELECT count(*) FROM payments",
        // Without a term are the payments of an earlier version, which recorded names only, and of orders that cost nothing.
        offending: "
            SELECT 'order ' || coalesce(o.code, p.order_id::text),
                   format('%s cents are %s by %s, but new payments were taken by %s',
                          p.amount_cents, p.status, p.gateway, coalesce(term.gateway, 'nobody'))
            FROM payments p
            LEFT JOIN orders o ON o.id = p.order_id
            LEFT JOIN gateway_terms term ON term.id = p.term
            WHERE (p.gateway <> 'none' OR p.amount_cents > 0) AND p.gateway IS DISTINCT FROM term.gateway
              AND (p.term <> 0 OR p.created_at >= (SELECT min(from_at) FROM gateway_terms)
                   OR p.gateway NOT IN (SELECT name FROM gateways WHERE reference_prefix = ''))",
    },
    SqlCheck {
        name: "refunds_by_paying_gateway",
        proves: "money goes back by the gateway that took it",
        unit: "granted refunds",
        examined: "SELECT count(*) FROM refunds WHERE gateway IS NOT NULL",
        offending: "
            SELECT 'refund ' || r.key,
                   format('%s cents by %s, but order %s was paid by %s', r.amount_cents, r.gateway, r.order_code, p.gateway)
            FROM refunds r JOIN payments p ON p.order_id = r.order_id AND p.status IN ('approved', 'late')
            WHERE (r.gateway <> 'none' OR r.amount_cents > 0) AND p.gateway <> r.gateway",
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
        proves: "no completed order was granted more refunds than was paid",
        unit: "granted refunds",
        examined: "SELECT count(*) FROM refunds WHERE status IN ('pending', 'succeeded')",
        offending: "
            SELECT 'order ' || o.code,
                   format('%s cents were granted of %s paid', refunded.cents, coalesce(paid.cents, 0))
            FROM orders o
            JOIN (SELECT order_id, sum(amount_cents) AS cents
                  FROM refunds WHERE status IN ('pending', 'succeeded') GROUP BY order_id) refunded
                 ON refunded.order_id = o.id
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
                       FROM refunds WHERE status = 'succeeded' AND NOT automatic GROUP BY order_id) refunded
                      ON refunded.order_id = o.id
            WHERE o.refunded_cents <> coalesce(refunded.cents, 0)",
    },
    SqlCheck {
        name: "refunds_of_completed_orders",
        proves: "only completed orders were refunded, but for money that came late",
        unit: "granted refunds",
        examined: "SELECT count(*) FROM refunds WHERE status IN ('pending', 'succeeded')",
        offending: "
            SELECT 'refund ' || r.key, format('%s cents of order %s, which is %s', r.amount_cents, o.code, o.status)
            FROM refunds r JOIN orders o ON o.id = r.order_id
            WHERE r.status IN ('pending', 'succeeded') AND NOT r.automatic AND o.status <> 'completed'",
    },
    SqlCheck {
        name: "late_money_returned",
        proves: "every payment that came late has one automatic refund of its amount that has not failed, and nothing else has",
        unit: "payments and automatic refunds",
        examined: "SELECT (SELECT count(*) FROM payments) + (SELECT count(*) FROM refunds WHERE automatic)",
        offending: "
            SELECT 'order ' || coalesce(o.code, order_id::text),
                   format('late payments: %s cents, automatic refunds: %s cents (%s)',
                          coalesce(late.cents::text, 'no'), coalesce(back.cents::text, 'no'), coalesce(back.status, 'none'))
            FROM (SELECT order_id, amount_cents AS cents FROM payments
                  WHERE status = 'late' AND amount_cents > 0) late
            FULL JOIN (SELECT order_id, amount_cents AS cents, status FROM refunds WHERE automatic) back
                 USING (order_id)
            LEFT JOIN orders o ON o.id = order_id
            WHERE late.cents IS DISTINCT FROM back.cents OR back.status = 'failed'",
    },
    SqlCheck {
        name: "paying_orders_were_asked",
        proves: "an order is paying only with a payment attempt, and an attempt waits for its answer only while its order is paying",
        unit: "orders",
        examined: "SELECT count(*) FROM orders",
        offending: "
            SELECT 'order ' || o.code, format('is %s; its payment: %s', o.status, coalesce(p.status, 'none'))
            FROM orders o LEFT JOIN payments p ON p.order_id = o.id
            WHERE (o.status = 'paying' AND p.status IS NULL) OR (p.status = 'pending' AND o.status <> 'paying')",
    },
];
