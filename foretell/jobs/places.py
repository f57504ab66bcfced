"""Where jobs over files may read and write: the folders and bucket prefixes that the operator listed, and nowhere else."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from foretell.errors import Denied, Invalid, Setup

LONGEST = 4096
SCHEMES = ("s3", "gs", "az")
_BUCKET = re.compile(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]{1,254}(/[^\x00-\x1f\\%?#]*)?")
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Places:
    """``folders`` are absolute and without links; ``prefixes`` are like ``s3://bucket/some/`` and end in a slash."""

    folders: tuple[Path, ...] = ()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Places":
        """``/data/in, s3://bucket/in``. Raises Setup ``wrong_setting``, also for a folder that is not there."""
        folders, prefixes = [], []
        for part in filter(None, map(str.strip, text.split(","))):
            if "://" in part:
                if not _is_bucket(part):
                    raise Setup("wrong_setting", f"jobs.paths holds {part!r}: write a bucket as s3://BUCKET/PREFIX/")
                prefixes.append(part.rstrip("/") + "/")
            elif not Path(part).is_dir():
                raise Setup("wrong_setting", f"jobs.paths names {part!r}, which is no folder: make it, mkdir -p {part}")
            else:
                folders.append(Path(part).resolve())
        return cls(tuple(folders), tuple(prefixes))

    def check(self, text: str) -> str:
        """A path as it may be used: in full, without links. Raises Invalid ``wrong_place`` or Denied ``place_not_listed``."""
        if not text or len(text) > LONGEST or not text.isprintable():
            raise Invalid(
                "wrong_place",
                f"a place is the full path of a file or folder, or s3://BUCKET/KEY, in {LONGEST} printable characters at most",
            )
        if "://" in text:
            if not _is_bucket(text):
                raise Invalid("wrong_place", "an object store is written as s3://BUCKET/KEY, gs://... or az://...")
            if not any(text.startswith(prefix) or text + "/" == prefix for prefix in self.prefixes):
                raise _not_listed(text)
            return text
        if not text.startswith("/"):
            raise Invalid("wrong_place", "a path of a job over files is given in full: it begins with /")
        return str(self._inside(Path(text)))

    def check_output(self, text: str) -> str:
        """As ``check``, for what is written: no pattern, whatever marks are in its name.

        A slash at its end, which says that it is a folder, stays.
        """
        checked = self.check(text)
        return checked if "://" in text else str(self._real(Path(text))) + "/" * text.endswith("/")

    def check_links(self, text: str) -> None:
        """That no link leads out of what is listed: below a folder, or among the files that a pattern may match.

        Raises Denied ``place_not_listed``. Links are looked at as they are now: see ``foretell.workers.fence`` for later.
        """
        if "://" in text:
            return
        fixed = Path(*_fixed(Path(text)))
        for folder, names, files in os.walk(text if os.path.isdir(text) else fixed):
            for name in (*names, *files):
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    self._real(Path(path))

    def _inside(self, path: Path) -> Path:
        """Of a pattern, the part before its first wildcard is resolved; what matches is for ``check_links``."""
        fixed = _fixed(path)
        if ".." in path.parts:
            raise _not_listed(path)
        return self._real(Path(*fixed)).joinpath(*path.parts[len(fixed) :])

    def _real(self, path: Path) -> Path:
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError):  # links in a circle, or a name that cannot be
            raise _not_listed(path) from None
        if not any(real.is_relative_to(folder) for folder in self.folders):
            raise _not_listed(path)
        return real


def _fixed(path: Path) -> tuple[str, ...]:
    """The parts in front of the first wildcard; all of them where there is such a file, or a link of that name."""
    if os.path.lexists(path):
        return path.parts
    return path.parts[: next((number for number, part in enumerate(path.parts) if _PATTERN.search(part)), None)]


def _is_bucket(text: str) -> bool:
    parts = text.partition("://")[2].rstrip("/").split("/")
    return _BUCKET.fullmatch(text) is not None and not {"", ".", ".."} & set(parts)


def _not_listed(place: str | Path) -> Denied:
    """Told with the place as it was asked for, or as it is called there: never with what a link leads to."""
    text = f"{str(place)!a} is not listed, or a link leads out of what is: have the operator add it to the setting jobs.paths"
    return Denied("place_not_listed", text)
