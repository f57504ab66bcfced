"""The contract of ``JobStore``: each call is one script or one command."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from foretell.errors import Invalid
from foretell.jobs.job import Failure, Job, LogLine, Outcome, Renewal, State, plain_text
from foretell.jobs.row import COLUMNS, job_of, row_of
from foretell.jobs.store import Clock
from foretell.jobs.stores.redis import scripts
from foretell.jobs.stores.redis.server import PREFIX, Server

WHOLE_NUMBERS = {"priority", "most_attempts", "attempts", "cancel_wanted"}
TIMES = {
    "created_at",
    "due_at",
    "key_until",
    "ttl_s",
    "lease_until",
    "started_at",
    "finished_at",
    "expires_at",
}


class RedisStore:
    """Keeps ``JobStore``. Times go as text that gives the same float again."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self.clock = clock
        self._server = server

    def submit(self, jobs: Sequence[Job]) -> Sequence[Job]:
        answer, rest = self._server.run(scripts.SUBMIT, *(value for job in jobs for value in _told(job)))
        if answer == b"key_reused":
            key = rest.decode().partition("\0")[2]
            raise Invalid("key_reused", f"the key {key!r} was used before for another request: send a new one")
        return [_whole(flat) if flat else job for job, flat in zip(jobs, rest, strict=True)]

    def claim(self, worker: str, kinds: Collection[str], most: int, lease_s: float) -> Sequence[Job]:
        now = self.clock()
        return [_whole(flat) for flat in self._server.run(scripts.CLAIM, worker, repr(now), repr(now + lease_s), most, *kinds)]

    def renew(self, ids: Collection[str], worker: str, lease_s: float) -> Renewal:
        flat = self._server.run(scripts.RENEW, worker, repr(self.clock() + lease_s), *ids)
        wanted = {id.decode(): cancel == b"1" for id, cancel in zip(flat[::2], flat[1::2], strict=True)}
        return Renewal(frozenset(wanted), frozenset(id for id, cancel in wanted.items() if cancel))

    def report(self, id: str, worker: str, progress: bytes) -> bool:
        return bool(self._server.run(scripts.REPORT, id, worker, progress))

    def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        told = (value for outcome in outcomes for value in _ended(outcome))
        return frozenset(id.decode() for id in self._server.run(scripts.FINISH, repr(self.clock()), *told))

    def put_back(self, id: str, worker: str, due_at: float, error: Failure | None = None) -> Job | None:
        return _light(self._server.run(scripts.PUT_BACK, id, worker, repr(due_at), repr(self.clock()), *_blamed(error)))

    def cancel(self, id: str) -> Job | None:
        return _light(self._server.run(scripts.CANCEL, id, repr(self.clock())))

    def get(self, id: str) -> Job | None:
        fields = {name.decode(): value for name, value in self._server.read("HGETALL", f"{PREFIX}job:{id}").items()}
        return None if not fields or fields["state"] == b"expired" else _job(fields)

    def list(self, state: State | None = None, after: str | None = None, most: int = 100) -> Sequence[Job]:
        which, before = f"state:{state}" if state else "all", f"({after}" if after else "+"
        return [job for values in self._server.run(scripts.LIST, which, before, most) if (job := _light(values))]

    def log(self, id: str, line: str) -> None:
        self._server.run(scripts.LOG, id, f"{self.clock()!r} {plain_text(line)}")

    def read_log(self, id: str) -> Sequence[LogLine]:
        lines = (line.decode().partition(" ") for line in self._server.read("LRANGE", f"{PREFIX}log:{id}", 0, -1))
        return [LogLine(float(at), text) for at, _, text in lines]

    def delete_expired(self, most: int = 1000) -> int:
        return int(self._server.run(scripts.DELETE_EXPIRED, repr(self.clock()), most))

    def counts(self) -> Mapping[State, int]:
        states = [state for state in State if state is not State.EXPIRED]
        return {state: self._server.read("ZCARD", f"{PREFIX}state:{state}") for state in states}

    def close(self) -> None:
        self._server.close()


def _told(job: Job) -> list[bytes | str | int]:
    """What the script reads of a new job: its id, key and fingerprint, how many values follow, and its fields."""
    fields: list[bytes | str | int] = ["spec", job.spec]
    for name, value in row_of(job).items():
        if value is not None:
            fields += [name, repr(value) if isinstance(value, float) else int(value) if isinstance(value, bool) else value]
    return [job.id, "" if job.key is None else f"{job.owner}\0{job.key}", job.fingerprint, len(fields), *fields]


def _ended(outcome: Outcome) -> list[bytes | str | int]:
    has_result = outcome.result is not None
    return [outcome.id, outcome.worker, outcome.state.value, *_blamed(outcome.error), int(has_result), outcome.result or b""]


def _blamed(error: Failure | None) -> tuple[str, str]:
    return (error.code, plain_text(error.message)) if error else ("", "")


def _light(values: Sequence[bytes | None] | None) -> Job | None:
    return None if values is None else _job(dict(zip(COLUMNS, values, strict=True)))


def _whole(flat: Sequence[bytes]) -> Job:
    return _job({name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)})


def _job(fields: Mapping[str, bytes | None]) -> Job:
    row = {name: _value(name, fields.get(name)) for name in COLUMNS}
    return job_of(row, fields.get("spec") or b"", fields.get("result"))


def _value(name: str, value: bytes | None) -> Any:
    """What a field's bytes stand for."""
    if value is None or name == "progress":
        return value
    if name in TIMES:
        return float(value)
    return int(value) if name in WHOLE_NUMBERS else value.decode()
