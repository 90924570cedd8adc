"""Submits an order over HTTP and waits for its end. Needs nothing but Python 3.8.

    API_URL=http://127.0.0.1:8080 python3 order_by_http.py ORD-1 7 3 2 19.99

Arguments: order code, customer id, product id, quantity, unit price. API_TOKEN is sent if it is set.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

API = os.environ.get("API_URL", "http://127.0.0.1:8080")


def call(method, path, body=None):
    """The status and the JSON of the answer. None instead of a status: no answer, and nobody knows what happened."""
    request = urllib.request.Request(API + path, method=method, headers={"Content-Type": "application/json"})
    if "API_TOKEN" in os.environ:
        request.add_header("Authorization", "Bearer " + os.environ["API_TOKEN"])
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(request, data, timeout=35) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as problem:
        return problem.code, json.load(problem)
    except OSError as error:
        return None, {"detail": str(error)}


def submit(order):
    """Sends the order until it is taken. Sending it again is harmless: the code names it, and it is one order."""
    while True:
        status, answer = call("POST", "/v1/orders", order)
        if status == 202:
            return
        if status is not None and status < 500 and status not in (408, 429):
            # problem+json: `code` is for programs, `detail` and `errors` say what is wrong. Never by itself right later.
            sys.exit(f"refused: {answer['code']}: {answer['detail']} {answer.get('errors', '')}")
        print(f"trying again: {answer['detail']}", file=sys.stderr)
        time.sleep(1)


def wait_for_end(order, patience=10):
    """202 says that Redis has the order; only what GET shows is in Postgres, and for good."""
    sent = time.monotonic()
    while True:
        status, answer = call("GET", "/v1/orders/" + urllib.parse.quote(order["order_code"], safe=""))
        if status == 200 and answer["status"] in ("completed", "failed"):
            return answer
        if status == 404 and time.monotonic() - sent > patience:
            # Redis may have lost its last second when it died. Again, then.
            submit(order)
            sent = time.monotonic()
        time.sleep(0.2)


code, customer, product, quantity, price = sys.argv[1:]
order = {
    "order_code": code,
    "customer_id": int(customer),
    # Money is a string: a JSON number would pass through a float somewhere.
    "lines": [{"product_id": int(product), "quantity": int(quantity), "unit_price": price}],
}
submit(order)
end = wait_for_end(order)
print(end["code"], end["status"], end["failure_reason"] or "", end["total"])
