"""From one format of models to another, never without a look at whether both answer alike."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foretell.backends import Backend, ModelOptions, load_backend, reading_model, recognize, unrecognized
from foretell.errors import Setup
from foretell.modes.files import read_rows
from foretell.plugins import Plugin, load_plugin
from foretell.tensors import Array, Arrays, Datatype, Signature, TensorSpec

Booleans = NDArray[np.bool_]
Converter = Callable[[str, Path, ModelOptions], None]
"""Writes the model at a path to a new file, and what belongs to it beside that. What it raises is told as ``broken_model``."""

TARGETS = {".onnx": "onnx", ".xml": "openvino", ".tflite": "litert"}
CONVERTERS: dict[tuple[str, str], Plugin] = {
    ("sklearn", "onnx"): Plugin("foretell.convert.sklearn:convert", "sklearn"),
    ("xgboost", "onnx"): Plugin("foretell.convert.xgboost:convert", "convert"),
    ("lightgbm", "onnx"): Plugin("foretell.convert.lightgbm:convert", "convert"),
    ("keras", "onnx"): Plugin("foretell.convert.tensorflow:keras_to_onnx", "convert-keras"),
    ("keras", "litert"): Plugin("foretell.convert.tensorflow:keras_to_litert", "convert-keras"),
    ("litert", "onnx"): Plugin("foretell.convert.tensorflow:litert_to_onnx", "convert-keras"),
    ("torch", "onnx"): Plugin("foretell.convert.torch:convert", "torch,convert"),
    ("onnx", "openvino"): Plugin("foretell.convert.openvino:convert", "openvino"),
}
TOLERANCE = 1e-3
MOST_ROWS = 1024
MADE_UP_ROWS = 64
OPEN_LENGTH = 16
"""What an axis of any length is long in made-up rows."""
_TINY = 1e-12


@dataclass(frozen=True)
class Difference:
    """One output of both models: the largest difference, and this by the largest value. ``deciding``: rows of another class."""

    output: str
    absolute: float
    relative: float
    deciding: int = 0


@dataclass(frozen=True)
class Report:
    """What was written, and how far its answers to some rows lie from the original's; ``own_rows``: not made up."""

    target: Path
    source_format: str
    target_format: str
    rows: int
    own_rows: bool
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Wanted:
    """``tolerance``: of the largest value of an output. ``rows``: a file of rows to compare on, else rows are made up."""

    tolerance: float = TOLERANCE
    rows: Path | None = None
    options: ModelOptions = field(default_factory=ModelOptions)


DEFAULTS = Wanted()


def convert(source: str | Path, target: str | Path, wanted: Wanted = DEFAULTS) -> Report:
    """The model at ``source``, written to ``target`` in the format of its suffix once both answer alike.

    Until then nothing is at ``target`` but what was there. Raises Setup: as ``load_backend``, ``unknown_format`` for what
    cannot be converted, ``broken_model`` for what fails, and ``wrong_conversion`` when the answers are too far apart.
    """
    source, target = str(source), Path(target)
    kind, into = _formats(source, target)
    run: Converter = load_plugin("conversion", {f"{kind} -> {into}": CONVERTERS[kind, into]}, f"{kind} -> {into}")
    original = load_backend(source, replace(wanted.options, native=kind == "sklearn"))
    target.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{target.stem}.", suffix=".tmp", dir=target.parent))
    try:
        with reading_model(f"{source}, converted to {into},", "the docs say what cannot be converted: docs/backends.md"):
            run(source, place / target.name, wanted.options)
        converted = load_backend(place / target.name, replace(wanted.options, options={}), into)
        rows = read_rows(wanted.rows, original.signature, MOST_ROWS) if wanted.rows else make_rows(original.signature)
        report = Report(target, kind, into, _count(rows), wanted.rows is not None, compare(original, converted, rows))
        converted.close()
        original.close()
        _refuse_apart(report, wanted.tolerance)
        for file in sorted(place.iterdir(), key=lambda each: each.name == target.name):  # the model itself comes last
            os.replace(file, target.parent / file.name)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return report


def compare(original: Backend, converted: Backend, rows: Arrays) -> tuple[Difference, ...]:
    """How far the answers to the same rows lie apart, output by output in order. Raises Setup ``wrong_conversion``."""
    want, got = original.forward(rows), converted.forward(_renamed(original.signature, converted.signature, rows))
    names, others = list(want), list(got)
    if len(names) != len(others):
        raise Setup("wrong_conversion", f"the original gives {', '.join(names)}, the conversion {', '.join(others)}")
    paired = others if set(names) != set(others) else names
    undecided = _undecided(want)
    return tuple(_difference(name, want[name], got[other], undecided) for name, other in zip(names, paired, strict=True))


