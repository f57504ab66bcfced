"""Tensors as raw bytes, as the binary extension and gRPC send them: little-endian, row-major, BYTES each behind its length.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import struct
from math import prod

import numpy as np

from foretell.errors import Invalid
from foretell.tensors import Array, Datatype

Raw = bytes | bytearray | memoryview
_LENGTH = struct.Struct("<I")
_LITTLE = {  # ml_dtypes has its own order, which is little on every machine that it runs on
    datatype: datatype.numpy if datatype is Datatype.BF16 else datatype.numpy.newbyteorder("<") for datatype in Datatype
}


def read_elements(raw: Raw, datatype: Datatype, shape: list[int], name: str) -> Array:
    """Row-major elements as an array of its own, without a copy where the memory allows. Raises Invalid.

    ``shape`` must hold sizes that have been checked: nothing is allocated from it before its product fits ``raw``.
    """
    if datatype is Datatype.BYTES:
        return _objects(_split(bytes(raw), prod(shape), name)).reshape(shape)
    dtype = _LITTLE[datatype]
    size = prod(shape) * dtype.itemsize
    if size != len(raw):
        text = f"input {name!r}: {prod(shape)} elements of {datatype} are {size} bytes, but {len(raw)} were sent"
        raise Invalid("wrong_shape", text[:300], input=name, expected=f"{size} bytes"[:40], got=f"{len(raw)} bytes")
    if datatype is Datatype.BOOL:
        _check_booleans(raw, name)
    array: Array = np.frombuffer(raw, dtype)
    return (array if array.flags.behaved else array.copy()).reshape(shape)


def write_elements(array: Array) -> bytes:
    """The elements in row-major order; BYTES elements each behind their length."""
    if array.dtype != object:
        return np.ascontiguousarray(array).tobytes()
    elements = [item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1).tolist()]
    parts = [b""] * (2 * len(elements))
    parts[0::2] = map(_LENGTH.pack, map(len, elements))
    parts[1::2] = elements
    return b"".join(parts)


def element_buffer(array: Array) -> bytes | memoryview:
    """``write_elements`` without a copy where the array is in order already."""
    if array.dtype == object or not array.size:
        return write_elements(array)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _split(raw: bytes, count: int, name: str) -> list[bytes]:
    """``count`` elements, each behind its length."""
    unpack, at, end = _LENGTH.unpack_from, 0, len(raw)
    elements: list[bytes] = []
    add = elements.append
    while at + 4 <= end:
        (size,) = unpack(raw, at)
        at += 4 + size
        if at > end:
            text = f"input {name!r}: element {len(elements)} says it has {size} bytes, but {end - at + size} are left"
            raise Invalid("invalid_body", text, input=name, index=len(elements))
        add(raw[at - size : at])
    if at != end or len(elements) != count:
        text = f"input {name!r} declares {str(count)[:40]} elements, but its data holds {len(elements)}"
        raise Invalid("wrong_shape", text, input=name, got=len(elements))
    return elements


def _objects(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array


def _check_booleans(raw: Raw, name: str) -> None:
    wrong = np.frombuffer(raw, dtype=np.uint8) > 1
    if wrong.any():
        index = int(wrong.argmax())
        text = f"input {name!r}: the byte {raw[index]} at index {index} cannot be held in BOOL: send 0 or 1"
        raise Invalid("lossy_value", text, input=name, index=index, expected="BOOL")
