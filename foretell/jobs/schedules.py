"""Schedules as a file tells them: when which job over files is to be made. Read and checked before anything starts.

[[schedule]]
name = "nightly"
cron = "30 2 * * *"
time_zone = "Europe/Berlin"
model = "digits"
input = "/data/in"
output = "/data/out/{date}"

[[schedule]]
name = "inbox"
folder = "/data/inbox"
pattern = "*.csv"
model = "digits"
output = "/data/out/{path}.parquet"
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from foretell.errors import ForetellError, Setup
from foretell.jobs.cron import Cron
from foretell.jobs.orders import FilesOrder
from foretell.jobs.places import Places
from foretell.storage import is_url, read_small

MOST_BYTES = 2**16
MOST_DOTS = 1000  # in a line: Python takes the square of the time for the parts of a dotted key
TICK_WORDS = ("date", "day_before", "time", "tick")
"""What the input and output of a schedule by cron may hold in braces: days by its time zone, ``tick`` in UTC to the second."""

FILE_WORDS = ("path", "name", "stem")
"""The same for the output of a folder: the file's path in it, its name, and its name without suffix. The path is without its
suffix too where the pattern allows one suffix only, so that no two files have the same."""

Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=86_400)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``cron`` or ``folder``. ``missed``: whether a tick that passed while no server ran is made up for, the last one once.

    A folder is looked into every ``every_s`` for files whose name fits the ``pattern``.
    """

    name: Name
    cron: str | None = None
    time_zone: str = "UTC"
    missed: Literal["once", "skip"] = "once"
    folder: str | None = None
    pattern: str = "*"
    every_s: Seconds = 10.0


INTO_ITSELF = "writes into the folder that it watches, where each answer would be taken for a new file"
ONLY_CRON = {"time_zone", "missed"}
ONLY_FOLDER = {"pattern", "every_s"}


@dataclass(frozen=True)
class Schedule:
    """When, and what: an order whose paths may hold words in braces. ``cron`` is None for a folder."""

    when: When
    order: FilesOrder
    cron: Cron | None = None


def read_schedules(file: Path) -> tuple[Schedule, ...]:
    """All schedules of a file. Raises Setup: ``missing_file``, ``wrong_schedule`` naming the schedule, ``missing_extra``."""
    try:
        text = read_small(file, MOST_BYTES).decode()
        if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
            raise ValueError(f"a line has more than {MOST_DOTS} dots")
        told = tomllib.loads(text)
    except FileNotFoundError as error:
        raise Setup("missing_file", f"there is no file of schedules {file}: correct the setting jobs.schedules") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _wrong(file, "it", f"cannot be read: {error}") from error
    tables = told.get("schedule")
    if set(told) != {"schedule"} or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _wrong(file, "it", "holds tables [[schedule]] and nothing else")
    schedules = tuple(_read(file, number, table) for number, table in enumerate(tables, start=1))
    names = [schedule.when.name for schedule in schedules]
    for name in names:
        if names.count(name) > 1:
            raise _wrong(file, repr(name), "is the name of two schedules: rename one")
    return schedules


def check_places(schedules: Sequence[Schedule], places: Places) -> None:
    """That jobs may read and write where schedules say. Raises Setup ``wrong_schedule``, ``missing_file`` for a folder."""
    for schedule in schedules:
        name, folder = schedule.when.name, schedule.when.folder
        for path in (schedule.order.input, schedule.order.output):
            try:
                places.check(path)
            except ForetellError as error:
                raise Setup("wrong_schedule", f"schedule {name!r} cannot use {path}: {error.message}") from error
        if folder is not None and is_within(schedule.order.output.partition("{")[0], folder):
            raise Setup("wrong_schedule", f"schedule {name!r} {INTO_ITSELF}")
        if folder is not None and not is_url(folder) and not Path(folder).is_dir():
            raise Setup("missing_file", f"schedule {name!r} watches {folder}, which is no folder: make it, mkdir -p {folder}")


def _read(file: Path, number: int, table: Mapping[str, Any]) -> Schedule:
    who = repr(table.get("name", f"number {number}"))
    own = set(When.__struct_fields__)
    try:
        _check_known(table)
        when = msgspec.convert({key: value for key, value in table.items() if key in own}, When)
        order = {key: value for key, value in table.items() if key not in own}
        _check_keys(when, table)
        if when.folder is not None:
            return Schedule(when, _folder_order(when.folder, order))
        schedule = Schedule(when, _cron_order(order), cron := _cron(when))
        _check_often(schedule.order, cron)
        return schedule
    except Setup:
        raise
    except ForetellError as error:
        raise _wrong(file, who, error.message) from error
    except ValueError as error:  # msgspec's refusals are ValueErrors too
        raise _wrong(file, who, str(error).replace("Object", "it", 1)) from error


