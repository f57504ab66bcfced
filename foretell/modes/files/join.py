"""Parts of answers as one file, in order; each is a whole file of its format, with ``head_bytes`` before its first row."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from foretell.errors import Setup
from foretell.storage import Place

COPIED_BYTES = 2**20
GROUP_ROWS = 2**17
Parts = Sequence[tuple[Place, int]]


def join(form: str, parts: Parts, stream: BinaryIO) -> None:
    """Write the rows of all parts. Raises Setup ``wrong_target`` for parts that do not fit together, OSError."""
    joins: dict[str, Callable[[Parts, BinaryIO], None]] = {
        "csv": _join_text,
        "ndjson": _join_text,
        "parquet": _join_parquet,
        "npy": _join_npy,
    }
    joins[form](parts, stream)


def _join_text(parts: Parts, stream: BinaryIO) -> None:
    first: bytes | None = None
    for part, head_bytes in parts:
        with part.open("rb") as opened:
            head = opened.read(head_bytes)
            if first is None:
                first = head
                stream.write(head)
            if head != first:
                raise _refusal("columns", f"{_count(first)} to {_count(head)}", "CSV")
            shutil.copyfileobj(opened, stream, COPIED_BYTES)


def _join_npy(parts: Parts, stream: BinaryIO) -> None:
    kinds: list[tuple[tuple[int, ...], Any]] = []
    for part, _ in parts:
        with part.open("rb") as opened:
            npy_format.read_magic(opened)
            shape, _, dtype = npy_format.read_array_header_1_0(opened)
            kinds.append((shape, dtype))
    first, dtype = kinds[0]
    for shape, other in kinds:
        if (shape[1:], other) != (first[1:], dtype):
            raise _refusal("shape", f"{dtype} {list(first[1:])} to {other} {list(shape[1:])}", ".npy")
    header = {"descr": npy_format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    npy_format.write_array_header_1_0(stream, {**header, "shape": (sum(shape[0] for shape, _ in kinds), *first[1:])})
    for part, head_bytes in parts:
        with part.open("rb") as opened:
            opened.seek(head_bytes)
            shutil.copyfileobj(opened, stream, COPIED_BYTES)


def _join_parquet(parts: Parts, stream: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from foretell.modes.files.parquet import open_parquet

    with contextlib.ExitStack() as stack:
        writer = None
        for part, _ in parts:
            with open_parquet(part) as file:
                schema = file.schema_arrow
                if writer is None:
                    texts = [field.name for field in schema if pa.types.is_string(field.type)]
                    writer = stack.enter_context(pq.ParquetWriter(stream, schema, use_dictionary=texts))
                if schema != writer.schema:
                    raise _refusal("columns", f"{writer.schema.names} to {schema.names}", "Parquet")
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group))


def _count(head: bytes) -> int:
    return head.count(b",") + 1


def _refusal(what: str, change: str, form: str) -> Setup:
    text = (
        f"the answers change their {what} from {change}, which {form} cannot hold: write to .parquet or .ndjson, or to a folder"
    )
    return Setup("wrong_target", text)
