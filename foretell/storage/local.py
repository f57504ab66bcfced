"""Files on this machine: found, told apart when they change, and written so that a name never stands for half a file."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MOST_DEPTH = 100
"""Folders within folders: more are a mistake, and their paths are soon too long to be opened."""


def walk(folder: Path) -> Iterator[Path]:
    """Every file under a folder, in the order of their paths, but hidden and private (``_``) ones and folders behind links.

    A link that leads nowhere, or in a circle, is no file. Raises OSError: also for more than ``MOST_DEPTH`` folders in a row.
    """
    levels = [_entries(folder)]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
        elif entry.is_dir(follow_symlinks=False):
            if len(levels) > MOST_DEPTH:
                raise OSError(errno.ENAMETOOLONG, f"more than {MOST_DEPTH} folders lie within each other", entry.path)
            levels.append(_entries(Path(entry.path)))
        elif _is_file(entry):
            yield Path(entry.path)


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as found:
        return iter(sorted((entry for entry in found if not entry.name.startswith((".", "_"))), key=lambda entry: entry.name))


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle
        return False


def stamp(file: Path) -> str:
    """What changes when a file does: its size and the time of its last change. Raises OSError."""
    status = file.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextlib.contextmanager
def create(file: Path, scratch: Path | None = None, *, sync_name: bool = True) -> Iterator[BinaryIO]:
    """A new file, written in ``scratch`` (else beside its name), synced, and given its name at the end of the block.

    If the block raises, nothing is left. ``scratch`` must be on the same disk. Without ``sync_name`` a power cut may take the
    name away again, but never leave it without the whole of the file. Raises OSError.
    """
    part = (scratch or file.parent) / f".{file.name}.{secrets.token_hex(4)}.part"
    stream = part.open("x+b")
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, file)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    if sync_name:
        sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """So that new names in it, too, survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
