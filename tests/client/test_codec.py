"""Tensors to bytes and back, bit by bit, in both forms."""

from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.client.answers import head_bytes, read_answer
from foretell.client.codec import encode_binary, encode_json, to_tensor, write_rows
from foretell.errors import Broken, Invalid
from foretell.tensors import Array, Datatype

NUMBERS = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]
SHAPES = st.lists(st.integers(0, 4), max_size=3)


def answered(array: Array, *, binary: bool) -> Array:
    """An array as a server's answer brings it, behind one that makes the addresses odd."""
    head: dict[str, Any] = {"name": "y", "shape": list(array.shape), "datatype": str(Datatype.of(array.dtype))}
    if not binary:
        return read_answer(bytearray(dump({"outputs": [{**head, **encode_json("y", array)}]})), None)["y"]
    raw = encode_binary("y", array)
    odd = {"name": "odd", "shape": [1], "datatype": "UINT8", "parameters": {"binary_data_size": 1}}
    text = dump({"outputs": [odd, {**head, "parameters": {"binary_data_size": len(raw)}}]})
    return read_answer(bytearray(text + b"!" + raw), len(text))["y"]


def dump(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def bits(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, array.tobytes()


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Any bit pattern of any datatype of numbers, in any shape."""
    datatype = draw(st.sampled_from(NUMBERS))
    shape = draw(SHAPES)
    size = int(np.prod(shape, dtype=np.int64)) * datatype.numpy.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    raw = bytes(byte & 1 for byte in raw) if datatype is Datatype.BOOL else raw
    made: Array = np.frombuffer(raw, datatype.numpy).reshape(shape)
    return made


@given(arrays())
def test_every_bit_pattern_of_every_datatype_survives_as_binary(array: Array) -> None:
    back = answered(array, binary=True)
    assert bits(back) == bits(array)
    assert back.flags.behaved, "it can be computed with and written to"


@given(arrays())
def test_every_value_of_every_datatype_survives_as_json(array: Array) -> None:
    back = answered(array, binary=False)
    if Datatype.of(array.dtype).is_float:  # a NaN is one of many as binary, and the one NaN as JSON
        with np.errstate(invalid="ignore"):  # of a NaN that signals
            wide, wide_back = array.astype(np.float64), back.astype(np.float64)
        assert np.array_equal(wide, wide_back, equal_nan=True)
        numbers = ~np.isnan(wide)
        assert np.array_equal(np.signbit(wide)[numbers], np.signbit(wide_back)[numbers])
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
    else:
        assert bits(back) == bits(array)


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16])
def test_all_patterns_of_the_short_floats_survive(datatype: Datatype) -> None:
    array: Array = np.arange(65536, dtype=np.uint16).view(datatype.numpy)
    assert bits(answered(array, binary=True)) == bits(array)
    finite = array[np.isfinite(array.astype(np.float32))]
    assert bits(answered(finite, binary=False)) == bits(finite)


@given(st.lists(st.binary()), st.booleans())
def test_any_bytes_survive(elements: list[bytes], binary: bool) -> None:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    assert answered(array, binary=binary).tolist() == elements


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1), st.booleans())
def test_any_texts_survive_as_their_utf_8(texts: list[str], binary: bool) -> None:
    array = np.array(texts, np.object_)
    assert [element.decode() for element in answered(array, binary=binary)] == texts


@pytest.mark.parametrize("binary", [True, False])
def test_arrays_in_any_order_of_memory_are_sent_row_by_row(binary: bool) -> None:
    plain = np.arange(12, dtype=np.int32).reshape(3, 4)
    for array in (plain.T, plain[::-1, ::2], plain.astype(">i4"), np.asfortranarray(plain), plain[1, 2]):
        assert np.array_equal(answered(to_tensor("x", array), binary=binary), array)


@pytest.mark.parametrize(
    "values", [["a", "bc"], np.array(["a", "bc"]), np.array([b"a", b"bc"]), np.array(["a", b"bc"], object)]
)
def test_texts_of_every_kind_are_bytes(values: Any) -> None:
    array = to_tensor("x", values)
    assert Datatype.of(array.dtype) is Datatype.BYTES
    assert bytes(encode_binary("x", array)) == b"\x01\x00\x00\x00a\x02\x00\x00\x00bc"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.array(["2024-01-01"], "datetime64[D]"), "wrong_dtype"),
        (np.array([1j]), "wrong_dtype"),
        ([[1], [1, 2]], "wrong_shape"),
        (np.array(["a", None], object), "wrong_dtype"),
        (np.array(["a", 1.5], object), "wrong_dtype"),
        (np.array(["\ud800"], object), "bad_text"),
    ],
)
def test_what_the_protocol_does_not_have_is_refused_before_it_is_sent(values: Any, code: str) -> None:
    with pytest.raises(Invalid, match="input 'x'") as caught:
        encode_binary("x", to_tensor("x", values))
    assert caught.value.code == code


def test_large_arrays_are_not_copied() -> None:
    array = np.zeros((64, 64), np.float32)
    assert np.shares_memory(np.frombuffer(encode_binary("x", array), np.float32), array)


@pytest.mark.parametrize(
    "tensor",
    [
        {"datatype": "FP32", "shape": [3], "parameters": {"binary_data_size": 8}},
        {"datatype": "FP32", "shape": [-2], "parameters": {"binary_data_size": 8}},
        {"datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": "8"}},
        {"datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 8}},
        {"datatype": "FP31", "shape": [2], "parameters": {"binary_data_size": 8}},
        {"datatype": "FP32", "shape": [2]},
        {"datatype": "FP32", "shape": [2], "data": ["a", "b"]},
        {"datatype": "BYTES", "shape": [2], "data": [1, 2]},
        {"datatype": "BYTES", "shape": [1], "data": ["%%%"], "parameters": {"content_type": "base64"}},
        {"datatype": "UINT8", "shape": [1], "data": [256]},
    ],
)
def test_answers_that_contradict_themselves_are_refused(tensor: dict[str, Any]) -> None:
    text = dump({"outputs": [{"name": "y", **tensor}]})
    with pytest.raises(Broken, match="not one of the Open Inference Protocol"):
        read_answer(bytearray(text + b"\x09" * 8), len(text))


def test_rows_may_hold_numpy_bytes_and_numbers_that_json_has_not() -> None:
    row = {"image": b"\xff", "x": np.float32(0.1), "y": [float("nan"), -np.inf, None], "z": np.array([1.0, np.inf]), "n": True}
    assert orjson.loads(write_rows([row])) == [
        {"image": {"b64": "/w=="}, "x": pytest.approx(0.1), "y": ["NaN", "-Infinity", None], "z": [1.0, "Infinity"], "n": True}
    ]
    assert write_rows([{"x": np.float32(0.1)}]) == b'[{"x":0.1}]'


def test_rows_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(Invalid, match="set"):
        write_rows([{"x": {1}}])


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", b"[1.7]"),
        ("UINT8", b"[-1]"),
        ("INT64", b"[9223372036854775808]"),
        ("FP16", b"[1e5]"),
        ("FP32", b"[1e300]"),
        ("FP32", b"[null]"),
        ("FP32", b'["1.5"]'),
        ("BOOL", b'["x"]'),
        ("BOOL", b"[1]"),
        ("INT8", b"[[1],[2,3]]"),
        ("BYTES", b'["\\ud800"]'),
    ],
)
def test_values_that_their_datatype_cannot_hold_are_refused_and_not_changed(datatype: str, data: bytes) -> None:
    with pytest.raises(Broken) as caught:
        read_answer(one_output(datatype, data), None)
    assert caught.value.code == "foreign_answer"


@pytest.mark.parametrize("depth", [17, 900, 5000, 10**5])
def test_deeply_nested_data_is_refused(depth: int) -> None:
    with pytest.raises(Broken, match="not one of the Open Inference Protocol"):
        read_answer(one_output("FP32", b"[" * depth + b"]" * depth), None)


def test_nested_data_is_read_as_well_as_flat() -> None:
    body = bytearray(b'{"outputs":[{"name":"y","datatype":"FP32","shape":[2,2],"data":[ [1, 2.5], ["NaN", "-Infinity"]]}]}')
    assert np.array_equal(read_answer(body, None)["y"], np.array([[1, 2.5], [np.nan, -np.inf]], np.float32), equal_nan=True)


def test_an_output_that_comes_twice_is_refused() -> None:
    tensor = {"name": "y", "datatype": "FP32", "shape": [1], "data": [1.0]}
    with pytest.raises(Broken, match="'y' twice"):
        read_answer(bytearray(dump({"outputs": [tensor, tensor]})), None)


@pytest.mark.parametrize("shape", [[-1], [2**70], [2**40, 2**40], [0, 2**62], [1] * 100])
def test_shapes_that_no_array_has_are_refused(shape: list[int]) -> None:
    text = f'{{"outputs":[{{"name":"y","datatype":"FP32","shape":{shape},"data":[1.0]}}]}}'
    with pytest.raises(Broken):
        read_answer(bytearray(text.encode()), None)


@pytest.mark.parametrize("size", [-4, 5, 2**62, 1.5, "4", True])
def test_sizes_that_the_body_does_not_have_are_refused(size: object) -> None:
    text = dump({"outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": size}}]})
    with pytest.raises(Broken):
        read_answer(bytearray(text + b"\0" * 4), len(text))


@pytest.mark.parametrize("value", ["²", "0" * 5000, "-1", "", "9", "1e1"])
def test_a_head_length_that_is_no_length_of_the_body_is_refused(value: str) -> None:
    with pytest.raises(Broken) as caught:
        head_bytes({"inference-header-content-length": value}, 8)
    assert caught.value.code == "foreign_answer"


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_an_answer_or_refused(body: bytes, head: int) -> None:
    with suppress(Broken):
        read_answer(bytearray(body), min(head, len(body)))


def one_output(datatype: str, data: bytes) -> bytearray:
    return bytearray(b'{"outputs":[{"name":"y","datatype":"%b","shape":[1],"data":%b}]}' % (datatype.encode(), data))
