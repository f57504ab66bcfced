"""A backend is a loaded model of one runtime. This is its whole contract, and the table of those that exist."""

import re
from collections.abc import Iterator, Mapping, Sequence
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


@runtime_checkable
class Composed(Protocol):
    """A backend that is made from others names them in ``parts``."""

    @property
    def parts(self) -> Sequence[Backend]: ...


@runtime_checkable
class Isolated(Protocol):
    """A backend whose model lives in a process of its own.

    ``outage`` says why there are no answers at this moment, None when there are; ``given_up`` that there will be none until it
    is loaded again. ``kill`` ends the process at once, for another to be started: what is in it fails.
    """

    @property
    def outage(self) -> str | None: ...

    @property
    def given_up(self) -> bool: ...

    @property
    def memory_bytes(self) -> int: ...

    def kill(self) -> None: ...


@runtime_checkable
class Streaming(Protocol):
    """A backend may also answer in pieces: ``stream`` yields arrays of the outputs, until the answer is whole."""

    @property
    def signature(self) -> Signature: ...

    def stream(self, inputs: Arrays) -> Iterator[Arrays]: ...


@dataclass(frozen=True)
class ModelOptions:
    """What a user may say about one model file, in ``pipeline.toml``'s ``[model]`` or to ``foretell.load``.

    ``trust`` allows formats that can run code when loaded; ``rows`` overrides the guess whether axis 0 is a batch
    axis; ``threads`` are the runtime's own threads (0: as many as this process may use CPUs); ``native`` runs a scikit-learn
    estimator as it is, without conversion to ONNX; ``options`` go to a python backend's class as keywords (sklearn
    takes ``dtype``); ``providers`` are what ONNX and OpenVINO models are to run on, each of which must be there. ``isolated``
    gives the model a process of its own.
    """

    trust: bool = False
    rows: bool | None = None
    threads: int = 1
    native: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    isolated: bool = False


BACKENDS: dict[str, Plugin] = {
    "onnx": Plugin("foretell.backends.onnx:load"),
    "sklearn": Plugin("foretell.backends.sklearn:load", "sklearn"),
    "python": Plugin("foretell.backends.python:load"),
    "openvino": Plugin("foretell.backends.openvino:load", "openvino"),
    "litert": Plugin("foretell.backends.litert:load", "litert"),
    "keras": Plugin("foretell.backends.keras:load", "keras"),
    "xgboost": Plugin("foretell.backends.xgboost:load", "xgboost"),
    "lightgbm": Plugin("foretell.backends.lightgbm:load", "lightgbm"),
    "torch": Plugin("foretell.backends.torch:load", "torch"),
    "huggingface": Plugin("foretell.backends.huggingface:load", "huggingface"),
}

ISOLATED = {"isolated": Plugin("foretell.backends.isolated:load")}
TAKE_OPTIONS = ("huggingface", "keras", "litert", "openvino", "python", "sklearn", "torch")
"""The backends that read ``ModelOptions.options``."""
TAKE_PROVIDERS = ("huggingface", "onnx", "openvino", "sklearn", "torch")
"""The backends that read ``ModelOptions.providers``."""

SUFFIXES = {
    ".onnx": "onnx",
    ".joblib": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".py": "python",
    ".xml": "openvino",
    ".tflite": "litert",
    ".keras": "keras",
    ".json": "xgboost",
    ".ubj": "xgboost",
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
    ".pt2": "torch",
    ".pt": "torch",
    ".pth": "torch",
    ".ts": "torch",
    ".safetensors": "torch",
}
"""The backend of a file that is not told its own, by the end of its name."""
BEGINNINGS = {
    ".json": re.compile(rb'\s*\{.*"learner"', re.DOTALL),
    ".ts": re.compile(rb"PK\x03\x04"),
    ".txt": re.compile(rb"tree\r?\nversion="),
    ".xml": re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<net\b"),
}
"""How a model of those suffixes begins that files of other kinds have too."""
FOLDERS: dict[str, tuple[str, ...]] = {
    "huggingface": ("tokenizer.json", "config.json"),
    "keras": ("saved_model.pb",),
}
"""The backend of a folder that is not told its own: the first of which these files are all in it."""
HEAD_BYTES = 4096


