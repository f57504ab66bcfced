"""Which rows of a table are wanted, and which of its columns are passed on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import Setup
from foretell.modes.files.columns import nearest
from foretell.modes.files.failed import failed_rows
from foretell.modes.files.rows import Numbers, Source
from foretell.modes.files.shard import Choice

Mask = NDArray[np.bool_]
ALL = "*"


@dataclass(frozen=True)
class Selection:
    """The choice of rows of one source; ``file`` is its name, so that files are not sampled alike."""

    choice: Choice
    file: str = ""

    @property
    def is_all(self) -> bool:
        return not (self.choice.where or self.choice.only) and self.choice.sample >= 1

    def columns(self, known: Sequence[str]) -> list[str]:
        """The columns that are looked at."""
        if not self.choice.where:
            return []
        from foretell.modes.files.where import columns_of, parse

        names = columns_of(parse(self.choice.where))
        for name in names:
            if name not in known:
                raise Setup(
                    "wrong_filter", f"--where {self.choice.where!r}: the rows have no column {name!r}{nearest(name, known)}"
                )
        return names

    def refuse(self, name: str) -> Any:
        """What stands for the columns of rows that have none. Raises Setup."""
        raise Setup("wrong_filter", f"--where {self.choice.where!r}: the rows of {self.file} have no column {name!r}")

    def mask(self, numbers: Numbers, column: Callable[[str], Any]) -> Mask | None:
        """Whether each row is wanted; None if all are. ``column`` gives a column by its name as an Arrow array."""
        if self.is_all:
            return None
        wanted = np.ones(len(numbers), dtype=np.bool_)
        if self.choice.sample < 1:
            wanted &= draw(numbers, self.choice.sample, self.choice.seed, self.file)
        if self.choice.only:
            wanted &= np.isin(numbers, failed_rows(self.choice.only, self.file))
        if self.choice.where:
            from foretell.modes.files.where import evaluate, parse

            passed = evaluate(parse(self.choice.where), column).fill_null(False)
            wanted &= passed.to_numpy(zero_copy_only=False)
        return wanted


def selection_of(source: Source) -> Selection:
    return Selection(source.choice, "" if source.shard is None else source.shard.name)


def kept_columns(source: Source, columns: Sequence[str]) -> list[str]:
    """The columns to pass on, in the order that was asked for. Raises Setup ``wrong_keep`` for one that is not there."""
    if ALL in source.keep:
        return list(columns)
    for name in source.keep:
        if name not in columns:
            raise Setup("wrong_keep", f"--keep {name}: the rows of {source.path} have no such column{nearest(name, columns)}")
    return list(source.keep)


def refuse_columns(source: Source, cure: str) -> None:
    """For rows without columns. Raises Setup: ``wrong_keep``, ``wrong_filter``."""
    if source.keep:
        raise Setup("wrong_keep", f"--keep {','.join(source.keep)}: {source.path} has no columns: {cure}")
    selection_of(source).columns([])


def draw(numbers: Numbers, share: float, seed: int, file: str) -> Mask:
    """A share of the rows, the same ones in every run, by a hash of their numbers: splitmix64 (https://prng.di.unimi.it/splitmix64.c)."""
    start = seed
    for byte in file.encode():
        start = (start * 1099511628211 + byte) % 2**64
    state = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((state ^ (state >> np.uint64(31))) < np.uint64(min(2**64 - 1, int(share * 2**64))), dtype=np.bool_)
