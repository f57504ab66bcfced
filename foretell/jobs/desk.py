"""One kind of work in one process: claims jobs, does several side by side, and tells the store how they ended."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import orjson

from foretell.codes import tell
from foretell.errors import ForetellError, Unavailable
from foretell.jobs.job import Failure, Job, Outcome, State
from foretell.jobs.ledger import Ledger
from foretell.jobs.limits import Limits
from foretell.jobs.work import Again, Done, Notes, Work

log = logging.getLogger("foretell")

STORE_AGAIN_S = 1.0  # after the store could not be reached
End = Callable[[Job, Outcome], Awaitable[None]]
"""Records an end, and what follows from it. Raises Unavailable: then it is asked to do so again."""


class Why(Enum):
    """Why work in progress is ended from outside."""

    CANCELLED = auto()
    LOST = auto()  # another worker may have begun it
    STOPPING = auto()


@dataclass
class Hand:
    """A job in hand: what sees to its end, the work itself once it is begun, and why it is to be ended if it is."""

    task: "asyncio.Task[None] | None" = None
    work: "asyncio.Future[Done] | None" = None
    why: Why | None = None

    def begin(self, work: Work, job: Job, notes: Notes) -> "asyncio.Future[Done]":
        """Begin the work, unless it is to be ended already."""
        self.work = asyncio.ensure_future(work(job, notes))
        if self.why is not None:
            self.work.cancel()  # before its first step
        return self.work

    def interrupt(self, why: Why) -> None:
        """End the work. An outcome that is there is recorded all the same: nothing is thrown away that was done."""
        if self.why is None:
            self.why = why
            if self.work is not None:
                self.work.cancel()


@dataclass(frozen=True)
class Trade:
    """``kind`` of jobs, who does one, and how many at a time. ``lasting``: one may take so long that no stop waits for it."""

    kind: str
    work: Work
    most: int
    lasting: bool = False


class Desk:
    """``serve`` claims and starts; ``running`` are the jobs in hand; ``stop`` gives back what does not end in time."""

    def __init__(self, trade: Trade, worker: str, ledger: Ledger, limits: Limits, end: End) -> None:
        self.trade = trade
        self.worker = worker
        self.ledger = ledger
        self.limits = limits
        self.end = end
        self.running: dict[str, Hand] = {}
        self._work_to_do = asyncio.Event()
        self._stopping = False
        self._has_more = False  # as far as the last claim told: it was given all that it asked for

    def wake(self) -> None:
        """Look for work at once."""
        self._work_to_do.set()

    async def serve(self) -> None:
        """Claim and start jobs until ``stop``, or until cancelled."""
        while not self._stopping:
            self._work_to_do.clear()
            free = self.trade.most - len(self.running)
            claimed = await self._claim(free)
            for job in claimed or ():
                self._take(job)
            self._has_more = claimed is None or len(claimed) == free
            if not (claimed and self._has_more):
                await self._wait_for_work()

    def _take(self, job: Job) -> None:
        if (before := self.running.get(job.id)) is not None:  # its lease had lapsed while this process was held up
            before.interrupt(Why.LOST)
        hand = self.running[job.id] = Hand()
        if self._stopping:  # since it was claimed
            hand.interrupt(Why.STOPPING)
        hand.task = asyncio.ensure_future(self._do(job, hand))

    async def _claim(self, most: int) -> Sequence[Job] | None:
        """None when the store could not tell."""
        if most <= 0:
            return ()
        try:
            store = self.ledger.store
            return await self.ledger.call(store.claim, self.worker, (self.trade.kind,), most, self.limits.lease_s)
        except Unavailable as error:
            log.warning("no jobs can be claimed now: %s", error)
            await asyncio.sleep(STORE_AGAIN_S)
            return None

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(self.limits.poll_s * random.uniform(0.8, 1.2)):  # so that workers do not look together
                await self._work_to_do.wait()
        except TimeoutError:
            pass

    def interrupt(self, ids: Iterable[str], why: Why) -> None:
        """End work in progress."""
        for id in ids:
            if (hand := self.running.get(id)) is not None:
                hand.interrupt(why)

    def drain(self) -> None:
        """Claim nothing more; what would last is given back at once."""
        self._stopping = True
        self.wake()
        if self.trade.lasting:
            self.interrupt(list(self.running), Why.STOPPING)

    async def stop(self, within_s: float) -> None:
        """Claim nothing more, let what runs end, and give back what does not end in time."""
        self.drain()
        if self.running:
            await asyncio.wait(self._tasks(), timeout=within_s)
        while self.running:
            self.interrupt(list(self.running), Why.STOPPING)
            await asyncio.wait(self._tasks())

    def _tasks(self) -> "list[asyncio.Task[None]]":
        return [hand.task for hand in self.running.values() if hand.task is not None]

    async def _do(self, job: Job, hand: Hand) -> None:
        try:
            outcome = await self._outcome(job, hand)
            if outcome is not None:
                await self._finish(job, outcome)
        finally:
            if self.running.get(job.id) is hand:
                del self.running[job.id]
            if self._has_more:
                self.wake()

    async def _outcome(self, job: Job, hand: Hand) -> Outcome | None:
        """How the job ended; None when it did not, or is no longer ours."""
        if job.attempts > _tries(job):
            text = f"its worker ended {_tries(job)} times while this was computed: it is not tried again"
            return self._failed(job, Failure("job_abandoned", text))
        try:
            done = await hand.begin(self.trade.work, job, StoreNotes(self.ledger, job.id, self.worker))
            state = State.FAILED if done.error else State.DONE
            return Outcome(job.id, self.worker, state, done.result, done.error)
        except Again as again:
            return await self._try_again(job, again)
        except asyncio.CancelledError:
            return await self._interrupted(job, hand)
        except ForetellError as error:
            return self._failed(job, Failure(error.code, tell(error)))
        except Exception:
            log.exception("a job failed by a mistake of the server's own", extra={"job": job.id})
            return self._failed(job, Failure("internal", "the server made a mistake on this job"))

    def _failed(self, job: Job, error: Failure) -> Outcome:
        return Outcome(job.id, self.worker, State.FAILED, error=error)

    async def _try_again(self, job: Job, again: Again) -> Outcome | None:
        if again.error is not None and job.attempts >= _tries(job):
            return self._failed(job, again.error)
        await self._put_back(job, again.wait_s, again.error)
        return None

    async def _interrupted(self, job: Job, hand: Hand) -> Outcome | None:
        why = hand.why or Why.STOPPING
        if why is Why.CANCELLED:
            return Outcome(job.id, self.worker, State.CANCELLED)
        if why is Why.STOPPING:
            await self._put_back(job, 0.0, None)
        return None

    async def _put_back(self, job: Job, wait_s: float, error: Failure | None) -> None:
        try:
            await self.ledger.call(self.ledger.store.put_back, job.id, self.worker, time.time() + wait_s, error)
        except Unavailable as unreachable:  # its lease will lapse
            log.warning("a job could not be given back: %s", unreachable)

    async def _finish(self, job: Job, outcome: Outcome) -> None:
        """Record the end, again and again while the store cannot be reached: after its lease another would do it once more."""
        until = time.monotonic() + self.limits.lease_s
        while True:
            try:
                return await self.end(job, outcome)
            except Unavailable as error:
                if self._stopping or time.monotonic() > until:
                    log.warning("the end of a job could not be recorded: %s", error)
                    return
                await asyncio.sleep(STORE_AGAIN_S)


def _tries(job: Job) -> int:
    """How often a job may be begun; the store would let it be begun once more, so that it is the desk that ends it."""
    return job.most_attempts - 1


class StoreNotes:
    """Notes of one job in the store. What cannot be noted is let go: the work itself goes on."""

    def __init__(self, ledger: Ledger, id: str, worker: str) -> None:
        self.ledger = ledger
        self.id = id
        self.worker = worker

    async def progress(self, told: dict[str, Any]) -> None:
        try:
            await self.ledger.call(self.ledger.store.report, self.id, self.worker, orjson.dumps(told))
        except Unavailable as error:
            log.debug("progress is not noted: %s", error)

    async def log(self, line: str) -> None:
        try:
            await self.ledger.call(self.ledger.store.log, self.id, line)
        except Unavailable as error:
            log.debug("a line of a job's log is lost: %s", error)
