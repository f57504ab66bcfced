"""Work that is done in a process of its own: it is given one JSON object, and tells JSON objects, one a line.

``{"progress": {...}}``, ``{"log": "..."}``, and at last ``{"done": {...}}`` or ``{"failed": {"code": ..., "message": ...}}``.
The process ends with us: its standard input stays open for as long as somebody is interested.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from foretell.jobs.envelope import pack
from foretell.jobs.job import Failure, Job
from foretell.jobs.work import Again, Done, Notes

LONGEST_LINE = 2**20
AGAIN_S = 2.0
BUSY = "busy_target"
"""Another process writes there: perhaps that of an attempt before, which was killed and has not gone yet."""
PASSING = ("lost_store", "store_unreachable")


@dataclass(frozen=True)
class ChildWork:
    """Runs ``command`` for each job. ``order`` makes of a job what the process is given, or raises why it cannot be done.

    ``ends_within_s``: how long one that is not wanted any more may take, before it is killed.
    """

    command: Sequence[str]
    order: Callable[[Job], Mapping[str, Any]]
    ends_within_s: float = 5.0

    async def __call__(self, job: Job, notes: Notes) -> Done:
        """Raises Again when the process died without a word: what it had done by then, it finds again."""
        order = self.order(job)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self.command, stdin=pipe, stdout=pipe, limit=LONGEST_LINE)
        assert process.stdin is not None
        try:
            with contextlib.suppress(OSError, RuntimeError):  # it was killed before it could read; uvloop raises the latter
                process.stdin.write(orjson.dumps(order) + b"\n")
            done = await _listen(process, notes)
            code = await process.wait()
        finally:
            await _end(process, self.ends_within_s)
        if done is None:
            text = f"the process of this job was ended by signal {-code}" if code < 0 else f"its process ended with code {code}"
            raise Again(AGAIN_S, Failure("job_abandoned", text))
        return done


async def _listen(process: asyncio.subprocess.Process, notes: Notes) -> Done | None:
    """What the process says, until it says how it ended."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        told = orjson.loads(line)
        if "progress" in told:
            await notes.progress(told["progress"])
        elif "log" in told:
            await notes.log(told["log"])
        elif "done" in told:
            return Done(pack(told["done"]))
        else:
            return _failed(told["failed"]["code"], told["failed"]["message"])
    return None


def _failed(code: str, message: str) -> Done:
    """How a job ended that its process refused. Raises Again for what passes."""
    if code == BUSY:
        raise Again(AGAIN_S)
    if code in PASSING:
        raise Again(AGAIN_S, Failure(code, message))
    return Done(error=Failure(code, message))


async def _end(process: asyncio.subprocess.Process, within_s: float) -> None:
    """See it gone: asked first, then killed."""
    if process.returncode is not None:
        return
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):  # it gives way to all, and would take as long to end
            os.sched_setscheduler(process.pid, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(within_s):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
