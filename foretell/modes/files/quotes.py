"""Which quotes of CSV open and close cells, and which are faults: lost, or strayed in.

As Arrow reads CSV (https://www.rfc-editor.org/rfc/rfc4180): a quote opens a cell only at its beginning, and one doubled inside
stands for itself. Such a cell has to be closed in front of a comma, of a line end, or at the end of the file. Where it is not,
the quote is a fault, and the rest of its line is text: it costs its own row and no other.
"""

import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]
SCAN_BYTES = 2**20
QUOTE = ord('"')
_ENDS = b",\r\n"
_CELL = re.compile(rb'"(?<![^,\r\n]")[^"]*+(?:""[^"]*+)*+("(?![^,\r\n]))?')
"""From a quote that opens a cell to that which closes it well, or to where it becomes clear that none does."""
_INSIDE = re.compile(rb'[^"]*+(?:""[^"]*+)*+')
_LINE = re.compile(rb"[^\r\n]*+")
_ENDS_CELL = np.zeros(256, dtype=np.bool_)
_ENDS_CELL[list(_ENDS)] = True


@dataclass(frozen=True)
class Quotes:
    """Where quotes of a block open and close cells, in turn: the last of an odd number is still open; and the faults."""

    bounds: Offsets
    faults: tuple[int, ...] = ()

    def hold(self, places: Any) -> Any:
        """Whether each place lies in a quoted cell."""
        return np.searchsorted(self.bounds, places) % 2 == 1

    @property
    def open(self) -> int | None:
        """The quote of a cell that goes on behind the block."""
        return int(self.bounds[-1]) if len(self.bounds) % 2 else None


NONE = Quotes(np.empty(0, dtype=np.int64))


def find_quotes(block: bytes, *, last: bool = False, fault: int = -1) -> Quotes:
    """Those of a block that begins where a row does. ``last``: nothing follows it; ``fault``: this one is known for a fault."""
    if b'"' not in block:
        return NONE
    bounds = _at_once(block) if fault < 0 else None
    if bounds is None or (last and len(bounds) % 2):
        return _walk(block, last, fault)
    return Quotes(bounds)


def _at_once(block: bytes) -> Offsets | None:
    """The bounds of cells, where there are no faults and it is plain which quotes are text."""
    data = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(data == QUOTE)
    bounds = _plain_bounds(data, quotes)
    if bounds is None:
        is_text = _may_be_text(data, quotes)
        bounds = _plain_bounds(data, quotes[~is_text])
        if bounds is not None and Quotes(bounds).hold(quotes[is_text]).any():
            return None
    return bounds


def _may_be_text(data: NDArray[np.uint8], quotes: Offsets) -> NDArray[np.bool_]:
    """Single quotes amid a text, and those at its end with another such end in front of them, or nothing."""
    before, after = data[np.maximum(quotes - 1, 0)], data[np.minimum(quotes + 1, len(data) - 1)]
    amid = ~_ENDS_CELL[before] & (before != QUOTE) & (after != QUOTE)
    ends = amid & _ENDS_CELL[after]
    return np.asarray(amid & ~ends | ends & np.concatenate([[True], ends[:-1]]))


def _plain_bounds(data: NDArray[np.uint8], quotes: Offsets) -> Offsets | None:
    """The quotes but for doubled ones, if every second one opens where it may, and the others close where they may."""
    opening, closing = quotes[0::2], quotes[1::2]
    doubled = closing[: len(opening) - 1] + 1 == opening[1:]
    opens = _ENDS_CELL[data[np.maximum(opening - 1, 0)]] | (opening == 0)
    opens[1:] |= doubled
    closes = _ENDS_CELL[data[np.minimum(closing + 1, len(data) - 1)]] | (closing == len(data) - 1)
    closes[: len(doubled)] |= doubled
    if not (opens.all() and closes.all()):
        return None
    if not doubled.any():
        return quotes
    pairs = 2 * np.flatnonzero(doubled) + 1
    return np.delete(quotes, np.concatenate([pairs, pairs + 1]))


def _walk(block: bytes, last: bool, fault: int) -> Quotes:
    """Cell by cell, where quotes are also text of cells that began without one, or faults."""
    bounds: list[int] = []
    faults: list[int] = []
    found = _CELL.search(block)
    while found is not None:
        start, end = found.span()
        if found[1] is not None:
            bounds += (start, end - 1)
        elif end == len(block) and not last and start != fault:
            bounds.append(start)
        else:
            faults.append(start)
            end = _end_of_line(block, start)
        found = _CELL.search(block, end)
    return Quotes(np.asarray(bounds, dtype=np.int64), tuple(faults))


def _end_of_line(block: bytes, place: int) -> int:
    line = _LINE.match(block, place)
    return line.end() if line is not None else len(block)


def is_closed(stream: BinaryIO, place: int, stop: int) -> bool:
    """Whether the cell that the quote at ``place`` opens is well closed before ``stop``, however far that is."""
    back = stream.tell()
    stream.seek(place + 1)
    try:
        held = b""
        while read := stream.read(min(SCAN_BYTES, stop - stream.tell())):
            data = held + read
            inside = _INSIDE.match(data)
            end = inside.end() if inside is not None else 0
            if end + 1 < len(data):
                return data[end + 1] in _ENDS
            held = data[end:]
        return held == b'"'
    finally:
        stream.seek(back)
