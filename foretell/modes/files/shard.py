"""The words of a divided run: what is to be done (Work), one piece of it (Shard), what became of that (Done). Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

Word = TypeVar("Word")


@dataclass(frozen=True)
class Choice:
    """Which rows are answered at all: those that pass ``where``, and of all rows the share ``sample``, chosen by ``seed``.

    ``only`` names a file of errors of another run over the same input: the rows that it tells of, and no others.
    """

    where: str = ""
    sample: float = 1.0
    seed: int = 0
    only: str = ""


@dataclass(frozen=True)
class Shard:
    """A piece of one file, or some of many small files; always the same piece for the same input and settings.

    ``start`` and ``stop`` count bytes of CSV and NDJSON, rows of Parquet and numpy arrays, and places in a list of media files.
    ``first_row`` is the number of its first row in the file, ``rows`` how many there are, bad ones too, ``share`` its share of
    the whole input. ``columns`` are a CSV header or the keys of NDJSON, ``lists`` those that hold lists. ``members`` are
    media files, ``extents`` where those of an archive lie and how large they are. ``name`` is the file's name for people,
    ``folder`` where it lies in the input, such as ``year=2025/month=1``. ``first_line`` is the line of ``start`` in a CSV file.
    """

    index: int
    file: str
    format: str
    start: int
    stop: int
    first_row: int
    rows: int
    share: float
    columns: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    extents: tuple[tuple[int, int], ...] = ()
    name: str = ""
    folder: str = ""
    first_line: int = 1


@dataclass(frozen=True)
class Work:
    """What is the same for all shards of a run, so that any process can do one: where parts go, and how rows are read and told.

    ``models`` are the paths of the models by name, ``parts`` the folder of what has been done, ``target`` the folder of answers
    if they are many files, ``ids``: rows also have a file name. ``keep`` are columns to pass on, ``*`` all of them.
    """

    models: Mapping[str, str]
    parts: str
    format: str
    target: str = ""
    map: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    choice: Choice = field(default_factory=Choice)
    ids: bool = False
    chunk_rows: int = 8192
    sample_rate_hz: int = 16_000
    row_timeout_s: float = 0.0
    retries: int = 0
    most_errors: int = -1


@dataclass(frozen=True)
class Done:
    """What became of a shard. ``rows`` had an answer, ``passed_over`` were not chosen; ``model_s`` is the time in the pipeline.

    ``part`` is the file of answers in ``Work.parts`` (or ``target``), of ``part_bytes``, ``head_bytes`` of them its header,
    and with that ``checksum`` (CRC-32); ``errors`` is the file of its bad rows, if there are any.
    """

    index: int
    rows: int = 0
    failed: int = 0
    passed_over: int = 0
    seconds: float = 0.0
    model_s: float = 0.0
    part: str = ""
    part_bytes: int = 0
    checksum: int = -1
    head_bytes: int = 0
    errors: str = ""
    share: float = 0.0


def to_json(word: Shard | Work | Done) -> bytes:
    return msgspec.json.encode(word)


def from_json(data: bytes, kind: type[Word]) -> Word:
    """Raises msgspec.MsgspecError for what is no such word."""
    return msgspec.json.decode(data, type=kind)
