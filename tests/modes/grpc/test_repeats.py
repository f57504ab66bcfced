"""A message that repeats an earlier one is read as if it had been parsed, and nothing else is taken for one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.engine.engine import Engine
from foretell.modes.grpc.repeats import LONGEST_HEAD_BYTES, MOST_LENGTHS, Repeats
from foretell.modes.grpc.stubs.inference_pb2 import ModelInferRequest
from foretell.modes.grpc.tensors import TensorDoor
from foretell.pipeline import Pipeline
from foretell.settings import EngineSettings
from foretell.tensors import Array, Datatype, Signature, TensorSpec
from foretell.testing import FakeBackend
from tests.modes.grpc.asking import Tensor

PLAIN = [datatype for datatype in Datatype if datatype not in (Datatype.BYTES, Datatype.BOOL)]


def door(*names: str, datatype: Datatype = Datatype.FP32) -> TensorDoor:
    specs = tuple(TensorSpec(name, datatype, (None,)) for name in names)
    model = FakeBackend(dict, Signature(specs, specs))
    return TensorDoor(Engine("m", "1", Pipeline(model), EngineSettings()))


def message(*raws: bytes, datatype: Datatype = Datatype.FP32, shapes: Sequence[Sequence[int]] = (), **more: Any) -> bytes:
    """A request with the inputs a, b, c ... of these contents, one row each."""
    tensors = [
        Tensor(name=name, datatype=str(datatype), shape=shape or [1, len(raw) // datatype.numpy.itemsize])
        for name, raw, shape in zip("abc", raws, shapes or [()] * len(raws), strict=False)
    ]
    fields: dict[str, Any] = {"model_name": "m", "inputs": tensors, "raw_input_contents": raws, **more}
    return ModelInferRequest(**fields).SerializeToString()


def parsed(at: TensorDoor, body: bytes) -> dict[str, Array]:
    return dict(at.read(ModelInferRequest.FromString(body), 0.0, 30.0)[0].inputs)


def learn(repeats: Repeats, at: TensorDoor, body: bytes) -> None:
    read = ModelInferRequest.FromString(body)
    request, classes = at.read(read, 0.0, 30.0)
    repeats.keep(body, read, at, request, classes)


@pytest.mark.parametrize("datatype", PLAIN)
@given(values=st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=2))
def test_a_repeated_message_is_read_as_if_it_were_parsed(datatype: Datatype, values: list[bytes]) -> None:
    at, repeats = door("a", "b", datatype=datatype), Repeats()
    learn(repeats, at, message(bytes(16), bytes(16), datatype=datatype))
    body = message(*values, datatype=datatype)
    found = repeats.find(body)
    assert found is not None
    want = parsed(at, body)
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in found[1].items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in want.items()
    }
    assert found[0].door is at


@given(place=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_message_that_differs_anywhere_but_in_its_values_is_parsed(place: int, byte: int) -> None:
    at, repeats = door("a", "b"), Repeats()
    body = message(b"aaaabbbb", b"ccccdddd")
    learn(repeats, at, body)
    place %= len(body)
    changed = body[:place] + bytes([byte]) + body[place + 1 :]
    values = {*range(len(body) - 18, len(body) - 10), *range(len(body) - 8, len(body))}
    assert (repeats.find(changed) is not None) == (place in values or changed == body)


def test_contents_divided_otherwise_are_parsed() -> None:
    at, repeats = door("a", "b"), Repeats()
    learn(repeats, at, message(b"aaaabbbb", b"cccc", shapes=[[1, 2], [1, 1]]))
    assert repeats.find(message(b"aaaa", b"ccccdddd", shapes=[[1, 2], [1, 1]])) is None


@pytest.mark.parametrize("more", [{"id": "seven"}, {"parameters": {"priority": {"int64_param": 1}}}])
def test_what_is_of_one_request_alone_is_not_kept(more: dict[str, Any]) -> None:
    at, repeats = door("a"), Repeats()
    body = message(b"aaaa", **more)
    learn(repeats, at, body)
    assert repeats.find(body) is None


def test_values_that_must_be_looked_at_are_parsed() -> None:
    at, repeats = door("a", datatype=Datatype.BOOL), Repeats()
    body = message(b"\x01", datatype=Datatype.BOOL)
    learn(repeats, at, body)
    assert repeats.find(body) is None


def test_contents_that_only_look_like_the_end_are_not_taken_for_it() -> None:
    at, repeats = door("a"), Repeats()
    good = message(b"aaaa")
    hidden = good + b"\x92\x03\x06" + good[-6:]  # a field that nobody knows, which holds what looks like raw contents
    assert ModelInferRequest.FromString(hidden).raw_input_contents == [b"aaaa"]
    learn(repeats, at, hidden)
    assert repeats.find(hidden[:-4] + b"bbbb") is None


def test_an_output_that_was_asked_for_is_kept_with_the_message() -> None:
    at, repeats = door("a", "b"), Repeats()
    body = message(b"aaaa", b"bbbb", outputs=[ModelInferRequest.InferRequestedOutputTensor(name="b")])
    learn(repeats, at, body)
    found = repeats.find(body)
    assert found is not None
    assert found[0].outputs == ("b",)


def test_what_is_kept_is_bounded() -> None:
    at, repeats = door("a"), Repeats()
    for size in range(1, 3 * MOST_LENGTHS):
        learn(repeats, at, message(bytes(4 * size)))
    kept = [size for size in range(1, 3 * MOST_LENGTHS) if repeats.find(message(bytes(4 * size)))]
    assert 0 < len(kept) <= MOST_LENGTHS
    long = message(b"aaaa", model_name="m" * LONGEST_HEAD_BYTES)
    learn(repeats, at, long)
    assert repeats.find(long) is None


def test_other_doors_are_not_answered_for() -> None:
    at, repeats = door("a"), Repeats()
    body = message(np.float32(1).tobytes())
    learn(repeats, at, body)
    repeats.forget()
    assert repeats.find(body) is None
