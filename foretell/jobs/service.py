"""The jobs of one process: takes them in, has them done, and keeps their leases. It knows neither HTTP nor files."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from foretell.errors import Busy, Invalid, Mismatched, Missing, Unavailable
from foretell.jobs.desk import Desk, Trade, Why
from foretell.jobs.job import ENDED, Job, Outcome, State
from foretell.jobs.ledger import Ledger
from foretell.jobs.limits import Limits

log = logging.getLogger("foretell")

LOOK_S = 1.0  # how often the jobs are counted
RENEW_S = 2.0  # how often leases are renewed at least, and so how soon a job that another process cancels is ended
SWEEP_S = 30.0
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 0.5  # between looks at a job that another process may have
Announce = Callable[[Job], Sequence[Job]]
"""The jobs that follow from the end of one, as it is about to be. Asked twice it gives them twice, by the same keys."""


def nobody(job: Job) -> Sequence[Job]:
    """Nothing follows."""
    return ()


class JobService:
    """``start`` begins to work; ``stop`` ends it, and gives back what is not done in time.

    ``counts``: how many jobs there are in each state, as of a second ago at most. ``announce`` says what follows from an end.
    """

    def __init__(
        self, ledger: Ledger, worker: str, trades: Sequence[Trade], limits: Limits, announce: Announce = nobody
    ) -> None:
        self.ledger = ledger
        self.worker = worker
        self.limits = limits
        self.announce = announce
        self.desks = {trade.kind: Desk(trade, worker, ledger, limits, self._end) for trade in trades}
        self.counts: Mapping[State, int] = {}
        self._since = 0  # jobs taken in since they were counted
        self._has_room = True
        self._draining = self._stopped = False
        self.also: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What else goes on as long as jobs are done: who makes jobs by schedules."""
        self._serving: list[asyncio.Task[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._ends: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # kept by who waits here for an end

    async def start(self) -> None:
        """Begin to claim jobs. Raises Unavailable when the store does not answer."""
        await self._look()
        work = [desk.serve() for desk in self.desks.values() if desk.trade.most]
        own = (self._keep_leases(), self._look_after(), self._sweep())
        self._serving = [asyncio.ensure_future(each) for each in work]
        self._tasks = [*self._serving, *map(asyncio.ensure_future, (*own, *(begin() for begin in self.also)))]
        for task in self._tasks:
            task.add_done_callback(_tell_if_broken)

    def drain(self, grace_s: float = 0.0) -> None:
        """Claim nothing more. What is submitted is still kept, for others or for later."""
        self._draining = True
        for desk in self.desks.values():
            desk.drain()

    async def stop(self, within_s: float) -> None:
        """Let the jobs that run end within that time, and give the others back, to be begun again by whoever claims them."""
        if self._stopped:
            return
        self._stopped = True
        self.drain()
        if self._serving:
            await asyncio.wait(self._serving, timeout=within_s)  # what is being claimed is given back
        await asyncio.gather(*(desk.stop(within_s) for desk in self.desks.values()))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.get_running_loop().run_in_executor(None, self.ledger.close)

    async def submit(self, job: Job) -> Job:
        """Keep a job: once this returns, it is done whoever is killed. Of a key that was used, the job that has it.

        Raises Busy ``jobs_full``, Unavailable, or Mismatched for a key that came with another fingerprint.
        """
        if not self._has_room:
            raise Unavailable("store_full", "the disk has no room for more jobs", retry_after_s=30)
        if self.counts.get(State.WAITING, 0) + self._since >= self.limits.waiting:
            text = f"{self.limits.waiting} jobs wait already (setting jobs.waiting): try again later"
            raise Busy("jobs_full", text, retry_after_s=5)
        now = time.time()
        self._since += 1
        most, kept_until = self.limits.attempts + 1, now + self.limits.keep_s  # past them the desk, not the store, ends it
        job = replace(job, key_until=kept_until, ttl_s=self.limits.keep_s, most_attempts=max(most, job.most_attempts))
        try:
            kept = await self.ledger.submit(job)
        except Invalid as error:
            text = "this Idempotency-Key was used before with another request: take a new one for each request"
            raise Mismatched("other_request", text) from error
        self.desks[job.kind].wake()
        return kept

    async def get(self, id: str) -> Job:
        """Raises Missing ``unknown_job``."""
        job = await self.ledger.call(self.ledger.store.get, id)
        if job is None or job.state is State.EXPIRED:
            raise unknown(id)
        return job

    async def wait(self, id: str, within_s: float) -> Job:
        """The job once it has ended, or as it is when the time is over. Raises Missing."""
        until, pause_s = time.monotonic() + within_s, FIRST_LOOK_S
        ended = self._ends.setdefault(id, asyncio.Event())  # before the first look, after which it may end
        while not ended.is_set():
            job = await self._look_at(id)
            left_s = until - time.monotonic()
            if job.state in ENDED or self._draining or left_s <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause_s, left_s)):
                    await ended.wait()
            pause_s = min(2 * pause_s, LONGEST_LOOK_S)
        return await self.get(id)

    async def _look_at(self, id: str) -> Job:
        """A job without ``spec`` and ``result``, of which it may have megabytes. Raises Missing."""
        found = await self.ledger.call(lambda: self.ledger.store.list(after=f"{id}~", most=1))  # the first that is not after it
        if not found or found[0].id != id:
            raise unknown(id)
        return found[0]

    async def cancel(self, id: str) -> Job:
        """End a job, at once where it waits or runs here; another worker is told at its next look. Raises Missing."""
        wanted = await self.get(id)
        if wanted.state in ENDED:
            return wanted
        try:
            await self._announce(replace(wanted, state=State.CANCELLED, finished_at=time.time()))
        except Unavailable as error:  # a full store still takes a cancelling
            log.warning("what follows from the cancelling of a job cannot be kept: %s", error, extra={"job": id})
        job = await self.ledger.call(self.ledger.store.cancel, id)
        if job is None:
            raise unknown(id)
        for desk in self.desks.values():
            desk.interrupt((id,), Why.CANCELLED)
        if job.state in ENDED:
            self._tell_end(id)
        return job

    @property
    def running(self) -> list[str]:
        """The ids of the jobs that run in this process."""
        return [id for desk in self.desks.values() for id in desk.running]

    async def _end(self, job: Job, outcome: Outcome) -> None:
        await self._announce(replace(job, state=outcome.state, error=outcome.error, finished_at=time.time()))
        if await self.ledger.finish(outcome):
            self._tell_end(job.id)

    async def _announce(self, job: Job) -> None:
        """Keep what follows from an end, before the end itself: if this process is killed in between, it is told once more."""
        for following in self.announce(job):
            await self.ledger.submit(following)
            self.desks[following.kind].wake()

    def _tell_end(self, id: str) -> None:
        if (ended := self._ends.get(id)) is not None:
            ended.set()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(min(RENEW_S, self.limits.lease_s / 4))
            ids = self.running
            if not ids:
                continue
            try:
                renewal = await self.ledger.call(self.ledger.store.renew, ids, self.worker, self.limits.lease_s)
            except Unavailable as error:
                log.warning("leases of jobs are not renewed: %s", error)
                continue
            for desk in self.desks.values():
                desk.interrupt(set(ids) - renewal.held, Why.LOST)
                desk.interrupt(renewal.cancelled, Why.CANCELLED)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except Unavailable as error:
                log.warning("jobs cannot be counted: %s", error)

    async def _look(self) -> None:
        before = self._since
        self.counts = await self.ledger.call(self.ledger.store.counts)
        self._since -= before
        self._has_room = await self.ledger.call(self.limits.has_room)

    async def _sweep(self) -> None:
        """Delete what is older than its time to live."""
        while True:
            try:
                while await self.ledger.call(self.ledger.store.delete_expired):
                    pass
            except Unavailable as error:
                log.warning("old jobs are not deleted: %s", error)
            await asyncio.sleep(min(SWEEP_S, self.limits.keep_s))


def unknown(id: str) -> Missing:
    """The refusal of an id that is no job's, or no longer."""
    return Missing("unknown_job", "there is no such job: its id is wrong, or its result was deleted after its time to live")


def _tell_if_broken(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("jobs are no longer looked after by this worker", exc_info=error)
