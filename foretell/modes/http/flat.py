"""The commonest request, read in one pass: one FP32 tensor of flat JSON numbers. All else is left to the general way."""

from math import prod
from typing import Literal

import msgspec
import numpy as np

from foretell.tensors import Array

_LARGEST_SQUARED = float(np.finfo(np.float32).max) ** 2


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
    wide = np.array(tensor.data)
    if not np.vdot(wide, wide) < _LARGEST_SQUARED:  # else every value is in FP32's range: a cheap proof without warnings
        return None
    return wide.astype(np.float32).reshape(shape), parsed.id
