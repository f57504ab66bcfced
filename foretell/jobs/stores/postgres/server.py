"""Lends connections to a database, makes its tables, and turns what it says into refusals of ours."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import DictRow, dict_row

from foretell.errors import ForetellError, Setup, Unavailable

Connection = psycopg.Connection[DictRow]
Cursor = psycopg.Cursor[DictRow]

VERSION = 1
MOST_CONNECTIONS = 8
ONE_AT_A_TIME = 0x666F7265  # the lock under which tables are made: any number that others will not take
WITHOUT_ANSWER: dict[str, Any] = {
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 30,
    "application_name": "foretell",
}
"""A server that is cut off must become an error, not a wait without end. A URL may say otherwise."""

TABLES = """
CREATE TABLE foretell_version (version integer NOT NULL);
CREATE TABLE foretell_jobs (
    id text COLLATE "C" PRIMARY KEY, kind text NOT NULL, state text NOT NULL, priority integer NOT NULL,
    owner text NOT NULL, key text, fingerprint text NOT NULL, key_until float8 NOT NULL, ttl_s float8 NOT NULL,
    created_at float8 NOT NULL, due_at float8 NOT NULL, started_at float8, finished_at float8, expires_at float8,
    attempts integer NOT NULL, most_attempts integer NOT NULL, worker text, lease_until float8, progress bytea NOT NULL,
    error_code text, error_message text, cancel_wanted boolean NOT NULL, spec bytea NOT NULL, result bytea
);
CREATE UNIQUE INDEX foretell_job_keys ON foretell_jobs (md5(owner), md5(key)) WHERE key IS NOT NULL;
CREATE INDEX foretell_job_states ON foretell_jobs (state, id);
CREATE INDEX foretell_job_turns ON foretell_jobs (kind, priority, due_at, id) WHERE state = 'waiting';
CREATE INDEX foretell_job_leases ON foretell_jobs (lease_until) WHERE state = 'running';
CREATE INDEX foretell_job_ends ON foretell_jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE foretell_job_logs (
    id text COLLATE "C" REFERENCES foretell_jobs ON DELETE CASCADE, line bigint GENERATED ALWAYS AS IDENTITY,
    at float8 NOT NULL, text text NOT NULL, PRIMARY KEY (id, line)
)
"""
"""The keys are indexed by a digest, since an index takes no long text."""


class Server:
    """A database at a URL; up to ``MOST_CONNECTIONS`` connections are open at a time, and kept for the next call."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._idle: deque[Connection] = deque()
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def prepare(self) -> None:
        """Make the tables, or check that they are not newer than we are."""
        try:
            with self._lend() as connection, connection.transaction():
                _prepare(connection)
        except psycopg.Error as error:
            why = str(error).strip()
            raise Setup(
                "store_unusable", f"jobs cannot be kept in this database: {why}: correct the URL or the rights"
            ) from error

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Cursor]:
        """Statements that happen all or none; if not ``durable``, a crash of the server (nothing less) may undo them later."""
        with _refusals(), self._lend() as connection, connection.transaction(), connection.cursor() as cursor:
            if not durable:
                cursor.execute("SET LOCAL synchronous_commit = off")
            yield cursor

    def query(self, query: str, values: dict[str, Any]) -> list[DictRow]:
        with _refusals(), self._lend() as connection:
            return connection.execute(query.encode(), values).fetchall()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        with self._places:
            connection = self._take()
            try:
                yield connection
            finally:
                if connection.closed:
                    self.close()  # the server went away: the idle ones are no better
                else:
                    self._idle.append(connection)

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            where = make_conninfo(**{**WITHOUT_ANSWER, **conninfo_to_dict(self.url)})
            return psycopg.connect(where, autocommit=True, row_factory=dict_row)


def _prepare(connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (ONE_AT_A_TIME,))
    found = connection.execute("SELECT to_regclass('foretell_version') IS NOT NULL AS known").fetchone()
    if not found or not found["known"]:
        connection.execute(TABLES.encode())
        connection.execute("INSERT INTO foretell_version VALUES (%s)", (VERSION,))
    row = connection.execute("SELECT max(version) AS version FROM foretell_version").fetchone()
    if row and row["version"] > VERSION:
        raise Setup(
            "store_newer", f"the tables have version {row['version']}, this program knows {VERSION}: start the newer program"
        )


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _refusal(error) from error


def _refusal(error: psycopg.Error) -> ForetellError | psycopg.Error:
    """What a caller is told; what is wrong with a statement is a bug, and stays what it is."""
    if isinstance(error, psycopg.errors.DiskFull):
        return Unavailable("store_full", "the store of jobs has no room left: nothing was changed")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.errors.ReadOnlySqlTransaction):
        return Unavailable("store_unreachable", "the store of jobs cannot be used at this moment: try again")
    return error
