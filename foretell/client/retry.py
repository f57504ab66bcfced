"""When a request is sent again, and after how long."""

import email.utils
import threading
import time
from collections.abc import Callable

from foretell.client.options import Retry
from foretell.errors import ForetellError, Kind

AGAIN = frozenset({Kind.BUSY, Kind.UNAVAILABLE})


class Budget:
    """Tokens that all requests of a client share: a retry takes one, a success puts a part of one back."""

    def __init__(self, retry: Retry) -> None:
        self.retry = retry
        self.tokens = retry.budget
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            if self.tokens < 1:
                return False
            self.tokens -= 1
            return True

    def put_back(self) -> None:
        with self._lock:
            self.tokens = min(self.tokens + self.retry.put_back, self.retry.budget)


def wait_s(retry: Retry, tries: int, error: ForetellError) -> float:
    """Seconds to wait after the ``tries``-th try: a random part of a doubling time, behind what the server asked for."""
    jitter = retry.random() * min(retry.first_wait_s * 2.0 ** (tries - 1), retry.longest_wait_s)
    return jitter + (read_seconds(error.details.get("retry_after_s")) or 0.0)


def read_seconds(value: object) -> float | None:
    """A number of seconds to wait, as it stands in a body; None for what is none, or lies in the past."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(value)


def read_retry_after(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """A ``Retry-After`` header in seconds, whether it gives seconds or a date; None for what is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:10])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now())
    except (ValueError, OverflowError, LookupError, TypeError):
        return None
