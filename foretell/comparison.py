"""How far the answer of a shadow is from the one that a caller got."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretell.tensors import Array, Arrays

Floats = np.ndarray[Any, np.dtype[np.float64]]
Booleans = np.ndarray[Any, np.dtype[np.bool_]]
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Floats differ when they are further apart than ``ABSOLUTE + RELATIVE * |what the caller got|``."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One copy of a request. ``outcome`` is ``compared``, ``dropped`` (too many waited) or ``failed``; then the rest is 0.

    Of ``rows`` that were compared, ``differing`` have a value that differs, and ``deciding`` another class: another text,
    whole number or boolean, or another place of the largest float. ``values`` are the floats that were compared,
    ``difference`` the sum of their absolute differences, ``largest`` the largest of these.
    """

    model: str
    version: str
    outcome: str
    rows: int = 0
    differing: int = 0
    deciding: int = 0
    values: int = 0
    difference: float = 0.0
    largest: float = 0.0


Compared = Callable[[Comparison], None]
"""Told of every copy; never blocks, and never raises."""


def compare(model: str, version: str, given: Arrays, copied: Arrays, *, rows: bool) -> Comparison:
    """What the caller was ``given`` beside what the shadow answered. ``rows``: whether axis 0 is rows, or all is one."""
    count = len(next(iter(given.values()))) if rows else 1
    differs, decides = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    values, difference, largest = 0, 0.0, 0.0
    for name, array in given.items():
        other = copied.get(name)
        if other is None or other.shape != array.shape or array.size == 0:
            is_alike = other is not None and other.shape == array.shape
            differs |= not is_alike
            decides |= not is_alike
            continue
        left, right = array.reshape(count, -1), other.reshape(count, -1)
        if not _is_float(array) or not _is_float(other):
            unequal = np.asarray(left != right, np.bool_).any(axis=1)
            differs |= unequal
            decides |= unequal
            continue
        wide, other_wide = left.astype(np.float64), right.astype(np.float64)
        apart = _apart(wide, other_wide)
        differs |= (apart > ABSOLUTE + RELATIVE * np.abs(np.nan_to_num(wide, posinf=0.0, neginf=0.0))).any(axis=1)
        if array.ndim > int(rows) and array.shape[-1] > 1:
            decides |= _decide(wide, other_wide, array.shape[-1])
        known = apart[np.isfinite(apart)]
        values += known.size
        difference += float(known.sum())
        largest = max(largest, float(known.max(initial=0.0)))
    return Comparison(model, version, "compared", count, int(differs.sum()), int(decides.sum()), values, difference, largest)


def _is_float(array: Array) -> bool:
    return array.dtype != object and array.dtype.kind not in "biu"


def _apart(left: Floats, right: Floats) -> Floats:
    """Absolute differences: 0 for equal infinities and for two NaN, infinite where only one is NaN."""
    with np.errstate(invalid="ignore"):
        apart: Floats = np.abs(left - right)
    apart[(left == right) | (np.isnan(left) & np.isnan(right))] = 0.0
    apart[np.isnan(apart)] = np.inf
    return apart


def _decide(left: Floats, right: Floats, classes: int) -> Booleans:
    """Whether the largest value of any vector in a row is at another place."""
    tops = [np.argmax(each.reshape(len(each), -1, classes), axis=2) for each in (left, right)]
    other: Booleans = (tops[0] != tops[1]).any(axis=1)
    return other
