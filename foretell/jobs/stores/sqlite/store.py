"""The contract of ``JobStore`` in SQL."""

import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from foretell.errors import Invalid
from foretell.jobs.job import PRIORITIES, Failure, Job, LogLine, Outcome, Renewal, State, plain_text
from foretell.jobs.row import COLUMNS, job_of, row_of
from foretell.jobs.store import ABANDONED, LOG_LINES, Clock
from foretell.jobs.stores.sqlite.file import refusals
from foretell.jobs.stores.sqlite.writer import Run, Writer

ALL = ", ".join(COLUMNS)
WHOLE = (
    f"{ALL}, (SELECT body FROM specs WHERE specs.seq = jobs.seq) AS spec,"
    " (SELECT body FROM results WHERE results.seq = jobs.seq) AS result"
)
INSERT = f"INSERT INTO jobs ({ALL}) VALUES ({', '.join(f':{name}' for name in COLUMNS)}) ON CONFLICT (id) DO NOTHING"
HELD = "id = :id AND state = 'running' AND worker = :worker"
LET_GO = "worker = NULL, lease_until = NULL"
END = f"state = :state, {LET_GO}, finished_at = :now, expires_at = :now + ttl_s"


class SqliteStore:
    """Keeps ``JobStore``: one connection writes, another reads beside it and never waits for a commit.

    Only what must survive a power cut waits for the disk: jobs, their ends and their cancelling. A claim that is lost with the
    power leaves a job that waits, as it would once the lease had lapsed.
    """

    def __init__(self, write: Writer, reader: sqlite3.Connection, clock: Clock) -> None:
        self.clock = clock
        self._write = write
        self._reader = reader
        self._reading = threading.Lock()

    def submit(self, jobs: Sequence[Job]) -> Sequence[Job]:
        return self._write(lambda run: [_submit(run, job) for job in jobs])

    def claim(self, worker: str, kinds: Collection[str], most: int, lease_s: float) -> Sequence[Job]:
        turns, places = _turns(kinds)
        query = (
            f"UPDATE jobs SET state = 'running', worker = :worker, lease_until = :now + :lease_s, started_at = :now,"
            f" attempts = attempts + 1 WHERE seq IN (SELECT seq FROM ({turns}) ORDER BY priority, due_at, id LIMIT :most)"
            f" RETURNING {WHOLE}"
        )

        def work(run: Run) -> Sequence[Job]:
            now = self.clock()
            _sweep(run, now)
            if not kinds:
                return []
            values = {"worker": worker, "now": now, "lease_s": lease_s, "most": most, **places}
            jobs = [_whole(row) for row in run(query, values).fetchall()]
            return sorted(jobs, key=lambda job: (job.priority, job.due_at, job.id))

        return self._write(work, durable=False)

    def renew(self, ids: Collection[str], worker: str, lease_s: float) -> Renewal:
        query = f"UPDATE jobs SET lease_until = :until WHERE {HELD} RETURNING id, cancel_wanted"

        def work(run: Run) -> Renewal:
            values = {"until": self.clock() + lease_s, "worker": worker}
            rows = [row for id in ids for row in run(query, {**values, "id": id}).fetchall()]
            return Renewal(frozenset(row[0] for row in rows), frozenset(row[0] for row in rows if row[1]))

        return self._write(work, durable=False)

    def report(self, id: str, worker: str, progress: bytes) -> bool:
        query = f"UPDATE jobs SET progress = :progress WHERE {HELD}"
        values = {"id": id, "worker": worker, "progress": progress}
        return self._write(lambda run: run(query, values).rowcount > 0, durable=False)

    def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        now = self.clock()
        return self._write(
            lambda run: frozenset(outcome.id for outcome in outcomes if _finish(run, outcome, now)), durable=False
        )

    def put_back(self, id: str, worker: str, due_at: float, error: Failure | None = None) -> Job | None:
        def work(run: Run) -> Job | None:
            job = _find(run, id)
            if job is None or job.worker != worker:
                return None
            if job.cancel_wanted:
                _finish(run, Outcome(id, worker, State.CANCELLED), self.clock())
            elif error and job.attempts >= job.most_attempts:
                _finish(run, Outcome(id, worker, State.FAILED, error=error), self.clock())
            else:
                _put_back(run, Outcome(id, worker, State.WAITING, error=error), due_at)
            return _find(run, id)

        return self._write(work)

    def cancel(self, id: str) -> Job | None:
        def work(run: Run) -> Job | None:
            values = {"id": id, "state": State.CANCELLED, "now": self.clock()}
            run("UPDATE jobs SET cancel_wanted = 1 WHERE id = :id AND state = 'running'", values)
            run(f"UPDATE jobs SET {END} WHERE id = :id AND state = 'waiting'", values)
            return _find(run, id)

        return self._write(work)

    def get(self, id: str) -> Job | None:
        with self._read() as run:
            row = run(f"SELECT {WHOLE} FROM jobs WHERE id = ? AND state != 'expired'", (id,)).fetchone()
            return None if row is None else _whole(row)

    def list(self, state: State | None = None, after: str | None = None, most: int = 100) -> Sequence[Job]:
        wanted = "state = :state" if state else "state != 'expired'"
        before = "AND id < :after" if after else ""
        query = f"SELECT {ALL} FROM jobs WHERE {wanted} {before} ORDER BY id DESC LIMIT :most"
        with self._read() as run:
            return [job_of(row) for row in run(query, {"state": state, "after": after, "most": most})]

    def log(self, id: str, line: str) -> None:
        values = {"id": id, "at": self.clock(), "text": plain_text(line), "most": LOG_LINES}
        self._write(lambda run: _log(run, values), durable=False)

    def read_log(self, id: str) -> Sequence[LogLine]:
        query = "SELECT at, text FROM logs WHERE seq = (SELECT seq FROM jobs WHERE id = ?) ORDER BY line"
        with self._read() as run:
            return [LogLine(*row) for row in run(query, (id,))]

    def delete_expired(self, most: int = 1000) -> int:
        query = "SELECT seq, key IS NOT NULL AND key_until > :now FROM jobs WHERE expires_at <= :now LIMIT :most"

        def work(run: Run) -> int:
            rows = run(query, {"now": self.clock(), "most": most}).fetchall()
            for seq, key_stays in rows:
                _delete(run, seq, but_key=key_stays)
            return len(rows)

        return self._write(work, durable=False)

    def counts(self) -> Mapping[State, int]:
        with self._read() as run:
            found = {row[0]: row[1] for row in run("SELECT state, count(*) FROM jobs GROUP BY state")}
        return {state: found.get(state, 0) for state in State if state is not State.EXPIRED}

    def close(self) -> None:
        self._write.close()
        with self._reading:
            self._reader.close()

    @contextmanager
    def _read(self) -> Iterator[Run]:
        """Queries that see one moment of the file."""
        with self._reading, refusals():
            self._reader.execute("BEGIN")
            try:
                yield self._reader.execute
            finally:
                self._reader.execute("COMMIT")


