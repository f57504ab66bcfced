"""The process of one job over files: beneath everything else on the machine, and gone when the server is.

python -m foretell.workers.files_job, with one JSON object on standard input, which stays open: see ``foretell.jobs.child``.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from foretell.errors import ForetellError, Missing
from foretell.jobs.places import Places
from foretell.observe.logs import configure
from foretell.repository import Repository, open_pipeline
from foretell.repository.fingerprint import fingerprint
from foretell.repository.model_folder import ModelSource
from foretell.settings import LogSettings, PredictSettings

if TYPE_CHECKING:
    from foretell.modes.files.progress import Progress

log = logging.getLogger("foretell")

NICE = 19
SETTINGS = {"batch_rows": "batch_rows", "max_errors": "max_errors", "retries": "retries", "concurrency": "workers"}
OPTIONS = {name: name for name in ("map", "keep", "where", "limit", "sample", "only", "restart")}
"""Name in an order -> name in the settings or options of a run."""
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
    logging.getLogger("foretell").addHandler(Telling())
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


class Telling(logging.Handler):
    """Tells the server each line of the log too, for who asks what the job has said."""

    def emit(self, record: logging.LogRecord) -> None:
        say({"log": f"{record.levelname.lower()}: {record.getMessage()}"})


def answer(told: dict[str, Any]) -> dict[str, Any]:
    """The report of a job."""
    from foretell.modes.files import Options, predict

    order = told["order"]
    places = Places(tuple(map(Path, told["places"]["folders"])), tuple(told["places"]["prefixes"]))
    source, target = places.check(order["input"]), places.check(order["output"])
    order["only"] = order.get("only") and places.check(order["only"])
    places.check_links(source)
    model = find_model(told, order["model"], order["version"])
    settings = PredictSettings(**{**told["predict"], "workers": 1, **_named(order, SETTINGS)})
    options = Options(
        **_named(order, OPTIONS), progress=Teller(), models={"": model.path}, fingerprints={"": fingerprint(model)}
    )
    log.info("job %s: %s version %s answers %s", told["job"], model.name, model.version, source)
    report = predict(open_pipeline(model), source, target, settings, options)
    log.info(
        "job %s: %d rows are answered, %d failed, %d were done before", told["job"], report.rows, report.failed, report.resumed
    )
    return {**report.facts(), "code": 3 if report.failed else 0}


def _named(order: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """What an order says, by the names that it has elsewhere."""
    return {names[name]: value for name, value in order.items() if name in names and value is not None}


def find_model(told: dict[str, Any], name: str, version: str) -> ModelSource:
    """The very version that the job was accepted for. Raises Missing when it is no longer on the disk."""
    found = Repository(told["paths"], told["name"]).find(name, only=[version])
    for source in found.sources if found else ():
        if source.version == version:
            return source
    raise Missing("unknown_version", f"version {version} of model {name!r} is no longer there: submit the job for one that is")


class Teller:
    """Tells the server how far a job is, twice a second at most."""

    def __init__(self) -> None:
        self.told = 0.0

    def __call__(self, now: "Progress") -> None:
        if time.monotonic() - self.told < TELL_EVERY_S:
            return
        self.told = time.monotonic()
        rate = (now.rows + now.failed) / now.seconds if now.seconds else 0.0
        eta_s = None if now.left_s is None else round(now.left_s, 1)
        told = {"rows": now.rows, "failed": now.failed, "done": now.done, "rows_per_s": round(rate, 1), "eta_s": eta_s}
        say({"progress": told})


if __name__ == "__main__":
    sys.exit(main())
