"""Jobs in PostgreSQL: for workers on many machines, and for more jobs than one file should hold.

``server.py`` lends connections and makes the tables, ``store.py`` keeps the contract.
"""

from foretell.jobs.store import Clock
from foretell.jobs.stores.postgres.server import Server
from foretell.jobs.stores.postgres.store import PostgresStore


def open_postgres(url: str, clock: Clock) -> PostgresStore:
    """The store in a database, whose tables are made if there are none. Raises Setup ``store_unusable`` or ``store_newer``."""
    server = Server(url)
    try:
        server.prepare()
    except BaseException:
        server.close()
        raise
    return PostgresStore(server, clock)
