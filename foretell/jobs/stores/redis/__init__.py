"""Jobs in Redis (or Valkey), version 7 or newer: for many workers, where losing the last second with the power is bearable.

``server.py`` opens it and turns what it says into refusals, ``scripts.py`` holds the changes, each one a script that the server
runs whole, ``store.py`` keeps the contract.
"""

from foretell.jobs.store import Clock
from foretell.jobs.stores.redis.server import Server
from foretell.jobs.stores.redis.store import RedisStore


def open_redis(url: str, clock: Clock) -> RedisStore:
    """The store in a database of a server. Raises Setup ``store_unusable`` or ``store_newer``."""
    server = Server(url)
    try:
        server.prepare()
    except BaseException:
        server.close()
        raise
    return RedisStore(server, clock)