def _check_known(table: Mapping[str, Any]) -> None:
    known = sorted({*When.__struct_fields__, *FilesOrder.__struct_fields__})
    if unknown := set(table) - set(known):
        raise ValueError(f"has {min(unknown)!r}, which is no key of a schedule: it has {', '.join(known)}")


def _check_keys(when: When, table: Mapping[str, Any]) -> None:
    if (when.cron is None) == (when.folder is None):
        raise ValueError("needs either a cron expression or a folder")
    out_of_place = (ONLY_CRON if when.cron is None else ONLY_FOLDER) & set(table)
    if out_of_place:
        raise ValueError(f"has {min(out_of_place)!r}, which is of no use to a {'folder' if when.cron is None else 'cron'}")


def _folder_order(folder: str, told: Mapping[str, Any]) -> FilesOrder:
    if "input" in told:
        raise ValueError("has an 'input': for a folder, each file that comes is the input")
    order = FilesOrder.read({**told, "input": folder})
    if "path" not in _words(order.output, FILE_WORDS, "output"):
        raise ValueError("would write answers of several files to the same output: put {path} into it")
    if is_within(order.output.partition("{")[0], folder):
        raise ValueError(INTO_ITSELF)
    return order


def _cron_order(told: Mapping[str, Any]) -> FilesOrder:
    order = FilesOrder.read(told)
    _words(order.input, TICK_WORDS, "input")
    if not _words(order.output, TICK_WORDS, "output") - {"time"} and not order.restart:
        raise ValueError("would write to the same output every time: put {tick} or {date} into it, or set restart = true")
    return order


def _check_often(order: FilesOrder, cron: Cron) -> None:
    """Raises ValueError when two of three ticks in a row have the same output."""
    tick, outputs = cron.around(0.0)[1], []
    for _ in range(3):
        if tick is not None:
            outputs.append(filled(order.output, tick_words(tick, cron)))
            tick = cron.around(tick)[1]
    if len(set(outputs)) < len(outputs) and not order.restart:
        raise ValueError(f"would write to {outputs[0]} more than once: put {{tick}} into it, or set restart = true")


def tick_words(tick: float, cron: Cron) -> dict[str, str]:
    """What ``TICK_WORDS`` stand for at one tick."""
    there = datetime.fromtimestamp(tick, cron.zone)
    return {
        "date": f"{there:%Y-%m-%d}",
        "day_before": f"{there.date() - timedelta(days=1):%Y-%m-%d}",
        "time": f"{there:%H%M}",
        "tick": f"{there.astimezone(UTC):%Y%m%dT%H%M%SZ}",
    }


def file_words(inner: str, pattern: str) -> dict[str, str]:
    """What ``FILE_WORDS`` stand for, for the file at that path in the folder."""
    path, suffix = PurePosixPath(inner), PurePosixPath(pattern).suffix
    only_suffix = bool(suffix) and not set("*?[]") & set(suffix)
    return {"path": str(path.with_suffix("")) if only_suffix else inner, "name": path.name, "stem": path.stem}


def is_within(path: str, folder: str) -> bool:
    """Whether what is written to the path comes into the folder, by whatever links. ``path`` may be the beginning of one."""
    if is_url(path) or is_url(folder):
        return path.startswith(folder.rstrip("/") + "/")
    return Path(os.path.realpath(path.rpartition("/")[0] or "/")).is_relative_to(os.path.realpath(folder))


def _words(path: str, known: tuple[str, ...], what: str) -> set[str]:
    """The words in braces. Raises ValueError for one that is not known."""
    words = set(re.findall(r"\{([^{}]*)\}", path))
    if unknown := words - set(known):
        raise ValueError(f"has {{{min(unknown)}}} in its {what}: use {', '.join(f'{{{word}}}' for word in known)}")
    return words


def filled(path: str, words: Mapping[str, str]) -> str:
    """A path with the words in braces put in."""
    return re.sub(r"\{([^{}]*)\}", lambda found: words[found[1]], path)


def _cron(when: When) -> Cron:
    try:
        zone = ZoneInfo(when.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"has the time zone {when.time_zone!r}, which is not known here: write it as Europe/Berlin") from error
    cron = Cron(when.cron or "", zone)
    try:
        _, after = cron.around(0.0)
    except ValueError as error:
        raise ValueError(f"has the cron expression {when.cron!r}, which cannot be read: {error}") from error
    if after is None:
        raise ValueError(f"has the cron expression {when.cron!r}, which never comes")
    return cron


def _wrong(file: Path, who: str, why: str) -> Setup:
    return Setup("wrong_schedule", f"{file}: {who} {why}")
