// The part of Redis' protocol that the examples need, so that they run without packages. With npm, take `redis` or
// `ioredis` instead.

import net from "node:net";

const namespace = process.env.ORDERSTREAM_NAMESPACE ?? "orderstream";
export const ORDERS = `${namespace}:{0}:incoming`;
export const REFUNDS = `${namespace}:{0}:refunds`;
export const EVENTS = `${namespace}:{board}:events`;

/// The reply at `at`, and where the next one begins; undefined while it is not all there.
function parse(bytes, at) {
  const end = bytes.indexOf("\r\n", at);
  if (end < 0) return undefined;
  const [kind, text] = [String.fromCharCode(bytes[at]), bytes.toString("utf8", at + 1, end)];
  let next = end + 2;
  if (kind === "+") return [text, next];
  if (kind === "-") return [new Error(text), next];
  if (kind === ":") return [Number(text), next];
  const length = Number(text);
  if (length < 0) return [null, next];
  if (kind === "$") {
    return bytes.length < next + length + 2 ? undefined : [bytes.toString("utf8", next, next + length), next + length + 2];
  }
  const values = [];
  while (values.length < length) {
    const value = parse(bytes, next);
    if (!value) return undefined;
    values.push(value[0]);
    next = value[1];
  }
  return [values, next];
}

/// A connection; `call("XADD", …)` is its reply. It throws when Redis refuses, or the connection is lost.
export async function connect(url = process.env.REDIS_URL ?? "redis://127.0.0.1:6379") {
  const { protocol, pathname, hostname, port, username, password } = new URL(url);
  const socket = protocol === "unix:" ? net.connect(pathname) : net.connect(Number(port || 6379), hostname);
  const waiting = [];
  let bytes = Buffer.alloc(0);
  let lost;
  socket.on("data", (piece) => {
    bytes = Buffer.concat([bytes, piece]);
    for (let reply; (reply = parse(bytes, 0)); bytes = bytes.subarray(reply[1])) {
      const { resolve, reject } = waiting.shift();
      reply[0] instanceof Error ? reject(reply[0]) : resolve(reply[0]);
    }
  });
  socket.on("error", (error) => (lost = error));
  socket.on("close", () => {
    lost ??= new Error("the connection is closed");
    waiting.splice(0).forEach(({ reject }) => reject(Object.assign(lost, { isLost: true })));
  });
  const call = (...words) =>
    new Promise((resolve, reject) => {
      if (lost) return reject(Object.assign(lost, { isLost: true }));
      waiting.push({ resolve, reject });
      const parts = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`);
      socket.write(`*${words.length}\r\n${parts.join("")}`);
    });
  if (password) await call("AUTH", ...(username ? [decodeURIComponent(username)] : []), decodeURIComponent(password));
  return { call, close: () => socket.end() };
}

/// Adds a message until Redis says that it has it. A lost answer may mean twice: orders have codes, refunds have keys, and
/// the second one changes nothing.
export async function add(stream, message) {
  for (;;) {
    try {
      const redis = await connect();
      const id = await redis.call("XADD", stream, "*", "body", JSON.stringify(message));
      redis.close();
      return id;
    } catch (error) {
      if (!error.isLost) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}
