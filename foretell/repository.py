"""Models on disk: which of them a path names, and each as a pipeline."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from foretell.backends import SUFFIXES, Backend, ModelOptions, load_backend
from foretell.backends.python import adapt, load_attribute
from foretell.errors import Setup
from foretell.pipeline import Pipeline
from foretell.pipeline_file import FILE_NAME, PipelineFile, build_steps, read_pipeline_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"0|[1-9][0-9]{0,17}")
_MODEL_SUFFIXES = frozenset(SUFFIXES) - {".py"}  # code is served only when it is named


@dataclass(frozen=True)
class ModelSource:
    """One model of a repository that has not been loaded.

    ``path`` is the model file, or ``app.py:attribute``; ``folder`` holds its pipeline.toml, and the files of its steps.
    """

    name: str
    version: str
    path: str
    folder: Path
    config: PipelineFile = field(default_factory=PipelineFile)


def find_models(paths: Iterable[str | Path], name: str | None = None) -> list[ModelSource]:
    """Every model that the paths name, in order; nothing is loaded.

    A path is a model file, ``app.py:attribute``, a model folder, or a repository. A folder is a *model folder* if it holds
    a pipeline.toml, a model file, or a folder whose name is a version (ASCII digits, no leading zero): then the highest
    version is taken, and the model is named after the folder. Any other folder is a *repository*: each folder in it must be
    a model folder; hidden files, ``_``-folders and plain files are passed over. ``name`` renames the only model.

    Raises Setup: ``missing_file``, ``unknown_format``, ``wrong_name``, ``outside_folder``, ``broken_pipeline``.
    """
    found = [source for path in paths for source in _sources(str(path))]
    if name is not None:
        if len(found) != 1:
            raise Setup("wrong_name", f"the name {name!r} is for one model, but the paths name {len(found)}: leave it out")
        found = [replace(found[0], name=name)]
    _check_names(found)
    return found


def open_pipeline(path: str | Path | ModelSource, *, model_options: ModelOptions | None = None) -> Pipeline:
    """The pipeline at a path (see ``find_models``), loaded. What its pipeline.toml says wins over ``model_options``.

    Raises Setup, naming the file at fault and the cure.
    """
    source = path if isinstance(path, ModelSource) else _only(path, _sources(str(path)))
    before = build_steps(source.config.preprocess, "preprocess", source.folder)
    after = build_steps(source.config.postprocess, "postprocess", source.folder)
    loaded = _load(source, source.config.options_over(model_options or ModelOptions()))
    if isinstance(loaded, Pipeline):
        return loaded
    try:
        return Pipeline(loaded, before, after)
    except Setup as error:
        loaded.close()
        raise Setup(error.code, f"{source.folder / FILE_NAME}: {error.message}", **error.details) from error


def _load(source: ModelSource, options: ModelOptions) -> Backend | Pipeline:
    if not _is_attribute(source.path):
        return load_backend(source.path, options, source.config.model.backend)
    found = load_attribute(source.path)
    if not isinstance(found, Pipeline):
        return adapt(found, source.path, options)
    if source.config.preprocess or source.config.postprocess:
        raise Setup("broken_pipeline", f"{source.path} is a whole pipeline: remove the steps from {source.folder / FILE_NAME}")
    return found


def _sources(text: str) -> list[ModelSource]:
    if _is_attribute(text):
        return [_code(text)]
    path = Path(text)
    if not path.exists():
        raise Setup("missing_file", f"there is no model at {path}: check the path")
    if path.name == FILE_NAME:
        path = path.parent
    if not path.is_dir():
        return [_file(path)]
    if _is_model_folder(path):
        return [_folder(path)]
    return _repository(path)


def _code(text: str) -> ModelSource:
    path = Path(text.rpartition(":")[0])
    if not path.exists():
        raise Setup("missing_file", f"there is no file {path}: check the path")
    return ModelSource(path.stem, "1", text, path.parent)


def _file(path: Path) -> ModelSource:
    suffix = path.suffix.lower()
    if suffix == ".py":
        raise Setup("unknown_format", f"{path} is code, not a model: name what to serve in it, as {path}:pipeline")
    if suffix not in SUFFIXES:
        known = ", ".join(sorted(_MODEL_SUFFIXES))
        raise Setup("unknown_format", f"{path} is not a model that can be loaded: its suffix is {suffix!r}, known are {known}")
    return ModelSource(path.stem, "1", str(path), path.parent)


def _folder(folder: Path) -> ModelSource:
    config = read_pipeline_file(folder)
    versions = [each.name for each in folder.iterdir() if each.is_dir() and _VERSION.fullmatch(each.name)]
    version = max(versions, key=int, default="1")
    place = folder / version if versions else folder
    _check_inside(place, folder)
    path = _named_file(place, config.model.file, folder) if config.model.file else _model_file(place, folder)
    return ModelSource(folder.resolve().name, version, path, folder, config)


def _repository(folder: Path) -> list[ModelSource]:
    members = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "_")))
    for member in members:
        _check_inside(member, folder)
        if not _is_model_folder(member):
            raise Setup("unknown_format", f"{member} holds no model: put model.onnx in it, or move it out of {folder}")
    if not members:
        raise Setup("unknown_format", f"{folder} holds no models: put them in it as <name>/<version>/model.onnx")
    return [_folder(member) for member in members]


def _is_model_folder(folder: Path) -> bool:
    return (folder / FILE_NAME).exists() or any(
        _VERSION.fullmatch(each.name) if each.is_dir() else each.suffix.lower() in _MODEL_SUFFIXES for each in folder.iterdir()
    )


def _named_file(place: Path, file: str, folder: Path) -> str:
    """The file, or ``app.py:attribute``, of ``[model] file``."""
    path = place / (file.rpartition(":")[0] if _is_attribute(file) else file)
    _check_inside(path, folder)
    if not path.exists():
        raise Setup("missing_file", f"{folder / FILE_NAME} names the model {path}, which does not exist: correct [model] file")
    return str(place / file)


def _model_file(place: Path, folder: Path) -> str:
    """The only model file of a folder, or the one that is named ``model``."""
    files = sorted(each for each in place.iterdir() if each.is_file() and each.suffix.lower() in _MODEL_SUFFIXES)
    chosen = files if len(files) == 1 else [each for each in files if each.stem == "model"]
    if len(chosen) != 1:
        held = f"several models ({', '.join(each.name for each in files)})" if files else "no model file"
        raise Setup("unknown_format", f'{place} holds {held}: name one in {folder / FILE_NAME}, as [model] file = "model.onnx"')
    _check_inside(chosen[0], folder)
    return str(chosen[0])


def _check_inside(path: Path, folder: Path) -> None:
    """That no link and no ``..`` leads out of the folder."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Setup("outside_folder", f"{path} leads out of {folder}: put a real copy of it there")


def _check_names(sources: Sequence[ModelSource]) -> None:
    seen: dict[str, ModelSource] = {}
    for source in sources:
        if not _NAME.fullmatch(source.name):
            raise Setup(
                "wrong_name",
                f"{source.name!r} ({source.path}) cannot be a model's name: use up to 128 letters, digits and . _ -, "
                "the first a letter or digit; rename it or pass --name",
            )
        if source.name in seen:
            raise Setup("wrong_name", f"{seen[source.name].path} and {source.path} are both named {source.name!r}: rename one")
        seen[source.name] = source


def _only(path: str | Path, sources: Sequence[ModelSource]) -> ModelSource:
    if len(sources) != 1:
        raise Setup(
            "unknown_format", f"{path} holds {len(sources)} models: name one of {', '.join(each.name for each in sources)}"
        )
    return sources[0]


def _is_attribute(text: str) -> bool:
    """``app.py:attribute``."""
    return ".py:" in text