def _submit(run: Run, job: Job) -> Job:
    if job.key is not None:
        row = run(f"SELECT {WHOLE} FROM jobs WHERE owner = ? AND key = ?", (job.owner, job.key)).fetchone()
        if row is not None and row["fingerprint"] != job.fingerprint:
            raise Invalid("key_reused", f"the key {job.key!r} was used before for another request: send a new one")
        if row is not None:
            return _whole(row)
    added = run(INSERT, row_of(job))
    if not added.rowcount:
        return _whole(run(f"SELECT {WHOLE} FROM jobs WHERE id = ?", (job.id,)).fetchone())
    run("INSERT INTO specs VALUES (?, ?)", (added.lastrowid, job.spec))
    return job


def _sweep(run: Run, now: float) -> None:
    """Let jobs wait again whose lease lapsed, or end those that are not to be tried again."""
    lapsed = "state = 'running' AND lease_until <= :now"
    values = {"now": now, "failed": State.FAILED, "message": ABANDONED}
    run(
        f"UPDATE jobs SET state = 'waiting', {LET_GO} WHERE {lapsed} AND attempts < most_attempts AND NOT cancel_wanted",
        values,
    )
    run(f"UPDATE jobs SET {END} WHERE {lapsed} AND cancel_wanted", {**values, "state": State.CANCELLED})
    run(
        f"UPDATE jobs SET {END}, error_code = 'job_abandoned', error_message = :message WHERE {lapsed}",
        {**values, "state": State.FAILED},
    )


def _turns(kinds: Collection[str]) -> tuple[str, dict[str, str]]:
    """A query for the first due jobs of each kind and priority: each a short walk along an index, whatever else waits."""
    places = {f"kind{number}": kind for number, kind in enumerate(kinds)}
    each = (
        f"SELECT * FROM (SELECT seq, priority, due_at, id FROM jobs WHERE state = 'waiting' AND kind = :{place}"
        f" AND priority = {priority} AND due_at <= :now ORDER BY due_at, id LIMIT :most)"
        for place in places
        for priority in PRIORITIES
    )
    return " UNION ALL ".join(each), places


def _finish(run: Run, outcome: Outcome, now: float) -> bool:
    query = f"UPDATE jobs SET {END}, error_code = :code, error_message = :message WHERE {HELD} RETURNING seq"
    row = run(query, {**_values(outcome), "now": now}).fetchone()
    if row is not None and outcome.result is not None:
        run("INSERT INTO results VALUES (?, ?)", (row["seq"], outcome.result))
    return row is not None


def _put_back(run: Run, outcome: Outcome, due_at: float) -> None:
    run(
        f"UPDATE jobs SET state = :state, {LET_GO}, due_at = :due_at, attempts = attempts - (:code IS NULL),"
        f" error_code = :code, error_message = :message WHERE {HELD}",
        {**_values(outcome), "due_at": due_at},
    )


def _values(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "id": outcome.id,
        "worker": outcome.worker,
        "state": outcome.state,
        "code": error and error.code,
        "message": error and plain_text(error.message),
    }


def _log(run: Run, values: Mapping[str, Any]) -> None:
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


def _delete(run: Run, seq: int, *, but_key: bool) -> None:
    for table in ("specs", "results", "logs"):
        run(f"DELETE FROM {table} WHERE seq = ?", (seq,))
    if but_key:
        blank = "progress = x'', error_code = NULL, error_message = NULL"
        run(f"UPDATE jobs SET state = 'expired', expires_at = key_until, {blank} WHERE seq = ?", (seq,))
    else:
        run("DELETE FROM jobs WHERE seq = ?", (seq,))


def _find(run: Run, id: str) -> Job | None:
    row = run(f"SELECT {ALL} FROM jobs WHERE id = ? AND state != 'expired'", (id,)).fetchone()
    return None if row is None else job_of(row)


def _whole(row: sqlite3.Row) -> Job:
    return job_of(row, row["spec"] or b"", row["result"])
