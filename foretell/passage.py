"""The record of one request's journey, and the type of whoever looks at it."""

from collections.abc import Callable
from dataclasses import dataclass

from foretell.errors import ForetellError


@dataclass(slots=True)
class Passage:
    """Stamped along the way and shown to observers once, when the request has been answered or refused.

    Times are ``time.monotonic()`` seconds; one that is 0.0 was never reached.
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

    @property
    def total_s(self) -> float:
        return self.ended - self.received

    @property
    def queue_s(self) -> float:
        return (self.started or self.ended) - self.queued if self.queued else 0.0

    @property
    def compute_s(self) -> float:
        return (self.computed or self.ended) - self.started if self.started else 0.0


Observer = Callable[[Passage], None]
"""Shown every finished passage on the loop's thread; never blocks, and its failure is logged, never raised."""
