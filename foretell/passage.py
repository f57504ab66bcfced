"""The record of one request's journey, and the type of whoever looks at it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from foretell.errors import ForetellError
from foretell.request import Marks

_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


@dataclass(slots=True)
class Passage:
    """Stamped along the way and shown to observers once, when the request has been answered or refused.

    Times are ``time.monotonic()`` seconds; one that is 0.0 was never reached. ``cached``: None when no cache was asked, False
    when it was asked in vain, True when the answer was not computed for this request: it was kept, or another's.
    """

    model: str
    version: str
    mode: str
    received: float
    id: str | None = None
    rows: int = 0
    batch_rows: int = 0
    queued: float = 0.0
    started: float = 0.0
    computed: float = 0.0
    ended: float = 0.0
    error: ForetellError | None = None
    cached: bool | None = None
    marks: Marks = ()

    @property
    def outcome(self) -> str:
        """``ok``, or the code of its error."""
        return "ok" if self.error is None else self.error.code

    @property
    def total_s(self) -> float:
        return self.ended - self.received

    @property
    def queue_s(self) -> float:
        return self.phases()[1]

    @property
    def compute_s(self) -> float:
        return self.phases()[2]

    def phases(self) -> tuple[float, float, float, float]:
        """Seconds before the queue, in it, in the model and after: never negative, and together the whole.

        Where it ended early, the phase that it ended in takes the rest; what another's forward had begun before it was
        queued does not count.
        """
        end = max(self.ended, self.received)
        queued = min(max(self.queued, self.received), end) if self.queued else end
        started = min(max(self.started, queued), end) if self.started else end
        computed = min(max(self.computed, started), end) if self.computed else end
        return queued - self.received, started - queued, computed - started, end - computed

    def fields(self) -> dict[str, str]:
        """How a log line names this request: model, version, and what ``log_fields`` finds."""
        return {"model": self.model, "version": self.version, **log_fields(self.marks, self.id)}


Observer = Callable[[Passage], None]
"""Shown every finished passage on the loop's thread; never blocks, and its failure is logged, never raised."""


@runtime_checkable
class Counting(Protocol):
    """An observer that may be shown several passages at once: those that one call of the model answered."""

    def __call__(self, passage: Passage) -> None: ...

    def see_all(self, passages: Sequence[Passage]) -> None: ...


def log_fields(marks: Marks, id: str | None = None) -> dict[str, str]:
    """``request_id`` and ``trace_id`` of a log line, as far as they are known; ``id`` is the one inside the request."""
    fields = {} if id is None else {"request_id": id}
    traces = set()
    for name, value in marks:
        if name == b"x-request-id":
            fields["request_id"] = value.decode("latin-1")
        elif name == b"traceparent":
            traces.add(trace_id(value))
    trace = traces.pop() if len(traces) == 1 else None  # two that differ are none
    return fields if trace is None else {**fields, "trace_id": trace}


def trace_id(traceparent: bytes) -> str | None:
    """The trace id of a ``traceparent`` header, None of one that is not valid: https://www.w3.org/TR/trace-context/#traceparent-header."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == b"00" and match[3] is not None):
        return None
    return match[2].decode()
