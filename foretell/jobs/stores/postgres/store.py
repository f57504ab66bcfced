"""The contract of ``JobStore`` in SQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from psycopg.rows import DictRow

from foretell.errors import Invalid, Unavailable
from foretell.jobs.job import PRIORITIES, Failure, Job, LogLine, Outcome, Renewal, State, plain_text
from foretell.jobs.row import COLUMNS, job_of, row_of
from foretell.jobs.store import ABANDONED, LOG_LINES, Clock
from foretell.jobs.stores.postgres.server import Cursor, Server

ALL = ", ".join(f"foretell_jobs.{name}" for name in COLUMNS)
INSERT = (
    f"INSERT INTO foretell_jobs ({', '.join(COLUMNS)}, spec) VALUES ({', '.join(f'%({name})s' for name in COLUMNS)}, %(spec)s)"
    " ON CONFLICT DO NOTHING RETURNING id"
)
HELD = "id = %(id)s AND state = 'running' AND worker = %(worker)s"
LET_GO = "worker = NULL, lease_until = NULL"
END = f"state = %(state)s, {LET_GO}, finished_at = %(now)s, expires_at = %(now)s + ttl_s"
ERROR = "error_code = %(code)s, error_message = %(message)s"
GIVEN_UP = "(cancel_wanted OR attempts >= most_attempts)"
SWEEP = f"""
UPDATE foretell_jobs SET {LET_GO},
    state = CASE WHEN cancel_wanted THEN 'cancelled' WHEN attempts >= most_attempts THEN 'failed' ELSE 'waiting' END,
    finished_at = CASE WHEN {GIVEN_UP} THEN %(now)s END,
    expires_at = CASE WHEN {GIVEN_UP} THEN %(now)s + ttl_s END,
    error_code = CASE WHEN NOT cancel_wanted AND {GIVEN_UP} THEN 'job_abandoned' ELSE error_code END,
    error_message = CASE WHEN NOT cancel_wanted AND {GIVEN_UP} THEN %(message)s ELSE error_message END
WHERE id IN (
    SELECT id FROM foretell_jobs WHERE state = 'running' AND lease_until <= %(now)s FOR UPDATE SKIP LOCKED
)
"""


def _turn(priority: int) -> str:
    """The first due jobs of one priority, as many as the urgenter ones left: each kind a short walk along an index."""
    taken = " + ".join(["0", *(f"(SELECT count(*) FROM turn{other})" for other in PRIORITIES if other < priority)])
    return f"""turn{priority} AS MATERIALIZED (
        SELECT first.id FROM unnest(%(kinds)s::text[]) AS wanted CROSS JOIN LATERAL (
            SELECT id, due_at FROM foretell_jobs
            WHERE state = 'waiting' AND kind = wanted AND priority = {priority} AND due_at <= %(now)s
            ORDER BY due_at, id LIMIT %(most)s - ({taken}) FOR UPDATE SKIP LOCKED
        ) AS first ORDER BY first.due_at, first.id LIMIT %(most)s - ({taken})
    )"""


CLAIM = f"""
WITH {", ".join(_turn(priority) for priority in PRIORITIES)}
UPDATE foretell_jobs SET state = 'running', worker = %(worker)s, lease_until = %(until)s, started_at = %(now)s,
    attempts = attempts + 1
