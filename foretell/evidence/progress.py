"""What long work is at, on standard error: the step in words, and how far it is."""

import sys
from types import TracebackType
from typing import Any, Protocol, Self


class Progress(Protocol):
    """Entered around the work, and told of its steps."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def say(self, text: str, done: float | None = None) -> None:
        """``done`` is the share of this step, 0 to 1; None if it is not known."""


class Silent:
    """No bar."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def say(self, text: str, done: float | None = None) -> None:
        return None


SILENT = Silent()


class Bar:
    """A bar of rich on standard error, which is gone when the work is done."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("", total=None, text="")
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def say(self, text: str, done: float | None = None) -> None:
        self.bar.update(self.task, total=None if done is None else 1.0, completed=done or 0.0, text=text)


def choose_progress(wanted: bool) -> Progress:
    """A bar if one is wanted and standard error is a terminal."""
    return Bar() if wanted and sys.stderr.isatty() else SILENT
