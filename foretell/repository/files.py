"""The files that a version of a model is made from: whether they have changed, and how large they are; none is opened."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from foretell.errors import Setup
from foretell.formats.onnx import data_files
from foretell.repository.checksums import SUMS_FILE
from foretell.repository.model_folder import Found, ModelSource, is_attribute, is_unfinished
from foretell.repository.pipeline_file import FILE_NAME
from foretell.repository.triton_config import FILE_NAME as TRITON_FILE
from foretell.repository.versions import VersionsTable

Fingerprint = frozenset[tuple[str, int, int, int]]
"""Path, inode, size in bytes and time of change in ns of files."""

_PARSED = {FILE_NAME, TRITON_FILE, SUMS_FILE}  # those of a model's own folder: what they say is compared, or checked anew


@dataclass(frozen=True)
class Ingredients:
    """What an engine is made from. Labels, traffic, pins and the choice of versions are not among it."""

    source: ModelSource
    files: Fingerprint


def ingredients(source: ModelSource) -> Ingredients:
    """What an engine of this version would be made from now. Raises Setup ``missing_file``."""
    return Ingredients(_engine_part(source), fingerprint(source))


def fingerprint(source: ModelSource) -> Fingerprint:
    """The state of every file that a version is made from: those of its own folder, and those beside its configuration.

    Raises Setup ``missing_file`` when one goes away meanwhile.
    """
    files = _reading(lambda: frozenset(_states(source)))
    return files.union(*map(fingerprint, source.members))


def look(found: Found) -> object:
    """All that can be seen of a model without reading its files: while they are being written, no two looks are equal."""
    folder, files = found.folder, Fingerprint()
    if folder is not None:
        files = _reading(lambda: Fingerprint((str(file), *_state(file)) for file in folder.rglob("*") if file.is_file()))
    error = None if found.error is None else (found.error.code, found.error.message)
    return found.name, error, files.union(*map(fingerprint, found.sources))


def count_bytes(source: ModelSource) -> int:
    """The size of a version's files, with those of its members: a first guess at the memory that it will take."""
    own = 0 if source.members else sum(size for path, _, size, _ in fingerprint(source) if Path(path).parent != source.folder)
    only = Path(source.path)
    if not own and not source.members and only.is_file():
        own = _state(only)[1]
    return own + sum(map(count_bytes, source.members))


def disk_bytes(source: ModelSource) -> int:
    """The size of a model on disk: of its folder, or of its file and the data beside it; of all members of a chain."""
    if source.members:
        return sum(map(disk_bytes, source.members))
    return sum(file.stat().st_size for file in _parts(_own(source)) if file.is_file())


def _parts(own: Path) -> set[Path]:
    if own.is_dir():
        return set(own.rglob("*"))
    suffix = own.suffix.lower()
    data = data_files(own) if suffix == ".onnx" else {own.with_suffix(".bin")} if suffix == ".xml" else set()
    return {own, *data}


def _own(source: ModelSource) -> Path:
    return Path(source.path.rpartition(":")[0] if is_attribute(source.path) else source.path)


def _states(source: ModelSource) -> Iterator[tuple[str, int, int, int]]:
    own = _own(source)
    for file in {*source.folder.iterdir(), *(own.parent.rglob("*") if own.parent != source.folder else ())}:
        is_other = file.name in _PARSED and file.parent == source.folder if source.in_folder else not _belongs(file, own)
        if file.is_file() and not is_other and file.parent.name != "__pycache__" and not is_unfinished(file.name):
            yield str(file), *_state(file)


def _belongs(file: Path, own: Path) -> bool:
    """Whether a file that lies beside a model that was named by its own path is of it: its data, or code beside its code."""
    return file.name.startswith(f"{own.stem}.") or (own.suffix == ".py" and file.suffix == ".py")


def _state(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _reading(read: Callable[[], Fingerprint]) -> Fingerprint:
    try:
        return read()
    except OSError as error:
        raise Setup("missing_file", f"{error.filename} is gone or cannot be read ({error.strerror}): load it again") from error


def _engine_part(source: ModelSource) -> ModelSource:
    """The source without what may change while its engine stays."""
    triton = None if source.triton is None else replace(source.triton, versions=VersionsTable())
    members = tuple(map(_engine_part, source.members))
    return replace(source, config=source.config.engine_part, triton=triton, members=members)
