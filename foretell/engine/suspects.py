"""Which requests were in the model when its process died: one that was there at two crashes is refused."""

from array import array
from collections.abc import Iterable, Sequence
from zlib import crc32

import numpy as np

from foretell.engine.queue import Entry
from foretell.errors import Invalid
from foretell.tensors import Array

MOST = 64  # fingerprints of one call that are kept: the rows of a larger call are not all suspected
LONGEST = 2**16  # bytes of an input that are looked at
MOST_COUNTED = 1024  # fingerprints whose crashes are counted here
NONE = memoryview(bytes(8 * MOST)).cast("Q")


class Suspects:
    """``begin`` and ``end`` around a call, on the loop's thread. A process that dies in between leaves the fingerprints behind.

    ``own`` and ``refused`` are 64 uint64 each, in memory that outlives the process; whoever sees it die counts, and writes
    into ``refused`` what was there twice. Without them ``crashed`` counts here, for a model in a process of its own.
    """

    def __init__(self, own: memoryview | None = None, refused: memoryview | None = None) -> None:
        self.own = memoryview(bytearray(8 * MOST)).cast("Q") if own is None else own
        self.refused = memoryview(bytearray(8 * MOST)).cast("Q") if refused is None else refused
        self.own[:] = NONE
        self._counted: dict[int, int] = {}
        self._noted: list[tuple[int, int]] = []

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
        """That call is over."""
        start, stop = noted
        if stop - start == 1:
            self.own[start] = 0
        else:
            self.own[start:stop] = NONE[: stop - start]
        self._noted.remove(noted)

    def crashed(self, noted: tuple[int, int]) -> None:
        """The model's own process died in that call: refuse those of it that were in one that died before."""
        for mark in set(self.own[noted[0] : noted[1]]):
            self._counted[mark] = times = self._counted.pop(mark, 0) + 1
            if times == 2:
                self._refuse(mark)
        while len(self._counted) > MOST_COUNTED:
            del self._counted[next(iter(self._counted))]

    def check(self, entry: Entry) -> None:
        """Raise Invalid ``refused_request`` for what was in the model at two crashes."""
        for _, error in self.refusals([entry]):
            raise error

    def refusals(self, batch: Iterable[Entry]) -> list[tuple[Entry, Invalid]]:
        """The members that were in the model at two crashes, with what they are told. Costs nothing before there are any."""
        if not self.refused[0]:
            return []
        text = "the model crashed twice while it computed this request: it is not run again"
        marks = set(self.refused)
        return [(entry, Invalid("refused_request", text)) for entry in batch if fingerprint(entry) in marks]

    def _refuse(self, mark: int) -> None:
        slots = self.refused.tolist()
        self.refused[slots.index(0) if 0 in slots else mark % MOST] = mark


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
