"""The first rows of a file as arrays, to try a model on."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from foretell.errors import Setup
from foretell.modes.files.formats import open_reader
from foretell.modes.files.inputs import find_inputs
from foretell.modes.files.plan import Cut, plan
from foretell.modes.files.rows import Source
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
