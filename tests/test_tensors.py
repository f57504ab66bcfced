"""Datatypes and signatures: what goes in is what was sent, or it is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foretell.errors import Invalid, Setup
from foretell.tensors import Array, Datatype, Signature, TensorSpec, cast, show_shape

NUMBERS = [datatype for datatype in Datatype if datatype not in (Datatype.BOOL, Datatype.BYTES)]
EDGES = [0, 1, -1, 127, 128, 255, 256, 2049, 32767, 32768, 65504, 65505, 65535, 65536, 2**24 + 1, 2**31, 2**32, 2**53 + 1]
EDGES += [2**63 - 1, 2**63, 2**64 - 1, -(2**63), -(2**31) - 1, -129]
FLOAT_EDGES = [
    0.5,
    -0.0,
    1e-45,
    65519.0,
    65520.0,
    3.4e38,
    1e39,
    1e308,
    math.inf,
    -math.inf,
    math.nan,
    2.0**63,
    2.0**64,
    -(2.0**63),
]


def values_of(datatype: Datatype) -> st.SearchStrategy[Array]:
    """Arrays of one to four values of a datatype of numbers, edges preferred."""
    if datatype.is_integer:
        info = np.iinfo(str(datatype.numpy))
        inside = [edge for edge in EDGES if info.min <= edge <= info.max]
        integers = st.one_of(st.sampled_from(inside), st.integers(int(info.min), int(info.max)))
        return st.lists(integers, min_size=1, max_size=4).map(lambda drawn: np.array(drawn, dtype=datatype.numpy))
    floats = st.one_of(st.sampled_from([*map(float, EDGES), *FLOAT_EDGES]), st.floats())
    return st.lists(floats, min_size=1, max_size=4).map(lambda drawn: _rounded(drawn, datatype))


def _rounded(drawn: list[float], datatype: Datatype) -> Array:
    with np.errstate(all="ignore"):
        return np.array(drawn, dtype=np.float64).astype(datatype.numpy)


def exact(value: Any) -> int | float:
    """The value of one element as Python's number, which holds every one exactly."""
    return int(value) if isinstance(value, np.integer) else float(value)


def same(one: int | float, other: int | float) -> bool:
    """Equal as numbers (Python compares int and float exactly); NaN equals NaN."""
    return one == other or (one != one and other != other)


def holds(datatype: Datatype, value: int | float) -> bool:
    """Whether a datatype has this very value, by Python's exact arithmetic."""
    if datatype.is_integer:
        info = np.iinfo(str(datatype.numpy))
        return math.isfinite(value) and value == int(value) and int(info.min) <= value <= int(info.max)
    if value != value:
        return True
    try:
        as_float = float(value)
    except OverflowError:
        return False
    return as_float == value and same(exact(_rounded([as_float], datatype)[0]), value)


def test_the_datatypes_are_those_of_the_protocol() -> None:
    names = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES"
    assert list(Datatype) == names.split()


@pytest.mark.parametrize("datatype", Datatype)
def test_a_datatype_and_its_numpy_dtype_name_each_other(datatype: Datatype) -> None:
    assert Datatype.of(datatype.numpy) is datatype
    assert Datatype.of(datatype.numpy.newbyteorder(">")) is datatype


@pytest.mark.parametrize("dtype", ["U5", "S5", "O"])
def test_texts_and_raw_bytes_count_as_bytes(dtype: str) -> None:
    assert Datatype.of(np.dtype(dtype)) is Datatype.BYTES


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]"])
def test_a_dtype_outside_the_protocol_has_no_datatype(dtype: str) -> None:
    with pytest.raises(KeyError):
        Datatype.of(np.dtype(dtype))


