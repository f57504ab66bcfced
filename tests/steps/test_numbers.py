from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from foretell import steps
from foretell.errors import Invalid, Setup
from foretell.tensors import Datatype, TensorSpec

numbers: Any = steps.numbers

SCORES = arrays.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**120), 2.0**120, width=32))


@given(SCORES)
def test_softmax_is_the_textbook_formula_and_never_overflows(scores: Any) -> None:
    got = numbers.softmax()({"x": scores})["x"]
    exact = np.exp(scores.astype(np.longdouble) - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(got, (exact / exact.sum(axis=1, keepdims=True)).astype(np.float64), rtol=1e-5, atol=1e-7)
    assert got.dtype == np.float32


@given(SCORES)
def test_sigmoid_is_the_textbook_formula_and_never_overflows(scores: Any) -> None:
    got = numbers.sigmoid()({"x": scores})["x"]
    with np.errstate(over="ignore"):
        exact = 1 / (1 + np.exp(-scores.astype(np.longdouble)))
    np.testing.assert_allclose(got, exact.astype(np.float64), rtol=1e-5, atol=1e-38)
    assert got.dtype == np.float32


def test_a_temperature_softens() -> None:
    scores = np.array([[1.0, 3.0]], dtype=np.float32)
    np.testing.assert_allclose(numbers.softmax(2)({"x": scores})["x"], numbers.softmax()({"x": scores / 2})["x"])


def test_double_precision_stays_so() -> None:
    rows = np.zeros((2, 2))
    assert numbers.softmax()({"x": rows})["x"].dtype == np.float64
    assert numbers.sigmoid().gives({"x": TensorSpec("x", Datatype.FP64)})["x"].dtype is Datatype.FP64


def test_argmax_finds_the_first_of_equal_ones() -> None:
    got = numbers.argmax()({"x": np.array([[1, 3, 3], [5, 1, 1]])})
    assert list(got["x"]) == [1, 0]
    assert got["x"].dtype == np.int64


def test_argmax_may_add_a_tensor_and_keep_the_scores() -> None:
    scores = np.array([[0.25, 0.75]])
    got = numbers.argmax(output="label")({"x": scores})
    assert list(got) == ["x", "label"]
    assert got["x"] is scores


def test_argmax_before_the_model_takes_scores_and_leaves_other_inputs() -> None:
    step = numbers.argmax(output="best", input="x")
    best, x = TensorSpec("best", Datatype.INT64), TensorSpec("x", Datatype.FP32, (4,))
    assert step.takes({"best": best, "x": x}) == {"x": x}
    assert step.takes({"best": best}) == {"x": TensorSpec("x", Datatype.FP32, (None,))}
    with pytest.raises(Setup, match="input"):
        numbers.argmax(output="best").takes({"best": best})


def test_scale_brings_a_prediction_into_its_unit() -> None:
    rows = np.array([[1, 2], [3, 4]], dtype=np.float32)
    got = numbers.scale(by=[2, 10], plus=1)({"x": rows})["x"]
    assert got.tolist() == [[3, 21], [7, 41]]
    assert got.dtype == np.float32


def test_cast_converts_what_fits_and_refuses_what_does_not() -> None:
    got = numbers.cast("INT64")({"x": np.array([1.0, 2.0])})["x"]
    assert got.dtype == np.int64
    with pytest.raises(Invalid) as caught:
        numbers.cast("UINT8")({"x": np.array([1, 300])})
    assert (caught.value.code, caught.value.details["index"]) == ("lossy_value", [1])
    assert numbers.cast("FP32", source="UINT8").takes({"x": TensorSpec("x", Datatype.FP32)})["x"].dtype is Datatype.UINT8


def test_steps_that_do_not_fit_what_comes_in_are_refused_at_start() -> None:
    whole, flat = {"x": TensorSpec("x", Datatype.INT64, (3,))}, {"x": TensorSpec("x", Datatype.FP32)}
    for step, specs in (
        (numbers.softmax(), whole),
        (numbers.softmax(), flat),
        (numbers.sigmoid(), whole),
        (numbers.argmax(), flat),
        (numbers.scale(by=[1, 2]), {"x": TensorSpec("x", Datatype.FP32, (3,))}),
        (numbers.cast("FP32"), {"x": TensorSpec("x", Datatype.BYTES)}),
        (numbers.cast("FP32"), {"x": TensorSpec("x", Datatype.BOOL)}),
    ):
        with pytest.raises(Setup, match="numbers"):
            step.gives(specs)


def test_options_that_cannot_be_meant_are_refused() -> None:
    make: Callable[[], object]
    for make in (
        lambda: numbers.softmax(0),
        lambda: numbers.scale(by=[1, 2], plus=[1, 2, 3]),
        lambda: numbers.cast("BYTES"),
        lambda: numbers.cast("FP32", source="float"),
    ):
        with pytest.raises(Setup):
            make()
