"""Submits an order by XADD.

    REDIS_URL=redis://127.0.0.1:6379 python3 order_by_stream.py ORD-1 7 3 2 19.99

Arguments: order code, customer id, product id, quantity, unit price. What becomes of the order is an event (events.py).
"""

import sys

from streams import ORDERS, add

code, customer, product, quantity, price = sys.argv[1:]
order = {
    "order_code": code,
    "customer_id": int(customer),
    # Money is a string: a JSON number would pass through a float somewhere.
    "lines": [{"product_id": int(product), "quantity": int(quantity), "unit_price": price}],
}
print(add(ORDERS, order))
