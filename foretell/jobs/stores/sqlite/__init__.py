"""Jobs in one SQLite file: the default, which needs no server and is safe from many processes of one machine.

``file.py`` opens it and makes its tables, ``writer.py`` lets calls that come together share a transaction, ``store.py`` keeps
the contract.
"""

from foretell.jobs.store import Clock, sqlite_file
from foretell.jobs.stores.sqlite.file import open_file
from foretell.jobs.stores.sqlite.store import SqliteStore
from foretell.jobs.stores.sqlite.writer import Writer


def open_sqlite(url: str, clock: Clock) -> SqliteStore:
    """The store in a folder or file, made if there is none. Raises Setup ``store_unusable`` or ``store_newer``."""
    writing, reading = open_file(sqlite_file(url))
    return SqliteStore(Writer(writing), reading, clock)