def check_cast(before: Array, target: Datatype) -> None:
    """Every value is kept exactly, or the first that cannot be is named."""
    fits = [holds(target, exact(value)) for value in before]
    if all(fits):
        after = cast(before, target, "x")
        assert after.dtype == target.numpy
        assert all(same(exact(one), exact(other)) for one, other in zip(before, after, strict=True))
        return
    with pytest.raises(Invalid) as caught:
        cast(before, target, "x")
    assert caught.value.code == "lossy_value"
    assert caught.value.details["index"] == [fits.index(False)]


@pytest.mark.parametrize("target", NUMBERS)
@pytest.mark.parametrize("source", NUMBERS)
def test_a_cast_keeps_every_edge_or_refuses_it(source: Datatype, target: Datatype) -> None:
    edges = [edge for edge in EDGES if holds(source, edge)]
    array = np.array(edges, dtype=source.numpy) if source.is_integer else _rounded([*map(float, EDGES), *FLOAT_EDGES], source)
    for value in array:
        check_cast(np.array([value], dtype=source.numpy), target)


@pytest.mark.parametrize("target", NUMBERS)
@pytest.mark.parametrize("source", NUMBERS)
def test_a_cast_keeps_every_value_or_refuses(source: Datatype, target: Datatype) -> None:
    @settings(max_examples=15)
    @given(values_of(source))
    def check(before: Array) -> None:
        check_cast(before, target)

    check()


@given(st.sampled_from(NUMBERS), st.sampled_from([Datatype.FP16, Datatype.BF16, Datatype.FP32]), st.data())
def test_rounding_is_for_floats_and_never_makes_an_infinity(source: Datatype, target: Datatype, data: st.DataObject) -> None:
    before = data.draw(values_of(source))
    try:
        after = cast(before, target, "x", rounding=True)
    except Invalid:
        assert not all(holds(target, exact(value)) for value in before)
        return
    for one, other in zip(map(exact, before), map(exact, after), strict=True):
        assert math.isfinite(one) == math.isfinite(other)
        assert source.is_float or one == other


@pytest.mark.parametrize("other", [datatype for datatype in Datatype if datatype is not Datatype.BOOL])
def test_booleans_are_not_numbers(other: Datatype) -> None:
    for array, target in ((np.array([True]), other), (np.ones(1, dtype=other.numpy), Datatype.BOOL)):
        with pytest.raises(Invalid, match="datatype") as caught:
            cast(array, target, "x")
        assert caught.value.code == "wrong_dtype"


@pytest.mark.parametrize("other", [datatype for datatype in Datatype if datatype is not Datatype.BYTES])
def test_bytes_are_not_numbers(other: Datatype) -> None:
    for array, target in ((np.array([b"1"], dtype=object), other), (np.ones(1, dtype=other.numpy), Datatype.BYTES)):
        with pytest.raises(Invalid, match="datatype"):
            cast(array, target, "x")


def test_a_cast_to_its_own_datatype_copies_nothing() -> None:
    array = np.ones(3, dtype=np.float32)
    assert cast(array, Datatype.FP32, "x") is array


def test_the_first_value_that_does_not_fit_is_named() -> None:
    with pytest.raises(Invalid, match=r"300.*\[1, 0\].*UINT8") as caught:
        cast(np.array([[1, 2], [300, 400]]), Datatype.UINT8, "pixels")
    assert caught.value.details == {"input": "pixels", "index": [1, 0], "expected": "UINT8", "got": "INT64"}


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("FP32[30]", TensorSpec("x", Datatype.FP32, (30,))),
        (" UINT8 [?, ?, 3] ", TensorSpec("x", Datatype.UINT8, (None, None, 3))),
        ("BYTES", TensorSpec("x", Datatype.BYTES)),
        ("FP32[]", TensorSpec("x", Datatype.FP32)),
    ],
)
def test_a_spec_is_read_as_people_write_it(text: str, spec: TensorSpec) -> None:
    assert TensorSpec.parse("x", text) == spec


@pytest.mark.parametrize("text", ["", "float32", "fp32[3]", "FP31[3]", "FP32[3", "FP32[-1]", "FP32(3)", "FP32[a]"])
def test_what_is_no_spec_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Setup, match="write it like"):
        TensorSpec.parse("x", text)


