"""Where answers go: a file that appears whole at the end, or a folder of files; and the errors beside it."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import Setup
from foretell.modes.files.formats import open_writer
from foretell.modes.files.inputs import Inputs, format_of
from foretell.modes.files.join import join
from foretell.modes.files.ledger import Ledger
from foretell.modes.files.options import Options
from foretell.modes.files.rows import Sheet
from foretell.modes.files.shard import Done
from foretell.storage import Place, create, find_place
from foretell.tensors import Signature

INSIDE = "_foretell"


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
        import io

        open_writer(Sheet(io.BytesIO(), signature, self.format))

    def finish(self, ledger: Ledger) -> Place | None:
        """Give the answers, and the errors if there are any, their names. Gives the place of the errors. Raises Setup."""
        done = [ledger.done[index] for index in sorted(ledger.done)]
        try:
            errors = self._finish_errors(done)
            if not self.is_folder:
                with create(self.path, self.parts) as stream:
                    join(self.format, self._parts(done), stream)
            ledger.remove()
        except OSError as error:
            text = f"{self.path} cannot be written to its end: {error}: free some room, then run it again: it goes on from here"
            raise Setup("wrong_target", text) from error
        return errors

    def _parts(self, done: list[Done]) -> list[tuple[Place, int]]:
        """The parts that hold rows; the first, if none does."""
        filled = [each for each in done if each.rows] or done[:1]
        return [(self.parts / each.part, each.head_bytes) for each in filled]

    def _finish_errors(self, done: list[Done]) -> Place | None:
        failed = [each for each in done if each.errors]
        if not failed:
            self.errors.unlink(missing_ok=True)
            return None
        with create(self.errors, self.parts) as stream:
            for each in failed:
                with (self.parts / each.errors).open("rb") as part:
                    shutil.copyfileobj(part, stream)
        return self.errors


def find_target(path: str | Path, options: Options) -> Target:
    """Raises Setup: ``unknown_suffix``, ``wrong_target``."""
    place = find_place(path if isinstance(path, Path) else str(path))
    if isinstance(place, Path):
        _check_local(place)
    form = format_of(place)
    return Target(place, form, place.with_name(f".{place.name}.foretell"))


def check_target(inputs: Inputs, target: Target) -> None:
    """Refuses what would overwrite what is read. Raises Setup ``wrong_target``, before anything is written."""
    read = {_real(file.place) for file in inputs.files}
    for path in (target.path, target.errors):
        if _real(path) in read:
            raise Setup("wrong_target", f"{path} would be written over the rows that are read from it: choose another -o")


def _check_local(path: Path) -> None:
    if path.is_dir():
        raise Setup("wrong_target", f"{path} is a folder: name a file in it, such as {path / 'answers.parquet'}")
    format_of(path)
    if not path.parent.is_dir():
        raise Setup("wrong_target", f"there is no folder {path.parent}: make it first, mkdir -p {path.parent}")
    if path.exists() and not path.is_file():
        raise Setup("wrong_target", f"{path} is a device or pipe: name a regular file, or - for standard output as NDJSON")


def _real(place: Place) -> str:
    with contextlib.suppress(OSError, RuntimeError):
        return str(place.resolve() if isinstance(place, Path) else place)
    return str(place)
