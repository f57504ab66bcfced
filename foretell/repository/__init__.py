"""Models on disk: which of them some paths name, and each as a pipeline."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from foretell.backends import SUFFIXES, Backend, ModelOptions, load_backend, recognize, unrecognized
from foretell.backends.python import adapt
from foretell.errors import Setup
from foretell.pipeline import Pipeline
from foretell.repository.model_folder import (
    Found,
    ModelSource,
    is_attribute,
    is_empty,
    is_ignored,
    is_model_folder,
    read_model_folder,
    verify_model,
)
from foretell.repository.pipeline_file import FILE_NAME, build_steps
from foretell.repository.tfs_config import SUFFIX, TfsModel, read_tfs_config
from foretell.repository.triton_model import load_triton, read_labels
from foretell.storage import check_inside
from foretell.user_code import load_attribute

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Repository:
    """Paths of models, which may be looked at again and again: what is on disk now is what is found.

    A path is a model file, ``app.py:attribute``, a model folder, a repository, or a models.config of TensorFlow Serving. A
    folder is a *model folder* if it holds a pipeline.toml, a config.pbtxt, a model file, or a folder whose name is a version
    (ASCII digits, no leading zero); the model is named after the folder. Any other folder is a *repository*: each folder in it
    must be a model folder; plain files, and what ``is_ignored``, are passed over. ``name`` renames the only model.
    """

    def __init__(self, paths: Iterable[str | Path], name: str | None = None) -> None:
        self.paths = [str(path) for path in paths]
        self.name = name

    def scan(self) -> list[Found]:
        """Every model, in the order of the paths; what is wrong with one is its ``error``. Nothing is loaded."""
        found = [each for path in self.paths for each in _found(path)]
        if self.name is None:
            return [_checked_name(each) for each in found]
        if len(found) != 1:
            text = f"the name {self.name!r} is for one model, but the paths name {len(found)}: leave it out"
            raise Setup("wrong_name", text)
        return [_checked_name(_renamed(found[0], self.name))]

    def find(
        self, name: str, only: Collection[str] | None = None, spoilt: Mapping[str, str] = MappingProxyType({})
    ) -> Found | None:
        """What is there now of one model; None if there is none of that name.

        ``only`` are the versions to serve whatever its policy says; ``spoilt`` are those to pass over, and why.
        Raises Setup for what is wrong with it.
        """
        matching = [each for each in self.scan() if each.name == name]
        if not matching:
            return None
        (found,) = check_found(matching)
        if found.folder is None or not (only or spoilt):
            return found
        return _renamed(read_model_folder(found.folder, found.versions, only=only, spoilt=spoilt), name)

    def models(self) -> list[Found]:
        """Every model, but those that are not all there yet. Raises Setup for the first that is wrong: see ``find_models``."""
        return check_found([found for found in self.scan() if not found.is_coming])


def find_models(paths: Iterable[str | Path], name: str | None = None) -> list[ModelSource]:
    """Every version to be served of every model that the paths name, in order (see ``Repository``); nothing is loaded.

    Raises Setup: ``missing_file``, ``unknown_format``, ``wrong_name``, ``outside_folder``, ``wrong_setting``,
    ``broken_pipeline``, ``broken_config`` or ``unsupported_config``.
    """
    return [source for found in Repository(paths, name).models() for source in found.sources]


def open_pipeline(path: str | Path | ModelSource, *, model_options: ModelOptions | None = None) -> Pipeline:
    """The pipeline at a path (see ``Repository``), loaded; of several versions the newest.

    What its pipeline.toml says wins over ``model_options``. Raises Setup, naming the file at fault and the cure.
    """
    source = path if isinstance(path, ModelSource) else _only(path)
    verify_model(source)
    before = build_steps(source.config.preprocess, "preprocess", source.folder)
    after = build_steps(source.config.postprocess, "postprocess", source.folder)
    labels = read_labels(source)
    loaded = _load(source, model_options or ModelOptions())
    if isinstance(loaded, Pipeline):
        return loaded
    try:
        return Pipeline(loaded, before, after, labels)
    except Setup as error:
        loaded.close()
        raise Setup(error.code, f"{source.folder / FILE_NAME}: {error.message}", **error.details) from error


def find_model(path: str | Path) -> ModelSource:
    """The only model at a path, of several versions the newest; nothing is loaded. Raises Setup."""
    return _only(path)


def incomplete(found: Found) -> Setup:
    """The refusal of a model none of whose versions is complete."""
    return Setup("incomplete", f"{found.folder} has no version that is whole: {'; '.join(found.passed_over.values())}")


def _load(source: ModelSource, given: ModelOptions) -> Backend | Pipeline:
    options = source.config.options_over(given)
    if source.triton is not None:
        return load_triton(source, source.triton, given)
    if not is_attribute(source.path) or options.isolated:
        return load_backend(source.path, options, source.config.model.backend)
    found = load_attribute(source.path)
    if not isinstance(found, Pipeline):
        return adapt(found, source.path, options)
    if source.config.preprocess or source.config.postprocess:
        raise Setup("broken_pipeline", f"{source.path} is a whole pipeline: remove the steps from {source.folder / FILE_NAME}")
    return found


def _found(text: str) -> list[Found]:
    """The models at one path. What is wrong with the path itself is the error of a model named after it."""
    path = Path(text.rpartition(":")[0] if is_attribute(text) else text)
    name = path.stem if path.suffix in {*SUFFIXES, SUFFIX} else path.name
    return _or_error(name, lambda: _at(text), is_path=True)


def _or_error(name: str, read: Callable[[], list[Found]], *, is_path: bool = False) -> list[Found]:
    try:
        return read()
    except Setup as error:
        return [Found(name, error=error, is_path=is_path)]
    except OSError as error:
        text = f"{error.filename} cannot be read ({error.strerror}): correct its name or permissions"
        return [Found(name, error=Setup("missing_file", text), is_path=is_path)]


def _at(text: str) -> list[Found]:
    if is_attribute(text):
        return [_code(text)]
    path = Path(text)
    if not path.exists():
        raise Setup("missing_file", f"there is no model at {path}: check the path")
    if path.name == FILE_NAME:
        path = path.parent
    if path.suffix == SUFFIX and path.is_file():
        return [found for model in read_tfs_config(path) for found in _or_error(model.name, partial(_tfs, model, path))]
    if not path.is_dir():
        return [_file(path)]
    if is_model_folder(path):
        return [read_model_folder(path)]
    return _members_of(path)


def _code(text: str) -> Found:
    path = Path(text.rpartition(":")[0])
    if not path.exists():
        raise Setup("missing_file", f"there is no file {path}: check the path")
    return Found(path.stem, (ModelSource(path.stem, "1", text, path.parent),))


def _file(path: Path) -> Found:
    if path.suffix.lower() == ".py":
        raise Setup("unknown_format", f"{path} is code, not a model: name what to serve in it, as {path}:pipeline")
    if recognize(path) is None:
        raise unrecognized(path)
    return Found(path.stem, (ModelSource(path.stem, "1", str(path), path.parent),))


def _tfs(model: TfsModel, file: Path) -> list[Found]:
    """One model of a models.config, under the name that it has there."""
    if not model.folder.is_dir():
        raise Setup("missing_file", f"{file}: base_path of {model.name!r} is {model.folder}, which is not a folder")
    return [_renamed(read_model_folder(model.folder, model.versions, config_file=file), model.name)]


def _renamed(found: Found, name: str) -> Found:
    return replace(found, name=name, sources=tuple(replace(source, name=name) for source in found.sources))


def _members_of(folder: Path) -> list[Found]:
    """The models of a repository."""
    members = sorted(each for each in folder.iterdir() if each.is_dir() and not is_ignored(each.name))
    if not members:
        raise Setup("unknown_format", f"{folder} holds no models: put them in it as <name>/<version>/model.onnx")
    return [found for member in members for found in _or_error(member.name, partial(_member_of, member, folder))]


def _member_of(member: Path, folder: Path) -> list[Found]:
    check_inside(member, folder)
    if is_empty(member):
        raise Setup("incomplete", f"{member} is empty: put a model in it, as 1/model.onnx")
    if not is_model_folder(member):
        raise Setup("unknown_format", f"{member} holds no model: put model.onnx in it, or move it out of {folder}")
    return [read_model_folder(member)]


def _checked_name(found: Found) -> Found:
    if found.error is not None or _NAME.fullmatch(found.name):
        return found
    place = found.sources[0].path if found.sources else found.folder
    text = (
        f"{found.name!r} ({place}) cannot be a model's name: use up to 128 letters, digits and . _ -, "
        "the first a letter or digit; rename it or pass --name"
    )
    return replace(found, error=Setup("wrong_name", text), sources=())


def check_found(found: Sequence[Found]) -> list[Found]:
    """What was found, if it is all good. Raises the first error, or Setup ``wrong_name`` when two models have one name."""
    seen: dict[str, str] = {}
    for each in found:
        if each.error is not None:
            raise each.error
        place = each.sources[0].path if each.sources else str(each.folder)
        if each.name in seen:
            raise Setup("wrong_name", f"{seen[each.name]} and {place} are both named {each.name!r}: rename one")
        seen[each.name] = place
    return list(found)


def _only(path: str | Path) -> ModelSource:
    found = Repository([path]).models()
    if len(found) != 1:
        raise Setup("unknown_format", f"{path} holds {len(found)} models: name one of {', '.join(each.name for each in found)}")
    if not found[0].sources:
        raise incomplete(found[0])
    return found[0].sources[-1]
