"""A service of jobs whose work does as a test says."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretell.jobs.desk import Trade
from foretell.jobs.job import Job, State, new_id
from foretell.jobs.ledger import Ledger
from foretell.jobs.limits import Limits
from foretell.jobs.service import JobService
from foretell.jobs.store import JobStore, open_store
from foretell.jobs.work import Done, Notes

LIMITS = Limits(lease_s=1.0, poll_s=0.02)
Body = Callable[["Worker"], Awaitable[None]]


@dataclass
class Worker:
    """A service with a kind of work that does as it is told; ``seen`` are the ids that were begun."""

    folder: Path
    limits: Limits = LIMITS
    most: int = 4
    name: str = "w"
    answers: list[Done | Exception] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    ended: list[tuple[str, State]] = field(default_factory=list)
    follows: Sequence[Job] = ()
    service: JobService = field(init=False)
    hold: asyncio.Event = field(init=False)

    async def work(self, job: Job, notes: Notes) -> Done:
        self.seen.append(job.id)
        await notes.progress({"begun": len(self.seen)})
        await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else Done(job.spec)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def announce(self, job: Job) -> Sequence[Job]:
        self.ended.append((job.id, job.state))
        return self.follows

    async def __aenter__(self) -> "Worker":
        self.hold = asyncio.Event()
        self.hold.set()
        trades = [Trade("work", self.work, self.most)]
        self.service = JobService(Ledger(open_store(str(self.folder))), self.name, trades, self.limits, self.announce)
        await self.service.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hold.set()
        await self.service.stop(5.0)

    async def submit(self, spec: bytes = b"spec", **more: object) -> Job:
        now = time.time()
        return await self.service.submit(Job(new_id(), "work", spec, now, now, **more))  # type: ignore[arg-type]

    async def end(self, job: Job) -> Job:
        return await self.service.wait(job.id, 20.0)

    async def begun(self, count: int = 1) -> None:
        while len(self.seen) < count:
            await asyncio.sleep(0.005)


def run(worker: Worker, body: Body) -> None:
    async def inside() -> None:
        async with worker:
            await body(worker)

    asyncio.run(inside())


class Reads:
    """A store that writes down what is called; ``instead`` of some of its calls are others."""

    def __init__(self, store: JobStore, read: list[str], **instead: Callable[..., Any]) -> None:
        self.store = store
        self.read = read
        self.instead = instead

    def __getattr__(self, name: str) -> Any:
        self.read.append(name)
        return self.instead.get(name) or getattr(self.store, name)
