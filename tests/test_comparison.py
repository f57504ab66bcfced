"""How a shadow's answers are compared with those that were given."""

import numpy as np
import pytest

from foretell.comparison import Comparison, compare
from foretell.tensors import Array, Arrays


def floats(*rows: list[float]) -> Arrays:
    return {"y": np.array(rows, np.float32)}


def compared(given: Arrays, copied: Arrays, *, rows: bool = True) -> Comparison:
    return compare("m", "3", given, copied, rows=rows)


def test_equal_answers_do_not_differ() -> None:
    told = compared(floats([1, 2], [3, 4]), floats([1, 2], [3, 4]))
    assert told == Comparison("m", "3", "compared", rows=2, values=4)


def test_rows_beyond_the_tolerance_differ_and_are_measured() -> None:
    told = compared(floats([1, 2], [3, 4], [5, 6]), floats([1, 2.5], [3, 4.001], [5, 6]))
    assert (told.rows, told.differing, told.deciding, told.values) == (3, 1, 0, 6)
    assert told.largest == pytest.approx(0.5)
    assert told.difference == pytest.approx(0.501, rel=1e-3)


def test_another_largest_value_is_another_class() -> None:
    told = compared(floats([0.5001, 0.4999], [0.9, 0.1]), floats([0.4999, 0.5001], [0.8, 0.2]))
    assert (told.differing, told.deciding) == (1, 1)


def test_the_rows_of_one_value_each_have_no_class() -> None:
    told = compared({"y": np.array([1.0, 2.0])}, {"y": np.array([1.0, 3.0])})
    assert (told.differing, told.deciding) == (1, 0)


@pytest.mark.parametrize(
    ("given", "copied"),
    [
        (np.array([b"cat", b"dog"], object), np.array([b"cat", b"cow"], object)),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([True, False]), np.array([True, True])),
    ],
)
def test_another_label_is_another_class(given: Array, copied: Array) -> None:
    told = compared({"label": given}, {"label": copied})
    assert (told.rows, told.differing, told.deciding, told.values) == (2, 1, 1, 0)


def test_a_row_is_counted_once_however_many_outputs_differ() -> None:
    given = {"a": np.zeros((2, 3)), "b": np.array([b"x", b"y"], object)}
    copied = {"a": np.ones((2, 3)), "b": np.array([b"z", b"y"], object)}
    told = compared(given, copied)
    assert (told.differing, told.deciding) == (2, 1)


def test_equal_infinities_and_two_nan_are_alike_and_one_alone_differs() -> None:
    same = floats([np.inf, -np.inf, np.nan])
    assert compared(same, same).differing == 0
    told = compared(same, floats([np.inf, -np.inf, 1]))
    assert (told.differing, told.largest, told.values) == (1, 0.0, 2)


def test_another_shape_and_a_missing_output_differ_in_every_row() -> None:
    assert compared(floats([1], [2]), floats([1, 1], [2, 2])).differing == 2
    assert compared(floats([1], [2]), {}).deciding == 2


def test_without_a_batch_axis_all_is_one_row() -> None:
    told = compared({"y": np.array([1.0, 2.0, 3.0])}, {"y": np.array([1.0, 5.0, 3.0])}, rows=False)
    assert (told.rows, told.differing, told.deciding) == (1, 1, 1)
