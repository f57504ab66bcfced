"""The commonest request, read in one pass: one FP32 tensor of flat JSON numbers. All else is left to the general way."""

import re
import struct
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from foretell.modes.http.large import LARGE, read_floats
from foretell.tensors import Array

_FP32 = np.dtype("<f4")
MOST_FORMS = 64
LONGEST_FORM = 1024  # bytes before the values
_ENDS_IN_DATA = re.compile(rb'"data"\s*:\s*\Z')


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
_VALUES = msgspec.json.Decoder(list[float])


class Form(NamedTuple):
    """What stands around the values of a request: ``behind`` them, and the tensor that it declares before them."""

    behind: bytes
    shape: list[int]
    size: int
    pack: Callable[..., bytes]

    def read(self, text: bytes) -> Array | None:
        """The tensor of these values; None when the general way is to say what is wrong with them."""
        if len(text) > LARGE:
            narrow = read_floats(text)
            if narrow is not None and narrow.size == self.size:
                return narrow.reshape(self.shape)
        try:
            values = _VALUES.decode(text)
            return np.ndarray(self.shape, _FP32, self.pack(*values)) if len(values) == self.size else None
        except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError):
            return None


class FlatReader:
    """Reads requests for the one input ``name``. Clients send all but the values again and again: those are read alone.

    A form is known by all bytes before the last ``[``, which opens the values; it was read in the general way once.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.forms: dict[bytes, Form] = {}

    def read(self, body: bytes) -> tuple[Array, str | None] | None:
        """What ``read_flat`` says."""
        opens = body.rfind(b"[")
        form = self.forms.get(body[:opens])
        if form is not None and body.endswith(form.behind):
            array = form.read(body[opens : -len(form.behind)])
            if array is not None:
                return array, None
        read = read_flat(body, self.name)
        if read is not None and form is None:
            self._learn(body, opens, *read)
        return read

    def _learn(self, body: bytes, opens: int, array: Array, id: str | None) -> None:
        """Know the form of a request without an id, if its values are the last that opens, and no string can hide another."""
        before, behind = body[:opens], body[body.find(b"]", opens) + 1 :]
        if id is not None or max(len(before), len(behind)) > LONGEST_FORM:
            return
        if b"\\" in body or not behind or _ENDS_IN_DATA.search(before) is None:
            return
        if len(self.forms) >= MOST_FORMS:
            self.forms.clear()
        self.forms[before] = Form(behind, list(array.shape), array.size, _packer(array.size).pack)


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
