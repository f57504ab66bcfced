"""SHA256SUMS: what a folder must hold to be complete, in the form that sha256sum writes and that people know.

https://www.gnu.org/software/coreutils/manual/html_node/sha2-utilities.html
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from foretell.errors import Setup
from foretell.repository.versions import is_version
from foretell.storage import check_inside, read_small

SUMS_FILE = "SHA256SUMS"
MOST_BYTES = 2**20
_LINE = re.compile(r"([0-9A-Fa-f]{64}) [ *](.+)")


def read_sums(folder: Path) -> Mapping[str, str] | None:
    """The digest of each file that a folder's SHA256SUMS lists, by its path in the folder; None if it has no such list.

    Raises Setup: ``outside_folder`` for what lies elsewhere, ``wrong_checksum`` for what is no such list.
    """
    file = folder / SUMS_FILE
    if not file.is_file():
        return None
    check_inside(file, folder)
    try:
        lines = read_small(file, MOST_BYTES).decode("utf-8").split("\n")
    except OSError as error:
        raise Setup("wrong_checksum", f"{file} cannot be read ({error.strerror}): correct its permissions") from error
    except ValueError as error:  # not UTF-8, or too long
        raise Setup("wrong_checksum", f"{file} is no list of checksums, {error}: write it with sha256sum") from error
    listed: dict[str, str] = {}
    for name, digest in (_read_line(line, number, file) for number, line in enumerate(lines, 1) if line.strip()):
        if listed.setdefault(name, digest) != digest:
            raise Setup("wrong_checksum", f"{file} lists {name[:200]!r} with two digests: write it anew with sha256sum")
    return {name: digest for name, digest in listed.items() if name != SUMS_FILE}  # a second `sha256sum *` lists the list


def find_missing(folder: Path) -> str | None:
    """Why a folder is not complete: the first file of its SHA256SUMS that is not there. Nothing else is looked at.

    Raises Setup as ``read_sums``.
    """
    for name in read_sums(folder) or ():
        if not (folder / name).exists():
            return f"incomplete: {SUMS_FILE} lists {name[:200]!r}, which is not there yet"
    return None


def verify(folder: Path, *, holds_versions: bool = False) -> bool:
    """Read every file that a folder's SHA256SUMS lists, and compare; False if it has no such list.

    What lies beside the listed files must be listed too, but for hidden files, and where the folder ``holds_versions`` those.

    Raises Setup: ``incomplete``, ``outside_folder``, or ``wrong_checksum`` for another digest or a file that is not listed.
    """
    listed = read_sums(folder)
    if listed is None:
        return False
    for name, digest in listed.items():
        file = folder / name
        check_inside(file, folder)
        found = _digest(file)
        if found != digest:
            text = f"{file} has the SHA-256 {found[:16]}…, but {folder / SUMS_FILE} says {digest[:16]}…: copy it again"
            raise Setup("wrong_checksum", text)
    for name in sorted(_names(folder, is_version if holds_versions else _never)):
        if name not in listed:
            text = f"{folder / SUMS_FILE} does not list {name}, which lies beside it: remove one, or list the other"
            raise Setup("wrong_checksum", text)
    return True


def _read_line(line: str, number: int, file: Path) -> tuple[str, str]:
    match = _LINE.fullmatch(line.removesuffix("\r"))
    if match is None:
        text = f"{file}, line {number} is not 64 hexadecimal digits, two spaces and a name: write it with sha256sum"
        raise Setup("wrong_checksum", text)
    digest, name = match.groups()
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise Setup("outside_folder", f"{file}, line {number}: {name[:200]!r} leads out of the folder: list only what is in it")
    return str(path), digest.lower()


def _digest(file: Path) -> str:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Setup("wrong_checksum", f"{file} is listed, but it is no plain file: list files only")
            with open(handle, "rb", buffering=0, closefd=False) as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        finally:
            os.close(handle)
    except OSError as error:
        raise Setup("incomplete", f"{file} is listed, but cannot be read ({error.strerror}): copy it again") from error


def _names(folder: Path, is_apart: Callable[[str], bool]) -> Iterator[str]:
    """The files that may matter to a model, by their path in the folder."""
    for place, folders, files in os.walk(folder):
        inner, is_top = Path(place).relative_to(folder), place == str(folder)
        folders[:] = [each for each in folders if not (each.startswith(".") or each == "__pycache__")]
        folders[:] = [each for each in folders if not (is_top and is_apart(each))]
        yield from (str(inner / name) for name in files if not name.startswith(".") and str(inner / name) != SUMS_FILE)


def _never(name: str) -> bool:
    return False
