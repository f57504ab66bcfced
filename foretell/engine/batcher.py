"""Gathers the rows of many callers into calls of one model. Only what is here ever sees a batch.

The batcher is work-conserving: what arrives at an idle model runs in the same loop tick, together with everything else of
that tick; what arrives while the model is busy forms the next batch. It lives on one event loop and takes no locks.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np

from foretell.errors import Broken, Busy, ForetellError, Late, Unavailable
from foretell.passage import Passage
from foretell.settings import EngineSettings
from foretell.tensors import Arrays, Signature

SWEEP_S = 0.02  # how often deadlines are looked at while the model is busy

Outcome = Arrays | ForetellError


class Place(Protocol):
    """Where forwards run: ``run`` calls ``work`` there, and ``done`` with its result on the loop's thread."""

    def run(self, work: Callable[[], list[Outcome]], done: Callable[[list[Outcome]], None]) -> None: ...


class Entry(ABC):
    """One caller's rows in the queue. ``answer`` or ``fail`` is called once, on the loop's thread, if still wanted."""

    __slots__ = ("count", "deadline", "passage", "rows", "size", "wanted")

    rows: Arrays
    count: int
    size: int
    deadline: float
    passage: Passage
    wanted: bool

    def load(self, rows: Arrays, count: int, deadline: float, passage: Passage) -> None:
        """Take the features that are to be computed: ``count`` rows, due at ``deadline`` (monotonic seconds)."""
        self.rows = rows
        self.count = passage.rows = count
        self.size = 0
        for array in rows.values():
            self.size += array.nbytes
        self.deadline = deadline
        self.passage = passage
        self.wanted = True

    @abstractmethod
    def answer(self, outputs: Arrays) -> None: ...

    @abstractmethod
    def fail(self, error: ForetellError) -> None: ...


