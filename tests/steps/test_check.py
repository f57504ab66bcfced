from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from foretell import steps
from foretell.errors import Invalid, Setup
from foretell.steps import Step
from foretell.tensors import Datatype, TensorSpec

check: Any = steps.check

NAN, INF = float("nan"), float("inf")


def refused(step: Step, **arrays: NDArray[Any]) -> dict[str, Any]:
    with pytest.raises(Invalid) as caught:
        step(arrays)
    assert str(caught.value.details["input"]) in caught.value.message
    return {"code": caught.value.code, **caught.value.details}


def words(*values: object) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_what_is_not_finite_is_refused_with_its_row_and_place(bad: float, dtype: Any) -> None:
    rows = np.array([[1, 2], [3, bad]], dtype=dtype)
    details = refused(check.finite(), x=rows, n=np.array([1, 2]))
    assert (details["code"], details["input"], details["row"], details["index"]) == ("refused_value", "x", 1, [1, 1])
    assert details["got"] == str(bad)


def test_a_missing_value_passes_where_it_is_allowed() -> None:
    rows = np.array([1, NAN], dtype=np.float32)
    check.finite(missing=True)({"x": rows})
    check.range(0, 1, missing=True)({"x": rows, "n": np.array([0, 1])})
    refused(check.range(0, 1), x=rows)
    refused(check.finite(missing=True), x=np.array([INF]))


@pytest.mark.parametrize(
    ("low", "high", "bad", "expected"),
    [(0, 1, 1.5, "a number from 0 to 1"), (0, None, -1, "at least 0"), (None, 1, INF, "at most 1")],
)
def test_a_number_out_of_range_is_refused(low: float | None, high: float | None, bad: float, expected: str) -> None:
    details = refused(check.range(low, high), x=np.array([0, 1, bad], dtype=np.float32))
    assert (details["row"], details["expected"]) == (2, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, ml_dtypes.bfloat16])
def test_both_ends_of_a_range_are_in_it(dtype: Any) -> None:
    check.range(low=0, high=3)({"x": np.array([0, 3], dtype=dtype)})
    check.range(high=0.1)({"x": np.array([0.1]).astype(np.float32)})


def test_a_value_that_is_not_listed_is_refused() -> None:
    colours = check.allowed(["red", "blue"])
    colours({"colour": words(b"red", b"blue", "red")})
    details = refused(colours, colour=words(b"red", b"zebra\xff"))
    assert (details["row"], details["got"]) == (1, "zebra\ufffd")
    numbers = check.allowed([0.1, 3])
    numbers({"x": np.array([0.1, 3], dtype=np.float32)})
    assert refused(numbers, n=np.array([3, 0]))["got"] == 0
    refused(numbers, x=np.array([NAN]))


def test_a_check_of_one_named_input_leaves_the_others_alone() -> None:
    check.range(0, 1, input="a")({"a": np.array([1.0]), "b": np.array([9.0])})
    refused(check.range(0, 1, input="b"), a=np.array([1.0]), b=np.array([9.0]))


def test_a_datatype_is_held_to() -> None:
    step = check.dtype("FP32")
    step({"x": np.zeros(2, np.float32)})
    details = refused(step, x=np.zeros(2))
    assert (details["code"], details["expected"], details["got"]) == ("wrong_dtype", "FP32", "FP64")
    with pytest.raises(Setup, match="holds 'x' to FP32, but x INT64"):
        step.gives({"x": TensorSpec("x", Datatype.INT64)})


def test_a_shape_is_held_to_and_narrows_what_the_pipeline_takes() -> None:
    step = check.shape([224, -1, 3])
    narrowed = step.takes({"x": TensorSpec("x", Datatype.FP32, (None, None, 3))})
    assert narrowed["x"].shape == (224, None, 3)
    step({"x": np.zeros((1, 224, 7, 3))})
    details = refused(step, x=np.zeros((1, 225, 7, 3)))
    assert (details["code"], details["expected"], details["got"]) == ("wrong_shape", [224, -1, 3], [225, 7, 3])
    refused(step, x=np.zeros((1, 224, 3)))
    with pytest.raises(Setup, match="224"):
        step.gives({"x": TensorSpec("x", Datatype.FP32, (200, None, 3))})


def test_options_that_cannot_be_meant_are_refused() -> None:
    make: Callable[[], object]
    for make in (
        check.range,
        lambda: check.range(2, 1),
        lambda: check.allowed([]),
        lambda: check.allowed("red"),
        lambda: check.allowed(["red", 1]),
        lambda: check.dtype("fp32"),
        lambda: check.shape([-2]),
    ):
        with pytest.raises(Setup) as caught:
            make()
        assert caught.value.code == "broken_pipeline"


def test_a_check_that_has_nothing_to_check_is_refused_at_start() -> None:
    specs = {"x": TensorSpec("x", Datatype.INT64)}
    with pytest.raises(Setup, match="nothing to check"):
        check.finite().gives(specs)
    with pytest.raises(Setup, match="nothing to check"):
        check.allowed(["red"], input="x").gives(specs)
