"""What a source names: one file, a folder or a pattern of tables, a folder or an archive of images or sounds."""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from foretell.errors import Setup
from foretell.modes.files.archives import SUFFIXES as ARCHIVES
from foretell.modes.files.archives import list_members
from foretell.modes.files.sounds import SUFFIXES as SOUNDS
from foretell.modes.files.sounds import takes_samples
from foretell.plugins import did_you_mean
from foretell.storage import Place, find_place, is_url, size_of, stamp_of, walk
from foretell.tensors import Datatype, Signature

TABLES = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npy": "npy",
    ".npz": "npz",
}
MEDIA = {".png": "images", ".jpg": "images", ".jpeg": "images", ".webp": "images", **dict.fromkeys(SOUNDS, "sounds")}
PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Input:
    """One file: its ``name`` within the source, its format, its size in bytes, and a stamp that changes when it does.

    A member of an archive has the ``place`` of that, and the ``offset`` at which it is found there.
    """

    place: Place
    name: str
    format: str
    size: int
    stamp: str
    offset: int | None = None

    @property
    def folder(self) -> str:
        """``year=2025/month=1``, or nothing: where in the source it lies."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True)
class Inputs:
    """All files of a source in order, and whether rows need their file's name to be told apart."""

    source: str
    files: Sequence[Input]
    are_many: bool
    are_media: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.files)

    @property
    def key(self) -> dict[str, object]:
        """What changes when a file comes, goes or changes: their number and a digest of names and stamps."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.name}\0{file.stamp}\n".encode())
        return {"source": self.source, "files": len(self.files), "bytes": self.size, "digest": digest.hexdigest()[:16]}


def find_inputs(source: str, signature: Signature) -> Inputs:
    """The files that a path, a pattern or a URL names. Raises Setup: ``missing_file``, ``unknown_suffix``, ``broken_file``."""
    try:
        return _find(source, signature)
    except OSError as error:
        where = str(error.filename or source)[:200]
        raise Setup("broken_file", f"{where!r} cannot be read: {error.strerror or error}: check the path") from error


def _find(source: str, signature: Signature) -> Inputs:
    place = find_place(source)
    if PATTERN.search(source) and not (not is_url(source) and place.exists()):
        folder, files = _matching(source)
        if not files:
            cure = "* stays within a name, ** crosses folders"
            raise Setup("missing_file", f"nothing matches {source}: check the pattern; {cure}")
        return _dataset(source, folder, files, signature)
    if place.suffix.lower() in ARCHIVES and place.is_file():
        return _archive(source, place)
    if place.is_file():
        return Inputs(source, [_input(place, place.name, format_of(place))], are_many=False)
    if place.is_dir():
        return _dataset(source, place, list(walk(place)), signature)
    if place.exists():
        raise Setup("broken_file", f"{source} is no file and no folder: name one that holds rows")
    raise Setup("missing_file", f"there is no file of rows at {source}: check the path")


def format_of(place: Place) -> str:
    """The format of a table by its suffix. Raises Setup ``unknown_suffix``."""
    name = TABLES.get(place.suffix.lower())
    if name is None:
        raise Setup("unknown_suffix", f"{place} has the suffix {place.suffix!r}{did_you_mean(place.suffix.lower(), TABLES)}")
    return name


def takes_media(signature: Signature) -> bool:
    """Whether a row is one encoded file: an image or a sound."""
    return len(signature.inputs) == 1 and signature.inputs[0].dtype is Datatype.BYTES and not signature.inputs[0].shape


def _dataset(source: str, folder: Place, files: Sequence[Place], signature: Signature) -> Inputs:
    media = [file for file in files if file.suffix.lower() in MEDIA]
    tables = [file for file in files if file.suffix.lower() in TABLES]
    if media and (takes_media(signature) or takes_samples(signature) or not tables):
        form = _only_kind(source, {MEDIA[file.suffix.lower()] for file in media}, folder)
        return Inputs(source, [_input(file, _name(file, folder), form) for file in media], are_many=True, are_media=True)
    if not tables:
        known = ", ".join([*TABLES, *MEDIA])
        raise Setup("broken_file", f"{source} holds no files of rows, no images and no sounds: put files of {known} there")
    form = _only_kind(source, {format_of(file) for file in tables}, folder)
    return Inputs(source, [_input(file, _name(file, folder), form) for file in tables], are_many=True)


def _only_kind(source: str, kinds: set[str], folder: Place | None = None) -> str:
    if len(kinds) > 1:
        first, *others = sorted(kinds)
        suffix = next(suffix for suffix, kind in {**TABLES, **MEDIA}.items() if kind == first)
        pattern = f"{str(folder).rstrip('/')}/**/*{suffix}"
        cure = "put each kind into its own" if folder is None else f"name those of one kind by a pattern, as '{pattern}'"
        raise Setup("broken_file", f"{source} holds files of {' and '.join([first, *others])}: {cure}")
    return kinds.pop()


def _archive(source: str, place: Place) -> Inputs:
    """The media files of an archive, one a row."""
    members = list_members(place, tuple(MEDIA))
    if not members:
        raise Setup("broken_file", f"{source} holds no images and no sounds: put files of {', '.join(MEDIA)} into it")
    form = _only_kind(source, {MEDIA["." + member.name.lower().rpartition(".")[2]] for member in members})
    stamp = _input(place, place.name, form).stamp
    for member in members:
        _check_name(member.name)
    files = [Input(place, member.name, form, member.size, stamp, member.place) for member in members]
    return Inputs(source, files, are_many=True, are_media=True)


def _input(place: Place, name: str, form: str) -> Input:
    _check_name(str(place))
    try:
        return Input(place, name, form, size_of(place), stamp_of(place))
    except OSError as error:
        raise Setup("broken_file", f"{place} cannot be read: {error.strerror or error}") from error


def _check_name(name: str) -> None:
    """Answers tell the names of files, so they have to be text. Raises Setup ``broken_file``."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Setup("broken_file", f"the name {name!r} is not UTF-8: rename the file or folder") from error


def _name(file: Place, folder: Place) -> str:
    return str(file) if str(folder) == "." else str(file)[len(str(folder)) :].lstrip("/")


def _matching(pattern: str) -> tuple[Place, list[Place]]:
    """The folder in front of a pattern's first mark, and the files in it that match: ``*`` in a name, ``**`` across folders."""
    mark = PATTERN.search(pattern)
    head = pattern[: mark.start() if mark else len(pattern)].rpartition("/")[0]
    folder = find_place(head or ("/" if pattern.startswith("/") else "."))
    wanted = _translate(pattern[len(head) :].lstrip("/"))
    files = list(walk(folder)) if folder.is_dir() else []
    return folder, [file for file in files if wanted.fullmatch(_name(file, folder))]


@functools.cache
def _translate(pattern: str) -> re.Pattern[str]:
    marks = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", pattern)
    classes = {piece: piece.replace("[!", "[^") for piece in pieces if len(piece) > 2 and piece.startswith("[")}
    try:
        return re.compile("".join(marks.get(piece) or classes.get(piece) or re.escape(piece) for piece in pieces))
    except re.error as error:
        raise Setup("missing_file", f"the pattern {pattern!r} cannot be understood, {error}: write a range as [a-z]") from error