class Awaited(Entry):
    """The entry of a caller that awaits a future."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Arrays]) -> None:
        self.future = future

    def answer(self, outputs: Arrays) -> None:
        if not self.future.done():
            self.future.set_result(outputs)

    def fail(self, error: ForetellError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Batcher:
    """The queue before one model. ``clock`` gives the monotonic seconds that deadlines are counted in."""

    def __init__(
        self,
        forward: Callable[[Arrays], Arrays],
        signature: Signature,
        place: Place,
        settings: EngineSettings,
        clock: Callable[[], float],
    ) -> None:
        self.forward = forward
        self.signature = signature
        self.place = place
        self.settings = settings
        self.clock = clock
        self.most_rows = settings.max_batch_rows if signature.rows else 1
        self.waiting: deque[Entry] = deque()
        self.waiting_rows = 0
        self.waiting_bytes = 0
        self.running: list[Entry] = []
        self.closed = False
        self._one_shape = all(size is not None for spec in signature.inputs for size in spec.shape)
        self._due: asyncio.Handle | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def submit(self, rows: Arrays, deadline: float, passage: Passage) -> Arrays:
        """The outputs for ``rows``: the awaiting form of ``submit_nowait``. Cancelling it takes the rows back."""
        future: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        entry = Awaited(future)
        entry.load(rows, self.signature.count_rows(rows), deadline, passage)
        self.submit_nowait(entry)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(entry)
            raise

    def submit_nowait(self, entry: Entry) -> None:
        """Queue an entry. Raises Busy when the queue is full, Late when it is due already, Unavailable when closed."""
        entry.passage.queued = now = self.clock()
        if self.closed:
            raise Unavailable("not_ready", "the model is being taken down: try again", retry_after_s=1)
        if entry.deadline <= now:
            raise _late(entry, "before the queue", now)
        if self.waiting and self._full(entry):
            rows = self.waiting_rows
            raise Busy("queue_full", f"the model's queue is full with {rows} rows waiting: try again", retry_after_s=1)
        self.waiting.append(entry)
        self.waiting_rows += entry.count
        self.waiting_bytes += entry.size
        if not self.running and (self._due is None or self.waiting_rows >= self.most_rows):
            self._schedule()

    def cancel(self, entry: Entry) -> None:
        """Forget an entry: it is not run if it still waits, and not answered if it is running."""
        if entry.wanted:
            entry.wanted = False
            if entry in self.waiting:
                self.waiting.remove(entry)
                self._uncount(entry)

    def close(self) -> None:
        """Refuse what waits and what comes. What is running is still answered."""
        self.closed = True
        while self.waiting:
            self._settle(self._pop(), Unavailable("not_ready", "the model is being taken down: try again", retry_after_s=1))

    def _schedule(self) -> None:
        """Run the next batch: at the end of this loop tick, or after ``max_wait_s`` if it is not full yet."""
        loop = asyncio.get_running_loop()
        if self._due is not None:
            self._due.cancel()
        if self.settings.max_wait_s > 0 and self.waiting_rows < self.most_rows:
            self._due = loop.call_later(self.settings.max_wait_s, self._start)
            self._watch()
        else:
            self._due = loop.call_soon(self._start)

    def _start(self) -> None:
        self._due = None
        if self.running:
            return
        batch = self._take()
        if batch:
            self.running = batch
            self.place.run(lambda: self._compute(batch), self._finished)
        if self.running:
            self._watch()

    def _take(self) -> list[Entry]:
        """The oldest entries that can share one call: the same shapes, and at most ``most_rows`` together."""
        now = self.clock()
        batch: list[Entry] = []
        rows = size = 0
        while self.waiting:
            entry = self.waiting[0]
            if entry.deadline <= now:
                self._settle(self._pop(), _late(entry, "in the queue", now))
                continue
            if batch and (rows + entry.count > self.most_rows or not (self._one_shape or _alike(batch[0], entry))):
                break
            batch.append(self.waiting.popleft())
            rows += entry.count
            size += entry.size
        self.waiting_rows -= rows
        self.waiting_bytes -= size
        for entry in batch:
            entry.passage.started = now
            entry.passage.batch_rows = min(rows, self.most_rows)  # one entry of more rows is computed in parts
        return batch

    def _compute(self, batch: list[Entry]) -> list[Outcome]:
        """One outcome for each entry; runs where the model is placed. When a shared call raises, each is run alone."""
        try:
            if len(batch) == 1:
                return [self._forward(batch[0].rows, batch[0].count)]
            joined = {name: np.concatenate([entry.rows[name] for entry in batch]) for name in batch[0].rows}
            return _split(self._forward(joined, sum(entry.count for entry in batch)), batch)
        except ForetellError as error:
            return [error] * len(batch)
        except Exception as cause:  # noqa: BLE001 - the batch run: whatever a model raises is its caller's answer
            if len(batch) > 1:
                return [self._compute([entry])[0] for entry in batch]
            broken = Broken("model_failed", "the model raised an error on this input")
            broken.__cause__ = cause
            return [broken]

    def _forward(self, rows: Arrays, count: int) -> Arrays:
        """The model on any number of rows, never more than ``most_rows`` at a time."""
        if count <= self.most_rows:
            return self._checked(self.forward(rows), count)
        parts = []
        for start in range(0, count, self.most_rows):
            part = {name: array[start : start + self.most_rows] for name, array in rows.items()}
            parts.append(self._checked(self.forward(part), min(self.most_rows, count - start)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _checked(self, outputs: Arrays, count: int) -> Arrays:
        if self.signature.rows:
            for name, array in outputs.items():
                if array.shape[:1] != (count,):
                    got = array.shape[0] if array.ndim else "no"
                    raise Broken("wrong_output", f"the model was given {count} rows, but its output {name!r} has {got} rows")
        return outputs

    def _finished(self, outcomes: list[Outcome]) -> None:
        batch, self.running = self.running, []
        now = self.clock()
        if self.waiting and self._due is None:
            self._due = asyncio.get_running_loop().call_soon(self._start)
        for entry, outcome in zip(batch, outcomes, strict=True):
            entry.passage.computed = now
            self._settle(entry, outcome)

    def _watch(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Tell those whose time is up, waiting or running, without waiting for the model."""
        self._sweeper = None
        now = self.clock()
        for entry in [entry for entry in self.waiting if entry.deadline <= now]:
            self.waiting.remove(entry)
            self._uncount(entry)
            self._settle(entry, _late(entry, "in the queue", now))
        for entry in self.running:
            if entry.deadline <= now:
                self._settle(entry, _late(entry, "in the model", now))
        if self.running or self.waiting:
            self._watch()

    def _pop(self) -> Entry:
        entry = self.waiting.popleft()
        self._uncount(entry)
        return entry

    def _full(self, entry: Entry) -> bool:
        limits = self.settings
        return self.waiting_rows + entry.count > limits.queue_rows or self.waiting_bytes + entry.size > limits.queue_bytes

    def _uncount(self, entry: Entry) -> None:
        self.waiting_rows -= entry.count
        self.waiting_bytes -= entry.size

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        if entry.wanted:
            entry.wanted = False
            if isinstance(outcome, ForetellError):
                entry.fail(outcome)
            else:
                entry.answer(outcome)


def _alike(first: Entry, second: Entry) -> bool:
    """Whether two entries' rows have the same shapes."""
    return all(array.shape[1:] == second.rows[name].shape[1:] for name, array in first.rows.items())


def _split(outputs: Arrays, batch: list[Entry]) -> list[Outcome]:
    """Each entry's own rows of a shared call's outputs."""
    parts: list[Outcome] = []
    start = 0
    for entry in batch:
        stop = start + entry.count
        parts.append({name: array[start:stop] for name, array in outputs.items()})
        start = stop
    return parts


def _late(entry: Entry, phase: str, now: float) -> Late:
    waited_ms = round((now - entry.passage.received) * 1000, 1)
    return Late("deadline_passed", f"the deadline passed {phase}, after {waited_ms} ms", phase=phase, waited_ms=waited_ms)
