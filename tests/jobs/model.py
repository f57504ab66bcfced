"""The contract of a store once more, in plain Python: what every real store is compared with."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from foretell.errors import Invalid
from foretell.jobs.job import ENDED, Failure, Job, Outcome, Renewal, State
from foretell.jobs.store import ABANDONED

NOT_HELD = {"worker": None, "lease_until": None}


class Model:
    """Keeps jobs in a dictionary; one thread, no durability."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.jobs: dict[str, Job] = {}

    def submit(self, jobs: Sequence[Job]) -> Sequence[Job]:
        kept, before = [], dict(self.jobs)
        for job in jobs:
            same = [other for other in self.jobs.values() if job.key is not None and _key(other) == _key(job)]
            if same and same[0].fingerprint != job.fingerprint:
                self.jobs = before
                raise Invalid("key_reused", "used before")
            there = same[0] if same else self.jobs.setdefault(job.id, job)
            kept.append(there)
        return kept

    def claim(self, worker: str, kinds: Collection[str], most: int, lease_s: float) -> Sequence[Job]:
        now = self.clock()
        for job in self.jobs.values():
            if job.state is State.RUNNING and job.lease_until is not None and job.lease_until <= now:
                self._release(job)
        due = [job for job in self.jobs.values() if job.state is State.WAITING and job.kind in kinds and job.due_at <= now]
        due.sort(key=lambda job: (job.priority, job.due_at, job.id))
        return [self._begin(job, worker, lease_s) for job in due[:most]]

    def renew(self, ids: Collection[str], worker: str, lease_s: float) -> Renewal:
        held = [job for id in ids if (job := self._held(id, worker))]
        for job in held:
            self._put(job, lease_until=self.clock() + lease_s)
        return Renewal(frozenset(job.id for job in held), frozenset(job.id for job in held if job.cancel_wanted))

    def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        ended = set()
        for outcome in outcomes:
            if job := self._held(outcome.id, outcome.worker):
                self._end(job, outcome.state, outcome.error, outcome.result)
                ended.add(job.id)
        return frozenset(ended)

    def put_back(self, id: str, worker: str, due_at: float, error: Failure | None = None) -> Job | None:
        job = self._held(id, worker)
        if job is None:
            return None
        if job.cancel_wanted:
            return _light(self._end(job, State.CANCELLED))
        if error and job.attempts >= job.most_attempts:
            return _light(self._end(job, State.FAILED, error))
        attempts = job.attempts if error else job.attempts - 1
        return _light(self._put(job, state=State.WAITING, due_at=due_at, error=error, attempts=attempts, **NOT_HELD))

    def cancel(self, id: str) -> Job | None:
        job = self.get(id)
        if job is not None and job.state is State.WAITING:
            job = self._end(job, State.CANCELLED)
        elif job is not None and job.state is State.RUNNING:
            job = self._put(job, cancel_wanted=True)
        return job and _light(job)

    def get(self, id: str) -> Job | None:
        job = self.jobs.get(id)
        return None if job is None or job.state is State.EXPIRED else job

    def list(self, state: State | None = None) -> Sequence[Job]:
        shown = [job for job in self.jobs.values() if (job.state is state if state else job.state is not State.EXPIRED)]
        return [_light(job) for job in sorted(shown, key=lambda job: job.id, reverse=True)]

    def delete_expired(self) -> int:
        gone = [job for job in self.jobs.values() if job.expires_at is not None and job.expires_at <= self.clock()]
        for job in gone:
            del self.jobs[job.id]
            if job.key is not None and job.key_until > self.clock():
                blank = {"spec": b"", "result": None, "progress": b"", "error": None}
                self.jobs[job.id] = replace(job, state=State.EXPIRED, expires_at=job.key_until, **blank)  # type: ignore[arg-type]
        return len(gone)

    def _held(self, id: str, worker: str) -> Job | None:
        job = self.jobs.get(id)
        return job if job is not None and job.state is State.RUNNING and job.worker == worker else None

    def _begin(self, job: Job, worker: str, lease_s: float) -> Job:
        now = self.clock()
        held = {"worker": worker, "lease_until": now + lease_s, "started_at": now, "attempts": job.attempts + 1}
        return self._put(job, state=State.RUNNING, **held)

    def _release(self, job: Job) -> None:
        if job.cancel_wanted:
            self._end(job, State.CANCELLED)
        elif job.attempts >= job.most_attempts:
            self._end(job, State.FAILED, Failure("job_abandoned", ABANDONED))
        else:
            self._put(job, state=State.WAITING, **NOT_HELD)

    def _end(self, job: Job, state: State, error: Failure | None = None, result: bytes | None = None) -> Job:
        assert state in ENDED
        now = self.clock()
        ended = {"error": error, "result": result, "finished_at": now, "expires_at": now + job.ttl_s}
        return self._put(job, state=state, **ended, **NOT_HELD)

    def _put(self, job: Job, **changes: object) -> Job:
        self.jobs[job.id] = replace(job, **changes)  # type: ignore[arg-type]
        return self.jobs[job.id]


def _key(job: Job) -> tuple[str, str | None]:
    return job.owner, job.key


def _light(job: Job) -> Job:
    return replace(job, spec=b"", result=None)
