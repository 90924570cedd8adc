// Submits an order by XADD.
//
//     REDIS_URL=redis://127.0.0.1:6379 node order_by_stream.mjs ORD-1 7 3 2 19.99
//
// Arguments: order code, customer id, product id, quantity, unit price. What becomes of it is an event (events.mjs).

import { ORDERS, add } from "./redis.mjs";

const [code, customer, product, quantity, price] = process.argv.slice(2);
const order = {
  order_code: code,
  customer_id: Number(customer),
  // Money is a string: a JSON number would pass through a float somewhere.
  lines: [{ product_id: Number(product), quantity: Number(quantity), unit_price: price }],
};
console.log(await add(ORDERS, order));
