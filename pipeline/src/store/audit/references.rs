//! What foreign keys would promise, had the hot path room for them; and that what the schema promises is in force.

use super::SqlCheck;

pub(super) const CHECKS: &[SqlCheck] = &[
    SqlCheck {
        name: "references_to_orders",
        proves: "every line, payment, refund and event belongs to an order that exists",
        unit: "rows",
        examined: "
            SELECT (SELECT count(*) FROM order_lines) + (SELECT count(*) FROM payments)
                 + (SELECT count(*) FROM refunds) + (SELECT count(*) FROM events)",
        offending: "
            SELECT name, format('order %s does not exist', order_id)
            FROM (SELECT format('line %s of order %s', line, order_id) AS name, order_id FROM order_lines r
                  WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = r.order_id)
                  UNION ALL
                  SELECT format('payment %s of order %s', attempt, order_id), order_id FROM payments r
                  WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = r.order_id)
                  UNION ALL
                  SELECT 'refund ' || key, order_id FROM refunds r
                  WHERE order_id IS NOT NULL AND NOT EXISTS (SELECT FROM orders o WHERE o.id = r.order_id)
                  UNION ALL
                  SELECT 'event ' || seq, order_id FROM events r
                  WHERE order_id IS NOT NULL AND NOT EXISTS (SELECT FROM orders o WHERE o.id = r.order_id)) orphans",
    },
    SqlCheck {
        name: "references_to_catalogue",
        proves: "the customers and products of orders exist, unless the order failed because they do not",
        unit: "orders and lines",
        examined: "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM order_lines)",
        // An unknown customer is noticed first: such an order's products were never looked up.
        offending: "
            SELECT 'order ' || o.code, format('customer %s does not exist', o.customer_id)
            FROM orders o
            WHERE o.failure_reason IS DISTINCT FROM 'unknown_customer'
              AND NOT EXISTS (SELECT FROM customers c WHERE c.id = o.customer_id)
            UNION ALL
            SELECT format('line %s of order %s', l.line, o.code), format('product %s does not exist', l.product_id)
            FROM order_lines l JOIN orders o ON o.id = l.order_id
            WHERE coalesce(o.failure_reason, '') NOT IN ('unknown_customer', 'unknown_product')
              AND NOT EXISTS (SELECT FROM products p WHERE p.id = l.product_id)",
    },
    SqlCheck {
        name: "schema_in_force",
        proves: "every constraint holds for all rows, and every index is usable",
        unit: "constraints and indexes",
        examined: "
            SELECT (SELECT count(*) FROM pg_constraint WHERE connamespace = current_schema()::text::regnamespace)
                 + (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                    WHERE c.relnamespace = current_schema()::text::regnamespace)",
        offending: "
            SELECT 'constraint ' || conname, 'was never validated on ' || conrelid::regclass
            FROM pg_constraint
            WHERE NOT convalidated AND connamespace = current_schema()::text::regnamespace
            UNION ALL
            SELECT 'index ' || c.relname, 'is not valid on ' || i.indrelid::regclass
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::text::regnamespace",
    },
];
