"""A step is a function on arrays, before or after the model. This is its whole contract, and the table of those that exist."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from foretell.errors import Setup
from foretell.plugins import Plugin, did_you_mean, load_plugin
from foretell.tensors import Arrays, TensorSpec

Specs = Mapping[str, TensorSpec]
"""What arrays a stage sees, by name, in order."""


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
}


def build_step(name: str, options: Mapping[str, Any], folder: Path) -> Step:
    """The step of that name from ``pipeline.toml`` options, its files looked up from ``folder``.

    Options are the step's own keywords. Raises Setup ``broken_pipeline`` or ``missing_file``, naming step and option.
    """
    step_class = load_plugin("step", STEPS, name)
    fields = {field.name: field for field in dataclasses.fields(step_class) if field.init}
    given = dict(options)
    for key, value in options.items():
        if key not in fields:
            raise Setup("broken_pipeline", f"step {name!r} has no option {key!r}{did_you_mean(key, fields)}")
        if fields[key].metadata.get("file") and isinstance(value, str):
            given[key] = str(folder / value)
    try:
        step: Step = msgspec.convert(given, step_class)
    except msgspec.ValidationError as error:
        raise Setup("broken_pipeline", f"step {name!r}: {error}") from error
    return step


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


def __getattr__(family: str) -> Any:
    """``steps.image``, ``steps.labels``, ...: a family is imported when it is first named."""
    if not any(name.startswith(f"{family}.") for name in STEPS):
        raise AttributeError(f"there is no step family {family!r}")
    return importlib.import_module(f"{__name__}.{family}")
