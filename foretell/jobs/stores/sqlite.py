"""Jobs in one SQLite file: the default, which needs no server and is safe from many processes of one machine.

The file is in WAL mode, so that readers never wait. Each transaction is on the disk when its call returns: many jobs in one
call share the one fsync. ``specs``, ``results`` and ``logs`` are tables of their own, because SQLite writes whole rows.
"""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from foretell.errors import ForetellError, Invalid, Setup, Unavailable
from foretell.jobs.job import PRIORITIES, Failure, Job, LogLine, Outcome, Renewal, State
from foretell.jobs.row import COLUMNS, job_of, row_of
from foretell.jobs.store import LOG_LINES, Clock, sqlite_file

T = TypeVar("T")
APPLICATION_ID = 0x666F7265  # "fore": marks the file as ours
VERSION = 1
BUSY_S = 30.0
ABANDONED = "its worker went away as often as it may be tried"

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

ALL = ", ".join(COLUMNS)
INSERT = f"INSERT INTO jobs ({ALL}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})"
HELD = "id = :id AND state = 'running' AND worker = :worker"
LET_GO = "worker = NULL, lease_until = NULL"
END = f"state = :state, {LET_GO}, finished_at = :now, expires_at = :now + ttl_s"


def open_sqlite(url: str, clock: Clock) -> "SqliteStore":
    """The store in a folder or file, made if there is none. Raises Setup ``store_unusable`` or ``store_newer``."""
    file = sqlite_file(url)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        writer, reader = _connect(file), _connect(file)
        _prepare(writer, file)
    except (OSError, sqlite3.Error) as error:
        raise Setup("store_unusable", f"jobs cannot be kept in {file}: {error}: make it a folder to write to") from error
    return SqliteStore(writer, reader, clock)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Make the tables, or check that they are ours and not newer than we are."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        application, version = _number(connection, "PRAGMA application_id"), _number(connection, "PRAGMA user_version")
        tables = _number(connection, "SELECT count(*) FROM sqlite_schema")
        if application != APPLICATION_ID and tables:
            raise Setup("store_unusable", f"{file} is a database of another program: name another file or folder")
        if version > VERSION:
            raise Setup("store_newer", f"{file} has version {version}, this program reads up to {VERSION}: start the newer one")
        if not tables:
            for statement in TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


