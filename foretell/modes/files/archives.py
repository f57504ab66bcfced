"""Archives of media files, .zip and .tar: their members are read one by one, and never unpacked to the disk.

https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

import contextlib
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, BinaryIO

from foretell.errors import Setup
from foretell.storage import Place

SUFFIXES = (".zip", ".tar")
MOST_MEMBER_BYTES = 256 * 2**20
"""The largest file that is taken out of an archive: what a few bytes may swell to."""
MOST_MEMBERS = 5_000_000


@dataclass(frozen=True)
class Member:
    """One file of an archive. ``place`` is its number in a zip, or the byte where its data begin in a tar."""

    name: str
    place: int
    size: int


def list_members(path: Place, suffixes: Sequence[str]) -> list[Member]:
    """The plain files with one of the suffixes, by name. Raises Setup ``broken_file``: also for a name that leads elsewhere."""
    try:
        with path.open("rb") as stream:
            members = _zip_members(stream) if path.suffix.lower() == ".zip" else _tar_members(stream)
    except (OSError, EOFError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise Setup(
            "broken_file", f"{path} cannot be read as an archive: {error}: pack it again, as .zip or plain .tar"
        ) from error
    chosen = [member for member in members if member.name.lower().endswith(tuple(suffixes)) and not _is_hidden(member.name)]
    for member in chosen:
        if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts or "\0" in member.name:
            raise Setup("broken_file", f"{path} holds {member.name[:80]!r}, which leads out of it: pack it without such names")
    return sorted(chosen, key=lambda member: member.name)


class Archive:
    """An archive that is open for reading, by one thread at a time."""

    def __init__(self, path: Place) -> None:
        self.stream: BinaryIO = path.open("rb")
        self.zip = zipfile.ZipFile(self.stream) if path.suffix.lower() == ".zip" else None
        self.infos = self.zip.infolist() if self.zip is not None else []

    def read(self, place: int, size: int) -> bytes:
        """One member. Raises OSError for one that cannot be read or is too large."""
        if size < 0 or place < 0:
            raise OSError(22, "the archive gives it a negative size")
        if size > MOST_MEMBER_BYTES:
            raise OSError(27, f"it has {size} bytes, at most {MOST_MEMBER_BYTES} are unpacked")
        try:
            if self.zip is None:
                self.stream.seek(place)
                data = self.stream.read(size)
            else:
                with self.zip.open(self.infos[place]) as member:
                    data = member.read(size + 1)
        except (RuntimeError, ValueError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
            raise OSError(5, f"it cannot be unpacked: {error}") from error
        if len(data) != size:
            raise OSError(5, f"it has other than the {size} bytes that the archive says")
        return data

    def close(self) -> None:
        with contextlib.ExitStack() as both:
            both.callback(self.stream.close)
            if self.zip is not None:
                self.zip.close()


def _zip_members(stream: IO[bytes]) -> list[Member]:
    with zipfile.ZipFile(stream) as archive:
        infos = archive.infolist()
    _check_count(len(infos))
    return [Member(info.filename, place, info.file_size) for place, info in enumerate(infos) if not info.is_dir()]


def _tar_members(stream: IO[bytes]) -> list[Member]:
    """Of a tar that is not packed, as only there a member can be found without reading all before it."""
    members = []
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for info in archive:
            if info.size < 0:
                raise ValueError(f"{info.name[:80]!r} has the size {info.size}")
            if info.isreg() and not info.issparse():
                members.append(Member(info.name, info.offset_data, info.size))
                _check_count(len(members))
    return members


def _check_count(count: int) -> None:
    if count > MOST_MEMBERS:
        raise ValueError(f"it has more than {MOST_MEMBERS} members")


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part not in {".", ".."} for part in name.split("/"))
