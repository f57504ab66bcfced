"""Messages that repeat an earlier one in all but their raw contents: read by its places, and not parsed again.

What clients send to a model differs in the values alone. Bytes that are the same say the same, so nothing is guessed.
"""

from collections.abc import Mapping

import numpy as np
from google.protobuf.message import DecodeError

from foretell.modes.grpc.stubs.inference_pb2 import ModelInferRequest
from foretell.modes.grpc.tensors import TensorDoor, raw_prefix
from foretell.request import Request
from foretell.tensors import Array, Arrays, Datatype

MOST_LENGTHS = 64
MOST_OF_A_LENGTH = 4
LONGEST_HEAD_BYTES = 1024
_CHECKED = (Datatype.BYTES, Datatype.BOOL)
"""Of these, not all bytes are good values."""


class Repeats:
    """What was read lately, by the length of its message: a few of each length, and of few lengths."""

    def __init__(self) -> None:
        self._moulds: dict[int, list[Mould]] = {}

    def find(self, body: bytes) -> "tuple[Mould, Arrays] | None":
        """The mould that a message fits, and its inputs; None when it must be parsed."""
        for mould in self._moulds.get(len(body), ()):
            if body.startswith(mould.head):
                inputs = mould.inputs(body)
                if inputs is not None:
                    return mould, inputs
        return None

    def keep(
        self, body: bytes, message: ModelInferRequest, door: TensorDoor, request: Request, classes: Mapping[str, int]
    ) -> None:
        """Remember a message that was read, if others can be read by its places."""
        if message.id or message.parameters or not message.raw_input_contents:
            return
        if any(array.size == 0 or Datatype.of(array.dtype) in _CHECKED for array in request.inputs.values()):
            return
        mould = _mould(body, message, door, request, classes)
        if mould is None:
            return
        if len(body) not in self._moulds and len(self._moulds) >= MOST_LENGTHS:
            self.forget()
        alike = self._moulds.setdefault(len(body), [])
        alike.insert(0, mould)
        del alike[MOST_OF_A_LENGTH:]

    def forget(self) -> None:
        """Read everything anew: the doors are others now."""
        self._moulds = {}


class Mould:
    """One message without its values. ``places``: name, bytes before it, begin, end, dtype and shape of each input."""

    __slots__ = ("classes", "door", "head", "outputs", "places")

    def __init__(self, head: bytes, door: TensorDoor, outputs: tuple[str, ...], classes: Mapping[str, int]) -> None:
        self.head = head
        self.door = door
        self.outputs = outputs
        self.classes = classes
        self.places: list[tuple[str, bytes, int, int, np.dtype[np.generic], tuple[int, ...]]] = []

    def inputs(self, body: bytes) -> dict[str, Array] | None:
        """The inputs in a message of the same length and head; None when it is divided otherwise."""
        inputs: dict[str, Array] = {}
        for name, before, start, end, dtype, shape in self.places:
            if not body.startswith(before, start - len(before)):
                return None
            inputs[name] = np.frombuffer(body[start:end], dtype).reshape(shape)
        return inputs


def _mould(
    body: bytes, message: ModelInferRequest, door: TensorDoor, request: Request, classes: Mapping[str, int]
) -> Mould | None:
    """None when the raw contents are not the whole end of the message."""
    prefixes = [raw_prefix(len(raw)) for raw in message.raw_input_contents]
    tail = b"".join([part for pair in zip(prefixes, message.raw_input_contents, strict=True) for part in pair])
    head = body[: len(body) - len(tail)]
    if len(head) > LONGEST_HEAD_BYTES or not body.endswith(tail) or not _is_whole(head):
        return None
    mould = Mould(head, door, request.outputs, classes)
    at = len(head)
    for tensor, before, raw in zip(message.inputs, prefixes, message.raw_input_contents, strict=True):
        start, at = at + len(before), at + len(before) + len(raw)
        array = request.inputs[tensor.name]
        mould.places.append((tensor.name, before, start, at, array.dtype, array.shape))
    return mould


def _is_whole(head: bytes) -> bool:
    """Whether the raw contents begin where a field begins, and none are before."""
    try:
        return not ModelInferRequest.FromString(head).raw_input_contents
    except DecodeError:
        return False
