"""Sends copies of requests to another version, once they are answered, and tells how far its answers are from those given."""

import asyncio
import logging
from collections import deque
from typing import NamedTuple

from foretell.comparison import Compared, Comparison, compare
from foretell.engine.engine import Engine
from foretell.errors import ForetellError
from foretell.request import SHADOW, Request
from foretell.tensors import Arrays

log = logging.getLogger("foretell")

MODE = "shadow"
MOST_COPIES = 256
MOST_BYTES = 64 * 2**20
PAUSE_S = 0.0005
WITHIN_S = 30.0
ON_LOOP_BYTES = 64 * 2**10
NO_ROOM = {"queue_full", "not_ready"}


class Copy(NamedTuple):
    """A request that was answered, what its caller got, and the bytes of both."""

    request: Request
    given: Arrays
    size: int


class Shadow:
    """``take`` is an engine's ``after``. What waits is bounded in copies and bytes, and what is over it is dropped.

    A copy begins a moment after its answer. Where the shadow computes in the event loop, its copies run one by one with
    pauses as long as themselves, so that they never take more than half of the loop's time.
    """

    def __init__(self, engine: Engine, tell: Compared) -> None:
        self.engine = engine
        self.tell = tell
        self._waiting: deque[Copy] = deque()
        self._waiting_bytes = 0
        self._pause_s = PAUSE_S
        self._due: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    def take(self, request: Request, given: Arrays) -> None:
        """Have a copy computed later, if there is room for it."""
        size = _size(request.inputs) + _size(given)
        is_full = len(self._waiting) >= MOST_COPIES or self._waiting_bytes + size > MOST_BYTES
        if is_full or not self.engine.ready:
            self._tell("dropped")
            return
        self._waiting.append(Copy(request, given, size))
        self._waiting_bytes += size
        self._schedule()

    def _schedule(self) -> None:
        if self._due is None and not self._running:
            self._due = asyncio.get_running_loop().call_later(self._pause_s, self._begin)

    def _begin(self) -> None:
        self._due = None
        for _ in range(1 if self.engine.quick else len(self._waiting)):
            copy = self._waiting.popleft()
            self._waiting_bytes -= copy.size
            task = asyncio.ensure_future(self._compute(copy))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        mistake = None if task.cancelled() else task.exception()
        if mistake is not None:
            log.error("a copy for a shadow failed", exc_info=mistake)
            self._tell("failed")
        if self._waiting:
            self._schedule()

    async def _compute(self, copy: Copy) -> None:
        loop, engine = asyncio.get_running_loop(), self.engine
        began, now, asked = loop.time(), engine.clock(), copy.request
        request = Request(asked.inputs, now, now + WITHIN_S, asked.id, MODE, MODE, SHADOW)
        request.parameters, request.marks = asked.parameters, asked.marks
        try:
            copied = await engine.infer(request)
            rows = engine.pipeline.signature.rows
            if copy.size > ON_LOOP_BYTES:
                told = await asyncio.to_thread(compare, engine.name, engine.version, copy.given, copied, rows=rows)
            else:
                told = compare(engine.name, engine.version, copy.given, copied, rows=rows)
            self.tell(told)
        except ForetellError as error:
            if error.code in NO_ROOM:
                self._tell("dropped")
                return
            log.debug("version %s of model %s failed on a copy: %s", engine.version, engine.name, error)
            self._tell("failed")
        finally:
            self._pause_s = max(PAUSE_S, loop.time() - began)

    def _tell(self, outcome: str) -> None:
        self.tell(Comparison(self.engine.name, self.engine.version, outcome))


def _size(arrays: Arrays) -> int:
    return sum([sum(map(len, each.ravel().tolist())) if each.dtype == object else each.nbytes for each in arrays.values()])
