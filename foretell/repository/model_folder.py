"""One model's folder: its configuration, in our form or Triton's, and the file of each version that is to be served."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import msgspec

from foretell.backends import BEGINNINGS, recognize
from foretell.errors import Setup
from foretell.repository.checksums import SUMS_FILE, find_missing, verify
from foretell.repository.pipeline_file import FILE_NAME, ModelTable, PipelineFile, read_pipeline_file
from foretell.repository.triton_config import FILE_NAME as TRITON_FILE
from foretell.repository.triton_config import MOST_STEPS, TritonConfig, TritonStep, read_triton_config
from foretell.repository.versions import VersionsTable, is_version
from foretell.storage import check_inside

UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".swp", ".bak", "~")
MOST_DEPTH = 16


@dataclass(frozen=True)
class ModelSource:
    """One version of a model that has not been loaded.

    ``path`` is the model file, or ``app.py:attribute``; ``folder`` holds its pipeline.toml, and the files of its steps. A model
    of a Triton repository has ``triton``, and an ensemble of one a member for each of its steps; its path is the config.pbtxt.
    """

    name: str
    version: str
    path: str
    folder: Path
    config: PipelineFile = field(default_factory=PipelineFile)
    triton: TritonConfig | None = None
    members: tuple["ModelSource", ...] = ()
    in_folder: bool = False  # whether ``folder`` is the model's own, rather than one in which its file happens to lie


@dataclass(frozen=True)
class Found:
    """One model as the disk has it: the versions to serve, oldest first, and why others are not; or what is wrong with it.

    ``incomplete`` are those of the others whose files are still being written. ``folder`` is the model's own, if it has one,
    and ``versions`` what another file than its own says of them. ``is_path``: the error is that of a path, not of one model.
    """

    name: str
    sources: tuple[ModelSource, ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)
    error: Setup | None = None
    incomplete: frozenset[str] = frozenset()
    folder: Path | None = None
    versions: VersionsTable | None = None
    is_path: bool = False

    @property
    def is_coming(self) -> bool:
        """Whether what is wrong is no more than that it is not all there yet."""
        return self.error is not None and self.error.code == "incomplete"


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a configuration, a model file or a version: else it is a repository, or nothing."""
    if any((folder / name).exists() for name in (FILE_NAME, TRITON_FILE)):
        return True
    files = folder.iterdir()
    return recognize(folder) is not None or any(is_version(each.name) if each.is_dir() else _is_model(each) for each in files)


def is_ignored(name: str) -> bool:
    """Whether a folder of this name in a repository is as if it were not there: hidden, private or still being copied."""
    return name.startswith("_") or name == "lost+found" or is_unfinished(name)


def is_unfinished(name: str) -> bool:
    """Whether a file or folder of this name is hidden or still being copied."""
    return name.startswith(".") or name.lower().endswith(UNFINISHED)


def is_empty(folder: Path) -> bool:
    """Whether nothing has been put into a folder yet."""
    return all(is_unfinished(each.name) for each in folder.iterdir())


