"""What the service asks of those who do the work of one kind of jobs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from foretell.jobs.job import Failure, Job


@dataclass(frozen=True)
class Done:
    """How a job ended: with a result, with an error, or with both."""

    result: bytes | None = None
    error: Failure | None = None


class Again(Exception):
    """It cannot be done now, and perhaps after ``wait_s``. ``error``: what is told when that was the last attempt.

    Without an error the job was not begun: the attempt does not count.
    """

    def __init__(self, wait_s: float, error: Failure | None = None) -> None:
        super().__init__(error.message if error else "not now")
        self.wait_s = wait_s
        self.error = error


class Notes(Protocol):
    """Where who works tells how far a job is."""

    async def progress(self, told: dict[str, Any]) -> None:
        """Replace what is known of its progress: small, JSON-ready."""

    async def log(self, line: str) -> None: ...


Work = Callable[[Job, Notes], Awaitable[Done]]
"""Does one job; cancelled when nobody wants it any more. Raises Again; any other error is how the job ends."""
