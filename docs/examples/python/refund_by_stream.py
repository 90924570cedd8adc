"""Asks for a refund by XADD.

    REDIS_URL=redis://127.0.0.1:6379 python3 refund_by_stream.py r-1 ORD-1 10.00 damaged

Arguments: refund key, order code, amount (- for all that is left), reason. The key makes it safe to ask again: the same
key with the same content is one refund. The outcome is an event with this refund_key: refunded or refund_refused.
"""

import sys

from streams import REFUNDS, add

key, code, amount, reason = sys.argv[1:]
refund = {"refund_key": key, "order_code": code, "reason": reason}
if amount != "-":
    refund["amount"] = amount
print(add(REFUNDS, refund))
