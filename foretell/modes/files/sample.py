"""Rows as arrays, not answered: the first of a file to try a model on, or all of them to judge one."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from foretell.errors import Setup
from foretell.modes.files.formats import open_reader
from foretell.modes.files.inputs import find_inputs
from foretell.modes.files.plan import Cut, plan
from foretell.modes.files.rows import BadRow, Rows, Source
from foretell.storage import find_place
from foretell.tensors import Arrays, Signature


def read_rows(path: Path, signature: Signature, most: int, map: Mapping[str, str] | None = None) -> Arrays:
    """Up to ``most`` rows, conforming to the signature. Raises Setup, also for a row that cannot be read, and Invalid."""
    shard = next(iter(plan(find_inputs(str(path), signature), Cut(most))))
    source = Source(find_place(shard.file), signature, most, map or {}, shard)
    with contextlib.closing(open_reader(source)) as reader:
        chunk = next(iter(reader.chunks()), None)
        rows = None if chunk is None else reader.decode(chunk)
    if rows is None or chunk is None:
        raise Setup("broken_file", f"{path} has no rows: name a file that has some")
    if bad := (*chunk.bad, *rows.bad):
        raise Setup("broken_file", f"{path}, row {bad[0].row}: {bad[0].error}")
    return signature.conform(rows.arrays)


def read_chunks(
    path: Path, signature: Signature, most: int, map: Mapping[str, str] | None = None
) -> Iterator[tuple[Rows | None, Sequence[BadRow]]]:
    """All rows of a file or a folder of images, up to ``most`` at a time: what could be read, and what could not.

    Raises Setup.
    """
    for shard in plan(find_inputs(str(path), signature), Cut(most)):
        with contextlib.closing(open_reader(Source(find_place(shard.file), signature, most, map or {}, shard))) as reader:
            for chunk in reader.chunks():
                rows = reader.decode(chunk) if len(chunk.numbers) else None
                yield rows, (*chunk.bad, *(rows.bad if rows is not None else ()))
