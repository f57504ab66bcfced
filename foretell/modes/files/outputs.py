"""Outputs as Arrow arrays, for the writers that go through Arrow."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from foretell.errors import Broken
from foretell.modes.files.rows import Answers
from foretell.tensors import Array


def as_text(column: Any) -> Any:
    """A nested Arrow column as JSON text, for formats of plain cells."""
    texts = [None if value is None else orjson.dumps(value, default=str).decode() for value in column.to_pylist()]
    return pa.array(texts, pa.string())


def with_arrow(answers: Answers) -> Answers:
    """The answers with all kept columns as Arrow arrays."""
    kept = {name: _from_json(column) if isinstance(column, np.ndarray) else column for name, column in answers.kept.items()}
    return replace(answers, kept=kept)


def _from_json(column: Array) -> Any:
    """A kept column of JSON texts: texts as they are, all else as its JSON, nothing for null."""
    values = [orjson.loads(value) if value[:1] == b'"' else None if value == b"null" else value.decode() for value in column]
    return pa.array(values, pa.string())


def to_arrow(values: Array, name: str) -> Any:
    """An output with rows on axis 0: scalars as they are, tensors as nested lists. Raises Broken for bytes that are no text."""
    array = _flat(values.reshape(-1), name)
    for axis in reversed(range(1, values.ndim)):
        count = int(np.prod(values.shape[:axis]))
        offsets = np.arange(count + 1, dtype=np.int32) * values.shape[axis]
        array = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), array)
    return array


def _flat(values: Array, name: str) -> Any:
    """BF16, which Arrow does not have, becomes FP32."""
    if values.dtype.kind in "OSU":
        return pa.array(_texts(values, name), pa.string())
    return pa.array(values if values.dtype.kind in "biuf" else values.astype(np.float32))


def _texts(values: Array, name: str) -> list[str]:
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise Broken(
            "wrong_output", f"output {name!r} is not UTF-8 text, the only bytes that a file of answers can hold"
        ) from error
