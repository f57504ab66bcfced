"""Work in a process of its own: what it says becomes progress, a log, a result or a failure, and none is left behind."""

import asyncio
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from foretell.jobs.child import ChildWork
from foretell.jobs.envelope import unpack
from foretell.jobs.job import Failure, Job
from foretell.jobs.work import Again, Done

JOB = Job("j", "files", b"", 0.0, 0.0)


@dataclass
class Kept:
    """Notes that are kept."""

    told: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    async def progress(self, told: dict[str, Any]) -> None:
        self.told.append(told)

    async def log(self, line: str) -> None:
        self.lines.append(line)


def work(code: str) -> ChildWork:
    """A process that runs ``code``, in which ``order`` is what it was given."""
    program = f"import json, os, sys, time\norder = json.loads(sys.stdin.readline())\n{code}"
    return ChildWork([sys.executable, "-c", program], lambda job: {"id": job.id}, ends_within_s=0.2)


def done(code: str, notes: Kept | None = None) -> Done:
    return asyncio.run(_done(work(code), notes or Kept()))


async def _done(child: ChildWork, notes: Kept) -> Done:
    return await child(JOB, notes)


def test_what_it_says_is_noted_and_its_last_word_is_the_result() -> None:
    notes = Kept()
    code = """
print(json.dumps({"progress": {"rows": 1}}), flush=True)
print(json.dumps({"log": "half"}), flush=True)
print(json.dumps({"done": order}), flush=True)
"""
    ended = done(code, notes)
    assert unpack(ended.result or b"")[0] == {"id": "j"}
    assert (notes.told, notes.lines) == ([{"rows": 1}], ["half"])


def test_what_it_refuses_is_how_the_job_ends() -> None:
    ended = done('print(json.dumps({"failed": {"code": "broken_file", "message": "torn"}}))')
    assert ended == Done(error=Failure("broken_file", "torn"))


@pytest.mark.parametrize("code", ["os._exit(9)", "os.kill(os.getpid(), 9)", "pass"])
def test_one_that_ends_without_a_word_is_begun_again(code: str) -> None:
    with pytest.raises(Again) as again:
        done(code)
    assert again.value.error is not None
    assert again.value.error.code == "job_abandoned"


def test_a_target_that_another_process_still_holds_is_waited_for() -> None:
    with pytest.raises(Again) as again:
        done('print(json.dumps({"failed": {"code": "busy_target", "message": "another run"}}))')
    assert again.value.error is None  # so that the attempt does not count


def test_a_store_that_does_not_answer_is_tried_again() -> None:
    with pytest.raises(Again) as again:
        done('print(json.dumps({"failed": {"code": "lost_store", "message": "gone"}}))')
    assert again.value.error == Failure("lost_store", "gone")


@pytest.mark.parametrize("deaf", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_one_that_nobody_wants_any_more_is_gone(deaf: str) -> None:
    async def cancelled() -> int:
        notes = Kept()
        code = f'{deaf}\nprint(json.dumps({{"progress": {{"pid": os.getpid()}}}}), flush=True)\ntime.sleep(60)'
        task = asyncio.ensure_future(_done(work(code), notes))
        while not notes.told:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int(notes.told[0]["pid"])

    pid = asyncio.run(cancelled())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
