"""Probabilities and class numbers to words: what a person or a program reads in the answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foretell.errors import Broken
from foretell.steps import FILE, Specs, TensorStep, derive, pick, read_file, refusal, require, require_positive, swap
from foretell.tensors import Arrays, Datatype, TensorSpec

Labels = Sequence[str] | str


@dataclass(frozen=True)
class decode(TensorStep):
    """Turns class numbers into labels.

    INT [...] -> BYTES [...]; the tensor keeps its name. ``labels`` is a list, or a text file with one label a line, the first
    for number 0. Raises Broken ``step_failed`` when the model gives a number that has no label.
    """

    labels: Labels = field(metadata=FILE)
    _names: NDArray[np.object_] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        derive(self, _names=_read_labels(self, self.labels))

    def before(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(spec.name, Datatype.INT64, spec.shape)

    def after(self, spec: TensorSpec) -> TensorSpec:
        require(self, spec, spec.dtype.is_integer, "whole numbers, as numbers.argmax gives")
        return TensorSpec(spec.name, Datatype.BYTES, spec.shape)

    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self._names)):
            raise Broken("step_failed", f"the model gave class numbers up to {rows.max()}, there are {len(self._names)} labels")
        return np.asarray(self._names[rows])


@dataclass(frozen=True)
class top_k:
    """Gives the ``k`` most probable labels with their probabilities, the most probable first.

    FP [C] -> ``label`` BYTES [k] and ``probability`` FP32 [k], in the place of the tensor ``input``. ``labels`` is a list of C,
    or a text file with one label a line; of equal probabilities the earlier label comes first. The two new names may be
    changed by ``label`` and ``probability``. A number of labels other than C is refused at start.
    """

    k: int
    labels: Labels = field(metadata=FILE)
    label: str = "label"
    probability: str = "probability"
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False
    _names: NDArray[np.object_] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_positive(self, k=self.k)
        names = _read_labels(self, self.labels)
        if self.k > len(names):
            raise refusal(self, f"k is {self.k}, but there are only {len(names)} labels")
        derive(self, _names=names)

    def takes(self, gives: Specs) -> Specs:
        raise refusal(self, "it belongs after the model, in postprocess")

    def gives(self, takes: Specs) -> Specs:
        name = pick(self, takes, self.input)
        spec, count = takes[name], len(self._names)
        require(self, spec, spec.dtype.is_float and len(spec.shape) == 1, "floats with one probability a class")
        if spec.shape[0] not in {None, count}:
            raise refusal(self, f"there are {count} labels, but the model gives {spec.shape[0]} classes: {spec}")
        label = TensorSpec(self.label, Datatype.BYTES, (self.k,))
        probability = TensorSpec(self.probability, Datatype.FP32, (self.k,))
        return swap(self, takes, [name], {self.label: label, self.probability: probability})

    def __call__(self, arrays: Arrays) -> Arrays:
        name = pick(self, arrays, self.input)
        probabilities: NDArray[Any] = arrays[name]
        if probabilities.shape[1] != len(self._names):
            raise Broken("step_failed", f"the model gave {probabilities.shape[1]} classes, there are {len(self._names)} labels")
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.k]
        values = np.take_along_axis(probabilities, best, axis=1).astype(np.float32)
        return swap(self, arrays, [name], {self.label: self._names[best], self.probability: values})


@dataclass(frozen=True)
class threshold:
    """Turns the probability of one class into a verdict: ``labels[1]`` from ``at`` on, ``labels[0]`` below.

    FP [], [1] or [2] (of two classes the second counts) -> ``verdict`` BYTES [] and ``probability`` FP32 [], in place of the
    tensor ``input``. ``at`` is compared in the datatype of the model. The two new names may be changed by ``verdict`` and
    ``probability``.
    """

    at: float
    labels: Sequence[str] = ("no", "yes")
    verdict: str = "verdict"
    probability: str = "probability"
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False
    _names: NDArray[np.object_] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.at <= 1:
            raise refusal(self, f"at is a probability from 0 to 1, not {self.at}")
        if isinstance(self.labels, str) or len(self.labels) != 2:
            raise refusal(self, f"labels must be two: the one below and the one above, not {self.labels!r}")
        derive(self, labels=tuple(self.labels), _names=_read_labels(self, self.labels))

    def takes(self, gives: Specs) -> Specs:
        raise refusal(self, "it belongs after the model, in postprocess")

    def gives(self, takes: Specs) -> Specs:
        name = pick(self, takes, self.input)
        spec = takes[name]
        fits = spec.dtype.is_float and spec.shape in {(), (1,), (2,), (None,)}
        require(self, spec, fits, "one probability a row, or those of two classes")
        verdict, probability = TensorSpec(self.verdict, Datatype.BYTES), TensorSpec(self.probability, Datatype.FP32)
        return swap(self, takes, [name], {self.verdict: verdict, self.probability: probability})

    def __call__(self, arrays: Arrays) -> Arrays:
        name = pick(self, arrays, self.input)
        rows: NDArray[Any] = arrays[name]
        if rows.ndim == 2 and rows.shape[1] > 2:
            raise Broken("step_failed", f"the model gave {rows.shape[1]} classes, a threshold divides two")
        positive = rows if rows.ndim == 1 else rows[:, -1]
        above = (positive >= positive.dtype.type(self.at)).astype(np.intp)
        return swap(self, arrays, [name], {self.verdict: self._names[above], self.probability: positive.astype(np.float32)})


@dataclass(frozen=True)
class abstain:
    """Answers ``label`` instead of a guess where the model's confidence is below ``below``.

    The confidence of a row is the largest value of the tensor ``by``, FP [C] or [k]; for FP [], the probability of one of two
    classes p, it is max(p, 1 - p). In rows below, all labels in the tensor ``input``, BYTES [] or [k], become ``label``.
    Use it after ``labels.top_k`` as it is, and after ``labels.threshold`` with ``input = "verdict"``.
    """

    below: float
    label: str = "unsure"
    by: str = "probability"
    input: str = "label"
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.below <= 1:
            raise refusal(self, f"below is a probability above 0, up to 1, not {self.below}")

    def takes(self, gives: Specs) -> Specs:
        raise refusal(self, "it belongs after the model, in postprocess")

    def gives(self, takes: Specs) -> Specs:
        label, by = takes[pick(self, takes, self.input)], takes[pick(self, takes, self.by, "by")]
        require(self, label, label.dtype is Datatype.BYTES, "labels")
        require(self, by, by.dtype.is_float and len(by.shape) < 2, "probabilities")
        return takes

    def __call__(self, arrays: Arrays) -> Arrays:
        labels, by = arrays[self.input].copy(), np.asarray(arrays[self.by], dtype=np.float64)
        confidence = np.maximum(by, 1 - by) if by.ndim == 1 else by.max(axis=1)
        labels[~(confidence >= self.below)] = self.label.encode()
        return {**arrays, self.input: labels}


def _read_labels(step: object, labels: Labels) -> NDArray[np.object_]:
    """Labels as BYTES [C], from a list or from a file with one a line. Raises Setup."""
    in_file = isinstance(labels, str)
    source = f"the file {labels}" if in_file else "labels"
    listed = [label.strip() for label in (_read_lines(step, labels) if isinstance(labels, str) else labels)]
    if not listed:
        raise refusal(step, f"{source} holds no labels: write one a line" if in_file else "labels is empty")
    if "" in listed:
        raise refusal(step, f"{source} has an empty label at number {listed.index('')}, counted from 0: write every label")
    names = np.empty(len(listed), dtype=object)
    names[:] = [label.encode() for label in listed]
    return names


def _read_lines(step: object, path: str) -> list[str]:
    return read_file(step, "labels", path).rstrip().splitlines()
