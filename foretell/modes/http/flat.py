"""The commonest request, read in one pass: one FP32 tensor of flat JSON numbers. All else is left to the general way."""

import struct
from functools import lru_cache
from math import prod
from typing import Literal

import msgspec
import numpy as np

from foretell.tensors import Array

_FP32 = np.dtype("<f4")


class FlatInput(msgspec.Struct, forbid_unknown_fields=True):
    """One tensor without parameters, its values in one array."""

    name: str
    shape: list[int]
    datatype: Literal["FP32"]
    data: list[float]


class FlatBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request without parameters or a choice of outputs."""

    inputs: list[FlatInput]
    id: str | None = None


_FLAT = msgspec.json.Decoder(FlatBody)


def read_flat(body: bytes, name: str) -> tuple[Array, str | None] | None:
    """The tensor ``name`` and the request's id; None for any request that is not so plain, or that is to be refused."""
    try:
        parsed = _FLAT.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if len(parsed.inputs) != 1:
        return None
    tensor = parsed.inputs[0]
    shape = tensor.shape
    if tensor.name != name or not 0 < len(shape) <= 8 or min(shape) < 1 or prod(shape) != len(tensor.data):
        return None
    try:
        packed = _packer(len(tensor.data)).pack(*tensor.data)
    except OverflowError:  # a value that FP32 does not hold
        return None
    return np.ndarray(shape, _FP32, packed), parsed.id


@lru_cache(maxsize=64)
def _packer(count: int) -> struct.Struct:
    """Rounds doubles to FP32, faster than numpy does from a list."""
    return struct.Struct(f"<{count}f")
