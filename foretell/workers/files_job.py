"""The process of one job over files: beneath everything else on the machine, and gone when the server is.

python -m foretell.workers.files_job, with one JSON object on standard input, which stays open: see ``foretell.jobs.child``.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson

from foretell.errors import ForetellError, Missing
from foretell.jobs.places import Places
from foretell.observe.logs import configure
from foretell.pipeline import Pipeline
from foretell.repository import Repository, open_pipeline
from foretell.settings import LogSettings, PredictSettings

NICE = 19
TELL_EVERY_S = 0.5
_KILL_WHEN_PARENT_ENDS = 1  # PR_SET_PDEATHSIG, https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html


def main() -> int:
    """Do the job; what became of it is said on standard output."""
    yield_to_all()
    end_with_parent()
    order = read_order()
    if order is None:
        return 1
    configure(LogSettings(**order["log"]))
    _end_with_input()
    try:
        say({"done": answer(order)})
    except ForetellError as error:
        say({"failed": {"code": error.code, "message": error.message}})
    return 0


def yield_to_all() -> None:
    """Run only where nothing else wants to: https://man7.org/linux/man-pages/man7/sched.7.html (SCHED_IDLE)."""
    os.nice(NICE - os.nice(0))
    if hasattr(os, "SCHED_IDLE"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it: then the niceness has to do
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def end_with_parent() -> None:
    """Be killed when the server's process ends, however it does; and be asked to end as any program is."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal tells all at once: the server decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that what is half-written is removed
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_KILL_WHEN_PARENT_ENDS, signal.SIGKILL, 0, 0, 0)


def read_order() -> dict[str, Any] | None:
    """The first line of standard input, read without a buffer that another thread could hold; None when there is none."""
    text = b""
    while not text.endswith(b"\n"):
        more = os.read(0, 2**16)
        if not more:
            return None
        text += more
    order: dict[str, Any] = orjson.loads(text)
    return order


def _end_with_input() -> None:
    """The same where no such call is, and where the parent ended before it was made."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def say(told: dict[str, Any]) -> None:
    """One line to the server."""
    sys.stdout.buffer.write(orjson.dumps(told) + b"\n")
    sys.stdout.buffer.flush()


def answer(told: dict[str, Any]) -> dict[str, Any]:
    """The report of a job."""
    from foretell.modes.files import predict

    order = told["order"]
    places = Places(tuple(map(Path, told["places"]["folders"])), tuple(told["places"]["prefixes"]))
    source, target = places.check(order["input"]), places.check(order["output"])
    places.check_links(source)
    pipeline = open_model(told, order["model"], order["version"])
    settings = PredictSettings(**{**told["predict"], **_asked(order)})
    report = predict(pipeline, Path(source), Path(target), settings, map=order.get("map", {}))
    return {"rows": report.rows, "failed": report.failed, "seconds": report.seconds, "code": 3 if report.failed else 0}


def _asked(order: dict[str, Any]) -> dict[str, Any]:
    """The settings that an order names."""
    asked = {"batch_rows": order.get("batch_rows"), "workers": order.get("concurrency", 1)}
    return {name: value for name, value in asked.items() if value is not None}


def open_model(told: dict[str, Any], name: str, version: str) -> Pipeline:
    """The very version that the job was accepted for. Raises Missing when it is no longer on the disk."""
    found = Repository(told["paths"], told["name"]).find(name, only=[version])
    for source in found.sources if found else ():
        if source.version == version:
            return open_pipeline(source)
    raise Missing("unknown_version", f"version {version} of model {name!r} is no longer there: submit the job for one that is")


class Teller:
    """Tells the server how far a job is, twice a second at most. ``done``: the share of the input, None if it is unknown."""

    def __init__(self) -> None:
        self.began = self.told = time.monotonic()

    def show(self, rows: int, failed: int, done: float | None) -> None:
        now = time.monotonic()
        if now - self.told < TELL_EVERY_S:
            return
        self.told = now
        seconds = now - self.began
        eta_s = None if not done else round(seconds * (1 - done) / done, 1)
        rate = round((rows + failed) / seconds, 1)
        told = {"rows": rows, "failed": failed, "done": done, "rows_per_s": rate, "eta_s": eta_s}
        say({"progress": told})


if __name__ == "__main__":
    sys.exit(main())
