"""Arithmetic on one tensor: what turns a model's raw scores into probabilities, classes and units."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foretell.steps import Specs, TensorStep, derive, pick, refusal, require, swap
from foretell.tensors import Arrays, Datatype, TensorSpec
from foretell.tensors import cast as cast_lossless


@dataclass(frozen=True)
class softmax(TensorStep):
    """Turns scores into probabilities that sum to 1 over the last axis.

    FP [..., C] -> FP32 [..., C] (FP64 stays FP64); exp(x / temperature) normalised, with the row's maximum subtracted
    first so that nothing overflows. ``temperature`` above 1 softens (Guo et al. 2017, "On calibration of modern neural
    networks").
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise refusal(self, f"temperature must be above 0, not {self.temperature}")

    def after(self, spec: TensorSpec) -> TensorSpec:
        require(self, spec, spec.dtype.is_float and bool(spec.shape), "floats with one value a class, as FP32[10]")
        return TensorSpec(spec.name, _wide(spec.dtype), spec.shape)

    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        scores = _widen(rows) / np.asarray(self.temperature, dtype=_widen(rows).dtype)
        exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
        probabilities: NDArray[Any] = exponents / exponents.sum(axis=-1, keepdims=True)
        return probabilities


@dataclass(frozen=True)
class sigmoid(TensorStep):
    """Turns each score into a probability, 1 / (1 + exp(-x)).

    FP [...] -> FP32 [...] (FP64 stays FP64). Computed from exp(-|x|), so that nothing overflows.
    """

    def after(self, spec: TensorSpec) -> TensorSpec:
        require(self, spec, spec.dtype.is_float, "floats")
        return TensorSpec(spec.name, _wide(spec.dtype), spec.shape)

    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        scores = _widen(rows)
        small = np.exp(-np.abs(scores))
        probabilities: NDArray[Any] = np.where(scores >= 0, 1, small) / (1 + small)
        return probabilities


@dataclass(frozen=True)
class argmax:
    """Finds the index of the largest value over the last axis; of equal ones the first.

    Numbers [..., C] -> INT64 [...]. It replaces the tensor ``input``; with ``output`` it adds a tensor of that name instead,
    and keeps ``input``, for instance for ``labels.abstain``.
    """

    output: str | None = None
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False

    def takes(self, gives: Specs) -> Specs:
        output = pick(self, gives, self.output or self.input, "output")
        if self.output is not None and self.input is None:
            raise refusal(self, "before the model, an output = ... needs an input = ... as well")
        if self.input in gives and self.input != output:
            return {name: spec for name, spec in gives.items() if name != output}
        name = self.input or output
        return swap(self, gives, [output], {name: TensorSpec(name, Datatype.FP32, (*gives[output].shape, None))})

    def gives(self, takes: Specs) -> Specs:
        name = pick(self, takes, self.input)
        spec = takes[name]
        require(self, spec, spec.dtype is not Datatype.BYTES and bool(spec.shape), "numbers with one value a class")
        output = self.output or name
        return swap(self, takes, self._gone(name), {output: TensorSpec(output, Datatype.INT64, spec.shape[:-1])})

    def __call__(self, arrays: Arrays) -> Arrays:
        name = pick(self, arrays, self.input)
        return swap(self, arrays, self._gone(name), {self.output or name: arrays[name].argmax(axis=-1).astype(np.int64)})

    def _gone(self, name: str) -> list[str]:
        return [name] if self.output is None else []


@dataclass(frozen=True)
class scale(TensorStep):
    """Multiplies by ``by`` and then adds ``plus``: brings a prediction back into its unit.

    FP [...] -> the same datatype and shape. Both are one number, or a list of one a value of the last axis.
    """

    by: float | Sequence[float] = 1.0
    plus: float | Sequence[float] = 0.0
    _by: NDArray[Any] = field(init=False, repr=False, compare=False)
    _plus: NDArray[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by, plus = np.asarray(self.by, dtype=np.float64), np.asarray(self.plus, dtype=np.float64)
        if by.ndim and plus.ndim and by.shape != plus.shape:
            raise refusal(self, f"by has {by.size} numbers and plus has {plus.size}: give one number, or equally many")
        derive(self, _by=by, _plus=plus)

    def after(self, spec: TensorSpec) -> TensorSpec:
        count = max(self._by.size, self._plus.size)
        fits = count == 1 or (bool(spec.shape) and spec.shape[-1] in {None, count})
        require(self, spec, spec.dtype.is_float and fits, f"floats, {count} on the last axis" if count > 1 else "floats")
        return spec

    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        return np.asarray(rows.astype(np.float64) * self._by + self._plus, dtype=rows.dtype)


@dataclass(frozen=True)
class cast(TensorStep):
    """Converts a tensor to another datatype, if no value is lost by it; a float may be rounded to a shorter float.

    Any numbers [...] -> ``datatype`` [...]. ``source`` is the datatype that comes in when this is the first step, as in
    ``source = "UINT8"``; without it, the same. Raises Invalid ``lossy_value`` for a value that does not fit.
    """

    datatype: Datatype
    source: Datatype | None = None

    def __post_init__(self) -> None:
        numbers = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]
        for given in (self.datatype, self.source):
            if given is not None and given not in numbers:
                raise refusal(self, f"{given!r} is not a datatype of numbers: use one of {', '.join(numbers)}")
        derive(self, datatype=Datatype(self.datatype), source=Datatype(self.source or self.datatype))

    def before(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(spec.name, self.source or spec.dtype, spec.shape)

    def after(self, spec: TensorSpec) -> TensorSpec:
        both = (spec.dtype is Datatype.BOOL) == (self.datatype is Datatype.BOOL)
        require(self, spec, spec.dtype is not Datatype.BYTES and both, f"what converts to {self.datatype}")
        return TensorSpec(spec.name, self.datatype, spec.shape)

    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        return cast_lossless(rows, self.datatype, name, rounding=True)


def _wide(datatype: Datatype) -> Datatype:
    return Datatype.FP64 if datatype is Datatype.FP64 else Datatype.FP32


def _widen(rows: NDArray[Any]) -> NDArray[Any]:
    return rows if rows.dtype == np.float64 else rows.astype(np.float32)
