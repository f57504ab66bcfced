"""Lists of one column as arrays: the part that does not depend on the file's format."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from foretell.tensors import Array, Datatype, TensorSpec


def size_of(spec: TensorSpec) -> int | None:
    """Elements of one row, or None if a length is open."""
    return None if None in spec.shape else math.prod(size or 0 for size in spec.shape)


def nested(values: Any, dtype: Datatype) -> Array:
    """One row's nested list: floats in FP64, numbers in the widest that holds them, texts as bytes.

    Raises ValueError, TypeError or OverflowError for a list that is uneven or holds something else.
    """
    if dtype is Datatype.BYTES:
        return _nested_objects(values)
    if dtype.is_float:
        return np.array(values, dtype=np.float64)
    array = np.array(values)
    if array.size and array.dtype.kind not in "iufb":
        raise TypeError(f"a list of {array.dtype} where numbers are needed")
    return array if array.size else array.astype(dtype.numpy)


def even(rows: Array) -> Array:
    """An object array of arrays as one array, if all have one shape and dtype; else as it is."""
    kinds = {(row.shape, row.dtype) for row in rows}
    return np.stack(list(rows)) if len(kinds) == 1 else rows


def stack_columns(columns: Sequence[Array], spec: TensorSpec) -> Array:
    """One column for each element, as rows of ``spec``: rounded on the way if no number overflows, else left wide."""
    shape = (-1, *(size or 0 for size in spec.shape))
    if spec.dtype in (Datatype.FP32, Datatype.FP16) and all(column.dtype.kind == "f" for column in columns):
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = np.stack(columns, axis=1, dtype=spec.dtype.numpy, casting="same_kind")
        if not np.isinf(rounded).any():
            return rounded.reshape(shape)
    return np.stack(columns, axis=1).reshape(shape)


def is_ragged(rows: Array, spec: TensorSpec) -> bool:
    """Whether this is an object array of arrays, because the rows have different shapes."""
    if rows.dtype != object:
        return False
    return spec.dtype is not Datatype.BYTES or (rows.ndim == 1 and len(rows) > 0 and isinstance(rows[0], np.ndarray))


def fill(rows: Array, spec: TensorSpec) -> Array:
    """Rows in the shape of ``spec``, where only brackets are missing: a tensor of one element, or a flat list for a matrix."""
    if is_ragged(rows, spec):
        return rows
    size = size_of(spec)
    flat = rows.ndim == 2 or (rows.ndim == 1 and size == 1)
    if size is None or not spec.shape or not flat or math.prod(rows.shape[1:]) != size:
        return rows
    return rows.reshape(len(rows), *(length or 0 for length in spec.shape))


def _nested_objects(values: Any) -> Array:
    array = np.array(values, dtype=np.object_)
    for place, value in enumerate(array.flat):
        if not isinstance(value, str | bytes):
            raise TypeError(f"a list with {type(value).__name__} where text or bytes is needed")
        array.flat[place] = value.encode() if isinstance(value, str) else value
    return array