class SqliteStore:
    """Keeps ``JobStore``: one connection writes, in turn; another reads beside it."""

    def __init__(self, writer: sqlite3.Connection, reader: sqlite3.Connection, clock: Clock) -> None:
        self.clock = clock
        self._writer = writer
        self._reader = reader
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    def submit(self, jobs: Sequence[Job]) -> Sequence[Job]:
        with self._transaction() as run:
            return [_submit(run, job) for job in jobs]

    def claim(self, worker: str, kinds: Collection[str], most: int, lease_s: float) -> Sequence[Job]:
        now = self.clock()
        with self._transaction() as run:
            _sweep(run, now)
            turns, places = _turns(kinds)
            rows = run(
                f"UPDATE jobs SET state = 'running', worker = :worker, lease_until = :now + :lease_s, started_at = :now,"
                f" attempts = attempts + 1 WHERE seq IN (SELECT seq FROM ({turns}) ORDER BY priority, due_at, id LIMIT :most)"
                f" RETURNING seq, {ALL}",
                {"worker": worker, "now": now, "lease_s": lease_s, "most": most, **places},
            ).fetchall()
            rows.sort(key=lambda row: (row["priority"], row["due_at"], row["id"]))
            return [job_of(row, _body(run, "specs", row["seq"]) or b"") for row in rows]

    def renew(self, ids: Collection[str], worker: str, lease_s: float) -> Renewal:
        query = f"UPDATE jobs SET lease_until = :until WHERE {HELD} RETURNING id, cancel_wanted"
        until = self.clock() + lease_s
        with self._transaction() as run:
            rows = [row for id in ids for row in run(query, {"until": until, "id": id, "worker": worker}).fetchall()]
        return Renewal(frozenset(row["id"] for row in rows), frozenset(row["id"] for row in rows if row["cancel_wanted"]))

    def report(self, id: str, worker: str, progress: bytes) -> bool:
        with self._transaction() as run:
            values = {"id": id, "worker": worker, "progress": progress}
            return bool(run(f"UPDATE jobs SET progress = :progress WHERE {HELD}", values).rowcount)

    def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        now = self.clock()
        with self._transaction() as run:
            return frozenset(outcome.id for outcome in outcomes if _finish(run, outcome, now))

    def put_back(self, id: str, worker: str, due_at: float, error: Failure | None = None) -> Job | None:
        now = self.clock()
        with self._transaction() as run:
            job = _find(run, id)
            if job is None or job.state is not State.RUNNING or job.worker != worker:
                return None
            if job.cancel_wanted or (error and job.attempts >= job.most_attempts):
                state = State.CANCELLED if job.cancel_wanted else State.FAILED
                _finish(run, Outcome(id, worker, state, error=None if job.cancel_wanted else error), now)
            else:
                run(
                    f"UPDATE jobs SET state = 'waiting', {LET_GO}, due_at = :due_at, attempts = attempts - :refund,"
                    f" error_code = :code, error_message = :message WHERE {HELD}",
                    {"id": id, "worker": worker, "due_at": due_at, "refund": int(error is None), **_columns(error)},
                )
            return _find(run, id)

    def cancel(self, id: str) -> Job | None:
        with self._transaction() as run:
            run("UPDATE jobs SET cancel_wanted = 1 WHERE id = :id AND state = 'running'", {"id": id})
            waiting = {"id": id, "state": State.CANCELLED, "now": self.clock()}
            run(f"UPDATE jobs SET {END} WHERE id = :id AND state = 'waiting'", waiting)
            return _find(run, id)

    def get(self, id: str) -> Job | None:
        with self._reads() as run:
            return _find(run, id, whole=True)

    def list(self, state: State | None = None, after: str | None = None, most: int = 100) -> Sequence[Job]:
        wanted = "state = :state" if state else "state != 'expired'"
        before = "AND id < :after" if after else ""
        query = f"SELECT {ALL} FROM jobs WHERE {wanted} {before} ORDER BY id DESC LIMIT :most"
        with self._reads() as run:
            return [job_of(row) for row in run(query, {"state": state, "after": after, "most": most})]

    def log(self, id: str, line: str) -> None:
        with self._transaction() as run:
            values = {"id": id, "at": self.clock(), "text": line, "most": LOG_LINES}
            run(
                "INSERT INTO logs SELECT seq, coalesce((SELECT max(line) FROM logs WHERE logs.seq = jobs.seq), 0) + 1,"
                " :at, :text FROM jobs WHERE id = :id",
                values,
            )
            run(
                "DELETE FROM logs WHERE seq = (SELECT seq FROM jobs WHERE id = :id)"
                " AND line <= (SELECT max(line) FROM logs AS newest WHERE newest.seq = logs.seq) - :most",
                values,
            )

    def read_log(self, id: str) -> Sequence[LogLine]:
        query = "SELECT at, text FROM logs WHERE seq = (SELECT seq FROM jobs WHERE id = ?) ORDER BY line"
        with self._reads() as run:
            return [LogLine(*row) for row in run(query, (id,))]

    def delete_expired(self, most: int = 1000) -> int:
        now = self.clock()
        query = "SELECT seq, id, key, key_until FROM jobs WHERE expires_at <= ? LIMIT ?"
        with self._transaction() as run:
            rows = run(query, (now, most)).fetchall()
            for row in rows:
                for table in ("specs", "results", "logs"):
                    run(f"DELETE FROM {table} WHERE seq = ?", (row["seq"],))
                if row["key"] is not None and row["key_until"] > now:
                    run(
                        "UPDATE jobs SET state = 'expired', expires_at = key_until, progress = x'', error_code = NULL,"
                        " error_message = NULL WHERE seq = ?",
                        (row["seq"],),
                    )
                else:
                    run("DELETE FROM jobs WHERE seq = ?", (row["seq"],))
            return len(rows)

    def counts(self) -> Mapping[State, int]:
        with self._reads() as run:
            found = {row[0]: row[1] for row in run("SELECT state, count(*) FROM jobs GROUP BY state", ())}
        return {state: found.get(state, 0) for state in State if state is not State.EXPIRED}

    def close(self) -> None:
        with self._writing, self._reading:
            self._writer.close()
            self._reader.close()

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """Statements that happen all and durably, or none."""
        with self._writing, _refusals():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer.execute
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")

    @contextmanager
    def _reads(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """Queries that see one state of the file."""
        with self._reading, _refusals():
            self._reader.execute("BEGIN")
            try:
                yield self._reader.execute
            finally:
                self._reader.execute("COMMIT")


@contextmanager
def _refusals() -> Iterator[None]:
    """Turns what SQLite says into errors of ours: what a caller sees names no file."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL":
            raise Unavailable("store_full", "the store of jobs has no room left: nothing was changed") from error
        raise Unavailable("store_unreachable", "the store of jobs cannot be used at this moment: try again") from error


def _submit(run: Callable[..., sqlite3.Cursor], job: Job) -> Job:
    if job.key is not None:
        found = run("SELECT id, fingerprint FROM jobs WHERE owner = ? AND key = ?", (job.owner, job.key)).fetchone()
        if found is not None:
            if found["fingerprint"] != job.fingerprint:
                raise key_reused(job.key)
            there = _find(run, found["id"], whole=True, even_expired=True)
            assert there is not None
            return there
    seq = run(INSERT, row_of(job)).lastrowid
    run("INSERT INTO specs VALUES (?, ?)", (seq, job.spec))
    return job


def key_reused(key: str) -> ForetellError:
    return Invalid("key_reused", f"the key {key!r} was used before with another request: send a new key", key=key)


def _sweep(run: Callable[..., sqlite3.Cursor], now: float) -> None:
    """Let jobs wait again whose lease lapsed, or end those that may not be tried again."""
    lapsed = "state = 'running' AND lease_until <= :now"
    run(
        f"UPDATE jobs SET state = 'waiting', {LET_GO} WHERE {lapsed} AND attempts < most_attempts AND NOT cancel_wanted",
        {"now": now},
    )
    run(f"UPDATE jobs SET {END} WHERE {lapsed} AND cancel_wanted", {"now": now, "state": State.CANCELLED})
    run(
        f"UPDATE jobs SET {END}, error_code = 'job_abandoned', error_message = :message WHERE {lapsed}",
        {"now": now, "state": State.FAILED, "message": ABANDONED},
    )


def _turns(kinds: Collection[str]) -> tuple[str, dict[str, str]]:
    """The first due jobs of each kind and priority: each a short walk along an index, whatever else waits."""
    places = {f"kind{number}": kind for number, kind in enumerate(kinds)}
    each = (
        f"SELECT * FROM (SELECT seq, priority, due_at, id FROM jobs WHERE state = 'waiting' AND kind = :{place}"
        f" AND priority = {priority} AND due_at <= :now ORDER BY due_at, id LIMIT :most)"
        for place in places
        for priority in PRIORITIES
    )
    return " UNION ALL ".join(each), places


def _finish(run: Callable[..., sqlite3.Cursor], outcome: Outcome, now: float) -> bool:
    values = {"id": outcome.id, "worker": outcome.worker, "state": outcome.state, "now": now, **_columns(outcome.error)}
    row = run(
        f"UPDATE jobs SET {END}, error_code = :code, error_message = :message WHERE {HELD} RETURNING seq", values
    ).fetchone()
    if row is not None and outcome.result is not None:
        run("INSERT INTO results VALUES (?, ?)", (row["seq"], outcome.result))
    return row is not None


def _find(run: Callable[..., sqlite3.Cursor], id: str, *, whole: bool = False, even_expired: bool = False) -> Job | None:
    row = run(f"SELECT seq, {ALL} FROM jobs WHERE id = ?", (id,)).fetchone()
    if row is None or (row["state"] == State.EXPIRED and not even_expired):
        return None
    if not whole:
        return job_of(row)
    return job_of(row, _body(run, "specs", row["seq"]) or b"", _body(run, "results", row["seq"]))


def _body(run: Callable[..., sqlite3.Cursor], table: str, seq: int) -> bytes | None:
    row = run(f"SELECT body FROM {table} WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else bytes(row[0])


def _columns(error: Failure | None) -> dict[str, Any]:
    return {"code": error and error.code, "message": error and error.message}
