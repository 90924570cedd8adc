// Submits an order over HTTP and waits for its end. Needs nothing but Node.js 18.
//
//     API_URL=http://127.0.0.1:8080 node order_by_http.mjs ORD-1 7 3 2 19.99
//
// Arguments: order code, customer id, product id, quantity, unit price. API_TOKEN is sent if it is set.

const api = process.env.API_URL ?? "http://127.0.0.1:8080";
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/// Status and JSON of the answer; status 0 is no answer, and nobody knows what happened.
async function call(method, path, body) {
  const headers = { "content-type": "application/json" };
  if (process.env.API_TOKEN) headers.authorization = `Bearer ${process.env.API_TOKEN}`;
  try {
    const answer = await fetch(api + path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(35_000) });
    return { status: answer.status, json: await answer.json() };
  } catch (error) {
    return { status: 0, json: { detail: String(error) } };
  }
}

/// Sends the order until it is taken. Sending it again is harmless: the code names it, and it is one order.
async function submit(order) {
  for (;;) {
    const { status, json } = await call("POST", "/v1/orders", order);
    if (status === 202) return;
    if (status > 0 && status < 500 && status !== 408 && status !== 429) {
      // problem+json: `code` is for programs, `detail` and `errors` say what is wrong. Never by itself right later.
      console.error(`refused: ${json.code}: ${json.detail} ${JSON.stringify(json.errors ?? [])}`);
      process.exit(1);
    }
    console.error(`trying again: ${json.detail}`);
    await pause(1);
  }
}

const [code, customer, product, quantity, price] = process.argv.slice(2);
const order = {
  order_code: code,
  customer_id: Number(customer),
  // Money is a string: a JSON number would pass through a float somewhere.
  lines: [{ product_id: Number(product), quantity: Number(quantity), unit_price: price }],
};
await submit(order);
// 202 says that Redis has the order; only what GET shows is in Postgres, and for good.
for (let waited = 0; ; waited += 0.2) {
  const { status, json } = await call("GET", `/v1/orders/${encodeURIComponent(code)}`);
  if (status === 200 && ["completed", "failed"].includes(json.status)) {
    console.log(json.code, json.status, json.failure_reason ?? "", json.total);
    break;
  }
  if (status === 404 && waited > 10) {
    // Redis may have lost its last second when it died. Again, then.
    await submit(order);
    waited = 0;
  }
  await pause(0.2);
}
