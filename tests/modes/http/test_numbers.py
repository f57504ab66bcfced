"""The JSON codec: every value of every datatype comes back as it went, and what does not fit is named."""

import json
from contextlib import suppress

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from foretell.errors import Invalid
from foretell.modes.http.numbers import DEEPEST, decode_data, encode_base64, encode_data, is_text
from foretell.tensors import Array, Datatype

INTEGERS = [datatype for datatype in Datatype if datatype.is_integer]


def same_bits(one: Array, two: Array) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()


def through_json(array: Array) -> Array:
    text = encode_data(array)
    json.loads(text, parse_constant=pytest.fail)  # JSON has neither NaN nor Infinity
    return decode_data(text, Datatype.of(array.dtype), "x").reshape(array.shape)


def refused(text: bytes, datatype: Datatype) -> Invalid:
    with pytest.raises(Invalid) as caught:
        decode_data(text, datatype, "x")
    assert "'x'" in caught.value.message
    return caught.value


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
)
def test_every_finite_float32_comes_back_bit_by_bit(array: Array) -> None:
    assert same_bits(through_json(array), array)


@given(hnp.arrays(np.float64, hnp.array_shapes(max_dims=3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_every_finite_float64_comes_back_bit_by_bit(array: Array) -> None:
    assert same_bits(through_json(array), array)


@pytest.mark.parametrize("datatype", INTEGERS, ids=str)
@given(data=st.data())
def test_every_integer_comes_back(datatype: Datatype, data: st.DataObject) -> None:
    array = data.draw(hnp.arrays(datatype.numpy, hnp.array_shapes(max_dims=3)))
    assert same_bits(through_json(array), array)


@pytest.mark.parametrize("datatype", INTEGERS, ids=str)
def test_the_largest_and_smallest_integers_come_back(datatype: Datatype) -> None:
    info = np.iinfo(str(datatype).lower())
    array = np.array([info.min, info.max, 0, 1], dtype=datatype.numpy)
    assert same_bits(through_json(array), array)


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16], ids=str)
def test_all_65536_half_floats_come_back_bit_by_bit(datatype: Datatype) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    array = bits.view(datatype.numpy)
    back = through_json(array)
    nan = np.isnan(array.astype(np.float32))
    assert (back.view(np.uint16)[~nan] == bits[~nan]).all()
    assert np.isnan(back[nan].astype(np.float32)).all()


@pytest.mark.parametrize("datatype", [each for each in Datatype if each.is_float], ids=str)
def test_nan_and_the_infinities_are_strings_both_ways(datatype: Datatype) -> None:
    array = np.array([np.nan, np.inf, -np.inf, 1.5], dtype=datatype.numpy)
    text = encode_data(array)
    assert orjson.loads(text) == ["NaN", "Infinity", "-Infinity", 1.5]
    for nested in (text, b"[%b]" % text):
        back = decode_data(nested, datatype, "x").reshape(-1).astype(np.float64)
        assert np.array_equal(back, array.astype(np.float64), equal_nan=True)


def test_a_single_value_may_be_nan() -> None:
    assert np.isnan(decode_data(b'"NaN"', Datatype.FP32, "x").astype(np.float64))


@given(hnp.arrays(np.bool_, hnp.array_shapes(max_dims=3)))
def test_booleans_come_back(array: Array) -> None:
    assert same_bits(through_json(array), array)


@given(st.lists(st.text(), max_size=8))
def test_text_comes_back(texts: list[str]) -> None:
    array = np.array([text.encode() for text in texts], dtype=np.object_)
    assert is_text(array)
    assert decode_data(encode_data(array), Datatype.BYTES, "x").tolist() == array.tolist()


@given(st.lists(st.binary(), max_size=8))
def test_bytes_come_back_as_base64(elements: list[bytes]) -> None:
    array = np.array(elements, dtype=np.object_)
    assert decode_data(encode_base64(array), Datatype.BYTES, "x", as_base64=True).tolist() == elements


def test_bytes_that_are_no_text_are_known_as_such() -> None:
    assert not is_text(np.array([b"a", b"\xff"], dtype=np.object_))


def test_an_array_that_is_not_contiguous_is_written_in_row_major_order() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    assert encode_data(array) == b"[0,3,1,4,2,5]"
    assert encode_data(np.arange(6, dtype=np.float32)[::2]) == b"[0.0,2.0,4.0]"


@pytest.mark.parametrize(
    ("text", "datatype", "index"),
    [
        (b"[0,300]", Datatype.UINT8, 1),
        (b"[-1]", Datatype.UINT64, 0),
        (b"[0,0,18446744073709551616]", Datatype.UINT64, 2),
        (b"[-129]", Datatype.INT8, 0),
        (b"[[1,2],[3,40000]]", Datatype.INT16, 3),
        (b"[9223372036854775808]", Datatype.INT64, 0),
        (b"[1,1e39]", Datatype.FP32, 1),
        (b"[[1,2],[1e39,2]]", Datatype.FP32, 2),
        (b"[1e308]", Datatype.FP32, 0),
        (b'["NaN",1e39]', Datatype.FP32, 1),
        (b'["Infinity",65520]', Datatype.FP16, 1),
        (b"[1,70000]", Datatype.FP16, 1),
        (b"[1,3.4028235e38]", Datatype.BF16, 1),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_index(text: bytes, datatype: Datatype, index: int) -> None:
    error = refused(text, datatype)
    assert (error.code, error.details["index"]) == ("lossy_value", index)
    assert f"at index {index} " in error.message
    assert str(datatype) in error.message


@pytest.mark.parametrize("text", [b"[0,1e400]", b"[0," + b"9" * 1000 + b"]"], ids=["1e400", "a thousand digits"])
@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.FP64, Datatype.INT64], ids=str)
def test_a_number_that_no_computer_holds_is_refused_by_its_index(text: bytes, datatype: Datatype) -> None:
    error = refused(text, datatype)
    assert error.code in ("lossy_value", "wrong_dtype")
    assert "data[1]" in error.message or "at index 1 " in error.message


@pytest.mark.parametrize(
    ("text", "datatype"),
    [
        (b"[true]", Datatype.FP32),
        (b'["1"]', Datatype.FP32),
        (b'["nan"]', Datatype.FP32),
        (b"[null]", Datatype.FP32),
        (b"[1.5]", Datatype.INT32),
        (b"[true]", Datatype.INT32),
        (b"[1]", Datatype.BOOL),
        (b'["true"]', Datatype.BOOL),
        (b"[1]", Datatype.BYTES),
        (b"{}", Datatype.FP32),
        (b"null", Datatype.FP32),
        (b"[{}]", Datatype.FP32),
        (b"[[1],2]", Datatype.FP32),
        (b"[1,[2]]", Datatype.FP32),
    ],
)
def test_a_value_of_another_kind_is_refused(text: bytes, datatype: Datatype) -> None:
    assert refused(text, datatype).code == "wrong_dtype"


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.INT8, Datatype.BYTES, Datatype.FP16], ids=str)
def test_nested_arrays_of_different_lengths_are_refused(datatype: Datatype) -> None:
    one, two = (b'["a"]', b'["a","b"]') if datatype is Datatype.BYTES else (b"[1]", b"[1,2]")
    assert refused(b"[%b,%b]" % (one, two), datatype).code == "wrong_shape"


@pytest.mark.parametrize("depth", [DEEPEST + 1, 300, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    assert refused(b"[" * depth + b"]" * depth, Datatype.FP32).code == "wrong_shape"


@pytest.mark.parametrize("text", [b"[1,]", b"[1", b"", b"[NaN]", b"[01]", b"[1]2", b"[\xff]", b'["\\ud800"]', b"[1.]"])
def test_what_is_not_json_is_refused(text: bytes) -> None:
    assert refused(text, Datatype.BYTES).code in ("invalid_json", "wrong_dtype")


def test_what_is_not_base64_is_refused() -> None:
    with pytest.raises(Invalid, match="'x'"):
        decode_data(b'["#"]', Datatype.BYTES, "x", as_base64=True)


@given(st.binary(max_size=40), st.sampled_from(list(Datatype)))
def test_any_bytes_are_an_array_or_a_refusal(text: bytes, datatype: Datatype) -> None:
    with suppress(Invalid):
        assert decode_data(text, datatype, "x").dtype == datatype.numpy
