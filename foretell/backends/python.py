"""A user's own code as a model: a function with a signature, or a class with ``signature`` and ``forward``."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from foretell.backends import Backend, ModelOptions, reading_model
from foretell.errors import Broken, Setup
from foretell.plugins import did_you_mean
from foretell.tensors import Array, Arrays, Signature, TensorSpec, show_shape

_CURE = "correct the code, and try it with `python -c`"


class PythonModel:
    """User code held to its signature: every answer is checked for names, datatypes, shapes and rows.

    ``forward`` raises Broken ``wrong_output`` for an answer that is not as declared. ``close`` calls the code's own
    ``close`` once, if it has one.
    """

    def __init__(
        self, signature: Signature, call: Callable[[Arrays], Arrays], close: Callable[[], object] | None = None
    ) -> None:
        self.signature = signature
        self.facts = {"format": "Python", "code": getattr(call, "__qualname__", type(call).__qualname__)}
        self._call = call
        self._close = close

    def __call__(self, inputs: Arrays) -> Arrays:
        return self.forward(inputs)

    def forward(self, inputs: Arrays) -> Arrays:
        return self._checked(self._call(inputs), self.signature.count_rows(inputs))

    def _checked(self, answers: Arrays, count: int) -> Arrays:
        for spec in self.signature.outputs:
            self._check(spec, answers.get(spec.name), count)
        if len(answers) != len(self.signature.outputs):
            extra = sorted(set(answers) - {spec.name for spec in self.signature.outputs})
            raise Broken("wrong_output", f"the model gave outputs that its signature does not have: {extra}")
        return answers

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()

    def _check(self, spec: TensorSpec, array: Array | None, count: int) -> None:
        rows = self.signature.rows
        if array is None:
            raise Broken("wrong_output", f"the model's signature has an output {spec.name!r}, its answer has none")
        if array.dtype != spec.dtype.numpy:
            raise Broken("wrong_output", f"output {spec.name!r} is declared as {spec.dtype}, the model gave {array.dtype}")
        if not spec.fits(array.shape[1:] if rows else array.shape) or (rows and array.shape[:1] != (count,)):
            declared = show_shape([count, *spec.shape] if rows else spec.shape)
            raise Broken(
                "wrong_output", f"output {spec.name!r} is declared as {declared}, the model gave {show_shape(array.shape)}"
            )


class StreamingModel(PythonModel):
    """User code that also has a generator method ``stream``: each of its pieces is held to the signature too."""

    def __init__(
        self,
        signature: Signature,
        call: Callable[[Arrays], Arrays],
        pieces: Callable[[Arrays], Iterable[Arrays]],
        close: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(signature, call, close)
        self._pieces = pieces

    def stream(self, inputs: Arrays) -> Iterator[Arrays]:
        count = self.signature.count_rows(inputs)
        for piece in self._pieces(inputs):
            yield self._checked(piece, count)


def model(
    *, inputs: Mapping[str, str], outputs: Mapping[str, str], rows: bool = True
) -> Callable[[Callable[[Arrays], Arrays]], PythonModel]:
    """Makes a model of a function from arrays to arrays.

    ``@foretell.model(inputs={"x": "FP32[30]"}, outputs={"y": "FP32[2]"})``: a datatype and the shape of one row, with ``?``
    for any length. With ``rows=False`` shapes are whole, and there is no batch axis. Raises Setup for a text that is none.
    """
    signature = Signature(_parse(inputs), _parse(outputs), rows)
    return lambda function: PythonModel(signature, function)


def load(source: str, options: ModelOptions) -> Backend:
    """The model at ``app.py:attribute``. Raises Setup ``unknown_format`` or ``broken_code``, naming file and exception."""
    return adapt(load_attribute(source), source, options)


def load_attribute(source: str) -> object:
    """What ``app.py:attribute`` names, from the file imported under a name of its own with its folder importable.

    An unchanged file is imported once. Raises Setup ``unknown_format`` or ``broken_code``.
    """
    path, _, attribute = source.rpartition(":")
    if not path.endswith(".py") or not attribute:
        raise Setup(
            "unknown_format", f"{source} is code, not a model: name what to serve in it, as {source.rstrip(':')}:pipeline"
        )
    module = _import(Path(path))
    if not hasattr(module, attribute):
        known = [name for name in vars(module) if not name.startswith("_")]
        raise Setup("broken_code", f"{path} has no attribute {attribute!r}{did_you_mean(attribute, known)}")
    found: object = getattr(module, attribute)
    return found


def adapt(found: object, source: str, options: ModelOptions) -> Backend:
    """A class (made with ``options.options`` as keywords) or an object with ``signature`` and ``forward``, as a backend."""
    if isinstance(found, type):
        with reading_model(source, _CURE, "broken_code"):
            found = found(**options.options)
    elif options.options:
        raise Setup(
            "wrong_setting", f"{source} is not a class: only a class takes [model] options, remove {sorted(options.options)}"
        )
    if isinstance(found, PythonModel):
        return found
    signature, forward = getattr(found, "signature", None), getattr(found, "forward", None)
    if not isinstance(signature, Signature) or not callable(forward):
        raise Setup(
            "broken_code",
            f"{source} is {_kind(found)}, not a model: decorate a function with @foretell.model(inputs=..., outputs=...), "
            "or give a class the attribute `signature` (a foretell.Signature) and the method `forward`",
        )
    close, pieces = getattr(found, "close", None), getattr(found, "stream", None)
    return StreamingModel(signature, forward, pieces, close) if callable(pieces) else PythonModel(signature, forward, close)


def _parse(texts: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.parse(name, text) for name, text in texts.items())


def _kind(found: object) -> str:
    if hasattr(found, "model") and hasattr(found, "preprocess"):
        return "a whole pipeline (where a model is wanted, as in a process of its own, write its steps into pipeline.toml)"
    return "a function without a signature" if callable(found) else f"of type {type(found).__name__}"


class _FromSource(SourceFileLoader):
    """Compiles the file as it stands: cached bytecode is told apart by whole seconds, too few when a model is edited."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _import(path: Path) -> Any:
    file = path.resolve()
    name = _module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file, loader=_FromSource(name, str(file)))
    if spec is None or spec.loader is None:
        raise Setup("unknown_format", f"{path} is not Python code: name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up here while it is being imported
    try:
        with reading_model(path, _CURE, "broken_code"):
            spec.loader.exec_module(module)
    except Setup:
        del sys.modules[name]
        raise
    return module


def _module_name(file: Path) -> str:
    """Its own for each file and state of it: ``app.py`` in two folders, or before and after an edit, are not mixed up."""
    state = file.stat()
    digest = hashlib.sha256(f"{file}\0{state.st_mtime_ns}\0{state.st_size}".encode()).hexdigest()
    return f"foretell_user_{digest[:16]}_{file.stem}"