def read_model_folder(
    folder: Path,
    versions: VersionsTable | None = None,
    above: tuple[str, ...] = (),
    *,
    only: Collection[str] | None = None,
    spoilt: Mapping[str, str] = MappingProxyType({}),
    config_file: Path | None = None,
) -> Found:
    """The model in a folder; nothing is loaded. ``versions``, of ``config_file``, win over what its configuration says of them.

    ``only`` are the versions to serve whatever the policy says, ``spoilt`` those that are as incomplete, and why, and ``above``
    the ensembles that led here. Raises Setup: ``missing_file``, ``unknown_format``, ``outside_folder``, ``broken_pipeline``,
    ``broken_config``, ``unsupported_config``, ``wrong_setting`` or ``wrong_checksum``.
    """
    name = folder.resolve().name
    triton = read_triton_config(folder)
    config = _configuration(folder, triton)
    if versions is not None:
        config = msgspec.structs.replace(config, versions=versions)
    there = [each.name for each in folder.iterdir() if each.is_dir() and is_version(each.name)]
    incomplete = {**_incomplete(folder, there, config.versions, holds_models=not (triton and triton.steps)), **spoilt}
    complete = [each for each in there or ["1"] if each not in incomplete]
    if not complete:
        return Found(name, (), incomplete, incomplete=frozenset(incomplete), folder=folder, versions=versions)
    table = config.versions if only is None else config.versions.restricted(only)
    chosen = table.choose(complete, config_file or folder / (FILE_NAME if triton is None else TRITON_FILE), incomplete)
    config = msgspec.structs.replace(config, versions=table)
    members = _members(folder, triton.steps, (*above, name)) if triton else ()
    sources = []
    for version in chosen:
        place = folder / version if there else folder
        check_inside(place, folder)
        path = str(folder / TRITON_FILE) if members else _path(place, folder, config, triton)
        sources.append(ModelSource(name, version, path, folder, config, triton, members, in_folder=True))
    left_out = dict.fromkeys(sorted(set(complete) - set(chosen), key=int), "the version policy leaves it out")
    return Found(name, tuple(sources), left_out | incomplete, None, frozenset(incomplete), folder, versions)


def verify_model(source: ModelSource) -> bool:
    """Compare a version's files, and those of its model's folder, with their SHA256SUMS; False where there is none.

    Raises Setup: ``incomplete``, ``wrong_checksum`` or ``outside_folder``.
    """
    if not source.in_folder:
        return False
    place = source.folder / source.version
    return any(
        [verify(source.folder, holds_versions=True), place.is_dir() and verify(place), *map(verify_model, source.members)]
    )


def has_sums(source: ModelSource) -> bool:
    """Whether there is a SHA256SUMS that ``verify_model`` compares."""
    place = source.folder / source.version
    own = source.in_folder and any((each / SUMS_FILE).is_file() for each in (source.folder, place))
    return own or any(map(has_sums, source.members))


def is_attribute(text: str) -> bool:
    """``app.py:attribute``."""
    return ".py:" in text


def _incomplete(folder: Path, there: Sequence[str], versions: VersionsTable, *, holds_models: bool) -> dict[str, str]:
    """The versions whose files are not all there yet, and what they lack."""
    lacks = find_missing(folder)
    if lacks is not None:
        return dict.fromkeys(there or ["1"], lacks)
    found = {version: _lacks(folder / version, versions) for version in there}
    if holds_models:
        found |= {version: "incomplete: it is empty" for version in there if is_empty(folder / version)}
    return {version: reason for version, reason in found.items() if reason is not None}


def _lacks(place: Path, versions: VersionsTable) -> str | None:
    if versions.checksums and not (place / SUMS_FILE).is_file():
        return f"incomplete: it has no {SUMS_FILE} yet, which [versions] checksums asks for"
    return find_missing(place)


def _is_model(file: Path) -> bool:
    """Whether a file would be served where none is named: code never is."""
    return not file.name.startswith(".") and file.suffix.lower() != ".py" and recognize(file) is not None


def _configuration(folder: Path, triton: TritonConfig | None) -> PipelineFile:
    if triton is None:
        return read_pipeline_file(folder)
    if (folder / FILE_NAME).exists():
        raise Setup("broken_config", f"{folder} has both {FILE_NAME} and {TRITON_FILE}: keep the one that you want to hold")
    model = ModelTable(backend=None if triton.steps else "onnx", rows=triton.rows)
    return PipelineFile(model=model, versions=triton.versions, engine=triton.engine)


def _members(folder: Path, steps: Sequence[TritonStep], above: tuple[str, ...]) -> tuple[ModelSource, ...]:
    """The model of each step, from the folders beside the ensemble's own; each folder is read once."""
    beside: dict[str, Found] = {}
    members: list[ModelSource] = []
    for step in steps:
        if step.model not in beside:
            beside[step.model] = _beside(folder, step, above)
        members.append(_member(folder, step, beside[step.model]))
        if sum(map(_count, members)) > MOST_STEPS:
            raise Setup("broken_config", f"{folder / TRITON_FILE}: its ensembles have more than {MOST_STEPS} models in all")
    return tuple(members)


