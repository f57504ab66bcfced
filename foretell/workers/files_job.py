"""One job over files, in a process of its own: what it is told, what it does, and what it tells. It begins in ``beneath``."""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from foretell.errors import ForetellError, Missing, Setup
from foretell.jobs.places import Places
from foretell.observe.logs import configure
from foretell.repository import Repository, open_pipeline
from foretell.repository.fingerprint import fingerprint
from foretell.repository.model_folder import ModelSource
from foretell.settings import LogSettings, PredictSettings
from foretell.storage import find_place, make_folder
from foretell.workers.fence import fence, libraries

if TYPE_CHECKING:
    from foretell.modes.files.progress import Progress

log = logging.getLogger("foretell")

LONGEST_MESSAGE = 10_000
SETTINGS = {"batch_rows": "batch_rows", "max_errors": "max_errors", "retries": "retries", "concurrency": "workers"}
OPTIONS = {name: name for name in ("map", "keep", "where", "limit", "sample", "only", "restart")}
"""Name in an order -> name in the settings or options of a run."""
TELL_EVERY_S = 2.0


def do(order: bytes, say: "Voice") -> None:
    """Do a job, and say how it ended."""
    told = orjson.loads(order)
    configure(LogSettings(**told["log"]))
    log.addHandler(Telling(say))
    try:
        say({"done": answer(told, say)})
    except ForetellError as error:
        say({"failed": {"code": error.code, "message": error.message[:LONGEST_MESSAGE]}})
    except Exception as error:  # the outermost loop of this process: tried again, it would go wrong again
        log.exception("job %s failed by a mistake of the server's own: %s", told["job"], type(error).__name__)
        say({"failed": {"code": "internal", "message": "the server made a mistake on this job: its log names it"}})


class Voice:
    """Says something to the server: one JSON object a line, whole lines from any thread."""

    def __init__(self, descriptor: int) -> None:
        self.stream = open(descriptor, "wb", buffering=0)  # noqa: SIM115 - it is for as long as the process lives
        self._one = threading.Lock()

    def __call__(self, told: Mapping[str, Any]) -> None:
        with self._one:
            self.stream.write(orjson.dumps(told) + b"\n")


class Telling(logging.Handler):
    """Tells the server each line of the log too, for who asks what the job has said."""

    def __init__(self, say: Voice) -> None:
        super().__init__()
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        self.say({"log": f"{record.levelname.lower()}: {record.getMessage()}"[:LONGEST_MESSAGE]})


def answer(told: dict[str, Any], say: Voice) -> dict[str, Any]:
    """The report of a job."""
    from foretell.modes.files import Options, predict

    order, readable = told["order"], libraries()
    places = Places(tuple(map(Path, told["places"]["folders"])), tuple(told["places"]["prefixes"]))
    source, target = places.check(order["input"]), places.check_output(order["output"])
    order["only"] = order.get("only") and places.check(order["only"])
    model = find_model(told, order["model"], order["version"])
    settings = PredictSettings(**{**told["predict"], "workers": 1, **_named(order, SETTINGS)})
    teller = Teller(say)
    options = Options(**_named(order, OPTIONS), progress=teller, models={"": model.path}, fingerprints={"": fingerprint(model)})
    pipeline = open_pipeline(model)
    readable |= {str(model.path).partition(":")[0], *(path for path in told["paths"] if ":" not in path)}
    readable |= {str(model.folder)} if model.in_folder else set()
    if not fence(readable, places.folders):
        log.debug("job %s: this kernel cannot keep it to its folders: nobody else should put links into them", told["job"])
    _look_at_links(places, source, target, order["only"])
    log.info("job %s: %s version %s answers %s", told["job"], model.name, model.version, source)
    report = predict(pipeline, source, target, settings, options)
    teller.end(report.rows, report.failed, report.rows_per_s)
    log.info(
        "job %s: %d rows are answered, %d failed, %d were done before", told["job"], report.rows, report.failed, report.resumed
    )
    return {**report.facts(), "code": 3 if report.failed else 0}


def _look_at_links(places: Places, source: str, target: str, only: str) -> None:
    """Last of all before the work: names are as they were, no link leads out, and the output has a folder to be in.

    Raises Denied ``place_not_listed``, Setup ``wrong_target``.
    """
    for text in filter(None, (source, only)):
        places.check_links(places.check(text))
    if Path(places.check_output(target)).is_dir():
        places.check_links(target)
    folder = find_place(target).parent
    try:
        make_folder(folder)
    except OSError as error:
        raise Setup("wrong_target", f"{folder} cannot be a folder for the answers: {error.strerror}: name another") from error


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
    """Tells the server how far a job is, every two seconds at most."""

    def __init__(self, say: Voice) -> None:
        self.say = say
        self.told = 0.0

    def __call__(self, now: "Progress") -> None:
        if time.monotonic() - self.told < TELL_EVERY_S:
            return
        self.told = time.monotonic()
        self._say(now.rows, now.failed, now.done, now.rows_per_s, None if now.left_s is None else round(now.left_s, 1))

    def end(self, rows: int, failed: int, rows_per_s: float) -> None:
        """The last word, whenever the one before was."""
        self._say(rows, failed, 1.0, rows_per_s, 0.0)

    def _say(self, rows: int, failed: int, done: float | None, rows_per_s: float, eta_s: float | None) -> None:
        told = {"rows": rows, "failed": failed, "done": done, "rows_per_s": round(rows_per_s, 1), "eta_s": eta_s}
        self.say({"progress": told})
