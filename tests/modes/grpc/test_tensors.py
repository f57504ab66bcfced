"""Infer messages to arrays and back: nothing changes on the way, and what does not fit is refused by name."""

import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.elements import read_elements, write_elements
from foretell.engine.engine import Engine
from foretell.errors import Invalid
from foretell.modes.grpc.stubs import inference_pb2 as messages
from foretell.modes.grpc.tensors import TensorDoor
from foretell.pipeline import Pipeline
from foretell.request import Request
from foretell.settings import EngineSettings
from foretell.tensors import Array, Datatype, Signature, TensorSpec
from foretell.testing import FakeBackend
from tests.modes.grpc.asking import Tensor, infer_message

NUMBERS = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]
TYPED = {
    Datatype.BOOL: ("bool_contents", st.booleans()),
    Datatype.INT8: ("int_contents", st.integers(-(2**7), 2**7 - 1)),
    Datatype.INT16: ("int_contents", st.integers(-(2**15), 2**15 - 1)),
    Datatype.INT32: ("int_contents", st.integers(-(2**31), 2**31 - 1)),
    Datatype.INT64: ("int64_contents", st.integers(-(2**63), 2**63 - 1)),
    Datatype.UINT8: ("uint_contents", st.integers(0, 2**8 - 1)),
    Datatype.UINT16: ("uint_contents", st.integers(0, 2**16 - 1)),
    Datatype.UINT32: ("uint_contents", st.integers(0, 2**32 - 1)),
    Datatype.UINT64: ("uint64_contents", st.integers(0, 2**64 - 1)),
    Datatype.FP32: ("fp32_contents", st.floats(width=32)),
    Datatype.FP64: ("fp64_contents", st.floats()),
    Datatype.BYTES: ("bytes_contents", st.binary(max_size=20)),
}


def door(datatype: Datatype = Datatype.FP32) -> TensorDoor:
    """The door of a model that gives back what it takes."""
    signature = Signature((TensorSpec("x", datatype, (None,)),), (TensorSpec("y", datatype, (None,)),))
    model = FakeBackend(lambda inputs: {"y": inputs["x"]}, signature)
    return TensorDoor(Engine("m", "1", Pipeline(model), EngineSettings()))


def read(message: messages.ModelInferRequest, datatype: Datatype = Datatype.FP32) -> Array:
    """The input of a message, which has crossed the wire."""
    crossed = messages.ModelInferRequest.FromString(message.SerializeToString())
    return door(datatype).read(crossed, 0.0, 30.0)[0].inputs["x"]


def write(array: Array) -> messages.ModelInferResponse:
    answer = door(Datatype.of(array.dtype)).write(Request({}, 0.0, id="seven"), {"y": array}, {})
    return messages.ModelInferResponse.FromString(answer)


def refusal(message: messages.ModelInferRequest) -> Invalid:
    with pytest.raises(Invalid) as caught:
        read(message)
    return caught.value


def typed(datatype: str, shape: list[int], **contents: Any) -> messages.ModelInferRequest:
    tensor = Tensor(name="x", datatype=datatype, shape=shape, contents=messages.InferTensorContents(**contents))
    return messages.ModelInferRequest(model_name="m", inputs=[tensor])


