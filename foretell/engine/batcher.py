"""Gathers the rows of many callers into calls of one model. Only what is here ever sees a batch.

The batcher is work-conserving: what arrives at an idle model runs in the same loop tick, together with everything else of
that tick; what arrives while the model is busy forms the next batch. It lives on one event loop and takes no locks.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import numpy as np

from foretell.engine.admission import ServiceTime
from foretell.engine.entrance import Entrance
from foretell.engine.part import split
from foretell.engine.queue import Entry, Queue
from foretell.engine.suspects import Suspects
from foretell.errors import Broken, Busy, ForetellError, Late, Unavailable
from foretell.passage import Passage
from foretell.settings import EngineSettings
from foretell.tensors import Arrays, Datatype, Signature

log = logging.getLogger("foretell")
SHORT_S = 0.0002  # calls that are shorter than this make nobody wait: their time is not learnt
SWEEP_S = 0.02  # how often deadlines are looked at while the model is busy
ALWAYS = float("inf")
MARGIN = 1.2  # a wait is taken to be so many times as long as the calls in it: who is let in and late has cost others a place

Outcome = Arrays | ForetellError


class Place(Protocol):
    """Where forwards run: ``run`` calls ``work`` there, and ``done`` with its result on the loop's thread.

    ``is_apart``: whether that is beside the loop, and ``run`` gives back at once.
    """

    is_apart: bool

    def run(self, work: Callable[[], list[Outcome]], done: Callable[[list[Outcome]], None]) -> None: ...


class Batcher(Entrance):
    """The queue before one model, and the call that runs. ``clock`` gives the monotonic seconds of all times."""

    def __init__(
        self,
        forward: Callable[[Arrays], Arrays],
        signature: Signature,
        place: Place,
        settings: EngineSettings,
        clock: Callable[[], float],
        suspects: Suspects | None = None,
    ) -> None:
        self.forward = forward
        self.signature = signature
        self.place = place
        self.settings = settings
        self.clock = clock
        self.suspects = suspects
        self.most_rows = settings.max_batch_rows if signature.rows else 1
        self.queue = Queue(settings.queue_rows, settings.queue_bytes)
        self.service = ServiceTime(self.most_rows)
        self.running: list[Entry] = []
        self.closed = False
        self.overdue = False  # whether the call that runs has taken longer than ``execute_timeout_s``
        self.overdue_calls = 0  # how many did
        self.end_call: Callable[[], None] | None = None  # ends the call that runs, where the model can be ended
        self._is_giving = False  # whether those of a call are being given their outcomes
        self._behind: list[Callable[[], None]] = []  # what is to be done when all have theirs
        self._running_rows = 0
        self._started = 0.0
        self._queue_timeout_s = settings.queue_timeout_s or ALWAYS
        self._execute_timeout_s = settings.execute_timeout_s or ALWAYS
        self._most_calls = 3 + settings.queue_rows // self.most_rows  # that anybody may have to wait for
        self._least_tight_s = ALWAYS if settings.queue_timeout_s else 0.0
        self._tight_s = self._least_tight_s  # who has no more time left than this may come too late, and is looked at
        self._suspected = (0, 0)
        self._one_shape = all(size is not None for spec in signature.inputs for size in spec.shape)
        [first, *others] = signature.inputs
        self._plain = None if others or first.dtype is Datatype.BYTES else first.name
        self._due: asyncio.Handle | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def waiting_rows(self) -> int:
        return self.queue.rows

    @property
    def waiting_bytes(self) -> int:
        return self.queue.size

    def submit_nowait(self, entry: Entry) -> None:
        """Queue an entry. Raises Busy when the queue is full or the answer would be late, Late when it is late already.

        Raises Unavailable when closed.
        """
        queue = self.queue
        entry.passage.queued = now = self.clock()
        if entry.deadline - now <= self._tight_s:
            self._admit(entry, now)
        rows = queue.rows
        if rows and (rows + entry.count > queue.most_rows or queue.size + entry.size > queue.most_bytes):
            self._make_room(entry, now)
        queue.put(entry)
        if not self.running and (self._due is None or queue.rows >= self.most_rows):
            self._schedule()

    def cancel(self, entry: Entry) -> None:
        if entry.wanted:
            entry.wanted = False
            if entry.waits:
                self.queue.discard(entry)

    def close(self) -> None:
        """Refuse what waits and what comes. What is running is still answered."""
        self.closed = True
        self._tight_s = self._least_tight_s = ALWAYS
        for entry in list(self.queue):
            self.queue.discard(entry)
            self._settle(entry, _closing())

    def drain_s(self, now: float) -> float:
        """The seconds until what runs and what waits now will be done, as far as is known."""
        return self._left_s(now) + self.service.expect(self.queue.rows)

    # -- who may come in

    def _admit(self, entry: Entry, now: float) -> None:
        """Refuse what is late, or will be by the measured service time. An idle model refuses nothing that is not late."""
        if self.closed:
            raise _closing()
        if entry.deadline <= now:
            raise _late("total", "the deadline passed before the queue", now, entry.passage.received)
        entry.due = min(entry.deadline, now + self._queue_timeout_s)
        if self.overdue:
            text = "the model is stuck in a call that has taken longer than it may: try again"
            raise Busy("overloaded", text, retry_after_s=self._retry_s(now))
        if not self.running and not self.queue.rows:
            return
        left_s, ahead = self._left_s(now), self.queue.ahead(entry)
        starts_s = left_s + self.service.expect(ahead // self.most_rows * self.most_rows)
        ends_s = left_s + self.service.expect(ahead + entry.count) * (MARGIN if ahead else 1.0)
        if now + starts_s > entry.due or now + ends_s > entry.deadline:
            left_ms = round((entry.due - now) * 1000, 1)
            text = f"the answer would take some {ends_s * 1000:.0f} ms, and {left_ms:g} ms are left: try again"
            raise Busy(
                "overloaded", text, expected_ms=round(ends_s * 1000, 1), left_ms=left_ms, retry_after_s=self._retry_s(now)
            )

    def _make_room(self, entry: Entry, now: float) -> None:
        """Refuse others for this one, if they are less urgent or their caller has more than its part; else raise Busy."""
        rows = self.queue.rows
        evicted = self.queue.make_room(entry)
        if not evicted:
            text = f"the model's queue is full with {rows} rows waiting: try again"
            raise Busy("queue_full", text, retry_after_s=self._retry_s(now))
        text = f"the model's queue is full with {rows} rows waiting, and this one gave way to another caller's: try again"
        for each in evicted:
            self._settle(each, Busy("queue_full", text, retry_after_s=self._retry_s(now)))

    def _retry_s(self, now: float) -> float:
        return round(max(1.0, self.drain_s(now)), 1)

    def _left_s(self, now: float) -> float:
        """The seconds until the model is free."""
        return self.service.left(self._running_rows, now - self._started) if self.running else 0.0

    # -- the call

    def _schedule(self) -> None:
        """Run the next batch: at the end of this loop tick, or after ``max_wait_s`` if it is not full yet."""
        loop = asyncio.get_running_loop()
        if self._due is not None:
            self._due.cancel()
        if self.settings.max_wait_s > 0 and self.queue.rows < self.most_rows:
            self._due = loop.call_later(self.settings.max_wait_s, self._start)
            self._watch()
        else:
            self._due = loop.call_soon(self._start)

    def _start(self) -> None:
        self._due = None
        if self.running:
            return
        now = self.clock()
        late: list[Entry] = []
        batch = self.queue.take(now, self.service.worth(self.queue.rows), late, one_shape=self._one_shape)
        for entry in late:
            self._settle(entry, self._late_in_queue(entry, now))
        if batch and self.suspects is not None:
            batch = self._suspect(batch, self.suspects)
        if batch:
            self._run(batch, now)
        elif self.queue.rows:
            self._schedule()

    def _run(self, batch: list[Entry], now: float) -> None:
        rows = 0
        for entry in batch:
            rows += entry.count
        self.running, self._running_rows, self._started = batch, rows, now
        self.place.run(lambda: self._compute(batch, rows), self._finished)
        if self.running:
            self._watch()
            for entry in batch:
                self._stamp(entry.passage)

    def _stamp(self, passage: Passage) -> None:
        passage.started = self._started
        passage.batch_rows = min(self._running_rows, self.most_rows)  # more rows of one entry are computed in parts

    def _suspect(self, batch: list[Entry], suspects: Suspects) -> list[Entry]:
        """Note the members of a batch, in case that they make the process crash; those that did so are refused."""
        suspects.look()
        if suspects.known and len(batch) > 1:
            batch = self._without_suspects(batch, suspects)
        for entry, error in suspects.refusals(batch):
            batch.remove(entry)
            self._settle(entry, error)
        self._suspected = suspects.begin(batch, self._plain)
        return batch

    def _without_suspects(self, batch: list[Entry], suspects: Suspects) -> list[Entry]:
        """Those of a batch that share a call: who is suspected is put back, to be computed alone."""
        suspected = [entry for entry in batch if suspects.is_suspect(entry)]
        together = [entry for entry in batch if entry not in suspected] or suspected[:1]
        for entry in suspected:
            if entry not in together:
                entry.apart = object()  # equal to no other
                self.queue.put(entry)
        return together

    def _compute(self, batch: list[Entry], rows: int) -> list[Outcome]:
        """One outcome for each entry; runs where the model is placed. When a shared call raises, each is run alone."""
        try:
            if len(batch) == 1:
                return [self._forward(batch[0].rows, rows)]
            joined = {name: np.concatenate([entry.rows[name] for entry in batch]) for name in batch[0].rows}
            return split(self._forward(joined, rows), [entry.count for entry in batch])
        except ForetellError as error:
            return [error] * len(batch)
        except KeyboardInterrupt:
            raise
        except BaseException as cause:  # noqa: BLE001 - the batch run: whatever a model raises is its caller's answer
            broken = Broken("model_failed", "the model raised an error on this input")
            broken.__cause__ = cause
            if len(batch) == 1:
                return [broken]
            return [self._compute([entry], entry.count)[0] if entry.wanted else broken for entry in batch]

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
        seconds = now - self._started
        if seconds > SHORT_S or self.service.longest_s > SHORT_S or self.overdue:
            self.service.learn(self._running_rows, seconds)
            self._tight_s = self.service.longest_s * self._most_calls + self._least_tight_s
            self.overdue = False
        queue = self.queue
        if queue.is_contended:
            queue.charge(batch, self._running_rows, seconds)
        if self.suspects is not None:
            self._unsuspect(outcomes, self.suspects)
        stamps = now, self._started, min(self._running_rows, self.most_rows)
        try:
            self._go_on()
        finally:
            self._give_all(batch, outcomes, *stamps)

    def _go_on(self) -> None:
        """Have the next call begin: beside the loop at once, so that it does not wait for the answers of the last."""
        if not self.queue.rows or self._due is not None:
            return
        if self.place.is_apart:
            self._start()
        else:
            self._due = asyncio.get_running_loop().call_soon(self._start)

    def _give_all(self, batch: list[Entry], outcomes: list[Outcome], now: float, started: float, rows: int) -> None:
        self._is_giving = True
        try:
            self._give(batch, outcomes, now, started, rows)
        finally:
            self._is_giving = False
            behind, self._behind = self._behind, []
            for do in behind:
                do()

    def afterwards(self, do: Callable[[], None]) -> None:
        """Do something when all of the call that ends now have their outcomes: at once, if none does."""
        if self._is_giving:
            self._behind.append(do)
        else:
            do()

    def _give(self, batch: list[Entry], outcomes: list[Outcome], now: float, started: float, rows: int) -> None:
        """Stamp each entry's passage, and tell who still waits."""
        for entry, outcome in zip(batch, outcomes, strict=True):
            passage = entry.passage
            passage.started = started
            passage.batch_rows = rows
            passage.computed = now
            if entry.wanted:
                entry.wanted = False
                if isinstance(outcome, ForetellError):
                    entry.fail(outcome)
                else:
                    entry.answer(outcome)

    def _unsuspect(self, outcomes: list[Outcome], suspects: Suspects) -> None:
        first = outcomes[0]
        if isinstance(first, Unavailable) and first.code == "model_crashed":
            suspects.crashed(self._suspected)
        else:
            suspects.end(self._suspected)

    # -- time

    def _watch(self) -> None:
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        """Tell those whose time is up, waiting or running, without waiting for the model."""
        self._sweeper = None
        now = self.clock()
        if self.queue.soonest <= now:
            for entry in self.queue.expire(now):
                self._settle(entry, self._late_in_queue(entry, now))
        if self.running:
            self._sweep_running(now, now - self._started)
        if self.running or self.queue.rows:
            self._watch()

    def _sweep_running(self, now: float, running_s: float) -> None:
        is_overdue = running_s >= self._execute_timeout_s
        self._tight_s = max(self._tight_s, self.service.longest_s * self._most_calls + running_s)
        if is_overdue and not self.overdue:
            self.overdue = True
            self._tight_s = ALWAYS
            self.overdue_calls += 1
            stuck = self.running[0].passage
            then = "nothing more is taken until it ends" if self.end_call is None else "it is ended, with the model's process"
            text = "model %s version %s: a call takes longer than engine.execute_timeout_s: %s"
            log.warning(text, stuck.model, stuck.version, then)
            if self.end_call is not None:
                self.end_call()
        for entry in self.running:
            if entry.deadline <= now:
                self._settle(entry, _late("total", "the deadline passed in the model", now, entry.passage.received))
            elif is_overdue:
                self._settle(entry, _late("execute", "the model took longer than it may", now, self._started))

    def _late_in_queue(self, entry: Entry, now: float) -> Late:
        if entry.deadline <= now:
            return _late("total", "the deadline passed in the queue", now, entry.passage.received)
        return _late("queue", "the model was busy for longer than a request may wait", now, entry.passage.queued)

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        if entry.wanted:
            entry.wanted = False
            if isinstance(outcome, ForetellError):
                entry.fail(outcome)
            else:
                entry.answer(outcome)


def _late(phase: str, what: str, now: float, since: float) -> Late:
    """``phase`` is the timeout that passed: queue, execute or total; the milliseconds are those that it counts."""
    waited_ms = round((now - since) * 1000, 1)
    return Late("deadline_passed", f"{what}, after {waited_ms:g} ms", phase=phase, waited_ms=waited_ms)


def _closing() -> Unavailable:
    return Unavailable("not_ready", "the model is being taken down: try again", retry_after_s=1)
