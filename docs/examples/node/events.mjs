// Reads events with XREAD, for ever, and prints each once, however often it is stopped, killed and started again.
//
//     REDIS_URL=redis://127.0.0.1:6379 node events.mjs seen.txt
//
// The argument is the file that remembers the number of the last event that was dealt with. A program with a database
// keeps it there, in the transaction that writes what follows from the event: then each has its effect exactly once.

import fs from "node:fs";
import { EVENTS, connect } from "./redis.mjs";

const file = process.argv[2];
let seen = fs.existsSync(file) ? Number(fs.readFileSync(file, "utf8")) : 0;

function remember(seq) {
  seen = seq;
  fs.writeFileSync(`${file}.new`, String(seq), { flush: true });
  fs.renameSync(`${file}.new`, file);
}

/// Reads from the oldest event that is kept: `seq` tells which ones were dealt with. Ids of entries do not: after a
/// restored Redis, or when the board was built anew, the same events come again under other ids.
async function read(redis) {
  for (let lastId = "0"; ; ) {
    const answer = await redis.call("XREAD", "COUNT", 1000, "BLOCK", 5000, "STREAMS", EVENTS, lastId);
    for (const [id, fields] of answer?.[0][1] ?? []) {
      lastId = id;
      const event = JSON.parse(fields[fields.indexOf("body") + 1]);
      if (event.seq <= seen) continue;
      // Numbers have no gaps: these were trimmed before we came. The table `events` has them.
      if (event.seq !== seen + 1) console.error(`missed ${seen + 1} to ${event.seq - 1}`);
      // Here goes what follows from the event. A program that dies before the next line does it again.
      console.log(JSON.stringify(event));
      remember(event.seq);
    }
  }
}

for (;;) {
  try {
    await read(await connect());
  } catch (error) {
    if (!error.isLost) throw error;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
