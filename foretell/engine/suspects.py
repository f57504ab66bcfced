"""Which requests are in the model, in case that its process dies: suspects are computed alone, what is guilty is refused."""

from array import array
from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np

from foretell.engine.queue import Entry
from foretell.errors import Invalid
from foretell.suspicion import Suspicion
from foretell.tensors import Array

MOST = 64  # fingerprints of one call that are kept: the rows of a larger call are not all suspected
LONGEST = 2**16  # bytes of an input that are looked at
NONE = memoryview(bytes(8 * MOST)).cast("Q")


class Suspects:
    """``begin`` and ``end`` around a call, on the loop's thread. A process that dies in between leaves the fingerprints behind.

    ``own`` is 64 uint64 in memory that outlives the process: who sees it die tells the ``suspicion``. ``crashed`` does so for
    a model in a process of its own. ``known`` are those that are suspected, as of the last ``look``.
    """

    def __init__(self, own: memoryview | None = None, suspicion: Suspicion | None = None) -> None:
        self.own = memoryview(bytearray(8 * MOST)).cast("Q") if own is None else own
        self.own[:] = NONE
        self.suspicion = suspicion or Suspicion()
        self._suspected, self._refused = self.suspicion.suspected.memory, self.suspicion.refused.memory
        self._seen = 0
        self.known: set[int] = set()
        self._guilty: set[int] = set()
        self._noted: list[tuple[int, int]] = []
        self.look()

    def look(self) -> None:
        """See what is suspected and refused by now. Costs next to nothing where nothing came."""
        if (came := self._suspected[0] + self._refused[0]) != self._seen:
            self._seen = came
            self.known, self._guilty = set(self.suspicion.suspected), set(self.suspicion.refused)

    def begin(self, batch: Sequence[Entry], plain: str | None = None) -> tuple[int, int]:
        """Note the members of a batch that is to run now; gives what ``end`` takes: their first slot, and one past the last.

        ``plain`` is the name of the only input, if it does not hold bytes objects: that is quicker.
        """
        start = max([stop for _, stop in self._noted]) if self._noted else 0
        members = batch if len(batch) <= MOST - start else batch[: MOST - start]
        try:
            if plain is None:
                raise ValueError
            marks = [
                crc32(entry.rows[plain], entry.size) if entry.size <= LONGEST else fingerprint(entry)  # type: ignore[arg-type]
                for entry in members
            ]
        except ValueError:  # the rows of one do not lie one behind the other
            marks = [fingerprint(entry) for entry in members]
        noted = start, start + len(marks)
        if len(marks) == 1:
            self.own[start] = marks[0]
        else:
            self.own[start : noted[1]] = array("Q", marks)
        self._noted.append(noted)
        return noted

    def end(self, noted: tuple[int, int]) -> None:
        """That call is over: what was alone in it is no suspect."""
        start, stop = noted
        if stop - start == 1:
            if self.known and self.own[start] in self.known:
                self.known.discard(self.own[start])
                self.suspicion.acquit(self.own[start])
            self.own[start] = 0
        else:
            self.own[start:stop] = NONE[: stop - start]
        self._noted.remove(noted)

    def crashed(self, noted: tuple[int, int]) -> None:
        """The model's own process died in that call, which is over."""
        start, stop = noted
        self.suspicion.crashed(self.own[start:stop].tolist())
        self.look()
        self.own[start:stop] = NONE[: stop - start]
        self._noted.remove(noted)

    def is_suspect(self, entry: Entry) -> bool:
        """Whether an entry was in the model when it crashed, and is to be computed alone."""
        return fingerprint(entry) in self.known

    def refusals(self, batch: Iterable[Entry]) -> list[tuple[Entry, Invalid]]:
        """The members that make the model crash, with what they are told."""
        if not self._guilty:
            return []
        text = "the model crashed twice while it computed this request: it is not run again"
        return [(entry, Invalid("refused_request", text)) for entry in batch if fingerprint(entry) in self._guilty]


def fingerprint(entry: Entry) -> int:
    """32 bits of an entry's rows and their size: equal for equal rows, in every process."""
    crc = entry.size & 0xFFFFFFFF
    for rows in entry.rows.values():
        is_buffer = rows.nbytes <= LONGEST and rows.flags.c_contiguous and not rows.dtype.hasobject
        crc = crc32(rows if is_buffer else _head(rows), crc)  # type: ignore[arg-type]  # an array is a buffer
    return crc


def _head(rows: Array) -> bytes | Array:
    """The first bytes of a large array, or of one that holds bytes objects."""
    flat = rows.reshape(-1)
    if not rows.dtype.hasobject:
        return np.ascontiguousarray(flat[: LONGEST // rows.itemsize])
    items = [item if isinstance(item, bytes) else str(item).encode() for item in flat[: LONGEST // 8].tolist()]
    return b"".join(b"%d:%b" % (len(item), item[:LONGEST]) for item in items)[:LONGEST]