def make_rows(signature: Signature) -> Arrays:
    """Rows to compare on, the same each time: floats of many magnitudes around 0, small whole numbers, short texts."""
    dice = np.random.default_rng(0)

    def make(spec: TensorSpec) -> Array:
        shape = (MADE_UP_ROWS,) * signature.rows + tuple(OPEN_LENGTH if size is None else size for size in spec.shape)
        if spec.dtype.is_float:
            scales = 10 ** dice.uniform(-1, 2, shape) if signature.rows and len(shape) == 2 else 1.0
            return (dice.normal(size=shape) * scales).astype(spec.dtype.numpy)
        if spec.dtype is Datatype.BYTES:
            texts = [bytes(dice.integers(97, 123, 8, np.uint8)) for _ in range(int(np.prod(shape)))]
            return np.array([*texts, None], np.object_)[:-1].reshape(shape)
        return dice.integers(0, 256 if spec.dtype is Datatype.UINT8 else 2, shape).astype(spec.dtype.numpy)

    return {spec.name: make(spec) for spec in signature.inputs}


def _formats(source: str, target: Path) -> tuple[str, str]:
    path = Path(source)
    if not path.exists():
        raise Setup("missing_file", f"there is no model at {path}: check the path")
    kind, into = recognize(path), TARGETS.get(target.suffix.lower())
    if kind is None:
        raise unrecognized(path)
    if into is None:
        raise Setup("unknown_format", f"{target} does not say what to convert to: end its name in {', '.join(TARGETS)}")
    if (kind, into) not in CONVERTERS:
        from_it = [suffix for suffix, name in TARGETS.items() if (kind, name) in CONVERTERS]
        ways = f"it can become {', '.join(from_it)}" if from_it else "it cannot be converted"
        raise Setup("unknown_format", f"{path} is a model of {kind}, which does not become one of {into}: {ways}")
    return kind, into


def _renamed(before: Signature, after: Signature, rows: Arrays) -> Arrays:
    """The rows under the names and in the datatypes of the conversion: by name, or else in order."""
    names, others = [spec.name for spec in before.inputs], [spec.name for spec in after.inputs]
    if len(names) != len(others):
        raise Setup("wrong_conversion", f"the original takes {', '.join(names)}, the conversion {', '.join(others)}")
    paired = {other: other if set(names) == set(others) else name for name, other in zip(names, others, strict=True)}
    return {
        spec.name: np.ascontiguousarray(rows[paired[spec.name]].astype(spec.dtype.numpy, copy=False)) for spec in after.inputs
    }


def _difference(name: str, want: Array, got: Array, undecided: Booleans) -> Difference:
    if want.shape != got.shape:
        raise Setup("wrong_conversion", f"output {name!r} has shape {list(want.shape)}, in the conversion {list(got.shape)}")
    if want.dtype == np.object_ or want.dtype.kind in "biu":
        other = (want != got).reshape(len(want), -1).any(axis=1) if want.ndim else np.array([want != got])
        return Difference(name, 0.0, 0.0, int((other & ~undecided).sum() if len(other) == len(undecided) else other.sum()))
    one, two = want.astype(np.float64), got.astype(np.float64)
    alike = (one == two) | (np.isnan(one) & np.isnan(two))
    with np.errstate(invalid="ignore"):
        apart = np.where(alike, 0.0, np.nan_to_num(np.abs(one - two), nan=np.inf))
    absolute = float(apart.max(initial=0.0))
    largest = float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
    return Difference(name, absolute, absolute / max(largest, _TINY))


def _undecided(answers: Arrays) -> Booleans:
    """The rows in which some output's two largest scores are as good as equal, so that rounding decides the class."""
    count = len(next(iter(answers.values()), np.zeros(0)))
    found = np.zeros(count, np.bool_)
    for array in answers.values():
        if array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1:
            top = np.sort(array.astype(np.float64), axis=1)[:, -2:]
            found |= top[:, 1] - top[:, 0] < TOLERANCE * np.maximum(np.abs(top[:, 1]), _TINY)
    return found


def _refuse_apart(report: Report, tolerance: float) -> None:
    for each in report.differences:
        text = f"output {each.output!r} of the conversion"
        cure = "nothing was written. Raise --tolerance if that is good enough, or compare on real rows: --rows FILE"
        if each.deciding:
            raise Setup("wrong_conversion", f"{text} is another one in {each.deciding} of {report.rows} rows: {cure}")
        if not each.relative <= tolerance:
            far = (
                f"is off by up to {each.absolute:.3g}, {each.relative:.3g} of its largest value, where {tolerance:g} is allowed"
            )
            raise Setup("wrong_conversion", f"{text} {far}: {cure}")


def _count(rows: Arrays) -> int:
    return len(next(iter(rows.values())))
