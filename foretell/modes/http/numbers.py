"""JSON arrays to numpy and back, every value checked: the part that both doors share.

NaN and the infinities, which JSON cannot hold, are the strings "NaN", "Infinity" and "-Infinity" both ways.
"""

import base64
import binascii
import math
from functools import lru_cache
from typing import Any, Literal

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from foretell.errors import Invalid
from foretell.tensors import Array, Datatype

NotFinite = Literal["NaN", "Infinity", "-Infinity"]
DEEPEST = 16  # nested JSON arrays: more axes than any model has
_BF16 = Datatype.BF16.numpy
_PLAIN_NUMBERS = frozenset("fdlqi")  # numpy's characters of the commonest: orjson writes them as they are
FP32_SQUARED = float(np.finfo(np.float32).max) ** 2  # where the squares of all are no more in sum, FP32 holds each


def decode_data(raw: bytes | memoryview, datatype: Datatype, name: str, *, as_base64: bool = False) -> Array:
    """A JSON array, flat or nested, as a numpy array of exactly ``datatype``. Raises Invalid naming the first bad value."""
    depth = _depth(raw, name)
    try:
        values = _decoder(datatype, depth).decode(raw)
    except msgspec.ValidationError as error:
        raise _refused(name, datatype, error) from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("invalid_json", f"the data of input {name!r} is not valid JSON: {error}", input=name) from error
    if datatype is Datatype.BYTES:
        values = list(map(str.encode, values)) if depth == 1 and not as_base64 else _map(values, _READ[as_base64], name)
    return to_array(values, datatype, name)


def encode_data(array: Array) -> bytes:
    """A flat JSON array of the elements in row-major order; bytes must be UTF-8 text."""
    flat = array.ravel()
    if flat.dtype.char not in _PLAIN_NUMBERS:
        if flat.dtype == object:
            return orjson.dumps([element.decode() if isinstance(element, bytes) else str(element) for element in flat])
        if flat.dtype == _BF16:
            flat = flat.astype(np.float32)
    text = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)
    return orjson.dumps(spell_out(flat.tolist())) if _holds_null(text) else text


def encode_rows(array: Array) -> list[bytes] | None:
    """What ``encode_data`` gives for each row of an array, without its brackets; None for what is not so plain."""
    count = len(array)
    if array.dtype.char not in _PLAIN_NUMBERS or not array.size:
        return None
    text = orjson.dumps(np.ascontiguousarray(array.reshape(count, -1)), option=orjson.OPT_SERIALIZE_NUMPY)
    return None if _holds_null(text) else text[2:-2].split(b"],[")


def _holds_null(numbers: bytes) -> bool:
    """Whether there is a null, as orjson writes NaN and the infinities: no number has an n, and one byte is found sooner."""
    return numbers.find(b"n") >= 0


def encode_base64(array: Array) -> bytes:
    """A flat JSON array of bytes elements, each in base64."""
    return orjson.dumps([base64.b64encode(element).decode() for element in array.reshape(-1).tolist()])


def is_text(array: Array) -> bool:
    """Whether every element of a BYTES tensor is UTF-8 text."""
    try:
        for element in array.reshape(-1):
            if isinstance(element, bytes):
                element.decode()
    except UnicodeDecodeError:
        return False
    return True


def spell_out(values: Any) -> Any:
    """Nested lists and objects with NaN and the infinities as strings."""
    if isinstance(values, list):
        return [spell_out(value) for value in values]
    if isinstance(values, dict):
        return {name: spell_out(value) for name, value in values.items()}
    if isinstance(values, float) and not math.isfinite(values):
        return "NaN" if math.isnan(values) else "Infinity" if values > 0 else "-Infinity"
    return values


def _element(datatype: Datatype) -> Any:
    if datatype is Datatype.BYTES:
        return str
    if datatype is Datatype.BOOL:
        return bool
    return float | NotFinite if datatype.is_float else int


@lru_cache(maxsize=256)
def _decoder(datatype: Datatype, depth: int) -> msgspec.json.Decoder[Any]:
    kind: Any = _element(datatype)
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def _depth(raw: bytes | memoryview, name: str) -> int:
    """How many arrays the data opens with."""
    if len(raw) > 1 and raw[0] == ord("[") and raw[1] in b"-0123456789":
        return 1
    depth = 0
    for byte in bytes(raw[:256]):
        if byte == ord("["):
            depth += 1
        elif byte not in b" \t\r\n":
            break
    if depth > DEEPEST:
        raise Invalid("wrong_shape", f"the data of input {name!r} is nested over {DEEPEST} arrays deep", input=name)
    return depth


def to_array(values: Any, datatype: Datatype, name: str) -> Array:
    """Decoded values as an array, none out of range; numpy reads "NaN" and "Infinity" as Python does. Raises Invalid."""
    try:
        if datatype is Datatype.BYTES:
            return _objects(values)
        if datatype.is_float:
            return _narrow(np.array(values, dtype=np.float64), datatype, name)
        return np.array(values, dtype=datatype.numpy)
    except OverflowError as error:
        raise _out_of_range(values, datatype, name) from error
    except ValueError as error:
        raise Invalid("wrong_shape", f"the nested arrays of input {name!r} have different lengths", input=name) from error


def _narrow(wide: NDArray[np.float64], datatype: Datatype, name: str) -> Array:
    """FP64 in a float datatype; a finite value that would become an infinity is refused."""
    if datatype is Datatype.FP64:
        return wide
    if datatype is Datatype.FP32 and np.vdot(wide, wide) < FP32_SQUARED:
        return wide.astype(np.float32)  # a cheap proof that every value is in range, and no warnings
    with np.errstate(over="ignore"):
        narrow = wide.astype(datatype.numpy)
    lost = np.isfinite(wide) & ~np.isfinite(narrow)
    if lost.any():
        index = int(lost.argmax())
        raise _lossy(name, index, wide.flat[index], datatype)
    return narrow


def _objects(values: Any) -> Array:
    shape: list[int] = []
    level = values
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    array = np.array(values, dtype=np.object_)
    if array.shape != tuple(shape):
        raise ValueError("ragged")
    return array


def _out_of_range(values: Any, datatype: Datatype, name: str) -> Invalid:
    info = np.iinfo(str(datatype).lower())
    flat = np.array(values, dtype=np.object_).reshape(-1)
    index = next(index for index, value in enumerate(flat) if not info.min <= value <= info.max)
    return _lossy(name, index, flat[index], datatype)


def _lossy(name: str, index: int, value: Any, datatype: Datatype) -> Invalid:
    text = f"input {name!r}: the value {str(value)[:40]} at index {index} is outside the range of {datatype}"
    return Invalid("lossy_value", text, input=name, index=index, expected=str(datatype))


def _map(values: Any, change: Any, name: str) -> Any:
    if isinstance(values, list):
        return [_map(value, change, name) for value in values]
    try:
        return change(values)
    except (ValueError, binascii.Error) as error:
        raise Invalid("bad_text", f"input {name!r} has an element that cannot be read: {error}", input=name) from error


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_READ = {True: _from_base64, False: str.encode}


def _refused(name: str, datatype: Datatype, error: Exception) -> Invalid:
    reason = str(error).replace("`", "").replace("$", "data")
    text = f"input {name!r} is {datatype}, but its data is not: {reason}"
    code = "lossy_value" if "out of range" in reason else "wrong_dtype"
    return Invalid(code, text, input=name, expected=str(datatype))
