"""Opens the file: its tables, its version, and what SQLite says turned into refusals of ours."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from foretell.errors import Setup, Unavailable

APPLICATION_ID = 0x666F7265  # "fore": marks the file as ours
VERSION = 1
BUSY_S = 30.0
BUSY_AGAIN_S = 0.01

TABLES = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, state TEXT NOT NULL, priority INTEGER NOT NULL,
    owner TEXT NOT NULL, key TEXT, fingerprint TEXT NOT NULL, key_until REAL NOT NULL, ttl_s REAL NOT NULL,
    created_at REAL NOT NULL, due_at REAL NOT NULL, started_at REAL, finished_at REAL, expires_at REAL,
    attempts INTEGER NOT NULL, most_attempts INTEGER NOT NULL, worker TEXT, lease_until REAL, progress BLOB NOT NULL,
    error_code TEXT, error_message TEXT, cancel_wanted INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX job_keys ON jobs (owner, key) WHERE key IS NOT NULL;
CREATE INDEX job_states ON jobs (state, id);
CREATE INDEX job_turns ON jobs (kind, priority, due_at, id) WHERE state = 'waiting';
CREATE INDEX job_leases ON jobs (lease_until) WHERE state = 'running';
CREATE INDEX job_ends ON jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE specs (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE results (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE logs (
    seq INTEGER NOT NULL, line INTEGER NOT NULL, at REAL NOT NULL, text TEXT NOT NULL, PRIMARY KEY (seq, line)
) STRICT, WITHOUT ROWID
"""
"""``specs``, ``results`` and ``logs`` stand apart, because SQLite writes a row whole: a lease must not rewrite a body."""
OWN_TABLES = {"jobs", "specs", "results", "logs"}


def open_file(file: Path) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """A connection to write with and one to read with. Raises Setup ``store_unusable`` or ``store_newer``."""
    with contextlib.ExitStack() as opened:
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(mode=0o600)  # requests and answers are nobody else's to read
            writing, reading = _connect(file, opened), _connect(file, opened)
            with writing:
                _prepare(writing, file)
        except (OSError, sqlite3.Error) as error:
            raise unusable(file, str(error)) from error
        opened.pop_all()
        return writing, reading


def unusable(file: Path, why: str) -> Setup:
    cure = "name a folder of this machine that this user may write to and that has room, or one that is new"
    return Setup("store_unusable", f"jobs cannot be kept in {file}: {why}: {cure}")


def _connect(file: Path, opened: contextlib.ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    opened.callback(connection.close)
    connection.row_factory = sqlite3.Row
    return connection


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Make the tables, or check that they are ours and not newer than we are."""
    tables = _one(connection, "SELECT count(*) FROM sqlite_schema")
    if tables and _one(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise unusable(file, "it is a database of another program")
    if _turn_to_wal(connection) != "wal":
        raise unusable(file, "processes cannot share memory there")
    connection.execute("BEGIN IMMEDIATE")
    version = _one(connection, "PRAGMA user_version")
    if isinstance(version, int) and version > VERSION:
        raise Setup("store_newer", f"{file} has version {version}, this program knows {VERSION}: start the newer program")
    if not version:
        for statement in TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    elif lacking := OWN_TABLES - {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}:
        raise unusable(file, f"it has no table {min(lacking)!r}, so it is damaged")


def _turn_to_wal(connection: sqlite3.Connection) -> object:
    """The journal mode after it. SQLite itself waits for no lock when it turns to its log."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            return _one(connection, "PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(BUSY_AGAIN_S)


def _one(connection: sqlite3.Connection, query: str) -> object:
    return connection.execute(query).fetchone()[0]


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns what is wrong with the file into errors of ours, which name no file. What is wrong with a statement is a bug."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            raise Unavailable("store_full", "the store of jobs has no room left: nothing was changed") from error
        raise Unavailable("store_unreachable", "the store of jobs cannot be used at this moment: try again") from error
