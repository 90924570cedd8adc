//! Pieces are neither made nor lost.

use super::SqlCheck;

const PRODUCTS: &str = "SELECT count(*) FROM products";

pub(super) const CHECKS: &[SqlCheck] = &[
    SqlCheck {
        name: "stock_conserved",
        proves: "what is on hand of a product is what was received, less the pieces of completed orders that did not come back",
        unit: "products",
        examined: PRODUCTS,
        offending: "
            SELECT 'product ' || p.id,
                   format('stock is %s, but %s received less %s sold is %s',
                          p.stock, p.received, coalesce(sold.pieces, 0), p.received - coalesce(sold.pieces, 0))
            FROM products p
            LEFT JOIN (SELECT l.product_id, sum(l.quantity) AS pieces
                       FROM order_lines l JOIN orders o ON o.id = l.order_id
                       WHERE o.status = 'completed'
                         AND NOT EXISTS (SELECT FROM refunds r WHERE r.order_id = o.id AND r.restocked)
                       GROUP BY l.product_id) sold ON sold.product_id = p.id
            WHERE p.stock <> p.received - coalesce(sold.pieces, 0)",
    },
    SqlCheck {
        name: "stock_reserved",
        proves: "the pieces reserved of a product are those on the lines of open orders",
        unit: "products",
        examined: PRODUCTS,
        offending: "
            SELECT 'product ' || p.id,
                   format('reserved is %s, but open orders hold %s', p.reserved, coalesce(held.pieces, 0))
            FROM products p
            LEFT JOIN (SELECT l.product_id, sum(l.quantity) AS pieces
                       FROM order_lines l JOIN orders o ON o.id = l.order_id
                       WHERE o.status IN ('reserved', 'paying')
                       GROUP BY l.product_id) held ON held.product_id = p.id
            WHERE p.reserved <> coalesce(held.pieces, 0)",
    },
    SqlCheck {
        name: "stock_in_bounds",
        proves: "no product is oversold: the pieces reserved are between none and all on hand",
        unit: "products",
        examined: PRODUCTS,
        offending: "
            SELECT 'product ' || id, format('reserved is %s of a stock of %s', reserved, stock)
            FROM products
            WHERE reserved NOT BETWEEN 0 AND stock",
    },
];