def load_backend(source: object, options: ModelOptions = ModelOptions(), backend: str | None = None) -> Backend:
    """The model at ``source``, by the named backend or by what the source is.

    ``source`` is a path (a file, chosen by its suffix, or ``app.py:attribute``), the bytes of an ONNX model, or a fitted
    scikit-learn estimator. Raises Setup: ``missing_file``, ``unknown_format``, ``broken_model``, ``broken_code``,
    ``untrusted_model``, ``outside_folder``, ``wrong_provider``, ``wrong_setting`` or ``missing_extra``.
    """
    if isinstance(source, str | Path):
        source = str(source)
        backend = _backend_of(source, backend)
    name = backend or ("onnx" if isinstance(source, bytes) else "sklearn")
    if options.isolated:
        in_process: Backend = load_plugin("backend", ISOLATED, "isolated")(source, options, backend)
        return in_process
    load = load_plugin("backend", BACKENDS, name)
    if options.options and name not in TAKE_OPTIONS:
        what = source if isinstance(source, str) else "the model"
        keys = ", ".join(sorted(options.options))
        takers = ", ".join(sorted(TAKE_OPTIONS))
        text = f"{what}: the backend {name!r} takes no [model.options] (those that do: {takers}): remove {keys}"
        raise Setup("wrong_setting", text)
    if options.providers and name not in TAKE_PROVIDERS:
        what = source if isinstance(source, str) else "the model"
        listed = ", ".join(options.providers)
        raise Setup("wrong_setting", f"{what}: the backend {name!r} runs on no providers: remove {listed}")
    loaded: Backend = load(source, options)
    return loaded


def isolated_parts(backend: Backend) -> list[Isolated]:
    """Of a backend, and of those that it is made from, the ones that live in processes of their own."""
    own = [backend] if isinstance(backend, Isolated) else []
    parts = backend.parts if isinstance(backend, Composed) else ()
    return [*own, *(each for part in parts for each in isolated_parts(part))]


def describe(backend: Backend) -> Mapping[str, str]:
    """What the backend says about itself, for people: empty if it says nothing."""
    return backend.facts if isinstance(backend, Described) else {}


def is_thread_safe(backend: Backend) -> bool:
    """Whether the backend says that several threads may call it at once."""
    return isinstance(backend, ThreadSafe) and backend.thread_safe


_PLACE = re.compile(r"Exception from \S+:\d+:$|Check '.*' failed at \S+:\d+:$")


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
        if error is not None and not isinstance(error, ForetellError | KeyboardInterrupt):
            reason = f"{type(error).__name__}: {_in_one_line(error)}".rstrip(": ")
            raise Setup(self.code, f"{self.what} cannot be loaded ({reason}): {self.cure}") from error


def _in_one_line(error: BaseException) -> str:
    """What an error says, without the places in source code that some runtimes put before it, and their stack traces."""
    lines = [line.strip() for line in str(error).partition("Stack trace:")[0].splitlines()]
    return " ".join(line for line in lines if line and not _PLACE.match(line))[:500]


def recognize(path: Path) -> str | None:
    """The backend that a file or folder is of: see ``SUFFIXES``, ``BEGINNINGS`` and ``FOLDERS``; None for what is no model."""
    if path.is_dir():
        return next((name for name, files in FOLDERS.items() if all((path / file).is_file() for file in files)), None)
    suffix = path.suffix.lower()
    beginning = BEGINNINGS.get(suffix)
    if beginning is not None and not beginning.match(_head(path)):
        return None
    return SUFFIXES.get(suffix)


def unrecognized(path: Path) -> Setup:
    """The refusal of a path that ``recognize`` does not know, with what was looked at."""
    suffix = path.suffix.lower()
    if path.is_dir():
        why = "it is a folder without " + " or ".join(" and ".join(files) for files in FOLDERS.values())
    elif suffix in BEGINNINGS:
        why = f"it does not begin as a {suffix} file of {SUFFIXES[suffix]} does"
    else:
        why = f"its suffix is {suffix!r}, known are {', '.join(sorted(SUFFIXES))}"
    return Setup("unknown_format", f"{path} is not a model that can be loaded: {why}")


def _head(path: Path) -> bytes:
    """The first bytes of a file, none of one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def _backend_of(source: str, named: str | None) -> str:
    """The backend for a file that exists, by what it is unless it is named."""
    head, is_attribute, _ = source.partition(".py:")
    path = Path(f"{head}.py" if is_attribute else source)
    if not path.exists():
        raise Setup("missing_file", f"there is no model at {path}: check the path")
    name = named or recognize(path)
    if name is None:
        raise unrecognized(path)
    return name
