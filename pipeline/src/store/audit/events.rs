//! The events tell every fact once, and nothing else.

use super::SqlCheck;

pub(super) const CHECKS: &[SqlCheck] = &[
    SqlCheck {
        name: "events_gap_free",
        proves: "events are numbered 1, 2, … up to the counter, without a gap",
        unit: "events",
        examined: "SELECT count(*) FROM events",
        // The counter takes part as the event that would come next.
        offending: "
            SELECT name, coalesce('follows event ' || previous, 'is missing')
            FROM (SELECT 'event ' || seq AS name, seq, lag(seq, 1, 0::bigint) OVER (ORDER BY seq) AS previous
                  FROM events
                  UNION ALL
                  SELECT 'the counter, at ' || coalesce(last_seq::text, 'no number'), last_seq + 1,
                         (SELECT coalesce(max(seq), 0) FROM events)
                  FROM (SELECT (SELECT last_seq FROM event_counter) AS last_seq) counter) numbered
            WHERE seq IS DISTINCT FROM previous + 1",
    },
    SqlCheck {
        name: "events_match_orders",
        proves: "every completed or failed order has one event that says so, with its total; open orders have none",
        unit: "orders",
        examined: "SELECT count(*) FROM orders",
        offending: "
            SELECT 'order ' || o.code,
                   format('is %s with a total_cents of %s; such events: %s', o.status, o.total_cents,
                          coalesce(told.events || ', the first: ' || told.kind || ' ' || told.cents, 'none'))
            FROM orders o
            LEFT JOIN (SELECT order_id, count(*) AS events, min(kind) AS kind, min(amount_cents) AS cents
                       FROM events WHERE kind IN ('completed', 'failed') GROUP BY order_id) told ON told.order_id = o.id
            WHERE CASE WHEN o.status IN ('completed', 'failed')
                       THEN (told.events, told.kind, told.cents) IS DISTINCT FROM (1, o.status, o.total_cents)
                       ELSE told.events IS NOT NULL END",
    },
    SqlCheck {
        name: "events_match_refunds",
        proves: "every refund that came to its end has one event that says so, with its amount; no other event tells of refunds",
        unit: "refunds",
        examined: "SELECT count(*) FROM refunds",
        // Money that came late is in no figure, and its return is no event.
        offending: "
            SELECT 'refund ' || key,
                   format('is %s of %s cents; events: %s', coalesce(r.status, 'unknown'), coalesce(r.cents::text, 'no'),
                          coalesce(told.events || ', the first: ' || told.kind || ' of ' || told.cents || ' cents', 'none'))
            FROM (SELECT key, status, CASE status WHEN 'refused' THEN coalesce(asked_cents, 0) ELSE amount_cents END AS cents
                  FROM refunds WHERE status IN ('succeeded', 'refused', 'failed') AND NOT automatic) r
            FULL JOIN (SELECT refund_key AS key, count(*) AS events, min(kind) AS kind, min(amount_cents) AS cents
                       FROM events WHERE kind IN ('refunded', 'refund_refused') GROUP BY refund_key) told USING (key)
            WHERE (told.events, told.kind, told.cents) IS DISTINCT FROM
                  (1, CASE r.status WHEN 'succeeded' THEN 'refunded' WHEN 'refused' THEN 'refund_refused'
                                    WHEN 'failed' THEN 'refund_refused' END, r.cents)",
    },
];
