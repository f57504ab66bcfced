"""Inputs cut into shards, one after the other, always in the same way: a shard follows from the files alone."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from foretell.errors import Setup
from foretell.modes.files.inputs import Input, Inputs
from foretell.modes.files.lines import cut
from foretell.modes.files.shard import Shard

SHARD_BYTES = 64 * 2**20
SLOW_ROWS = 2**15
"""A shard of fewer rows is worth reading a part of a Parquet row group twice."""
SAMPLE_LINES = 8192
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Cut:
    """How large shards are, at most, and how many rows there are in all (None: all of them)."""

    rows: int
    bytes: int = SHARD_BYTES
    limit: int | None = None


def plan(inputs: Inputs, size: Cut) -> Iterator[Shard]:
    """The shards, in order. Files are looked at when their turn comes. Raises Setup ``broken_file``."""
    left = size.limit
    pieces = (
        _media(inputs, size)
        if inputs.are_media
        else itertools.chain.from_iterable(_pieces(file, size) for file in inputs.files)
    )
    total = inputs.size or 1
    for index, each in enumerate(pieces):
        piece = each
        if left is not None:
            if left <= 0:
                return
            piece = piece if piece.rows <= left else _shortened(piece, inputs, left)
            left -= piece.rows
        yield replace(piece, index=index, share=piece.share / total)


def _pieces(file: Input, size: Cut) -> Iterator[Shard]:
    read = {"csv": _csv, "ndjson": _ndjson, "parquet": _parquet, "npy": _arrays, "npz": _arrays}[file.format]
    try:
        yield from read(file, size)
    except (OSError, ValueError, EOFError) as error:
        raise Setup("broken_file", f"{file.place} cannot be read: {error}") from error


def _shard(file: Input, start: int, stop: int, first_row: int, rows: int, share: float) -> Shard:
    """``share``: in bytes."""
    return Shard(0, str(file.place), file.format, start, stop, first_row, rows, share, name=file.name, folder=file.folder)


def _csv(file: Input, size: Cut) -> Iterator[Shard]:
    from foretell.modes.files.csv import read_header

    with file.place.open("rb") as stream:
        header, start, line = read_header(stream, str(file.place))
        yield from (replace(shard, columns=tuple(header)) for shard in _lines(file, stream, start, size, line))


def _ndjson(file: Input, size: Cut) -> Iterator[Shard]:
    from foretell.modes.files.ndjson import keys_of

    with file.place.open("rb") as stream:
        start = len(BOM) if stream.read(len(BOM)) == BOM else 0
        stream.seek(start)
        keys = keys_of(list(itertools.islice(stream, SAMPLE_LINES)))
        lists = tuple(name for name, is_list in keys.items() if is_list)
        yield from (replace(shard, columns=tuple(keys), lists=lists) for shard in _lines(file, stream, start, size))


def _lines(file: Input, stream: object, start: int, size: Cut, line: int = 1) -> Iterator[Shard]:
    first, piece = 0, None
    for piece in cut(stream, start, file.format, size.rows, size.bytes):  # type: ignore[arg-type]
        shard = _shard(file, piece.start, piece.stop, first, piece.rows, piece.stop - piece.start)
        yield replace(shard, first_line=line)
        first, line = first + piece.rows, line + piece.lines
    if piece is None:
        yield _shard(file, start, start, 0, 0, file.size)


def _parquet(file: Input, size: Cut) -> Iterator[Shard]:
    """Whole row groups, but for a model so slow that a large one is worth being read more than once."""
    from foretell.modes.files.parquet import open_parquet

    opened = open_parquet(file.place)
    try:
        metadata = opened.metadata
        counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    finally:
        opened.close()
    total, first, held = sum(counts) or 1, 0, 0
    for start, rows in _joined(counts, size.rows):
        step = size.rows if size.rows < SLOW_ROWS else rows
        for begin in range(start, start + rows, max(1, step)):
            stop = min(begin + step, start + rows)
            yield _shard(file, begin, stop, begin, stop - begin, (stop - begin) / total * file.size)
            held += 1
    if not held:
        yield _shard(file, 0, 0, first, 0, file.size)


def _joined(counts: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Neighbouring row groups together, as long as they have no more than so many rows: first row and number of rows."""
    start = rows = 0
    for count in counts:
        if rows and rows + count > most:
            yield start, rows
            start, rows = start + rows, 0
        rows += count
    if rows:
        yield start, rows


def _arrays(file: Input, size: Cut) -> Iterator[Shard]:
    from foretell.modes.files.npz import open_arrays

    with contextlib.ExitStack() as stack:
        arrays = open_arrays(file.place, stack)
        count = next(iter(arrays.values())).shape[0]
        row_bytes = sum(array.row_bytes for array in arrays.values()) or 1
    step = max(1, min(size.rows, size.bytes // row_bytes))
    for start in range(0, max(count, 1), step):
        stop = min(start + step, count)
        shard = _shard(file, start, stop, start, stop - start, file.size * (stop - start) / max(count, 1))
        yield shard if isinstance(file.place, Path) else replace(shard, format="npz")  # what lies elsewhere is not mapped


def _media(inputs: Inputs, size: Cut) -> Iterator[Shard]:
    """Files together until they are many, or large, or the folder changes."""
    held: list[Input] = []
    first = held_bytes = 0
    for file in inputs.files:
        if held and (len(held) >= size.rows or held_bytes >= size.bytes or held[0].folder != file.folder):
            yield _members(held, first)
            first += len(held)
            held, held_bytes = [], 0
        held.append(file)
        held_bytes += file.size
    if held:
        yield _members(held, first)


def _members(files: list[Input], first: int) -> Shard:
    names = tuple(file.name for file in files)
    extents = tuple((file.offset, file.size) for file in files if file.offset is not None)
    source = str(files[0].place) if extents else str(files[0].place)[: -len(files[0].name)].rstrip("/") or "/"
    folder = "" if extents else files[0].folder
    share = sum(file.size for file in files)
    stop = first + len(files)
    return Shard(0, source, files[0].format, first, stop, first, len(files), share, (), (), names, extents, folder=folder)


def _shortened(shard: Shard, inputs: Inputs, rows: int) -> Shard:
    """The first rows of a shard."""
    if shard.format in ("csv", "ndjson"):
        file = next(file for file in inputs.files if str(file.place) == shard.file)
        with file.place.open("rb") as stream:
            stop = next(cut(stream, shard.start, shard.format, rows, file.size + 1)).stop
        return replace(shard, stop=stop, rows=rows)
    return replace(shard, stop=shard.start + rows, rows=rows, members=shard.members[:rows], extents=shard.extents[:rows])