def _beside(folder: Path, step: TritonStep, above: tuple[str, ...]) -> Found:
    where, name = f"{folder / TRITON_FILE}, line {step.line}", step.model
    if name in above:
        raise Setup("broken_config", f"{where}: {' -> '.join((*above, name))} is a circle: an ensemble cannot be in itself")
    if len(above) > MOST_DEPTH:
        raise Setup("broken_config", f"{where}: more than {MOST_DEPTH} ensembles in one another: put their steps into one")
    beside = folder.resolve().parent / name
    if Path(name).name != name or name.startswith(".") or "\0" in name or len(name) > 128 or not beside.is_dir():
        raise Setup("broken_config", f"{where}: there is no model {name[:128]!r} beside this one: correct model_name")
    check_inside(beside, beside.parent)
    return read_model_folder(beside, above=above)


def _member(folder: Path, step: TritonStep, found: Found) -> ModelSource:
    where = f"{folder / TRITON_FILE}, line {step.line}"
    by_version = {source.version: source for source in found.sources}
    member = by_version.get(step.version or found.sources[-1].version)
    if member is None:
        served = ", ".join(by_version)
        raise Setup("broken_config", f"{where}: of {step.model!r} version {step.version} is not served, but {served}")
    if member.config.preprocess or member.config.postprocess:
        text = f"{where}: {step.model!r} has steps of its own, which an ensemble cannot run: remove them"
        raise Setup("unsupported_config", text)
    return member


def _count(source: ModelSource) -> int:
    return sum(map(_count, source.members)) or 1


def _path(place: Path, folder: Path, config: PipelineFile, triton: TritonConfig | None) -> str:
    if triton:
        return _triton_file(place, folder, triton)
    if config.model.file:
        return _named_file(place, config.model.file, folder)
    return str(place) if config.model.backend in (None, recognize(place)) and recognize(place) else _model_file(place, folder)


def _triton_file(place: Path, folder: Path, triton: TritonConfig) -> str:
    """The file of that name, or the file of that name in a folder of that name, where external data lies beside it."""
    path = place / triton.model_file
    path = path / triton.model_file if path.is_dir() else path
    check_inside(path, folder)
    if not path.is_file():
        held = ", ".join(sorted(each.name for each in place.iterdir())[:10]) or "nothing"
        raise Setup("unknown_format", f"{place} holds no {triton.model_file}, but {held}: put the ONNX model there")
    return str(path)


def _named_file(place: Path, file: str, folder: Path) -> str:
    """The file, or ``app.py:attribute``, of ``[model] file``."""
    path = place / (file.rpartition(":")[0] if is_attribute(file) else file)
    check_inside(path, folder)
    if not path.exists():
        raise Setup("missing_file", f"{folder / FILE_NAME} names the model {path}, which does not exist: correct [model] file")
    return str(place / file)


def _model_file(place: Path, folder: Path) -> str:
    """The only model file of a folder, or the one that is named ``model``."""
    files = sorted(each for each in place.iterdir() if each.is_file() and _is_model(each))
    chosen = files if len(files) == 1 else [each for each in files if each.stem == "model"]
    if len(chosen) != 1:
        held = f"several models ({', '.join(each.name for each in files)})" if files else _no_model(place)
        raise Setup("unknown_format", f'{place} holds {held}: name one in {folder / FILE_NAME}, as [model] file = "model.onnx"')
    check_inside(chosen[0], folder)
    return str(chosen[0])


def _no_model(place: Path) -> str:
    unlike = sorted(each.name for each in place.iterdir() if each.suffix.lower() in BEGINNINGS)
    return f"no model file (nor is {' or '.join(unlike[:3])} one, by its first bytes)" if unlike else "no model file"
