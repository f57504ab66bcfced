"""What flows between all stages: named numpy arrays with rows on axis 0, and the specs that describe them.

Datatypes are those of the Open Inference Protocol v2
(https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from foretell.errors import Invalid, Setup

Array = NDArray[np.generic]
Arrays = Mapping[str, Array]


class Datatype(StrEnum):
    """The Open Inference datatypes. BYTES elements (strings, encoded images) are ``bytes`` in object arrays."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    __hash__ = str.__hash__  # an enumeration's own is slow, and these are the keys of hot tables

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype that holds this datatype; BYTES is held as object, BF16 by ml_dtypes."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        return self.numpy.kind in "iu"

    @classmethod
    def of(cls, dtype: np.dtype[np.generic]) -> "Datatype":
        """The datatype of a numpy dtype; text and raw bytes count as BYTES. Raises KeyError for what has none."""
        return cls.BYTES if dtype.kind in "OSU" else _DATATYPES[dtype.newbyteorder("=")]


_NUMPY: dict[Datatype, np.dtype[np.generic]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype(np.uint8),
    Datatype.UINT16: np.dtype(np.uint16),
    Datatype.UINT32: np.dtype(np.uint32),
    Datatype.UINT64: np.dtype(np.uint64),
    Datatype.INT8: np.dtype(np.int8),
    Datatype.INT16: np.dtype(np.int16),
    Datatype.INT32: np.dtype(np.int32),
    Datatype.INT64: np.dtype(np.int64),
    Datatype.FP16: np.dtype(np.float16),
    Datatype.BF16: np.dtype(ml_dtypes.bfloat16),
    Datatype.FP32: np.dtype(np.float32),
    Datatype.FP64: np.dtype(np.float64),
    Datatype.BYTES: np.dtype(np.object_),
}
_DATATYPES = {dtype: datatype for datatype, dtype in _NUMPY.items()}
_SPEC_TEXT = re.compile(r"(?P<dtype>[A-Z0-9]+)\s*(?:\[(?P<shape>[\d?,\s]*)\])?")
_FLOATS = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})


@dataclass(frozen=True)
class TensorSpec:
    """Name, datatype and shape of one tensor; the shape leaves out the row axis, and None means any length.

    ``text`` says that BYTES elements are texts: they must be UTF-8.
    """

    name: str
    dtype: Datatype
    shape: tuple[int | None, ...] = ()
    text: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {show_shape(self.shape)}"

    @classmethod
    def parse(cls, name: str, text: str) -> "TensorSpec":
        """A spec written as people write it: ``"FP32[30]"``, ``"UINT8[?, ?, 3]"``, ``"BYTES"``. Raises Setup."""
        match = _SPEC_TEXT.fullmatch(text.strip())
        if match is None or match["dtype"] not in Datatype.__members__:
            raise Setup("broken_pipeline", f"{text!r} does not describe tensor {name!r}: write it like 'FP32[30]' or 'BYTES'")
        sizes = [size.strip() for size in (match["shape"] or "").split(",") if size.strip()]
        return cls(name, Datatype(match["dtype"]), tuple(None if size == "?" else int(size) for size in sizes))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a row of this shape is a row of this tensor."""
        return len(shape) == len(self.shape) and all(
            want is None or want == got for want, got in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True)
class Signature:
    """What goes in and what comes out. ``rows`` is False for a model without a batch axis: then shapes are whole."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rows: bool = True

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})"

    def conform(self, arrays: Arrays) -> Arrays:
        """The inputs in the signature's order, datatypes converted without loss, checked against names and shapes.

        Raises Invalid naming the input, what was expected and what came.
        """
        if len(arrays) != len(self.inputs):
            self._refuse_names(arrays)
        if len(arrays) == 1 and self.rows:  # the commonest, seen at a glance
            spec = self.inputs[0]
            only = arrays.get(spec.name)
            if only is not None and only.dtype == spec.dtype.numpy and not spec.text:
                shape = only.shape
                if shape[1:] == spec.shape and shape and shape[0]:
                    return arrays
        fitted, rows = {}, 1
        for spec in self.inputs:
            array = arrays.get(spec.name)
            if array is None:
                self._refuse_names(arrays)
                raise AssertionError("unreachable")
            fitted[spec.name] = _fit(spec, array, self.rows)
            rows = len(array) if self.rows else 1
        if self.rows and (len(fitted) > 1 or not rows):
            _check_row_counts(fitted)
        return fitted

    def count_rows(self, arrays: Arrays) -> int:
        """Rows of one request: the length of axis 0, or 1 for a model without a batch axis."""
        return len(next(iter(arrays.values()))) if self.rows else 1

    def _refuse_names(self, arrays: Arrays) -> None:
        names = [spec.name for spec in self.inputs]
        for name in names:
            if name not in arrays:
                got = [sent[:80] for sent in sorted(arrays)[:20]]
                raise Invalid(
                    "missing_input",
                    f"input {name!r} is missing: the model takes {names}, the request has {got}",
                    input=name,
                    expected=names,
                    got=got,
                )
        unknown = sorted(set(arrays) - set(names))[0]
        raise Invalid(
            "unknown_input", f"there is no input {unknown[:80]!r}: the model takes {names}", input=unknown[:80], expected=names
        )


