"""Makes the jobs of schedules: each tick and each file exactly one, however many processes look.

It is the job's key that makes it one: the first process to submit it is taken, the others find that it is there. The store
remembers the key of a tick until the next one, that of a file for ever.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from foretell.errors import Denied, ForetellError, Invalid
from foretell.jobs.arrivals import Arrival, Arrivals
from foretell.jobs.cron import Cron
from foretell.jobs.job import Job, State, new_id
from foretell.jobs.limits import Limits
from foretell.jobs.orders import FilesOrder
from foretell.jobs.schedules import INTO_ITSELF, Schedule, file_words, filled, is_within, tick_words
from foretell.jobs.store import Clock, JobStore
from foretell.storage import find_place

log = logging.getLogger("foretell")

FOR_EVER = float("inf")
SKIPPED_AFTER_S = 60.0  # a tick that is older was missed
SUBMITTED_AT_ONCE = 100
FILES, MARK = "files", "mark"
TROUBLES = (ForetellError, OSError, ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, MemoryError)
"""What ends one look of one schedule, and neither its next look nor another schedule; RecursionError is a RuntimeError."""

Specify = Callable[[FilesOrder], bytes]
"""The spec of an order; raises what its model or its paths are refused for."""


@dataclass(frozen=True)
class Maker:
    """Makes the jobs of one schedule."""

    schedule: Schedule
    store: JobStore
    specify: Specify
    limits: Limits
    clock: Clock

    @property
    def owner(self) -> str:
        """Keys are an owner's own: no caller's key is one of these."""
        return f"schedule:{self.schedule.when.name}"

    def job(self, key: str, words: Mapping[str, str], input: str | None = None, *, key_until: float = FOR_EVER) -> Job:
        """The job of a tick or a file. Raises what its model or its paths are refused for."""
        order, now = self.schedule.order, self.clock()
        input = filled(order.input, words) if input is None else input
        order = msgspec.structs.replace(order, input=input, output=filled(order.output, words))
        return Job(
            new_id(),
            FILES,
            self.specify(order),
            created_at=now,
            due_at=now,
            priority=order.priority,
            owner=self.owner,
            key=key,
            key_until=key_until,
            ttl_s=self.limits.keep_s,
            most_attempts=self.limits.attempts + 1,  # past them the desk, not the store, ends it
        )

    def submit(self, jobs: Sequence[Job]) -> list[Job]:
        """Those which are new."""
        return [job for job, kept in zip(jobs, self.store.submit(jobs), strict=True) if kept.id == job.id]

    def known_since(self, key: str) -> float:
        """When any process first asked for this key: a job marks it that nobody does, and of which only the key is left."""
        now = self.clock()
        mark = Job(new_id(), MARK, b"", now, FOR_EVER, owner=self.owner, key=key, key_until=FOR_EVER, ttl_s=0.0)
        (kept,) = self.store.submit([mark])
        if kept.state is State.WAITING:
            self.store.cancel(kept.id)
            self.store.delete_expired()
        return kept.created_at


class Watch(Protocol):
    """What one schedule has to look at."""

    def look(self, most: int) -> list[Job] | None:
        """Submit what is due, ``most`` jobs at most; those which are new. None when it was not time to look."""


class CronWatch:
    """Submits the last tick that passed. Ticks before the schedule was first known were not missed."""

    def __init__(self, maker: Maker, cron: Cron) -> None:
        self.maker = maker
        self.cron = cron
        self._since: float | None = None
        self._after = 0.0

    def look(self, most: int) -> list[Job]:
        now = self.maker.clock()
        if now < self._after or not most:
            return []
        if self._since is None:
            self._since = self._begin(now)
        tick, after = self.cron.around(now)
        after = FOR_EVER if after is None else after
        new = self.maker.submit([self._job(tick, after)]) if tick is not None and tick > self._since else []
        self._after = after
        return new

    def _begin(self, now: float) -> float:
        known = self.maker.known_since(f"known:{self.cron.expression} {self.cron.zone.key}")
        return known if self.maker.schedule.when.missed == "once" else max(known, now - SKIPPED_AFTER_S)

    def _job(self, tick: float, after: float) -> Job:
        words = tick_words(tick, self.cron)
        return self.maker.job(f"tick:{words['tick']}", words, key_until=after)


class FolderWatch:
    """Submits each file that came whole, and came again if it changed."""

    def __init__(self, maker: Maker, folder: str) -> None:
        self.maker = maker
        self.arrivals = Arrivals(find_place(folder), maker.schedule.when.pattern)
        self._next = 0.0

    def look(self, most: int) -> list[Job] | None:
        now = self.maker.clock()
        if now < self._next:
            return None
        self._next = now + self.maker.schedule.when.every_s
        new: list[Job] = []
        arrivals = self.arrivals.look()[:most]
        for begin in range(0, len(arrivals), SUBMITTED_AT_ONCE):
            some = arrivals[begin : begin + SUBMITTED_AT_ONCE]
            new += self.maker.submit([job for arrival in some if (job := self._job(arrival))])
            for arrival in some:
                self.arrivals.tell(arrival)
        return new

    def _job(self, arrival: Arrival) -> Job | None:
        """None for a file whose path cannot be one of a job."""
        schedule = self.maker.schedule
        words = file_words(arrival.inner, schedule.when.pattern)
        try:
            if is_within(filled(schedule.order.output, words), str(self.arrivals.folder)):
                raise Invalid("wrong_place", f"it {INTO_ITSELF}")
            return self.maker.job(f"file:{arrival.digest}", words, arrival.file)
        except (Invalid, Denied) as refusal:
            log.warning("schedule %s passes over the file %r: %s", schedule.when.name, arrival.file, refusal)
            return None


class Planner:
    """``look`` submits what is due. One schedule's trouble is no other's."""

    def __init__(self, schedules: Sequence[Schedule], store: JobStore, specify: Specify, limits: Limits, clock: Clock) -> None:
        self.store = store
        self.limits = limits
        self.watches = [_watch(Maker(schedule, store, specify, limits, clock)) for schedule in schedules]
        self._troubles: dict[str, str] = {}

    def look(self) -> list[Job]:
        """The jobs that are new."""
        new: list[Job] = []
        for name, watch in self.watches:
            try:
                room = self._room()
                made = watch.look(room)
            except TROUBLES as error:
                self._complain(name, str(error) or type(error).__name__)
                continue
            new += made or []
            if not room:
                self._complain(name, "too many jobs wait (setting jobs.waiting), or the disk is full")
            elif made is not None:
                self._troubles.pop(name, None)
        return new

    def _room(self) -> int:
        """How many jobs more may wait."""
        return max(0, self.limits.waiting - self.store.counts()[State.WAITING]) if self.limits.has_room() else 0

    def _complain(self, name: str, trouble: str) -> None:
        """Once for as long as it is the same."""
        if self._troubles.get(name) != trouble:
            log.warning("schedule %s makes no job now, and tries again: %s", name, trouble)
        self._troubles[name] = trouble


def _watch(maker: Maker) -> tuple[str, Watch]:
    when, cron = maker.schedule.when, maker.schedule.cron
    return when.name, FolderWatch(maker, when.folder or "") if cron is None else CronWatch(maker, cron)


async def keep_schedules(planner: Planner, every_s: float) -> None:
    """Look again and again, until cancelled."""
    while True:
        await asyncio.to_thread(planner.look)
        await asyncio.sleep(every_s)
