"""What one call of a model gave, divided among those whose rows were in it."""

from collections.abc import Sequence
from typing import Any

from foretell.tensors import Array, Arrays


class Part(dict[str, Array]):
    """One caller's rows of a call: those from row ``start`` on.

    ``whole`` are the outputs for all, and ``kept`` is one for all: for what is made of the whole once, such as its text.
    """

    __slots__ = ("kept", "start", "whole")

    whole: Arrays
    start: int
    kept: dict[str, Any]


def split(outputs: Arrays, counts: Sequence[int]) -> list[Any]:
    """The parts of those who sent so many rows each, in this order."""
    parts = []
    start = 0
    kept: dict[str, Any] = {}
    for count in counts:
        part = Part()
        part.whole, part.start, part.kept = outputs, start, kept
        stop = start + count
        for name, array in outputs.items():
            part[name] = array[start:stop]
        parts.append(part)
        start = stop
    return parts