def show_shape(shape: Iterable[int | None]) -> str:
    """``[3, ?, 64]``: a shape as people read it."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def cast(array: Array, dtype: Datatype, name: str, *, rounding: bool = False) -> Array:
    """``array`` in ``dtype``, if no value is changed by it; else Invalid ``lossy_value`` names the first bad index.

    ``rounding=True`` also allows floats to be rounded to a shorter float (for sources that declare no datatype, as
    CSV), still refusing a finite value that would overflow to infinity.
    """
    want = dtype.numpy
    if array.dtype == want:
        return array
    if (array.dtype.kind in "OSU") != (dtype is Datatype.BYTES) or (array.dtype.kind == "b") != (dtype is Datatype.BOOL):
        raise _wrong_dtype(array, dtype, name)
    loses = array.dtype.kind in "iu" and array.dtype.itemsize == 8 and dtype.is_float  # numpy calls INT64 to FP64 safe
    if dtype is Datatype.BYTES and array.dtype.kind == "U":
        return np.strings.encode(array.astype(np.str_), "utf-8").astype(np.object_)
    if dtype is Datatype.BYTES or (not loses and np.can_cast(array.dtype, want, "safe")):
        return array.astype(want)
    with np.errstate(all="ignore"):
        converted = array.astype(want)
        both_float = rounding and dtype.is_float and Datatype.of(array.dtype).is_float
        kept = np.isfinite(converted) | ~np.isfinite(array) if both_float else _same(array, converted)
    if not kept.all():
        index = [int(i) for i in np.argwhere(~kept)[0]]
        value = array[tuple(index)]
        raise Invalid(
            "lossy_value",
            f"input {name!r}: the value {value!s} at index {index} cannot be held in {dtype} without loss: "
            f"round it first if that is meant, in numpy with .astype({str(want)!r})",
            input=name,
            index=index,
            expected=str(dtype),
            got=str(Datatype.of(array.dtype)),
        )
    return converted


def _same(before: Array, after: Array) -> NDArray[np.bool_]:
    """Elementwise: whether a value came through a conversion unchanged (NaN equals NaN; 2**63 does not wrap)."""
    back = after.astype(before.dtype)
    same = (back == before) | (_is_nan(before) & _is_nan(back))
    if before.dtype.kind in "iu" and after.dtype.kind in "iu":
        same &= np.less(after, 0) == np.less(before, 0)
    elif before.dtype.kind in "iu":
        same &= _in_range(after, before.dtype)
    elif after.dtype.kind in "iu":
        same &= _in_range(before, after.dtype)
    return np.asarray(same, dtype=np.bool_)


def _is_nan(array: Array) -> NDArray[np.bool_]:
    return np.not_equal(array, array)


def _in_range(floats: Array, integers: np.dtype[Any]) -> NDArray[np.bool_]:
    """Elementwise: whether a float's conversion to an integer dtype is defined (2**63 to INT64 is not)."""
    info = np.iinfo(integers)
    wide = floats.astype(np.float64)
    return np.asarray((wide >= float(info.min)) & (wide < float(info.max) + 1.0), dtype=np.bool_)


def _fit(spec: TensorSpec, array: Array, rows: bool) -> Array:
    shape = array.shape[1:] if rows else array.shape
    if shape == (1,) and rows and not spec.shape and spec.dtype is Datatype.BYTES:
        array, shape = array.reshape(-1), ()  # [N, 1]: how MLServer's clients send N texts
    if (shape != spec.shape and not spec.fits(shape)) or (rows and not array.ndim):
        expected = ([None] if rows else []) + list(spec.shape)
        raise Invalid(
            "wrong_shape",
            f"input {spec.name!r} has shape {show_shape(array.shape)}, the model takes {show_shape(expected)}",
            input=spec.name,
            expected=[-1 if size is None else size for size in expected],
            got=list(array.shape),
        )
    fitted = array if array.dtype == spec.dtype.numpy else cast(array, spec.dtype, spec.name)
    if spec.text:
        _check_text(fitted, spec.name)
    return fitted


def _check_text(array: Array, name: str) -> None:
    item: Any
    for index, item in enumerate(array.flat):
        try:
            item.encode() if isinstance(item, str) else item.decode()
        except (UnicodeError, AttributeError):
            where = [int(i) for i in np.unravel_index(index, array.shape)]
            message = f"input {name!r}: the text at index {where} is not valid UTF-8: encode it as UTF-8"
            raise Invalid("bad_text", message, input=name, index=where) from None


def _check_row_counts(arrays: Arrays) -> None:
    counts = {len(array) for array in arrays.values()}
    if len(counts) > 1:
        got = {name: len(array) for name, array in arrays.items()}
        raise Invalid("wrong_rows", f"all inputs need the same number of rows, got {got}", got=got)
    if 0 in counts:
        raise Invalid("wrong_rows", "the request has no rows: send at least one", expected="at least 1 row", got=0)


def _wrong_dtype(array: Array, dtype: Datatype, name: str) -> Invalid:
    try:
        got = str(Datatype.of(array.dtype))
    except KeyError:
        got = str(array.dtype)
    return Invalid(
        "wrong_dtype", f"input {name!r} has datatype {got}, the model takes {dtype}", input=name, expected=str(dtype), got=got
    )
