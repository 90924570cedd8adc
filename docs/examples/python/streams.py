"""What the other examples share: the connection and the names of the keys. Needs redis-py (pip install redis)."""

import json
import os
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

NAMESPACE = os.environ.get("ORDERSTREAM_NAMESPACE", "orderstream")
ORDERS = NAMESPACE + ":{0}:incoming"
REFUNDS = NAMESPACE + ":{0}:refunds"
EVENTS = NAMESPACE + ":{board}:events"

# Without retries of the library's own: what an XREADGROUP whose answer is lost was given waits as pending, and another
# XREADGROUP for new entries would not see it.
client = redis.Redis.from_url(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"),
    decode_responses=True,
    socket_timeout=10,
    retry=Retry(NoBackoff(), 0),
)


def add(stream, message):
    """Adds a message until Redis says that it has it. A lost answer may mean twice: orders have codes, refunds have keys,
    and the second one changes nothing."""
    while True:
        try:
            return client.xadd(stream, {"body": json.dumps(message)})
        except (redis.ConnectionError, redis.TimeoutError):
            time.sleep(1)


class Seen:
    """The number of the last event that was dealt with, in a file. A program with a database keeps it there, and writes
    it in the transaction that writes what follows from the event: then each event has its effect exactly once."""

    def __init__(self, path):
        self.path = path
        try:
            with open(path) as file:
                self.seq = int(file.read())
        except FileNotFoundError:
            self.seq = 0

    def remember(self, seq):
        self.seq = seq
        with open(self.path + ".new", "w") as file:
            file.write(str(seq))
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)
