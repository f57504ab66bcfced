"""A backend is a loaded model of one runtime. This is its whole contract, and the table of those that exist."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from foretell.errors import Setup
from foretell.plugins import Plugin, load_plugin
from foretell.tensors import Arrays, Signature


class Backend(Protocol):
    """``forward`` takes arrays that conform to ``signature.inputs`` and gives one row out for each row in.

    It may be called from any one thread at a time; a runtime that is thread-safe needs no lock of its own.
    """

    @property
    def signature(self) -> Signature: ...

    def forward(self, inputs: Arrays) -> Arrays: ...

    def close(self) -> None:
        """Free what the model holds. Closing twice is harmless."""


@dataclass(frozen=True)
class ModelOptions:
    """What a user may say about one model file, in ``pipeline.toml``'s ``[model]`` or to ``foretell.load``.

    ``trust`` allows formats that can run code when loaded; ``rows`` overrides the guess whether axis 0 is a batch
    axis; ``threads`` are the runtime's own threads (0: all that this process may use); ``options`` go to the
    backend's class as keywords (python backend only).
    """

    trust: bool = False
    rows: bool | None = None
    threads: int = 1
    options: Mapping[str, object] = field(default_factory=dict)


BACKENDS: dict[str, Plugin] = {
    "onnx": Plugin("foretell.backends.onnx:load"),
    "sklearn": Plugin("foretell.backends.sklearn:load", "sklearn"),
    "python": Plugin("foretell.backends.python:load"),
}

SUFFIXES = {".onnx": "onnx", ".joblib": "sklearn", ".pkl": "sklearn", ".pickle": "sklearn", ".py": "python"}


def load_backend(source: str | Path, options: ModelOptions = ModelOptions(), backend: str | None = None) -> Backend:
    """The model at ``source`` (a file, or ``app.py:attribute``), by the named backend or by the file's suffix.

    Raises Setup: ``missing_file``, ``unknown_format``, ``broken_model``, ``untrusted_model`` or ``missing_extra``.
    """
    path = Path(str(source).partition(":")[0]) if ".py:" in str(source) else Path(source)
    if not path.exists():
        raise Setup("missing_file", f"there is no model at {path}: check the path")
    name = backend or SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise Setup("unknown_format", f"{path} is not a model that can be loaded: its suffix is {path.suffix!r}, known are {', '.join(SUFFIXES)}")
    load = load_plugin("backend", BACKENDS, name)
    loaded: Backend = load(str(source), options)
    return loaded
