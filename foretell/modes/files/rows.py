"""What passes from reader to writer, and the contracts of both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.modes.files.shard import Choice, Shard
from foretell.storage import Place
from foretell.tensors import Arrays, Signature

Numbers = NDArray[np.int64]
STANDARD = Path("-")


@dataclass(frozen=True)
class BadRow:
    """One line of ``OUT.errors.ndjson``: the row's number from 0, why it has no answer, and its file name, if it is a file."""

    row: int
    code: str
    error: str
    id: str | None = None


@dataclass(frozen=True)
class Source:
    """What to read: a file for a signature, columns found by ``map`` (input name -> column), so many rows a chunk.

    ``shard``: only this piece of it. ``keep`` are columns to pass on, ``*`` all; ``choice`` says which rows are wanted.
    ``quiet``: it is opened to be tried, and what is told of its columns is told when it is answered.
    """

    path: Place
    signature: Signature
    chunk_rows: int
    map: Mapping[str, str] = field(default_factory=dict)
    shard: Shard | None = None
    keep: tuple[str, ...] = ()
    choice: Choice = field(default_factory=Choice)
    sample_rate_hz: int = 16_000
    quiet: bool = False

    @property
    def first_row(self) -> int:
        return 0 if self.shard is None else self.shard.first_row


@dataclass(frozen=True)
class Chunk:
    """Rows as the reader found them, cheap to make. ``done`` is the share of the source that has been read, 0 to 1."""

    numbers: Numbers
    raw: Any
    done: float | None = None
    bad: tuple[BadRow, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Decoded rows: arrays by input name, in the source's own datatypes.

    An object array of arrays stands for a tensor whose rows have different shapes. ``ids`` are file names, ``kept`` columns
    that are passed on: Arrow arrays, or object arrays of JSON text. ``passed_over``: rows that were not chosen.
    """

    numbers: Numbers
    arrays: Arrays
    bad: tuple[BadRow, ...] = ()
    ids: Sequence[str] | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)
    passed_over: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def part(self, start: int, stop: int) -> "Rows":
        """Rows ``start`` to ``stop`` - 1, without the bad ones, which are reported once by the whole."""
        arrays = {name: array[start:stop] for name, array in self.arrays.items()}
        kept = {name: column[start:stop] for name, column in self.kept.items()}
        return Rows(self.numbers[start:stop], arrays, ids=self.ids[start:stop] if self.ids is not None else None, kept=kept)

    def without(self, bad: Mapping[int, BadRow]) -> "Rows":
        """The rows that are not in ``bad`` (by place in this chunk), which are set aside."""
        if not bad:
            return self
        keep = np.ones(len(self), dtype=np.bool_)
        keep[list(bad)] = False
        arrays = {name: array[keep] for name, array in self.arrays.items()}
        ids = None if self.ids is None else [name for name, kept in zip(self.ids, keep, strict=True) if kept]
        kept = {name: select(column, keep) for name, column in self.kept.items()}
        return replace(self, numbers=self.numbers[keep], arrays=arrays, bad=(*self.bad, *bad.values()), ids=ids, kept=kept)


@dataclass(frozen=True)
class Answers:
    """What the pipeline said to some rows: one row in each output for each number."""

    numbers: Numbers
    outputs: Arrays
    ids: Sequence[str] | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)


class Reader(Protocol):
    """Opened on a source: its columns are already matched to the signature."""

    def chunks(self) -> Iterator[Chunk]:
        """In the source's order, read as they are asked for. Raises Setup ``broken_file``."""

    def decode(self, chunk: Chunk) -> Rows:
        """Rows that cannot be read go to ``bad``. Called from several threads at once."""

    def close(self) -> None: ...


class Writer(Protocol):
    """Opened on a stream. Nothing but ``encode`` may be called from several threads."""

    def encode(self, answers: Answers) -> Any:
        """What ``write`` takes. Raises Broken for answers that the format cannot hold. Called from several threads at once."""

    def write(self, encoded: Any) -> None:
        """Append. Raises Setup ``wrong_target`` when the answers change their columns midway."""

    def finish(self) -> int:
        """Write what is still held back; the stream stays open. Gives the bytes in front of the first row."""


@dataclass(frozen=True)
class Sheet:
    """What to write: a stream, and the tensors that every row of it holds. ``ids``: rows also have a file name."""

    stream: BinaryIO
    signature: Signature
    format: str
    ids: bool = False

    def no_answers(self) -> Answers:
        """Answers to no rows: what a file holds whose source has none. A length that is not known counts as 0."""
        outputs = {
            spec.name: np.empty((0, *(size or 0 for size in spec.shape)), dtype=spec.dtype.numpy)
            for spec in self.signature.outputs
        }
        return Answers(np.empty(0, dtype=np.int64), outputs, ids=[] if self.ids else None)


def leading_columns(answers: Answers) -> dict[str, Any]:
    """The columns in front of the outputs: ``row`` (``row_number`` if an output is called row), ``file``, and the kept ones.

    A kept column with the name of another is called ``NAME_kept``.
    """
    columns: dict[str, Any] = {_free_name("row", answers): answers.numbers}
    if answers.ids is not None:
        columns[_free_name("file", answers)] = list(answers.ids)
    for name, column in answers.kept.items():
        columns[f"{name}_kept" if name in answers.outputs or name in columns else name] = column
    return columns


def select(column: Any, keep: NDArray[np.bool_]) -> Any:
    """The elements of a numpy or an Arrow array that are to be kept."""
    return column[keep] if isinstance(column, np.ndarray) else column.filter(keep)


def _free_name(name: str, answers: Answers) -> str:
    spelled = {"row": "row_number", "file": "file_name"}[name]
    return spelled if name in answers.outputs else name
