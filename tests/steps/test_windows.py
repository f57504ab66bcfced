from collections.abc import Callable
from statistics import median, mode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from foretell import steps
from foretell.errors import Broken, Invalid, Setup
from foretell.pipeline import Pipeline
from foretell.tensors import Arrays, Datatype, Signature, TensorSpec

windows: Any = steps.windows

FP32 = Datatype.FP32


class Mean:
    """A model that gives the mean of each row of three."""

    signature = Signature((TensorSpec("x", FP32, (3,)),), (TensorSpec("mean", FP32, (1,)),))

    def forward(self, inputs: Arrays) -> Arrays:
        rows: NDArray[Any] = inputs["x"]
        return {"mean": rows.mean(axis=1, keepdims=True)}

    def close(self) -> None:
        return None


@given(length=st.integers(0, 12), size=st.integers(1, 4), stride=st.integers(1, 4), count=st.integers(1, 4))
def test_cut_is_slicing_each_row_filled_with_zeros(length: int, size: int, stride: int, count: int) -> None:
    rows = np.arange(1, 2 * length + 1, dtype=np.float32).reshape(2, length)
    step = windows.cut(size=size, stride=stride, count=count)
    if length > (count - 1) * stride + size:
        with pytest.raises(Invalid, match="reach"):
            step({"x": rows})
        return
    wanted = []
    for row in rows:
        filled = np.concatenate([row, np.zeros(100, np.float32)])
        wanted += [filled[at * stride : at * stride + size] for at in range(count)]
    np.testing.assert_array_equal(step({"x": rows})["x"], wanted)


def test_without_a_stride_the_windows_are_spread_from_first_to_last() -> None:
    rows = np.arange(11)[None]
    assert windows.cut(size=3, count=3)({"x": rows})["x"].tolist() == [[0, 1, 2], [4, 5, 6], [8, 9, 10]]
    assert windows.cut(size=3, count=1)({"x": rows})["x"].tolist() == [[0, 1, 2]]
    assert windows.cut(size=3, count=2)({"x": rows[:, :2]})["x"].tolist() == [[0, 1, 0], [0, 1, 0]]


def test_other_inputs_are_repeated_beside_the_windows() -> None:
    got = windows.cut(size=1, count=2, input="x")({"x": np.array([[1, 2], [3, 4]]), "y": np.array([7, 8])})
    assert got["x"].tolist() == [[1], [2], [3], [4]]
    assert got["y"].tolist() == [7, 7, 8, 8]


def test_a_pipeline_over_windows_gives_one_answer_a_row() -> None:
    pipeline = Pipeline(Mean(), [windows.cut(size=3, stride=3, count=2)], [windows.merge(2)])
    assert [str(spec) for spec in pipeline.signature.inputs] == ["x FP32 [?]"]
    rows = np.array([[1, 2, 3, 4, 5, 6], [0, 0, 0, 6, 6, 6]], dtype=np.float32)
    assert pipeline({"x": rows})["mean"].tolist() == [[3.5], [3]]


def test_five_crops_are_the_corners_and_the_middle() -> None:
    images = np.arange(2 * 5 * 7, dtype=np.uint8).reshape(2, 5, 7, 1)
    got = windows.crops(3, 4)({"x": images})["x"]
    wanted = [
        image[top : top + 3, left : left + 4] for image in images for top, left in ((0, 0), (0, 3), (2, 0), (2, 3), (1, 1))
    ]
    np.testing.assert_array_equal(got, wanted)


def test_crops_of_images_of_different_sizes() -> None:
    sizes = ((5, 7), (4, 4))
    images = np.empty(2, dtype=object)
    images[:] = [np.arange(h * w, dtype=np.uint8).reshape(h, w, 1) for h, w in sizes]
    got = windows.crops(3, 4)({"x": images})["x"]
    alone = [windows.crops(3, 4)({"x": image[None]})["x"] for image in images]
    np.testing.assert_array_equal(got, np.concatenate(alone))
    with pytest.raises(Invalid) as caught:
        windows.crops(5, 5)({"x": images})
    assert (caught.value.code, caught.value.details["row"]) == ("wrong_shape", 1)


@pytest.mark.parametrize(("by", "wanted"), [("mean", [2, 3]), ("max", [4, 5]), ("median", [1.5, 2.5])])
def test_answers_are_merged(by: Any, wanted: list[float]) -> None:
    rows = np.array([[1, 2], [4, 5], [1, 2], [2, 3]], dtype=np.float32)
    got = windows.merge(4, by)({"x": rows})["x"]
    assert got.tolist() == [wanted]
    assert got.dtype == np.float32
    assert by != "median" or wanted[0] == median([1, 4, 1, 2])


@given(st.lists(st.sampled_from([b"cat", b"dog", b"fish"]), min_size=1, max_size=7))
def test_a_vote_of_labels_is_their_mode_the_first_of_equal_ones(labels: list[bytes]) -> None:
    rows = np.array(labels, dtype=object)
    assert windows.merge(len(labels), "vote")({"x": rows})["x"].tolist() == [mode(labels)]


def test_a_vote_of_probabilities_is_the_share_of_windows() -> None:
    rows = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], dtype=np.float32)
    assert windows.merge(4, "vote")({"x": rows})["x"].tolist() == [[0.75, 0.25]]


def test_only_the_named_output_is_merged_and_the_rest_is_dropped() -> None:
    specs = {"label": TensorSpec("label", Datatype.INT64), "p": TensorSpec("p", FP32, (2,))}
    with pytest.raises(Setup, match="label INT64"):
        windows.merge(2).gives(specs)
    step = windows.merge(2, input="p")
    assert list(step.gives(specs)) == ["p"]
    assert list(step({"label": np.array([0, 1]), "p": np.zeros((2, 2), np.float32)})) == ["p"]


def test_rows_that_are_no_multiple_of_the_windows_are_the_models_fault() -> None:
    with pytest.raises(Broken, match="no multiple of 2"):
        windows.merge(2)({"x": np.zeros(3)})


def test_what_cannot_fit_is_refused_at_start() -> None:
    with pytest.raises(Setup, match="reach 5 steps"):
        windows.cut(size=3, stride=2, count=2).gives({"x": TensorSpec("x", FP32, (6,))})
    with pytest.raises(Setup, match="after the model"):
        windows.merge(2).takes({"x": TensorSpec("x", FP32)})
    with pytest.raises(Setup, match="gives windows of"):
        windows.cut(size=3, count=2).takes({"x": TensorSpec("x", FP32, (6,))})
    make: Callable[[], object]
    for make in (lambda: windows.cut(0, 1), lambda: windows.crops(1, 0), lambda: windows.merge(2, "sum")):
        with pytest.raises(Setup):
            make()