def assert_same(got: Array, want: Array) -> None:
    """The same bits, in the same form."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert got.tolist() == want.tolist() if got.dtype == object else got.tobytes() == want.tobytes()


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16])
def test_all_patterns_of_a_half_go_there_and_back(datatype: Datatype) -> None:
    rows = np.arange(2**16, dtype=np.uint16).view(datatype.numpy).reshape(256, 256)
    assert_same(read(infer_message("m", rows), datatype), rows)
    assert_same(read_elements(write(rows).raw_output_contents[0], datatype, [256, 256], "y"), rows)


@given(st.sampled_from(NUMBERS), st.binary(min_size=8, max_size=64))
def test_any_bits_of_numbers_go_there_and_back(datatype: Datatype, raw: bytes) -> None:
    size = datatype.numpy.itemsize
    flat = np.frombuffer(raw[: len(raw) // size * size], datatype.numpy)
    rows = (flat.view(np.uint8) > 127 if datatype is Datatype.BOOL else flat).reshape(1, -1)
    assert_same(read(infer_message("m", rows), datatype), rows)
    answer = write(rows)
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "seven")
    assert answer.outputs[0].datatype == datatype
    assert_same(read_elements(answer.raw_output_contents[0], datatype, list(answer.outputs[0].shape), "y"), rows)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=8))
def test_any_bytes_go_there_and_back(elements: list[bytes]) -> None:
    rows = np.empty((len(elements), 1), dtype=object)
    rows[:, 0] = elements
    assert_same(read(infer_message("m", rows), Datatype.BYTES), rows)
    assert_same(read_elements(write(rows).raw_output_contents[0], Datatype.BYTES, [len(elements), 1], "y"), rows)


@given(st.data())
def test_typed_contents_hold_every_value(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(sorted(TYPED)))
    field, values = TYPED[datatype]
    drawn = data.draw(st.lists(values, min_size=1, max_size=8))
    rows = np.empty((1, len(drawn)), datatype.numpy)
    rows[0] = drawn
    assert_same(read(typed(str(datatype), [1, len(drawn)], **{field: drawn}), datatype), rows)


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(0, 3))
def test_text_elements_have_their_length_before_them(elements: list[bytes], cut: int) -> None:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    raw = write_elements(array)
    assert raw == b"".join(struct.pack("<I", len(element)) + element for element in elements)
    assert_same(read_elements(raw, Datatype.BYTES, [len(elements)], "x"), array)
    if cut and raw:
        with pytest.raises(Invalid):
            read_elements(raw[:-cut], Datatype.BYTES, [len(elements)], "x")


def test_an_array_is_the_models_own_to_write_to() -> None:
    assert read(infer_message("m", np.zeros((1, 2), np.float32))).flags.writeable


def test_large_answers_are_joined_right() -> None:
    rows = np.arange(100_000, dtype=np.float64).reshape(10, -1)
    answer = write(rows)
    assert_same(read_elements(answer.raw_output_contents[0], Datatype.FP64, list(answer.outputs[0].shape), "y"), rows)


RAW = np.zeros((1, 2), np.float32)


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        (infer_message("m", RAW, "z"), "unknown_input", "there is no input 'z': the model takes x"),
        (typed("FP32", [1, 2], fp32_contents=[1]), "wrong_shape", "hold 1 values"),
        (typed("FP32", [1, 2], fp64_contents=[1, 2]), "invalid_body", "FP32 is sent in fp32_contents"),
        (typed("FP32", [1, 2], fp32_contents=[1, 2], int_contents=[1]), "invalid_body", "has int_contents"),
        (typed("FP16", [1, 2], fp32_contents=[1, 2]), "invalid_body", "send it in raw_input_contents"),
        (typed("INT8", [1, 2], int_contents=[1, 128]), "lossy_value", "128 at index [0, 1]"),
        (typed("FP32", [-1, 2], fp32_contents=[1, 2]), "wrong_shape", "none of them negative"),
        (typed("FP32", [1] * 33, fp32_contents=[1]), "wrong_shape", "at most 32 sizes"),
        (typed("FP32", [2**62, 2**62], fp32_contents=[1]), "wrong_shape", "hold 1 values"),
        (typed("FP32", [0, 2**62]), "wrong_shape", "no array can have"),
        (typed("fp32", [1], fp32_contents=[1]), "unknown_datatype", "'fp32'"),
        (typed("F" * 2**20, [1], fp32_contents=[1]), "unknown_datatype", "use one of"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(message: messages.ModelInferRequest, code: str, says: str) -> None:
    error = refusal(message)
    assert error.code == code
    assert says in error.message
    assert len(error.message) < 400


def test_raw_and_typed_contents_together_are_refused() -> None:
    message = infer_message("m", RAW)
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    assert "send all inputs in one of these" in refusal(message).message


@pytest.mark.parametrize("count", [2, 3, 1000])
def test_a_raw_content_for_each_input_is_needed(count: int) -> None:
    message = infer_message("m", RAW)
    del message.raw_input_contents[:]
    message.raw_input_contents.extend([b"\0" * 8] * count)
    assert f"{count} raw_input_contents for 1 inputs" in refusal(message).message


@pytest.mark.parametrize("size", [0, 7, 9, 4, 16])
def test_a_wrong_number_of_bytes_is_refused(size: int) -> None:
    message = infer_message("m", RAW)
    message.raw_input_contents[0] = b"\0" * size
    assert refusal(message).code == "wrong_shape"


def test_an_input_twice_is_refused() -> None:
    message = infer_message("m", RAW)
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])
    assert refusal(message).code == "duplicate_input"


def test_shared_memory_is_refused_in_words() -> None:
    message = infer_message("m", RAW)
    message.inputs[0].parameters["shared_memory_region"].string_param = "region"
    assert "send the data itself" in refusal(message).message


def test_bfloat16_raw_is_no_float16() -> None:
    message = infer_message("m", np.ones((1, 2), ml_dtypes.bfloat16))
    assert read(message, Datatype.BF16).astype(np.float32).tolist() == [[1, 1]]
