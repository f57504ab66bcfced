"""The record of one request's finished journey, and the type of whoever looks at it."""

from collections.abc import Callable
from dataclasses import dataclass

from foretell.errors import ForetellError


@dataclass(slots=True)
class Passage:
    """Made once, when a request has been answered or refused. Times are ``time.monotonic()`` seconds.

    ``queued``, ``started`` and ``computed`` are 0.0 for a phase that was never reached.
    """

    model: str
    version: str
    mode: str
    received: float
    ended: float
    queued: float = 0.0
    started: float = 0.0
    computed: float = 0.0
    rows: int = 0
    batch_rows: int = 0
    id: str | None = None
    error: ForetellError | None = None

    @property
    def total_s(self) -> float:
        return self.ended - self.received

    @property
    def queue_s(self) -> float:
        return max(0.0, (self.started or self.ended) - self.queued) if self.queued else 0.0

    @property
    def compute_s(self) -> float:
        return max(0.0, (self.computed or self.ended) - self.started) if self.started else 0.0


Observer = Callable[[Passage], None]
"""Shown every passage on the loop's thread; never blocks, and its failure is logged, never raised."""
