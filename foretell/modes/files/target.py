"""Where answers go: a file that appears whole at the end, or a folder of files; and the errors beside it."""

import contextlib
import io
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import Setup
from foretell.modes.files.formats import WRITERS, open_writer
from foretell.modes.files.inputs import TABLES, Inputs
from foretell.modes.files.join import join
from foretell.modes.files.ledger import INSIDE, Ledger
from foretell.modes.files.rows import Sheet
from foretell.modes.files.shard import Done
from foretell.plugins import did_you_mean
from foretell.storage import Place, create, find_place, size_of, walk
from foretell.tensors import Signature

FOLDER_FORMATS = ("csv", "ndjson", "parquet")
SUFFIXES = {suffix: form for suffix, form in TABLES.items() if form in WRITERS}
PART = re.compile(r"part-\d{7}\.\w+")


@dataclass(frozen=True)
class Target:
    """``parts`` is the folder of what has been done, until all is."""

    path: Place
    format: str
    parts: Place
    is_folder: bool = False

    @property
    def errors(self) -> Place:
        """``answers.csv`` -> ``answers.csv.errors.ndjson``."""
        return self.path.with_name(self.path.name + ".errors.ndjson")

    def check(self, signature: Signature) -> None:
        """That the format can hold the answers. Raises Setup ``wrong_target``."""
        open_writer(Sheet(io.BytesIO(), signature, self.format))

    def clear(self, *, restart: bool) -> None:
        """Before a run is begun: a folder must be empty; to begin anew, what runs before wrote is removed. Raises Setup."""
        if not self.is_folder or not self.path.is_dir():
            return
        found = list(walk(self.path))
        if found and not restart:
            text = (
                f"{self.path} holds files already, such as {found[0].name}: name another folder, or replace them by --restart"
            )
            raise Setup("wrong_target", text)
        for file in found:
            if PART.fullmatch(file.name):
                file.unlink()

    def stands(self, done: Iterable[Done]) -> bool:
        """Whether the answers of these shards, which were all, are still where ``finish`` left them."""
        if not self.is_folder:
            return self.path.is_file()
        return all(size_of(self.path / each.part) == each.part_bytes for each in done)

    def finish(self, ledger: Ledger) -> Place | None:
        """Give the answers, and the errors if there are any, their names. Gives the place of the errors. Raises Setup."""
        done = [ledger.done[index] for index in sorted(ledger.done)]
        try:
            if not ledger.is_over:
                self._finish_errors(done)
                if not self.is_folder:
                    with create(self.path, self.parts) as stream:
                        join(self.format, self._parts(done), stream)
                ledger.end()
            ledger.remove()
        except OSError as error:
            text = f"{self.path} cannot be written to its end: {error}: free some room, then run it again: it goes on from here"
            raise Setup("wrong_target", text) from error
        return self.errors if any(each.errors for each in done) else None

    def _parts(self, done: list[Done]) -> list[tuple[Place, int]]:
        """The parts that hold rows; the first, if none does."""
        filled = [each for each in done if each.rows] or done[:1]
        return [(self.parts / each.part, each.head_bytes) for each in filled]

    def _finish_errors(self, done: list[Done]) -> None:
        failed = [each for each in done if each.errors]
        if not failed:
            self.errors.unlink(missing_ok=True)
            return
        with create(self.errors, self.parts) as stream:
            for each in failed:
                with (self.parts / each.errors).open("rb") as part:
                    shutil.copyfileobj(part, stream)


def find_target(path: str | Path, inputs: Inputs | None, form: str = "") -> Target:
    """A file by its suffix; or a folder, if it is one, ends with a slash, or a format is asked for.

    A folder gets files of ``form``, else of the input's, else Parquet. Raises Setup: ``unknown_suffix``, ``wrong_target``.
    """
    place = find_place(path)
    if form or str(path).endswith("/") or (isinstance(place, Path) and place.is_dir()):
        form = form or (inputs.files[0].format if inputs is not None else "")
        return Target(place, form if form in FOLDER_FORMATS else "parquet", place / INSIDE, is_folder=True)
    form = _format_of(place)
    if isinstance(place, Path):
        _check_local(place)
    return Target(place, form, place.with_name(f".{place.name}.foretell"))


def check_target(inputs: Inputs, target: Target) -> None:
    """Refuses what would overwrite what is read. Raises Setup ``wrong_target``, before anything is written."""
    read = {_real(file.place) for file in inputs.files}
    for path in (target.path, target.errors):
        if _real(path) in read:
            raise Setup("wrong_target", f"{path} would be written over the rows that are read from it: choose another -o")


def _format_of(place: Place) -> str:
    suffix = place.suffix.lower()
    if suffix in TABLES and suffix not in SUFFIXES:
        raise Setup("unknown_suffix", f"{place}: answers are not written as {suffix}: use one of {', '.join(SUFFIXES)}")
    if suffix not in SUFFIXES:
        raise Setup("unknown_suffix", f"{place} has the suffix {place.suffix!r}{did_you_mean(suffix, SUFFIXES)}")
    return SUFFIXES[suffix]


def _check_local(path: Path) -> None:
    if not path.parent.is_dir():
        raise Setup("wrong_target", f"there is no folder {path.parent}: make it first, mkdir -p {path.parent}")
    if path.exists() and not path.is_file():
        raise Setup("wrong_target", f"{path} is a device or pipe: name a regular file, or - for standard output as NDJSON")


def _real(place: Place) -> str:
    with contextlib.suppress(OSError, RuntimeError):
        return str(place.resolve() if isinstance(place, Path) else place)
    return str(place)
