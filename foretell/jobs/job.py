"""A job: a piece of work that outlives the connection which asked for it, and the process which does it."""

import secrets
import time
from dataclasses import dataclass
from enum import StrEnum

URGENT, NORMAL, LOW = PRIORITIES = (1, 2, 3)
"""Which waiting jobs are begun first; the same numbers as a request's."""

DAY_S = 86_400.0


class State(StrEnum):
    """Where a job stands. It ends DONE, FAILED or CANCELLED.

    EXPIRED is what is left of a job whose ``key`` is remembered longer than itself: no store shows it but to who submits
    the same key again.
    """

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: a stable code and a sentence that may be shown to its owner."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job as a store knows it. All ``_at`` and ``_until`` are unix seconds.

    ``spec`` (what to do) and ``result`` (what came of it) are opaque to the store. The job is not begun before ``due_at``.
    ``owner`` is who submitted it; ``key`` is unique among the jobs of one owner, and ``fingerprint`` says whether what comes
    with a key again is the same. ``ttl_s`` is how long the job is kept after its end, and ``key_until`` until when its key is
    remembered at least. ``attempts`` counts how often it was begun. While it runs, ``worker`` holds it until ``lease_until``.
    """

    id: str
    kind: str
    spec: bytes
    created_at: float
    due_at: float
    state: State = State.WAITING
    priority: int = NORMAL
    owner: str = ""
    key: str | None = None
    fingerprint: str = ""
    key_until: float = 0.0
    ttl_s: float = DAY_S
    most_attempts: int = 3
    attempts: int = 0
    worker: str | None = None
    lease_until: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    progress: bytes = b""
    result: bytes | None = None
    error: Failure | None = None
    cancel_wanted: bool = False

    def __post_init__(self) -> None:
        if self.priority not in PRIORITIES:
            raise ValueError(f"a job's priority is one of {PRIORITIES}, not {self.priority}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, told by the worker that holds it: DONE with a result, FAILED with an error, or CANCELLED."""

    id: str
    worker: str
    state: State
    result: bytes | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """Of the jobs whose leases were to be renewed: those still held, and those among them that are to be cancelled."""

    held: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log; ``at`` in unix seconds."""

    at: float
    text: str


def new_id() -> str:
    """An id that nobody can guess (128 random bits), and that sorts after those which this machine made before it."""
    return f"{time.time_ns():016x}{secrets.token_hex(16)}"


def plain_text(text: str) -> str:
    """Text that every database takes: without NUL, and without half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
