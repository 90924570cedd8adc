"""Reads events as a consumer group, for ever: Redis remembers what was acknowledged, and we remember `seq` all the same.

    REDIS_URL=redis://127.0.0.1:6379 python3 events_group.py mailer seen.txt

Arguments: the name of the group, and the file that remembers how far it came. Start one process for a group: with several,
each sees a part of the numbers, and every number must be remembered (a unique column), not only the highest.
"""

import json
import sys
import time

import redis

from streams import EVENTS, Seen, client

group, seen = sys.argv[1], Seen(sys.argv[2])
# Always the same name: what a predecessor was given and did not acknowledge is ours.
CONSUMER = "one"


def join():
    """Makes the group where Redis does not know it; a Redis that lost everything has lost groups as well."""
    try:
        client.xgroup_create(EVENTS, group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def deal_with(entries):
    for entry_id, fields in entries:
        # None: trimmed before it was acknowledged.
        event = json.loads(fields["body"]) if fields else None
        if event and event["seq"] > seen.seq:
            print(json.dumps(event), flush=True)
            seen.remember(event["seq"])
        # Last of all: what is acknowledged is never given again.
        client.xack(EVENTS, group, entry_id)


# First what was given before and never acknowledged (ids from 0 on), then what is new (>).
position = "0"
while True:
    try:
        answer = client.xreadgroup(group, CONSUMER, {EVENTS: position}, count=1000, block=5000)
        entries = answer[0][1] if answer else []
        deal_with(entries)
        if position == "0" and not entries:
            position = ">"
    except (redis.ConnectionError, redis.TimeoutError):
        time.sleep(1)
        position = "0"
    except redis.ResponseError as error:
        # UNBLOCKED: the stream went away while we waited for it.
        if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
            raise
        join()
