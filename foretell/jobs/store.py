"""Where jobs are kept: the contract of every store, and the table of stores by their URL."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from foretell.jobs.job import Failure, Job, LogLine, Outcome, Renewal, State
from foretell.plugins import Plugin, load_plugin

Clock = Callable[[], float]
"""Unix seconds."""

LOG_LINES = 1000
"""The newest lines of a job's log that are kept."""

ABANDONED = "its worker went away in the middle, as often as the job may be tried"
"""The sentence of ``job_abandoned``."""

STORES = {
    "sqlite": Plugin("foretell.jobs.stores.sqlite:open_sqlite"),
    "postgresql": Plugin("foretell.jobs.stores.postgres:open_postgres", "postgres"),
    "redis": Plugin("foretell.jobs.stores.redis:open_redis", "redis"),
}


class JobStore(Protocol):
    """Jobs that survive whoever submitted them and whoever runs them. Safe from many threads and many processes at once.

    A call is a transaction: it happened whole and durably once it returns, or not at all when it raises. A call that takes
    many jobs costs little more than one that takes one: gather them. Every call may raise Unavailable ``store_unreachable``
    or ``store_full``; what it would have changed is as it was, or (the connection broke at the worst moment) as asked.
    """

    def submit(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Keep new jobs, all WAITING. The answer is them, but where an owner has used a key before: then it is that job.

        To submit a job a second time, by the same id, changes nothing. Raises Invalid ``key_reused`` if a key comes again with
        another fingerprint; then none is kept.
        """

    def claim(self, worker: str, kinds: Collection[str], most: int, lease_s: float) -> Sequence[Job]:
        """Begin up to ``most`` waiting jobs that are due, the first by (priority, due_at, id), for as long as the lease.

        Before, jobs whose lease lapsed wait again; those among them with no attempt left are FAILED with ``job_abandoned``.
        """

    def renew(self, ids: Collection[str], worker: str, lease_s: float) -> Renewal:
        """Extend the leases, from now, of those jobs that ``worker`` still holds; the others are no longer its to run."""

    def report(self, id: str, worker: str, progress: bytes) -> bool:
        """Note how far a job is, in small JSON. False if ``worker`` does not hold it any more."""

    def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        """End jobs. Those ids are given whose end was recorded: a worker that lost its lease to another records nothing.

        A power cut (nothing less) may undo it just after this returns: then the job is done once more.
        """

    def put_back(self, id: str, worker: str, due_at: float, error: Failure | None = None) -> Job | None:
        """Let a job that ``worker`` holds wait again until ``due_at``; None if it was not held, else the job as it is now
        (like ``list``, without ``spec`` and ``result``).

        Without an ``error`` it was given back untouched, and the attempt does not count. With one and no attempt left, or if
        it is to be cancelled, it ends.
        """

    def cancel(self, id: str) -> Job | None:
        """End a waiting job; tell the worker of a running one at its next renewal. The job as it is now, as ``put_back``."""

    def get(self, id: str) -> Job | None:
        """The whole job, if there is one."""

    def list(self, state: State | None = None, after: str | None = None, most: int = 100) -> Sequence[Job]:
        """Jobs without ``spec`` and ``result``, the newest first; ``after`` the id of the last one seen, the next ones."""

    def log(self, id: str, line: str) -> None:
        """Add a line to a job's log, of which the newest ``LOG_LINES`` are kept."""

    def read_log(self, id: str) -> Sequence[LogLine]:
        """The lines of a job's log, the oldest first."""

    def delete_expired(self, most: int = 1000) -> int:
        """Delete up to ``most`` ended jobs whose time to live is over, with their results and logs; how many there were."""

    def counts(self) -> Mapping[State, int]:
        """How many jobs there are in each state."""

    def close(self) -> None:
        """Let go of files and connections."""


def open_store(url: str, clock: Clock = time.time) -> JobStore:
    """The store at ``url``: a folder or a ``.sqlite`` file, ``postgresql://...`` or ``redis://...``.

    Raises Setup: ``wrong_setting`` for another scheme, ``store_unusable`` for what cannot be opened, ``store_newer`` for what
    a newer version wrote, ``missing_extra``; and Unavailable ``store_unreachable``.
    """
    opening: Any = load_plugin("job store", STORES, scheme_of(url))
    store: JobStore = opening(url, clock)
    return store


def scheme_of(url: str) -> str:
    """The store's name in ``STORES`` (or what stands in its place)."""
    scheme, colon, _ = url.partition("://")
    if not colon:
        return "sqlite"
    return {"postgres": "postgresql", "rediss": "redis", "valkey": "redis"}.get(scheme, scheme)


def sqlite_file(url: str) -> Path:
    """``jobs.sqlite`` in a folder, or the file that is named."""
    path = Path(url.removeprefix("sqlite://"))
    return path if path.suffix in {".sqlite", ".sqlite3", ".db"} else path / "jobs.sqlite"
