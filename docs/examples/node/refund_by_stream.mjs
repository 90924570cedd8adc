// Asks for a refund by XADD.
//
//     REDIS_URL=redis://127.0.0.1:6379 node refund_by_stream.mjs r-1 ORD-1 10.00 damaged
//
// Arguments: refund key, order code, amount (- for all that is left), reason. The key makes it safe to ask again: the same
// key with the same content is one refund. The outcome is an event with this refund_key: refunded or refund_refused.

import { REFUNDS, add } from "./redis.mjs";

const [refund_key, order_code, amount, reason] = process.argv.slice(2);
const refund = { refund_key, order_code, reason };
if (amount !== "-") refund.amount = amount;
console.log(await add(REFUNDS, refund));
