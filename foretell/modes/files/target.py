"""Where answers go: written beside the final name and renamed at the end, so that a half file never bears it."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from foretell.errors import Setup
from foretell.modes.files.formats import format_of
from foretell.modes.files.rows import STANDARD, BadRow


def check_target(source: Path, target: Path) -> None:
    """Refuses what would overwrite the source or cannot be renamed onto. Raises Setup, before anything is written."""
    if target == STANDARD:
        return
    if target.is_dir():
        raise Setup("wrong_target", f"{target} is a folder: name a file in it, such as {target / 'answers.parquet'}")
    format_of(target)
    if not target.parent.is_dir():
        raise Setup("wrong_target", f"there is no folder {target.parent}: make it first, mkdir -p {target.parent}")
    if target.exists() and not target.is_file():
        raise Setup("wrong_target", f"{target} is a device or pipe: name a regular file, or - for standard output as NDJSON")
    for path in (target, errors_path(target)):
        if path.resolve() == source.resolve() and source != STANDARD:
            raise Setup("wrong_target", f"{path} would be written over the rows that are read from it: choose another -o")


def errors_path(target: Path) -> Path:
    """``answers.csv`` -> ``answers.csv.errors.ndjson``."""
    return target.with_name(target.name + ".errors.ndjson")


class Target:
    """The file of answers and, once there is a bad row, the file of errors. Leaving without ``commit`` removes both.

    For ``-`` answers go to standard output and errors to standard error, as they come.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: Path | None = None
        self._files: dict[Path, BinaryIO] = {}

    def __enter__(self) -> Self:
        self.stream: BinaryIO = sys.stdout.buffer if self.path == STANDARD else self._create(self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # what could not be flushed is thrown away anyway
                file.close()
            Path(file.name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Setup("wrong_target", f"{self.path} cannot be written to its end: {error}: nothing was kept") from error

    def note(self, bad: Iterable[BadRow]) -> None:
        """Append to the file of errors, which is made for the first."""
        for row in bad:
            line: dict[str, object] = {"row": row.row, "id": row.id, "code": row.code, "error": row.error}
            self._errors_stream().write(
                msgspec.json.encode({key: value for key, value in line.items() if value is not None}) + b"\n"
            )

    def commit(self) -> None:
        """Give both files their names, the answers last; an errors file of an earlier run goes."""
        if self.path == STANDARD:
            return
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if self.errors is None:
            errors_path(self.path).unlink(missing_ok=True)
        for path, file in reversed(list(self._files.items())):
            os.replace(file.name, path)
        self._files.clear()
        _sync_folder(self.path.parent)

    def _errors_stream(self) -> BinaryIO:
        if self.path == STANDARD:
            return sys.stderr.buffer
        if self.errors is None:
            self.errors = errors_path(self.path)
            self._create(self.errors)
        return self._files[self.errors]

    def _create(self, path: Path) -> BinaryIO:
        try:
            file = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part").open("xb")
        except OSError as error:
            raise Setup(
                "wrong_target", f"{path} cannot be written: {error.strerror}: choose a folder that you may write to"
            ) from error
        self._files[path] = file
        return file


def _sync_folder(folder: Path) -> None:
    """So that the new name, too, survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