def spec_texts() -> st.SearchStrategy[TensorSpec]:
    sizes = st.lists(st.one_of(st.none(), st.integers(0, 10**6)), max_size=4).map(tuple)
    return st.builds(TensorSpec, st.just("x"), st.sampled_from(list(Datatype)), sizes)


@given(spec_texts())
def test_a_spec_reads_what_it_shows(spec: TensorSpec) -> None:
    assert TensorSpec.parse("x", str(spec).removeprefix("x ")) == spec


def test_shapes_are_shown_with_a_question_mark_for_any_length() -> None:
    assert show_shape((3, None)) == "[3, ?]"


TWO = Signature((TensorSpec("a", Datatype.FP32, (2,)), TensorSpec("b", Datatype.INT64, (None,))), ())


def test_inputs_come_out_in_the_order_and_datatypes_of_the_signature() -> None:
    fitted = TWO.conform({"b": np.ones((3, 5), dtype=np.int8), "a": np.ones((3, 2))})
    assert [(name, str(array.dtype)) for name, array in fitted.items()] == [("a", "float32"), ("b", "int64")]
    assert TWO.count_rows(fitted) == 3


A = np.ones((3, 2), dtype=np.float32)
B = np.ones((3, 5), dtype=np.int64)


@pytest.mark.parametrize(
    ("inputs", "code", "says"),
    [
        ({}, "missing_input", "'a' is missing"),
        ({"a": A}, "missing_input", "'b' is missing"),
        ({"a": A, "c": B}, "missing_input", "'b' is missing"),
        ({"a": A, "b": B, "c": B}, "unknown_input", "no input 'c'"),
        ({"a": A[:, :1], "b": B}, "wrong_shape", r"\[3, 1\], the model takes \[\?, 2\]"),
        ({"a": A[0], "b": B}, "wrong_shape", r"\[2\], the model takes"),
        ({"a": A.sum(), "b": B}, "wrong_shape", r"\[\], the model takes"),
        ({"a": A, "b": B[:2]}, "wrong_rows", "same number of rows"),
        ({"a": A[:0], "b": B[:0]}, "wrong_rows", "no rows"),
        ({"a": A + 1e-9, "b": B + 0.5}, "lossy_value", "1.5"),
        ({"a": A, "b": B.astype(bool)}, "wrong_dtype", "has datatype BOOL"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, Array], code: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as caught:
        TWO.conform(inputs)
    assert caught.value.code == code


def test_a_scalar_row_is_taken_by_a_model_of_scalars_only_with_its_row_axis() -> None:
    scalars = Signature((TensorSpec("a", Datatype.FP32),), ())
    assert scalars.conform({"a": np.ones(4, dtype=np.float32)})["a"].shape == (4,)
    with pytest.raises(Invalid, match="shape"):
        scalars.conform({"a": np.array(1.0, dtype=np.float32)})


def test_a_model_without_a_batch_axis_takes_whole_shapes() -> None:
    whole = Signature((TensorSpec("a", Datatype.FP32, (2,)),), (), rows=False)
    fitted = whole.conform({"a": np.ones(2, dtype=np.float32)})
    assert whole.count_rows(fitted) == 1
    with pytest.raises(Invalid, match="shape"):
        whole.conform({"a": np.ones((1, 2), dtype=np.float32)})


@pytest.mark.parametrize("inputs", [(), (TensorSpec("a", Datatype.FP32),)])
def test_a_million_sent_names_make_a_short_answer(inputs: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(Invalid) as caught:
        Signature(inputs, ()).conform({f"{number:0100}": A for number in range(10**4)})
    assert len(str(caught.value.details) + caught.value.message) < 5000


@given(st.text(min_size=1))
@example("x" * 10**6)
def test_no_unknown_name_makes_a_long_answer(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        Signature((), ()).conform({name: A})
    assert len(caught.value.message) < 1200
