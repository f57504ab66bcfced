"""How far a run is: counted as chunks are answered, told to a callback, and shown as a bar on standard error."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from foretell.modes.files.shard import Done

SHOWN_EVERY_S = 0.2


@dataclass(frozen=True)
class Progress:
    """``rows`` have an answer and ``failed`` have none; ``done`` is the share of the input from 0 to 1, None if not known.

    ``rows_per_s`` is of this run, without what one before has done. ``left_s`` is how long the rest will take if it goes on
    like this, None if not known.
    """

    rows: int
    failed: int
    done: float | None
    shards: int
    rows_per_s: float
    left_s: float | None


class Tally:
    """The sums of a run. ``tick`` may be called from several threads, all else from the one that collects."""

    def __init__(self, tell: Callable[[Progress], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.tell = tell
        self.clock = clock
        self.started = clock()
        self.rows = self.failed = self.passed_over = self.resumed = self.shards = 0
        self.model_s = self.share = self.resumed_share = 0.0
        self._ticked = [0, 0]
        self._lock = threading.Lock()
        self._told = -SHOWN_EVERY_S

    def resume(self, done: Done) -> None:
        """What a run before has done."""
        self.resumed += done.rows + done.failed
        self.resumed_share += done.share
        self.model_s -= done.model_s
        self.add(done, ticked=False)

    def add(self, done: Done, *, ticked: bool = True) -> None:
        """A shard is done."""
        with self._lock:
            self.rows += done.rows
            self.failed += done.failed
            self.passed_over += done.passed_over
            self.model_s += done.model_s
            self.share += done.share
            self.shards += 1
            if ticked:
                self._ticked[0] -= min(self._ticked[0], done.rows)
                self._ticked[1] -= min(self._ticked[1], done.failed)
        self._tell(always=True)

    def tick(self, rows: int, failed: int) -> None:
        """A chunk of a shard that is not done yet."""
        with self._lock:
            self._ticked[0] += rows
            self._ticked[1] += failed
        self._tell()

    def now(self) -> Progress:
        """How far it is, with the chunks of shards that are not done yet."""
        seconds = self.clock() - self.started
        new = self.share - self.resumed_share
        left = seconds * (1 - self.share) / new if new > 0 else None
        rows, failed = self.rows + self._ticked[0], self.failed + self._ticked[1]
        rate = (rows + failed - self.resumed) / seconds if seconds > 0 else 0.0
        return Progress(rows, failed, min(1.0, self.share) if self.share else None, self.shards, rate, left)

    def _tell(self, *, always: bool = False) -> None:
        if self.tell is None:
            return
        with self._lock:
            if always or self.clock() - self._told >= SHOWN_EVERY_S:
                self._told = self.clock()
                self.tell(self.now())


class Bar:
    """A bar of rich on standard error, drawn anew from the tally a few times a second."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.bar: Any = None

    def __enter__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (BarColumn(), TextColumn("{task.fields[text]}"), TextColumn("left"), TimeRemainingColumn())
        tally, shown = self.tally, show

        class Live(RichProgress):
            def get_renderables(self) -> Any:
                shown(self, tally.now())
                return super().get_renderables()

        self.bar = Live(*columns, console=Console(stderr=True), transient=True)
        self.bar.add_task("", total=None, text="0 rows")
        self.bar.start()

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def show(bar: Any, now: Progress) -> None:
    """Bring a bar's only task up to date."""
    for task in bar.task_ids:
        total = None if now.done is None else 1.0
        bar.update(task, total=total, completed=now.done or 0.0, text=describe(now), refresh=False)


def describe(now: Progress) -> str:
    """``1,024 rows, 3 of them bad, 512 rows/s``."""
    bad = f", {now.failed:,} of them bad" if now.failed else ""
    return f"{now.rows + now.failed:,} rows{bad}, {now.rows_per_s:,.0f} rows/s"


def choose_progress(wanted: bool, tally: Tally) -> contextlib.AbstractContextManager[None]:
    """A bar if one is wanted and standard error is a terminal."""
    return Bar(tally) if wanted and sys.stderr.isatty() else contextlib.nullcontext()
