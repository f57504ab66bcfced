"""Named columns of a table to the features that a model takes, and tensors kept or renamed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from foretell.errors import Invalid
from foretell.plugins import did_you_mean
from foretell.steps import (
    FILE,
    Specs,
    TensorStep,
    as_bytes,
    derive,
    pick,
    read_file,
    refusal,
    require,
    require_choice,
    require_next,
    swap,
)
from foretell.tensors import Arrays, Datatype, TensorSpec

Category = str | int


@dataclass(frozen=True)
class columns:
    """Puts named columns side by side, in the order of ``names``, into the one tensor ``into`` that the model takes.

    Each column is one value a row ([]), or several ([K], as ``table.one_hot`` gives); all of one datatype. ``into`` has that
    datatype and as many values a row as all columns together. Rows may then be sent as objects with these names, and the
    columns of a CSV file are found by name, in any order.
    """

    names: Sequence[str]
    into: str
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        names = [] if isinstance(self.names, str) else list(self.names)
        if not names or len(set(names)) != len(names):
            raise refusal(self, f"names must be a list of different column names, not {self.names!r}")
        derive(self, names=tuple(names))

    def takes(self, gives: Specs) -> Specs:
        spec = gives[pick(self, gives, self.into, "into")]
        require_next(self, spec, len(spec.shape) == 1, "a tensor of one axis")
        return swap(self, gives, [self.into], {name: TensorSpec(name, spec.dtype) for name in self.names})

    def gives(self, takes: Specs) -> Specs:
        specs = [takes[pick(self, takes, name, "names")] for name in self.names]
        for spec in specs:
            fits = spec.dtype is specs[0].dtype and spec.dtype is not Datatype.BYTES and len(spec.shape) < 2
            require(self, spec, fits, f"columns of numbers, all of one datatype as {specs[0]}")
        widths = [spec.shape[0] if spec.shape else 1 for spec in specs]
        known = [width for width in widths if width is not None]
        width = sum(known) if len(known) == len(widths) else None
        return swap(self, takes, self.names, {self.into: TensorSpec(self.into, specs[0].dtype, (width,))})

    def __call__(self, arrays: Arrays) -> Arrays:
        parts = [arrays[pick(self, arrays, name, "names")] for name in self.names]
        wide = np.concatenate([part if part.ndim == 2 else part[:, None] for part in parts], axis=1)
        return swap(self, arrays, self.names, {self.into: wide})


@dataclass(frozen=True)
class standardise(TensorStep):
    """Subtracts the mean and divides by the standard deviation that were fitted on the training data.

    FP [..., N] -> the same datatype and shape: (x - mean) / std, computed in FP64. ``mean`` and ``std`` are one number, or a
    list of N; or ``statistics`` names a JSON file ``{"mean": [...], "std": [...]}``. NaN stays NaN.
    """

    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    statistics: str | None = field(default=None, metadata=FILE)
    _mean: NDArray[Any] = field(init=False, repr=False, compare=False)
    _std: NDArray[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = _statistics(self, ("mean", "std"), self.mean, self.std)
        mean, std = _numbers(self, "mean", given["mean"]), _numbers(self, "std", given["std"])
        if mean.ndim and std.ndim and mean.size != std.size:
            raise refusal(self, f"mean has {mean.size} numbers and std has {std.size}: give equally many")
        if not (std > 0).all():
            raise refusal(self, "every std must be above 0: use 1 for a column that never changes")
        derive(self, _mean=mean, _std=std)

    def after(self, spec: TensorSpec) -> TensorSpec:
        _require_width(self, spec, max(self._mean.size, self._std.size))
        return spec

    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        return np.asarray((rows.astype(np.float64) - self._mean) / self._std, dtype=rows.dtype)


@dataclass(frozen=True)
class impute:
    """Fills missing values, which are NaN, with constants such as the medians of the training data.

    FP [..., N] -> the same. ``values`` is one number, a list of N, or a table from column name to number, which fills those
    columns each; or ``statistics`` names a JSON file ``{"values": ...}`` that holds the same.
    """

    values: float | Sequence[float] | Mapping[str, float] | None = None
    statistics: str | None = field(default=None, metadata=FILE)
    input: str | None = field(default=None, kw_only=True)
    slow: ClassVar[bool] = False
    _fill: Mapping[str | None, NDArray[Any]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = _statistics(self, ("values",), self.values)["values"]
        named = values if isinstance(values, Mapping) else {self.input: values}
        if isinstance(values, Mapping) and self.input is not None:
            raise refusal(self, "values already names the columns: leave out input")
        derive(self, _fill={name: _numbers(self, "values", value) for name, value in named.items()})

    def takes(self, gives: Specs) -> Specs:
        return gives

    def gives(self, takes: Specs) -> Specs:
        for given, fill in self._fill.items():
            _require_width(self, takes[pick(self, takes, given)], fill.size)
        return takes

    def __call__(self, arrays: Arrays) -> Arrays:
        filled = dict(arrays)
        for given, fill in self._fill.items():
            name = pick(self, arrays, given)
            rows = arrays[name]
            filled[name] = np.where(np.isnan(rows), fill.astype(rows.dtype), rows)
        return filled


@dataclass(frozen=True)
class one_hot(TensorStep):
    """Turns a category into one number a category: 1 at its place, 0 elsewhere.

    BYTES [] (or INT64 [], where the categories are integers) -> ``dtype`` [K], in the order of ``categories``. ``unknown`` says
    what becomes of another value: "refuse" raises Invalid ``refused_value``, "zeros" gives a row of zeros.
    """

    categories: Sequence[Category]
    unknown: Literal["refuse", "zeros"] = "refuse"
    dtype: Datatype = Datatype.FP32
    _known: "_Categories" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_choice(self, "unknown", self.unknown, ("refuse", "zeros"))
        known = _Categories(self, self.categories)
        derive(self, categories=tuple(self.categories), dtype=_number_type(self, self.dtype), _known=known)

    def before(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(spec.name, self._known.dtype)

    def after(self, spec: TensorSpec) -> TensorSpec:
        require(self, spec, spec.dtype is self._known.dtype and not spec.shape, f"one {self._known.dtype} value a row")
        return TensorSpec(spec.name, self.dtype, (len(self.categories),))

    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        place, unknown = self._known.find(rows)
        if self.unknown == "refuse":
            self._known.refuse(name, rows, unknown)
        hot = np.zeros((len(rows), len(self.categories)), dtype=self.dtype.numpy)
        hot[np.arange(len(rows)), place] = ~unknown
        return hot


@dataclass(frozen=True)
class ordinal(TensorStep):
    """Turns a category into its number in the list of categories, counted from 0.

    BYTES [...] (or INT64 [...], where ``categories`` are integers) -> ``dtype`` [...], FP32 unless said otherwise, so that it
    goes beside other columns. ``unknown`` is the number for any other value; without it, one raises Invalid
    ``refused_value``.
    """

    categories: Sequence[Category]
    unknown: float | None = None
    dtype: Datatype = Datatype.FP32
    _known: "_Categories" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        dtype = _number_type(self, self.dtype)
        if self.unknown is not None and not dtype.is_float and self.unknown != int(self.unknown):
            raise refusal(self, f"unknown is {self.unknown}, which {dtype} cannot hold")
        derive(self, categories=tuple(self.categories), dtype=dtype, _known=_Categories(self, self.categories))

    def before(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec(spec.name, self._known.dtype, spec.shape)

    def after(self, spec: TensorSpec) -> TensorSpec:
        require(self, spec, spec.dtype is self._known.dtype, f"{self._known.dtype} values")
        return TensorSpec(spec.name, self.dtype, spec.shape)

    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        place, unknown = self._known.find(rows)
        if self.unknown is None:
            self._known.refuse(name, rows, unknown)
        codes = place.astype(self.dtype.numpy)
        codes[unknown] = 0 if self.unknown is None else self.unknown
        return codes


@dataclass(frozen=True)
class keep:
    """Keeps the tensors that ``names`` lists, in that order, and drops all others: for outputs that nobody reads."""

    names: Sequence[str]
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.names or isinstance(self.names, str):
            raise refusal(self, f"names must be a list of tensor names, not {self.names!r}")
        derive(self, names=tuple(self.names))

    def takes(self, gives: Specs) -> Specs:
        return gives

    def gives(self, takes: Specs) -> Specs:
        return {pick(self, takes, name, "names"): takes[name] for name in self.names}

    def __call__(self, arrays: Arrays) -> Arrays:
        return {name: arrays[name] for name in self.names}


@dataclass(frozen=True)
class rename:
    """Renames tensors: ``names = {old = "new"}``; the others keep their names."""

    names: Mapping[str, str]
    slow: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names.values())) != len(self.names):
            raise refusal(self, f"names must be a table of old to new names, all different, not {dict(self.names)!r}")
        derive(self, names=dict(self.names))

    def takes(self, gives: Specs) -> Specs:
        back = {new: old for old, new in self.names.items()}
        for new in back:
            pick(self, gives, new, "names")
        return self._renamed(gives, back)

    def gives(self, takes: Specs) -> Specs:
        for old, new in self.names.items():
            pick(self, takes, old, "names")
            if new in takes and new not in self.names:
                raise refusal(self, f"there already is a tensor {new!r}: choose another name")
        return self._renamed(takes, self.names)

    def __call__(self, arrays: Arrays) -> Arrays:
        return {self.names.get(name, name): array for name, array in arrays.items()}

    def _renamed(self, specs: Specs, names: Mapping[str, str]) -> Specs:
        pairs = [(names.get(name, name), spec) for name, spec in specs.items()]
        return {name: TensorSpec(name, spec.dtype, spec.shape) for name, spec in pairs}


class _Categories:
    """A list of different texts or integers, and where a value stands in it."""

    def __init__(self, step: object, categories: Sequence[Category]) -> None:
        listed = [] if isinstance(categories, str) else list(categories)
        kinds = {type(category) for category in listed}
        if kinds not in ({str}, {int}) or len(set(listed)) != len(listed):
            raise refusal(step, f"categories must be a list of different texts, or of different integers, not {categories!r}")
        self.listed = listed
        self.dtype = Datatype.BYTES if kinds == {str} else Datatype.INT64
        values = np.array([str(value).encode() for value in listed] if kinds == {str} else listed, dtype=self.dtype.numpy)
        self._order = np.argsort(values)
        self._sorted = values[self._order]

    def find(self, rows: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """For each value its place in the list (any place if unknown), and whether it is unknown."""
        values = as_bytes(rows)
        at = np.minimum(np.searchsorted(self._sorted, values), len(self._sorted) - 1)
        return self._order[at], np.asarray(self._sorted[at] != values, dtype=np.bool_)

    def refuse(self, name: str, rows: NDArray[Any], unknown: NDArray[np.bool_]) -> None:
        """Raises Invalid ``refused_value`` for the first unknown value."""
        if not unknown.any():
            return
        index = tuple(int(i) for i in np.argwhere(unknown)[0])
        value = as_bytes(rows)[index]
        got = value.decode(errors="replace")[:80] if isinstance(value, bytes) else int(value)
        known = {str(category): category for category in self.listed[:20]}
        why = f"input {name!r}, row {index[0]}: {got!r} is not a known category{did_you_mean(str(got), known)}"
        raise Invalid("refused_value", why, input=name, row=index[0], expected=self.listed[:20], got=got)


def _statistics(step: standardise | impute, keys: tuple[str, ...], *inline: object) -> dict[str, Any]:
    """The options of these names, from the step itself or from its JSON file."""
    given = {key: value for key, value in zip(keys, inline, strict=True) if value is not None}
    path = step.statistics
    if (path is None) == (not given):
        raise refusal(step, f"give either {' and '.join(keys)}, or statistics = a JSON file that holds them")
    if path is not None:
        given = _parse(step, path)
    missing = [key for key in keys if key not in given]
    if missing:
        raise refusal(step, f"{missing[0]} is missing{f' in {path}' if path else ''}: give {' and '.join(keys)}")
    return given


def _parse(step: object, path: str) -> dict[str, Any]:
    try:
        given = json.loads(read_file(step, "statistics", path))
    except ValueError as error:
        raise refusal(step, f"{path} is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise refusal(step, f"{path} must hold one JSON object, not a {type(given).__name__}")
    return given


def _numbers(step: object, option: str, value: object) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise refusal(step, f"{option} must be a number or a list of numbers, not {value!r}") from error
    if numbers.ndim > 1 or not numbers.size or not np.isfinite(numbers).all():
        raise refusal(step, f"{option} must be one finite number or a list of them")
    return numbers


def _number_type(step: object, name: str) -> Datatype:
    if name not in Datatype.__members__ or name in {Datatype.BYTES, Datatype.BOOL}:
        raise refusal(step, f"dtype must be a datatype of numbers such as 'FP32', not {name!r}")
    return Datatype(name)


def _require_width(step: object, spec: TensorSpec, width: int) -> None:
    fits = width == 1 or (bool(spec.shape) and spec.shape[-1] in {None, width})
    require(step, spec, spec.dtype.is_float and fits, f"floats, {width} on the last axis" if width > 1 else "floats")
