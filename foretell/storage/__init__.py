"""Where files lie: on this machine or in an object store, under one set of verbs; and small files beside a model."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from foretell.storage import local, objects
from foretell.storage.objects import SCHEMES, ObjectPath, open_object
from foretell.storage.small import check_inside, read_small

__all__ = [
    "ObjectPath",
    "Place",
    "check_inside",
    "create",
    "files_of",
    "find_place",
    "is_url",
    "make_folder",
    "read_small",
    "size_of",
    "stamp_of",
    "walk",
]

Place = Path | ObjectPath
"""A file or folder, wherever it lies: both have name, suffix, parent, ``/``, open, exists, is_file, is_dir and unlink."""


def is_url(text: str) -> bool:
    """Whether this names an object store."""
    return text.startswith(SCHEMES)


def find_place(text: str | Path | ObjectPath) -> Place:
    """What a path or a URL names. Nothing is asked of the store yet."""
    return open_object(text) if isinstance(text, str) and is_url(text) else Path(text) if isinstance(text, str) else text


def walk(folder: Place) -> Iterator[Place]:
    """Every file under a folder, sorted; hidden (``.``) and private (``_``) names are not. Raises OSError, Unavailable."""
    return objects.walk(folder) if isinstance(folder, ObjectPath) else local.walk(folder)


def files_of(folder: Place) -> list[Place]:
    """The files right in a folder, hidden ones too; none if there is no such folder. Raises OSError, Unavailable."""
    if isinstance(folder, ObjectPath):
        return [file for file in objects.walk(folder, hidden=True) if file.parent == folder]
    return [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []


def size_of(file: Place) -> int:
    """In bytes. Raises OSError, Unavailable."""
    return file.size() if isinstance(file, ObjectPath) else file.stat().st_size


def stamp_of(file: Place) -> str:
    """What changes when the file does. Raises OSError, Unavailable."""
    return file.stamp() if isinstance(file, ObjectPath) else local.stamp(file)


def make_folder(folder: Place) -> None:
    """The folder and those above it, where folders are a thing. Raises OSError."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def create(file: Place, scratch: Place | None = None, *, sync_name: bool = True) -> contextlib.AbstractContextManager[BinaryIO]:
    """A new file, there whole at the end of the block, durable, or not at all. Raises OSError, Unavailable.

    ``scratch``: a folder on the same disk in which it is written, else beside its name. Without ``sync_name`` a power cut may
    take its name away again.
    """
    if isinstance(file, ObjectPath):
        return objects.create(file)
    return local.create(file, scratch if isinstance(scratch, Path) else None, sync_name=sync_name)
