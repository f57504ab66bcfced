"""A store as an event loop uses it: in threads, and what comes at one moment in one transaction."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from foretell.jobs.job import Outcome
from foretell.jobs.store import JobStore

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")
THREADS = 3  # one that submits, one that finishes, and one that looks
MOST_AT_ONCE = 256


class Ledger:
    """The calls of a store, awaited. Cancelling who awaits does not take back what was begun."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.threads = ThreadPoolExecutor(THREADS, "jobs")
        self.submit = Gathered(store.submit, self.threads)
        """Keeps one new job; gives it, or the one that has its key."""
        self.finish = Gathered(partial(_finish, store), self.threads)
        """Ends one job; whether that was recorded."""

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Any other call of the store, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    def close(self) -> None:
        """Wait for the calls that run, and let go of the store."""
        self.threads.shutdown()
        self.store.close()


def _finish(store: JobStore, outcomes: Sequence[Outcome]) -> list[bool]:
    recorded = store.finish(outcomes)
    return [outcome.id in recorded for outcome in outcomes]


class Gathered(Generic[In, Out]):
    """A call that takes one thing, over a function that takes many and gives as many: what comes while it runs goes together.

    When it raises for several, each is tried alone, so that only who is at fault is told.
    """

    def __init__(self, function: Callable[[Sequence[In]], Sequence[Out]], threads: Executor) -> None:
        self.function = function
        self.threads = threads
        self._waiting: deque[tuple[In, asyncio.Future[Out]]] = deque()
        self._running = False

    async def __call__(self, item: In) -> Out:
        future: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._running:
            self._next()
        return await future

    def _next(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
        self._running = bool(batch)
        if batch:
            self._run(batch).add_done_callback(self._ran)

    def _ran(self, run: "asyncio.Future[Any]") -> None:
        self._next()

    def _run(self, batch: Sequence[tuple[In, "asyncio.Future[Out]"]]) -> "asyncio.Future[Any]":
        run = asyncio.get_running_loop().run_in_executor(self.threads, self.function, [item for item, _ in batch])
        run.add_done_callback(partial(self._tell, batch))
        return run

    def _tell(self, batch: Sequence[tuple[In, "asyncio.Future[Out]"]], run: "asyncio.Future[Sequence[Out]]") -> None:
        error = run.exception()
        if error is not None and len(batch) > 1:
            for each in batch:
                self._run([each])
            return
        for number, (_, future) in enumerate(batch):
            if future.done():  # who asked is gone
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(run.result()[number])
