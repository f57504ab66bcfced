"""Notices files that came into a folder or bucket, once each is whole."""

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatch

from foretell.storage import Place, stamp_of, walk


@dataclass(frozen=True)
class Arrival:
    """A file that is there whole. ``inner``: its path within the folder; ``stamp``: changes when the file does."""

    file: str
    inner: str
    stamp: str

    @property
    def digest(self) -> str:
        """The same for the same file in the same state, 32 characters long."""
        return hashlib.sha256(f"{self.file}\0{self.stamp}".encode("utf-8", "surrogateescape")).hexdigest()[:32]


class Arrivals:
    """Looks into one folder, and the folders in it. Hidden (``.``) and private (``_``) names are passed over."""

    def __init__(self, folder: Place, pattern: str) -> None:
        self.folder = folder
        self.pattern = pattern
        self._seen: dict[str, str] = {}
        self._told: set[Arrival] = set()

    def look(self) -> list[Arrival]:
        """Files that are as they were at the look before, in the order of their paths; without those that ``tell`` was told of.

        Raises OSError, Unavailable.
        """
        found = {str(file): self._stamp(file) for file in walk(self.folder) if fnmatch(file.name, self.pattern)}
        whole = [self._arrival(file, stamp) for file, stamp in found.items() if stamp and self._seen.get(file) == stamp]
        self._seen = found
        self._told &= set(whole)
        return [arrival for arrival in whole if arrival not in self._told]

    def tell(self, arrival: Arrival) -> None:
        """Do not give this file again, as long as it stays as it is."""
        self._told.add(arrival)

    def _arrival(self, file: str, stamp: str) -> Arrival:
        return Arrival(file, file.removeprefix(str(self.folder)).lstrip("/"), stamp)

    def _stamp(self, file: Place) -> str:
        """Empty for a file that went away at this moment."""
        try:
            return stamp_of(file)
        except FileNotFoundError:
            return ""
