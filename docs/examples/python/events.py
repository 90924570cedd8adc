"""Reads events with XREAD, for ever, and prints each once, however often it is stopped, killed and started again.

    REDIS_URL=redis://127.0.0.1:6379 python3 events.py seen.txt

The argument is the file that remembers how far it came.
"""

import json
import sys
import time

import redis

from streams import EVENTS, Seen, client

seen = Seen(sys.argv[1])
# From the oldest event that is kept: `seq` tells which ones were dealt with. Ids of entries do not: after a restored
# Redis, or when the board was built anew, the same events come again under other ids.
last_id = "0"
while True:
    try:
        answer = client.xread({EVENTS: last_id}, count=1000, block=5000)
    except (redis.ConnectionError, redis.TimeoutError):
        time.sleep(1)
        # Redis may have come back with an older stream.
        last_id = "0"
        continue
    for _, entries in answer or []:
        for last_id, fields in entries:
            event = json.loads(fields["body"])
            if event["seq"] <= seen.seq:
                continue
            if event["seq"] != seen.seq + 1:
                # Numbers have no gaps: these were trimmed before we came. The table `events` has them.
                print(f"missed {seen.seq + 1} to {event['seq'] - 1}", file=sys.stderr, flush=True)
            # Here goes what follows from the event. A program that dies between this line and the next does it again:
            # see Seen.
            print(json.dumps(event), flush=True)
            seen.remember(event["seq"])
