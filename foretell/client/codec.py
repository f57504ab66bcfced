"""Tensors to bytes, in the two forms of the Open Inference Protocol: binary, and JSON.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import base64
import struct
from typing import Any

import numpy as np
import orjson
from numpy.typing import ArrayLike

from foretell.errors import Invalid
from foretell.tensors import Array, Datatype

Elements = bytearray | memoryview
_LENGTH = struct.Struct("<I")
_DATATYPES = {str(datatype): datatype for datatype in Datatype}


def to_tensor(name: str, values: ArrayLike) -> Array:
    """What a caller gave as an array of a datatype that can be sent. Raises Invalid."""
    try:
        array = np.asarray(values)
        Datatype.of(array.dtype)
    except ValueError as error:
        raise Invalid("wrong_shape", f"input {name!r}: its nested lists have different lengths", input=name) from error
    except KeyError as error:
        text = f"input {name!r} has the numpy dtype {array.dtype}, which the protocol does not have: use one of "
        raise Invalid("wrong_dtype", text + ", ".join(_DATATYPES), input=name, got=str(array.dtype)) from error
    return array


def encode_binary(name: str, array: Array) -> Elements:
    """The elements in row-major order and little-endian, without a copy where they lie so; BYTES each behind its length."""
    if array.dtype.kind in "OSU":
        elements = _to_bytes(name, array)
        lengths = {size: _LENGTH.pack(size) for size in set(map(len, elements))}  # few, mostly: quicker than packing each
        return bytearray().join([part for element in elements for part in (lengths[len(element)], element)])
    if array.dtype.kind != "V":  # ml_dtypes's bfloat16 has no byte order
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def encode_json(name: str, array: Array) -> dict[str, Any]:
    """The fields ``data`` and, for bytes that are not text, ``parameters`` of a JSON tensor."""
    if array.dtype.kind in "OSU":
        elements = _to_bytes(name, array)
        try:
            return {"data": [element.decode() for element in elements]}
        except UnicodeDecodeError:
            data = [base64.b64encode(element).decode() for element in elements]
            return {"parameters": {"content_type": "base64"}, "data": data}
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return {"data": [value if np.isfinite(value) else _spelt(value) for value in array.reshape(-1).tolist()]}
    native = array.reshape(-1).astype(array.dtype.newbyteorder("="), copy=False)
    return {"data": np.ascontiguousarray(native)}


def _to_bytes(name: str, array: Array) -> list[bytes]:
    try:
        return [item if isinstance(item, bytes) else item.encode() for item in array.reshape(-1).tolist()]
    except AttributeError as error:
        other = next(type(item).__name__ for item in array.flat if not isinstance(item, str | bytes))
        text = f"input {name!r} has an element of type {other}: an object array holds texts or bytes, nothing else"
        raise Invalid("wrong_dtype", text, input=name, expected="str or bytes", got=other) from error
    except UnicodeEncodeError as error:
        raise Invalid("bad_text", f"input {name!r} has a text that cannot be written as UTF-8", input=name) from error


def _spelt(value: float) -> str:
    """NaN and the infinities as the strings that stand for them."""
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124 - only NaN differs from itself


def write_rows(rows: object) -> bytes:
    """Rows as JSON: numpy values become numbers and lists, bytes ``{"b64": ...}``. Raises Invalid for what JSON cannot hold."""
    try:
        text = orjson.dumps(rows, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
        return orjson.dumps(_spell_out(rows)) if b"null" in text else text
    except TypeError as error:
        raise Invalid("bad_row", f"a row has a value that JSON cannot hold: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no number, text, list or object")


def _spell_out(value: Any) -> Any:
    """The same with NaN and the infinities spelt out, which JSON writers turn into null."""
    if isinstance(value, dict):
        return {key: _spell_out(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_spell_out(inner) for inner in value]
    if isinstance(value, float) and not np.isfinite(value):
        return _spelt(value)
    return value if value is None or isinstance(value, str | int | float) else _spell_out(_plain(value))
