"""A step is a function on arrays, before or after the model. This is its whole contract, and the table of those that exist."""

import dataclasses
import importlib
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from foretell.errors import Setup
from foretell.plugins import Plugin, did_you_mean, load_plugin
from foretell.storage import read_small
from foretell.tensors import Arrays, TensorSpec

Specs = Mapping[str, TensorSpec]
"""What arrays a stage sees, by name, in order."""

Tensor = TypeVar("Tensor")


@runtime_checkable
class Step(Protocol):
    """Vectorised over rows: as many rows come out as went in, unless the step says otherwise in its docstring.

    ``slow`` is True for work that must not run on an event loop (decoding an image, tokenising a text).
    """

    @property
    def slow(self) -> bool: ...

    def takes(self, gives: Specs) -> Specs:
        """What must come in so that ``gives`` comes out. Used to derive a pipeline's inputs from its model's."""

    def gives(self, takes: Specs) -> Specs:
        """What comes out when ``takes`` goes in. Raises Setup ``broken_pipeline`` if that cannot go in."""

    def __call__(self, arrays: Arrays) -> Arrays:
        """Raises Invalid for a row at fault, with the row's number in the details."""


FILE = {"file": True}
"""Metadata of a step's field that names a file: ``field(metadata=FILE)``. In pipeline.toml it is relative to that file."""

STEPS: dict[str, Plugin] = {
    "check.dtype": Plugin("foretell.steps.check:dtype"),
    "check.shape": Plugin("foretell.steps.check:shape"),
    "check.finite": Plugin("foretell.steps.check:finite"),
    "check.range": Plugin("foretell.steps.check:range"),
    "check.allowed": Plugin("foretell.steps.check:allowed"),
    "table.columns": Plugin("foretell.steps.table:columns"),
    "table.standardise": Plugin("foretell.steps.table:standardise"),
    "table.impute": Plugin("foretell.steps.table:impute"),
    "table.one_hot": Plugin("foretell.steps.table:one_hot"),
    "table.ordinal": Plugin("foretell.steps.table:ordinal"),
    "table.keep": Plugin("foretell.steps.table:keep"),
    "table.rename": Plugin("foretell.steps.table:rename"),
    "image.decode": Plugin("foretell.steps.image:decode", "images"),
    "image.resize": Plugin("foretell.steps.image:resize", "images"),
    "image.crop": Plugin("foretell.steps.image:crop"),
    "image.invert": Plugin("foretell.steps.image:invert"),
    "image.contrast": Plugin("foretell.steps.image:contrast"),
    "image.layout": Plugin("foretell.steps.image:layout"),
    "image.normalise": Plugin("foretell.steps.image:normalise"),
    "image.flatten": Plugin("foretell.steps.image:flatten"),
    "text.tokenise": Plugin("foretell.steps.text:tokenise", "text"),
    "numbers.softmax": Plugin("foretell.steps.numbers:softmax"),
    "numbers.sigmoid": Plugin("foretell.steps.numbers:sigmoid"),
    "numbers.argmax": Plugin("foretell.steps.numbers:argmax"),
    "numbers.scale": Plugin("foretell.steps.numbers:scale"),
    "numbers.cast": Plugin("foretell.steps.numbers:cast"),
    "labels.decode": Plugin("foretell.steps.labels:decode"),
    "labels.top_k": Plugin("foretell.steps.labels:top_k"),
    "labels.threshold": Plugin("foretell.steps.labels:threshold"),
    "labels.abstain": Plugin("foretell.steps.labels:abstain"),
    "windows.cut": Plugin("foretell.steps.windows:cut"),
    "windows.crops": Plugin("foretell.steps.windows:crops"),
    "windows.merge": Plugin("foretell.steps.windows:merge"),
}


def build_step(name: str, options: Mapping[str, Any], folder: Path) -> Step:
    """The step of that name from ``pipeline.toml`` options, its files looked up from ``folder``.

    Options are the step's own keywords. Raises Setup ``broken_pipeline`` or ``missing_file``, naming step and option.
    """
    if name not in STEPS:
        raise Setup("broken_pipeline", f"there is no step {name!r}{did_you_mean(name, STEPS)}")
    step_class = load_plugin("step", STEPS, name)
    fields = {field.name: field for field in dataclasses.fields(step_class) if field.init}
    types = typing.get_type_hints(step_class)
    given = {}
    for key, value in options.items():
        if key not in fields:
            raise Setup("broken_pipeline", f"step {name!r} has no option {key!r}{did_you_mean(key, fields)}")
        is_file = fields[key].metadata.get("file") and isinstance(value, str)
        given[key] = str(folder / value) if is_file else _option(name, key, value, types[key])
    for key, field in fields.items():
        if key not in given and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Setup("broken_pipeline", f"step {name!r} needs its option {key!r}: add {key} = ... below the step")
    step: Step = step_class(**given)
    return step


def _option(step: str, key: str, value: object, kind: Any) -> object:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        choices = ", ".join(map(repr, _choices(kind)))
        why = f"it must be one of {choices}, not {value!r}" if choices else str(error)
        raise Setup("broken_pipeline", f"step {step!r}, option {key!r}: {why}") from error


def _choices(kind: Any) -> list[str]:
    """The texts that a type of a closed set allows: none for any other type."""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return [member.value for member in kind]
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return list(parts)
    united = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return [choice for part in parts for choice in _choices(part)] if united else []


