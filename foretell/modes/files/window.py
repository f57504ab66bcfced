"""Work side by side in threads, its results in order, and never more than a window of it under way."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """``map(work, items)`` on ``workers`` threads. An item is taken only when fewer than ``workers + 2`` are unanswered.

    What ``work`` or ``items`` raises is raised here, and work that has not begun is dropped.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="predict") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                while pending and (len(pending) >= workers + 2 or pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
