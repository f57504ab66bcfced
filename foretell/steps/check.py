"""Checks of what comes in: a value that the model was never meant to see is refused, with its row and its input."""

import builtins
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from foretell.errors import Invalid
from foretell.steps import Specs, as_bytes, derive, pick, refusal
from foretell.tensors import Array, Arrays, Datatype, TensorSpec, show_shape

Tensor = TypeVar("Tensor")


@dataclass(frozen=True)
class _Check(ABC):
    """A step that changes nothing. ``input`` names the tensor to check; without it, all that the check applies to."""

    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False

    def takes(self, gives: Specs) -> Specs:
        return gives

    def gives(self, takes: Specs) -> Specs:
        if not _chosen(self, takes, lambda spec: self.applies(spec.dtype)):
            raise refusal(self, f"it has nothing to check: what comes in is {', '.join(map(str, takes.values())) or 'nothing'}")
        return takes

    def __call__(self, arrays: Arrays) -> Arrays:
        for name, array in _chosen(self, arrays, lambda array: self.applies(Datatype.of(array.dtype))).items():
            bad = self.find_bad(array)
            if bad.any():
                raise _refused(name, array, bad, self.expected())
        return arrays

    @abstractmethod
    def applies(self, datatype: Datatype) -> bool: ...

    @abstractmethod
    def find_bad(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        """Elementwise: what must be refused."""

    @abstractmethod
    def expected(self) -> str: ...


@dataclass(frozen=True)
class finite(_Check):
    """Refuses NaN and infinity in float tensors.

    Works on the tensor ``input``, or on every float tensor, of any shape. ``missing = true`` lets NaN pass, where a later
    ``table.impute`` fills it. Raises Invalid ``refused_value`` with the number of the first bad row.
    """

    missing: bool = False

    def applies(self, datatype: Datatype) -> bool:
        return datatype.is_float

    def find_bad(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(np.isinf(array) if self.missing else ~np.isfinite(array))

    def expected(self) -> str:
        return "a finite number"


@dataclass(frozen=True)
class range(_Check):
    """Refuses numbers below ``low`` or above ``high``; both ends are allowed values.

    Works on the tensor ``input``, or on every tensor of numbers, of any shape. NaN is refused unless ``missing = true``.
    Raises Invalid ``refused_value`` with the number of the first bad row.
    """

    low: float | None = None
    high: float | None = None
    missing: bool = False

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise refusal(self, "say low = ..., high = ... or both")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise refusal(self, f"low is {self.low}, which is above high, {self.high}")

    def applies(self, datatype: Datatype) -> bool:
        return datatype.is_float or datatype.is_integer

    def find_bad(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        fits = np.ones(array.shape, dtype=np.bool_)
        if self.low is not None:
            fits &= array >= self.low
        if self.high is not None:
            fits &= array <= self.high
        return ~fits & ~np.isnan(array) if self.missing else ~fits

    def expected(self) -> str:
        if self.low is None or self.high is None:
            return f"at most {self.high:g}" if self.low is None else f"at least {self.low:g}"
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class allowed(_Check):
    """Refuses values that are not in the list ``values``: all texts, or all numbers.

    Works on the tensor ``input``, or on every BYTES tensor (texts) or every tensor of numbers (numbers), of any shape.
    Raises Invalid ``refused_value`` with the number of the first bad row.
    """

    values: Sequence[str | float]
    _texts: bool = field(init=False, repr=False, compare=False)
    _sorted: NDArray[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = [] if isinstance(self.values, str) else list(self.values)
        texts = all(isinstance(value, str) for value in values)
        if not values or (not texts and any(isinstance(value, str) for value in values)):
            raise refusal(self, f"values must be a list of texts or a list of numbers, not {self.values!r}")
        known = [str(value).encode() for value in values] if texts else values
        derive(self, values=tuple(values), _texts=texts, _sorted=np.array(sorted(known), dtype=object if texts else None))

    def applies(self, datatype: Datatype) -> bool:
        return (datatype is Datatype.BYTES) if self._texts else (datatype.is_float or datatype.is_integer)

    def find_bad(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        known = self._sorted.astype(array.dtype) if Datatype.of(array.dtype).is_float else self._sorted
        values = as_bytes(array)
        at = np.minimum(np.searchsorted(known, values), len(known) - 1)
        return np.asarray(known[at] != values, dtype=np.bool_)

    def expected(self) -> str:
        shown = ", ".join(repr(value) for value in self.values[:10])
        return f"one of {shown}" + (", ..." if len(self.values) > 10 else "")


@dataclass(frozen=True)
class dtype:
    """Holds a tensor to one datatype without converting it.

    Works on the tensor ``input``, or on every tensor; ``datatype`` is such as "FP32". It is a guard after a function of your
    own; ``numbers.cast`` is what converts. Raises Invalid ``wrong_dtype``.
    """

    datatype: Datatype
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.datatype not in Datatype.__members__:
            raise refusal(self, f"there is no datatype {self.datatype!r}: use one of {', '.join(Datatype)}")
        derive(self, datatype=Datatype(self.datatype))

    def takes(self, gives: Specs) -> Specs:
        return gives

    def gives(self, takes: Specs) -> Specs:
        for spec in _chosen(self, takes).values():
            if spec.dtype is not self.datatype:
                raise refusal(self, f"it holds {spec.name!r} to {self.datatype}, but {spec} comes in")
        return takes

    def __call__(self, arrays: Arrays) -> Arrays:
        for name, array in _chosen(self, arrays).items():
            if array.dtype != self.datatype.numpy:
                got = str(Datatype.of(array.dtype))
                why = f"input {name!r} has datatype {got}, this pipeline takes {self.datatype}"
                raise Invalid("wrong_dtype", why, input=name, expected=str(self.datatype), got=got)
        return arrays


@dataclass(frozen=True)
class shape:
    """Holds a tensor to one shape.

    Works on the tensor ``input``, or on the only one. ``shape`` leaves out the row axis, as in [224, 224, 3]; -1 is any
    length. Use it to narrow a model that takes any length. Raises Invalid ``wrong_shape``.
    """

    shape: Sequence[int | None]
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        sizes = tuple(None if size in {None, -1} else size for size in self.shape)
        if any(size is not None and size < 0 for size in sizes):
            raise refusal(self, f"lengths are 0 or more, or -1 for any, not {list(self.shape)}")
        derive(self, shape=sizes)

    def takes(self, gives: Specs) -> Specs:
        return self._narrow(gives)

    def gives(self, takes: Specs) -> Specs:
        return self._narrow(takes)

    def __call__(self, arrays: Arrays) -> Arrays:
        name = pick(self, arrays, self.input)
        got = arrays[name].shape[1:]
        if len(got) != len(self.shape) or any(want not in {None, size} for want, size in zip(self.shape, got, strict=True)):
            why = f"each row of input {name!r} has shape {show_shape(got)}, this pipeline takes {show_shape(self.shape)}"
            expected = [-1 if size is None else size for size in self.shape]
            raise Invalid("wrong_shape", why, input=name, expected=expected, got=list(got))
        return arrays

    def _narrow(self, specs: Specs) -> Specs:
        name = pick(self, specs, self.input)
        spec = specs[name]
        pairs = list(zip(self.shape, spec.shape, strict=False))
        if len(spec.shape) != len(self.shape) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
            raise refusal(self, f"it holds {name!r} to {show_shape(self.shape)}, but {spec} comes in")
        return {**specs, name: TensorSpec(name, spec.dtype, tuple(b if a is None else a for a, b in pairs))}


def _chosen(
    step: _Check | dtype, tensors: Mapping[str, Tensor], applies: Callable[[Tensor], bool] = lambda _: True
) -> dict[str, Tensor]:
    if step.input is not None:
        name = pick(step, tensors, step.input)
        return {name: tensors[name]} if applies(tensors[name]) else {}
    return {name: tensor for name, tensor in tensors.items() if applies(tensor)}


def _refused(name: str, array: Array, bad: NDArray[np.bool_], expected: str) -> Invalid:
    index = [int(i) for i in np.argwhere(bad)[0]]
    value = array[tuple(index)]
    got = value.decode(errors="replace")[:80] if isinstance(value, builtins.bytes) else value.item()
    where = f"row {index[0]}" + (f", position {index[1:]}" if index[1:] else "")
    shown = got if isinstance(got, int | str) else str(got)  # JSON has no NaN
    why = f"input {name!r}, {where}: expected {expected}, got {got!r}"
    return Invalid("refused_value", why, input=name, row=index[0], index=index, expected=expected, got=shown)
