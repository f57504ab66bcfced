"""What several verbs do in the same way: read settings and pairs of names, and end when they are interrupted."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foretell.settings import load_settings

if TYPE_CHECKING:
    from foretell.settings import Settings

SOME_ROWS_FAILED = 3
"""The exit code of a verb that did its work, but not for all."""
INTERRUPTED = 130
"""The exit code of a verb that was stopped by Ctrl-C, as shells have it."""


def read_settings(config: Path | None, flags: Mapping[str, object]) -> "tuple[Settings, dict[str, str]]":
    """The settings from all their sources; and logging set up by them."""
    settings, origins = load_settings(config, os.environ, {name.replace("__", "."): value for name, value in flags.items()})
    from foretell.observe.logs import configure

    configure(settings.log)
    return settings, origins


@contextmanager
def interruptible(told: str) -> Iterator[None]:
    """Ctrl-C ends the verb, and ``told`` is said: what becomes of its work."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nforetell: {told}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def read_pairs(pairs: Iterable[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not (column and equals and name):
            raise click.UsageError(f"--map takes INPUT=COLUMN, as in --map age=Age, not {pair!r}", click.get_current_context())
        columns[name] = column
    return columns


def have_arrow_hold_less() -> None:
    """Have Arrow allocate by jemalloc, here and in processes that are started here, unless somebody chose.

    A process that reads Parquet is a tenth smaller so. See ARROW_DEFAULT_MEMORY_POOL in
    https://arrow.apache.org/docs/cpp/env_vars.html: it is read when Arrow is imported.
    """
    if sys.platform == "linux":
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
