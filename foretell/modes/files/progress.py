"""The progress bar of the files mode: rows, rows a second and the time left, on standard error."""

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self


class Progress(Protocol):
    """Entered around the work and told of every chunk that has been written."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def show(self, rows: int, failed: int, done: float | None) -> None:
        """``done`` is the share of the source from 0 to 1, None if its size is not known."""


class Silent:
    """No bar."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def show(self, rows: int, failed: int, done: float | None) -> None:
        return None


class Bar:
    """A bar of rich on standard error."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), TextColumn("{task.fields[text]}"), TextColumn("left"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("", total=None, text="0 rows")
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def show(self, rows: int, failed: int, done: float | None) -> None:
        text = describe(rows, failed, time.monotonic() - self.started)
        self.bar.update(self.task, total=None if done is None else 1.0, completed=done or 0.0, text=text)


def describe(rows: int, failed: int, seconds: float) -> str:
    """``1,024 rows, 512 rows/s, 3 bad``."""
    rate = (rows + failed) / seconds if seconds > 0 else 0.0
    return f"{rows + failed:,} rows, {rate:,.0f} rows/s" + (f", {failed:,} bad" if failed else "")


def choose_progress(wanted: bool) -> Progress:
    """A bar if one is wanted and standard error is a terminal."""
    return Bar() if wanted and sys.stderr.isatty() else Silent()