@dataclasses.dataclass(frozen=True)
class Function:
    """A user's own function as a step. It keeps names, dtypes and shapes unless ``outputs`` says what it gives.

    Before the model, ``inputs`` says what it takes.
    """

    call: Callable[[Arrays], Arrays]
    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    slow: bool = True

    def takes(self, gives: Specs) -> Specs:
        return gives if self.inputs is None else {spec.name: spec for spec in self.inputs}

    def gives(self, takes: Specs) -> Specs:
        return takes if self.outputs is None else {spec.name: spec for spec in self.outputs}

    def __call__(self, arrays: Arrays) -> Arrays:
        return self.call(arrays)


@dataclasses.dataclass(frozen=True)
class TensorStep(ABC):
    """A step that changes one tensor and keeps its name; all others pass by. ``input`` names it where there are several."""

    input: str | None = dataclasses.field(default=None, kw_only=True)
    slow: ClassVar[bool] = False

    def takes(self, gives: Specs) -> Specs:
        name = pick(self, gives, self.input)
        return {**gives, name: self.before(gives[name])}

    def gives(self, takes: Specs) -> Specs:
        name = pick(self, takes, self.input)
        return {**takes, name: self.after(takes[name])}

    def __call__(self, arrays: Arrays) -> Arrays:
        name = pick(self, arrays, self.input)
        return {**arrays, name: self.compute(arrays[name], name)}

    def before(self, spec: TensorSpec) -> TensorSpec:
        """What must come in so that ``spec`` comes out."""
        return spec

    def after(self, spec: TensorSpec) -> TensorSpec:
        """What comes out when ``spec`` goes in. Raises Setup ``broken_pipeline``."""
        return spec

    @abstractmethod
    def compute(self, rows: NDArray[Any], name: str) -> NDArray[Any]:
        """The tensor that comes out, its rows on axis 0."""


def step_name(step: object) -> str:
    """``"image.decode"``: a step as pipeline.toml names it."""
    return f"{type(step).__module__.rpartition('.')[2]}.{type(step).__name__}"


def refusal(step: object, why: str) -> Setup:
    """The error for a step whose options, or whose neighbours, do not fit."""
    return Setup("broken_pipeline", f"step {step_name(step)!r}: {why}")


def require(step: object, spec: TensorSpec, fits: bool, expected: str) -> None:
    """Raises Setup ``broken_pipeline`` unless the tensor that comes in fits the step."""
    if not fits:
        raise refusal(step, f"it takes {expected}, but {spec} comes in")


def require_next(step: object, spec: TensorSpec, fits: bool, given: str) -> None:
    """Raises Setup ``broken_pipeline`` unless the step can give what the next one, or the model, takes."""
    if not fits:
        raise refusal(step, f"it gives {given}, but {spec} is taken after it")


def require_choice(step: object, option: str, value: str, choices: Iterable[str]) -> None:
    """Raises Setup ``broken_pipeline`` unless an option has one of its values."""
    known = list(choices)
    if value not in known:
        raise refusal(step, f"{option} must be one of {', '.join(known)}, not {value!r}")


def require_positive(step: object, **options: int | None) -> None:
    """Raises Setup ``broken_pipeline`` for an option that is given and below 1."""
    for option, value in options.items():
        if value is not None and value < 1:
            raise refusal(step, f"{option} must be 1 or more, not {value}")


def pick(step: object, tensors: Mapping[str, object], name: str | None, option: str = "input") -> str:
    """The tensor that a step works on: the one its option names, or else the only one. Raises Setup ``broken_pipeline``."""
    if name is None and len(tensors) == 1:
        return next(iter(tensors))
    if name is None:
        raise refusal(step, f"say which tensor it works on, {option} = one of {', '.join(map(repr, tensors)) or 'none'}")
    if name not in tensors:
        raise refusal(step, f"there is no tensor {name!r} at this place{did_you_mean(name, dict(tensors))}")
    return name


def swap(step: object, tensors: Mapping[str, Tensor], gone: Iterable[str], new: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` with ``new`` in the place of those that are ``gone``. Raises Setup if a new name is taken by another."""
    leaving = set(gone)
    for name in new:
        if name in tensors and name not in leaving:
            raise refusal(step, f"there already is a tensor {name!r}: use another name for one, or drop it by 'table.keep'")
    kept = [(name, tensor) for name, tensor in tensors.items() if name not in leaving]
    place = next((at for at, name in enumerate(tensors) if name in leaving), len(kept))
    return dict(kept[:place] + list(new.items()) + kept[place:])


def as_bytes(rows: NDArray[Any]) -> NDArray[Any]:
    """Elements of a BYTES tensor as ``bytes``, also where a Python caller put ``str``, so that they compare."""
    return np.asarray(np.frompyfunc(_encode, 1, 1)(rows), dtype=object) if rows.dtype == object else rows


def _encode(item: object) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode("utf-8", "replace")


MOST_FILE_BYTES = 64 * 2**20


def read_file(step: object, option: str, path: str) -> str:
    """The text of a file that a step's option names. Raises Setup ``missing_file`` or ``broken_pipeline``."""
    try:
        return read_small(Path(path), MOST_FILE_BYTES).decode("utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        why = f"step {step_name(step)!r}: there is no file {path}: put it there, or correct {option} = ..."
        raise Setup("missing_file", why) from error
    except (OSError, ValueError) as error:
        raise refusal(step, f"the file {path} cannot be read as UTF-8 text: {error}") from error


def derive(step: object, **values: object) -> None:
    """Set attributes of a frozen step while it is being made."""
    for name, value in values.items():
        object.__setattr__(step, name, value)


def __getattr__(family: str) -> Any:
    """``steps.image``, ``steps.labels``, ...: a family is imported when it is first named."""
    if not any(name.startswith(f"{family}.") for name in STEPS):
        raise AttributeError(f"there is no step family {family!r}")
    return importlib.import_module(f"{__name__}.{family}")