FROM ({" UNION ALL ".join(f"SELECT id FROM turn{priority}" for priority in PRIORITIES)}) AS turns
WHERE foretell_jobs.id = turns.id RETURNING {ALL}, spec
"""


class PostgresStore:
    """Keeps ``JobStore``. Workers pass over each other's rows (SKIP LOCKED), so they never wait for one another.

    A claim may come back empty while jobs wait, when another claims them at that moment and then leaves some.
    """

    def __init__(self, server: Server, clock: Clock) -> None:
        self.clock = clock
        self._server = server

    def submit(self, jobs: Sequence[Job]) -> Sequence[Job]:
        ordered = sorted(
            jobs, key=lambda job: (job.owner, job.key or "")
        )  # whoever comes at the same time waits, in this order
        with self._server.transaction() as cursor:
            cursor.executemany(INSERT.encode(), [{**row_of(job), "spec": job.spec} for job in ordered], returning=True)
            new = set()
            for _ in ordered:
                new |= {row["id"] for row in cursor.fetchall()}
                cursor.nextset()
            return [job if job.id in new else _already(cursor, job) for job in jobs]

    def claim(self, worker: str, kinds: Collection[str], most: int, lease_s: float) -> Sequence[Job]:
        now = self.clock()
        values = {"worker": worker, "kinds": list(kinds), "most": most, "now": now, "until": now + lease_s}
        with self._server.transaction(durable=False) as cursor:
            cursor.execute(SWEEP.encode(), {"now": now, "message": ABANDONED})
            jobs = [_whole(row) for row in cursor.execute(CLAIM.encode(), values)]
        return sorted(jobs, key=lambda job: (job.priority, job.due_at, job.id))

    def renew(self, ids: Collection[str], worker: str, lease_s: float) -> Renewal:
        query = (
            b"UPDATE foretell_jobs SET lease_until = %(until)s WHERE id IN (SELECT id FROM foretell_jobs"
            b" WHERE id = ANY(%(ids)s) AND state = 'running' AND worker = %(worker)s ORDER BY id FOR UPDATE)"
            b" RETURNING id, cancel_wanted"
        )
        with self._server.transaction(durable=False) as cursor:
            values = {"until": self.clock() + lease_s, "ids": list(ids), "worker": worker}
            rows = cursor.execute(query, values).fetchall()
        return Renewal(frozenset(row["id"] for row in rows), frozenset(row["id"] for row in rows if row["cancel_wanted"]))

    def report(self, id: str, worker: str, progress: bytes) -> bool:
        query = f"UPDATE foretell_jobs SET progress = %(progress)s WHERE {HELD}"
        with self._server.transaction(durable=False) as cursor:
            return cursor.execute(query.encode(), {"id": id, "worker": worker, "progress": progress}).rowcount > 0

    def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        query = f"UPDATE foretell_jobs SET {END}, {ERROR}, result = %(result)s WHERE {HELD}"
        ordered = sorted(outcomes, key=lambda outcome: outcome.id)
        ended = set()
        with self._server.transaction() as cursor:
            cursor.executemany(f"{query} RETURNING id".encode(), [self._end(outcome) for outcome in ordered], returning=True)
            for _ in ordered:
                ended |= {row["id"] for row in cursor.fetchall()}
                cursor.nextset()
        return frozenset(ended)

    def put_back(self, id: str, worker: str, due_at: float, error: Failure | None = None) -> Job | None:
        wait = (
            f"UPDATE foretell_jobs SET state = 'waiting', {LET_GO}, {ERROR}, due_at = %(due_at)s,"
            f" attempts = attempts - %(refund)s WHERE {HELD} RETURNING {ALL}"
        )
        end = f"UPDATE foretell_jobs SET {END}, {ERROR} WHERE {HELD} RETURNING {ALL}"
        with self._server.transaction() as cursor:
            job = _one(cursor, f"SELECT {ALL} FROM foretell_jobs WHERE {HELD} FOR UPDATE", {"id": id, "worker": worker})
            if job is None:
                return None
            if job.cancel_wanted:
                return _one(cursor, end, self._end(Outcome(id, worker, State.CANCELLED)))
            if error and job.attempts >= job.most_attempts:
                return _one(cursor, end, self._end(Outcome(id, worker, State.FAILED, error=error)))
            values = self._end(Outcome(id, worker, State.WAITING, error=error))
            return _one(cursor, wait, {**values, "due_at": due_at, "refund": int(error is None)})

    def cancel(self, id: str) -> Job | None:
        values = {"id": id, "state": State.CANCELLED.value, "now": self.clock()}
        with self._server.transaction() as cursor:
            job = _one(cursor, f"SELECT {ALL} FROM foretell_jobs WHERE id = %(id)s FOR UPDATE", values)
            if job is not None and job.state is State.RUNNING:
                change = f"UPDATE foretell_jobs SET cancel_wanted = true WHERE id = %(id)s RETURNING {ALL}"
                return _one(cursor, change, values)
            if job is not None and job.state is State.WAITING:
                return _one(cursor, f"UPDATE foretell_jobs SET {END} WHERE id = %(id)s RETURNING {ALL}", values)
            return None if job is None or job.state is State.EXPIRED else job

    def get(self, id: str) -> Job | None:
        query = f"SELECT {ALL}, spec, result FROM foretell_jobs WHERE id = %(id)s AND state != 'expired'"
        return next((_whole(row) for row in self._server.query(query, {"id": id})), None)

    def list(self, state: State | None = None, after: str | None = None, most: int = 100) -> Sequence[Job]:
        wanted = "state = %(state)s" if state else "state != 'expired'"
        before = "AND id < %(after)s" if after else ""
        query = f"SELECT {ALL} FROM foretell_jobs WHERE {wanted} {before} ORDER BY id DESC LIMIT %(most)s"
        return [job_of(row) for row in self._server.query(query, {"state": state, "after": after, "most": most})]

    def log(self, id: str, line: str) -> None:
        values = {"id": id, "at": self.clock(), "text": plain_text(line), "most": LOG_LINES}
        add = (
            b"INSERT INTO foretell_job_logs (id, at, text) SELECT id, %(at)s, %(text)s FROM foretell_jobs"
            b" WHERE id = %(id)s AND state != 'expired'"
        )
        trim = (
            b"DELETE FROM foretell_job_logs WHERE id = %(id)s AND line <= (SELECT line FROM foretell_job_logs"
            b" WHERE id = %(id)s ORDER BY line DESC OFFSET %(most)s LIMIT 1)"
        )
        with self._server.transaction(durable=False) as cursor:
            cursor.execute(add, values)
            cursor.execute(trim, values)

    def read_log(self, id: str) -> Sequence[LogLine]:
        query = "SELECT at, text FROM foretell_job_logs WHERE id = %(id)s ORDER BY line"
        return [LogLine(row["at"], row["text"]) for row in self._server.query(query, {"id": id})]

    def delete_expired(self, most: int = 1000) -> int:
        values = {"now": self.clock(), "most": most}
        query = (
            b"SELECT id, key IS NOT NULL AND key_until > %(now)s AS key_stays FROM foretell_jobs"
            b" WHERE expires_at <= %(now)s LIMIT %(most)s FOR UPDATE SKIP LOCKED"
        )
        with self._server.transaction(durable=False) as cursor:
            rows = cursor.execute(query, values).fetchall()
            left = [row["id"] for row in rows if row["key_stays"]]
            gone = [row["id"] for row in rows if not row["key_stays"]]
            cursor.execute("DELETE FROM foretell_jobs WHERE id = ANY(%s)", (gone,))
            cursor.execute("DELETE FROM foretell_job_logs WHERE id = ANY(%s)", (left,))
            cursor.execute(
                "UPDATE foretell_jobs SET state = 'expired', expires_at = key_until, progress = '', spec = '', result = NULL,"
                " error_code = NULL, error_message = NULL WHERE id = ANY(%s)",
                (left,),
            )
            return len(rows)

    def counts(self) -> Mapping[State, int]:
        rows = self._server.query("SELECT state, count(*) AS jobs FROM foretell_jobs GROUP BY state", {})
        found = {row["state"]: row["jobs"] for row in rows}
        return {state: found.get(state, 0) for state in State if state is not State.EXPIRED}

    def close(self) -> None:
        self._server.close()

    def _end(self, outcome: Outcome) -> dict[str, Any]:
        error = outcome.error
        return {
            "id": outcome.id,
            "worker": outcome.worker,
            "state": outcome.state.value,
            "result": outcome.result,
            "code": error and error.code,
            "message": error and plain_text(error.message),
            "now": self.clock(),
        }


def _already(cursor: Cursor, job: Job) -> Job:
    """The job that was there before, with the same id or the same key."""
    query = (
        f"SELECT {ALL}, spec, result FROM foretell_jobs WHERE id = %(id)s"
        f" OR (md5(owner) = md5(%(owner)s) AND md5(key) = md5(%(key)s))"
    )
    row = cursor.execute(query.encode(), {"id": job.id, "owner": job.owner, "key": job.key}).fetchone()
    if row is None:
        raise Unavailable("store_unreachable", "the job of this key was deleted at this moment: try again")
    there = _whole(row)
    if there.id != job.id and there.fingerprint != job.fingerprint:
        raise Invalid("key_reused", f"the key {job.key!r} was used before for another request: send a new one")
    return there


def _one(cursor: Cursor, query: str, values: Mapping[str, Any]) -> Job | None:
    row = cursor.execute(query.encode(), values).fetchone()
    return None if row is None else job_of(row)


def _whole(row: DictRow) -> Job:
    return job_of(row, row["spec"], row.get("result"))
