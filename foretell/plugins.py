"""Shelves of things that are loaded by name only when asked for: name -> import string -> what to pip install."""

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foretell.errors import Setup


@dataclass(frozen=True)
class Plugin:
    """Where a thing lives (``"package.module:attribute"``) and the extra that brings what it imports, if any."""

    target: str
    extra: str | None = None


def load_plugin(shelf: str, table: Mapping[str, Plugin], name: str) -> Any:
    """The object named ``name`` on a shelf. Raises Setup: with a did-you-mean, or with the pip line that is missing."""
    plugin = table.get(name)
    if plugin is None:
        raise Setup("wrong_setting", f"there is no {shelf} {name!r}{did_you_mean(name, table)}")
    module, _, attribute = plugin.target.partition(":")
    with needs_extra(f"{shelf} {name!r}", plugin.extra):
        return getattr(importlib.import_module(module), attribute)


class needs_extra:  # noqa: N801 - reads as a phrase: `with needs_extra(...)`
    """Turns the ImportError of a missing third-party package into Setup ``missing_extra`` with the line to type."""

    def __init__(self, what: str, extra: str | None) -> None:
        self.what = what
        self.extra = extra

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("foretell"):
            missing = (error.name or "").partition(".")[0]
            package = f"'foretell[{self.extra}]'" if self.extra else "foretell"
            raise Setup(
                "missing_extra",
                f"{self.what} needs the package {missing!r}, which is not installed: pip install {package}",
            ) from error


def did_you_mean(name: str, known: Mapping[str, object] | list[str]) -> str:
    """``": did you mean 'x'?"`` for a near miss, else the list of what is known."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f": did you mean {close[0]!r}?" if close else f": use one of {', '.join(sorted(known))}"
