"""A backend is a loaded model of one runtime. This is its whole contract, and the table of those that exist."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from foretell.errors import ForetellError, Setup
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


@runtime_checkable
class Described(Protocol):
    """A backend may say more about itself in ``facts``, which `foretell inspect` prints: format, provider, size."""

    @property
    def facts(self) -> Mapping[str, str]: ...


@runtime_checkable
class ThreadSafe(Protocol):
    """A backend with ``thread_safe = True`` lets several threads call ``forward`` at once: the files mode does."""

    @property
    def thread_safe(self) -> bool: ...


@dataclass(frozen=True)
class ModelOptions:
    """What a user may say about one model file, in ``pipeline.toml``'s ``[model]`` or to ``foretell.load``.

    ``trust`` allows formats that can run code when loaded; ``rows`` overrides the guess whether axis 0 is a batch
    axis; ``threads`` are the runtime's own threads (0: all that this process may use); ``native`` runs a scikit-learn
    estimator as it is, without conversion to ONNX; ``options`` go to a python backend's class as keywords (sklearn
    takes ``dtype``).
    """

    trust: bool = False
    rows: bool | None = None
    threads: int = 1
    native: bool = False
    options: Mapping[str, object] = field(default_factory=dict)


BACKENDS: dict[str, Plugin] = {
    "onnx": Plugin("foretell.backends.onnx:load"),
    "sklearn": Plugin("foretell.backends.sklearn:load", "sklearn"),
    "python": Plugin("foretell.backends.python:load"),
}

TAKE_OPTIONS = ("python", "sklearn")
"""The backends that read ``ModelOptions.options``."""

SUFFIXES = {".onnx": "onnx", ".joblib": "sklearn", ".pkl": "sklearn", ".pickle": "sklearn", ".py": "python"}


def load_backend(source: object, options: ModelOptions = ModelOptions(), backend: str | None = None) -> Backend:
    """The model at ``source``, by the named backend or by what the source is.

    ``source`` is a path (a file, chosen by its suffix, or ``app.py:attribute``), the bytes of an ONNX model, or a fitted
    scikit-learn estimator. Raises Setup: ``missing_file``, ``unknown_format``, ``broken_model``, ``broken_code``,
    ``untrusted_model``, ``outside_folder``, ``wrong_setting`` or ``missing_extra``.
    """
    if isinstance(source, str | Path):
        source = str(source)
        backend = _backend_of(source, backend)
    name = backend or ("onnx" if isinstance(source, bytes) else "sklearn")
    load = load_plugin("backend", BACKENDS, name)
    if options.options and name not in TAKE_OPTIONS:
        what = source if isinstance(source, str) else "the model"
        keys = ", ".join(sorted(options.options))
        text = f"{what}: the backend {name!r} takes no [model.options], only {' and '.join(TAKE_OPTIONS)} do: remove {keys}"
        raise Setup("wrong_setting", text)
    loaded: Backend = load(source, options)
    return loaded


def describe(backend: Backend) -> Mapping[str, str]:
    """What the backend says about itself, for people: empty if it says nothing."""
    return backend.facts if isinstance(backend, Described) else {}


def is_thread_safe(backend: Backend) -> bool:
    """Whether the backend says that several threads may call it at once."""
    return isinstance(backend, ThreadSafe) and backend.thread_safe


class reading_model:  # noqa: N801 - reads as a phrase: `with reading_model(path, cure)`
    """The one door where what a runtime or a user's code raises at load becomes Setup, with the cure.

    Its code is ``broken_model``, for a user's code ``broken_code``.
    """

    def __init__(self, what: object, cure: str, code: str = "broken_model") -> None:
        self.what = what
        self.cure = cure
        self.code = code

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception | SystemExit) and not isinstance(error, ForetellError):
            reason = f"{type(error).__name__}: {str(error).strip()[:500]}".rstrip(": ")
            raise Setup(self.code, f"{self.what} cannot be loaded ({reason}): {self.cure}") from error


def _backend_of(source: str, named: str | None) -> str:
    """The backend for a file that exists, by its suffix unless it is named."""
    head, is_attribute, _ = source.partition(".py:")
    path = Path(f"{head}.py" if is_attribute else source)
    if not path.exists():
        raise Setup("missing_file", f"there is no model at {path}: check the path")
    name = named or SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise Setup(
            "unknown_format",
            f"{path} is not a model that can be loaded: its suffix is {path.suffix!r}, known are {', '.join(SUFFIXES)}",
        )
    return name
