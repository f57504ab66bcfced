"""Where the rows of CSV and NDJSON end, found without reading their cells, so that a file can be cut between two rows.

Line ends inside quotes are text, as quotes.py tells; a line ends by CR, LF or both; a line without a character is no row.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from foretell.modes.files.quotes import Quotes, find_quotes, is_closed

Offsets = NDArray[np.int64]
BLOCK_BYTES = 2**16  # larger ones are given back to the kernel after each, and taken anew
LONGEST_BYTES = 256 * 2**20
LONGEST_CSV_BYTES = 2**21
LF, CR = b"\n\r"
_BLANK_LINE = re.compile(rb"\n[ \t\r\x0b\x0c]*\n")


@dataclass(frozen=True)
class Piece:
    """Bytes ``start`` to ``stop`` of a file, which hold whole rows, so many, in so many lines."""

    start: int
    stop: int
    rows: int
    lines: int


@dataclass(frozen=True)
class Block:
    """Whole rows from ``place`` in a file: CSV with its quotes."""

    place: int
    data: bytes
    quotes: Quotes | None = None

    def count(self) -> int | None:
        """The rows of plain lines; None where ``ends`` has to look for them."""
        return ndjson_count(self.data) if self.quotes is None else csv_count(self.data)

    def ends(self) -> Offsets:
        return ndjson_ends(self.data) if self.quotes is None else csv_ends(self.data, self.quotes)


def cut(stream: BinaryIO, start: int, form: str, most_rows: int, most_bytes: int) -> Iterator[Piece]:
    """Pieces of a file of ``form`` csv or ndjson, from byte ``start``, where a row begins, to its end.

    A piece ends with the row that makes it ``most_rows`` long or fills ``most_bytes``; the last holds what is left. Lines that
    are no rows lie in some piece. Raises ValueError for a row that is too long to be one.
    """
    size = stream.seek(0, os.SEEK_END)
    began, rows, lines, stop = start, 0, 0, start
    for block in csv_blocks(stream, start, size, BLOCK_BYTES) if form == "csv" else _ndjson_blocks(stream, start):
        counted = block.count()
        stop = min(block.place + len(block.data), size)
        if counted is not None and rows + counted < most_rows and stop - began < most_bytes:
            rows, lines = rows + counted, lines + counted
            continue
        behind = 0
        for end in block.ends().tolist():
            rows += 1
            if rows >= most_rows or block.place + end - began >= most_bytes:
                lines += count_lines(block.data[behind:end])
                yield Piece(began, min(block.place + end, size), rows, lines)
                began, rows, lines, behind = block.place + end, 0, 0, end
        lines += count_lines(block.data[behind:])
    if rows:
        yield Piece(began, stop, rows, lines)


def csv_blocks(stream: BinaryIO, start: int, stop: int, block_bytes: int) -> Iterator[Block]:
    """Bytes ``start``, where a row begins, to ``stop`` of a file in blocks of whole rows; a row left open gets its end.

    Raises ValueError for a row of more than ``LONGEST_CSV_BYTES``: what is no fault, for which the rest is looked through.
    """
    stream.seek(start)
    rest, place, fault = b"", start, -1
    while data := stream.read(min(max(block_bytes, len(rest)), stop - place - len(rest))):
        rest += data
        quotes = find_quotes(rest, fault=fault - place)
        end = _last_end(rest, quotes)
        if end:
            yield Block(place, rest[:end], _before(quotes, end))
        rest, place = rest[end:], place + end
        if len(rest) > LONGEST_CSV_BYTES:
            fault = -1 if quotes.open is None else place - end + quotes.open
            if fault < 0 or is_closed(stream, fault, stop):
                cure = "is a quote lost in it, or a line end?"
                raise ValueError(f"the row from byte {place} on has more than {LONGEST_CSV_BYTES} bytes: {cure}")
    if rest:
        ended = rest if rest.endswith(b"\n") else rest + b"\n"
        yield Block(place, ended, find_quotes(ended, last=True))


def _last_end(block: bytes, quotes: Quotes) -> int:
    """Just behind the last line end that is not in quotes, or 0. A CR at the very end may have an LF behind it."""
    stop = len(block)
    last_cr = block.rfind(b"\r", 0, stop - 1)
    while True:
        place = block.rfind(b"\n", 0, stop)
        if last_cr > place:
            place = max(place, block.rfind(b"\r", place + 1, min(stop, len(block) - 1)))
        if place < 0 or not quotes.hold(place):
            return place + 1
        stop = int(quotes.bounds[np.searchsorted(quotes.bounds, place) - 1])


def _before(quotes: Quotes, end: int) -> Quotes:
    """Without the faults of a row that is not whole: they are found again with the rest of it."""
    return Quotes(quotes.bounds, tuple(fault for fault in quotes.faults if fault < end)) if quotes.faults else quotes


def _ndjson_blocks(stream: BinaryIO, start: int) -> Iterator[Block]:
    """The same of NDJSON."""
    stream.seek(start)
    rest, place = b"", start
    while data := stream.read(min(max(BLOCK_BYTES, len(rest)), LONGEST_BYTES + 1 - len(rest))):
        block = rest + data
        stop = block.rfind(b"\n") + 1
        if stop:
            yield Block(place, block[:stop])
        rest, place = block[stop:], place + stop
        if len(rest) > LONGEST_BYTES:
            raise ValueError(f"a row has more than {LONGEST_BYTES} bytes")
    if rest:
        yield Block(place, rest + b"\n")


def count_lines(text: bytes) -> int:
    """Line ends, in quotes too: those by LF, or by CR where there are no others."""
    data = np.frombuffer(text, np.uint8)
    return int(np.count_nonzero(data == LF) or np.count_nonzero(data == CR))


def csv_count(block: bytes) -> int | None:
    """The rows of a block of plain lines, without quotes, carriage returns and empty lines; None for any other block.

    In numpy where it takes long, so that others run meanwhile.
    """
    if b'"' in block or b"\r" in block:
        return None
    ends = np.frombuffer(block, np.uint8) == LF
    has_empty = ends[0] or np.any(ends[1:] & ends[:-1])
    return None if has_empty else int(np.count_nonzero(ends))


def ndjson_count(block: bytes) -> int | None:
    """The rows of a block without blank lines; None for any other block."""
    return None if _BLANK_LINE.search(block) or block[:1].isspace() else block.count(b"\n")


def ndjson_ends(block: bytes) -> Offsets:
    """Just behind each line that is not blank."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == LF)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    filled = [end > start and not block[start:end].isspace() for start, end in zip(starts, ends, strict=True)]
    return np.asarray(ends[np.asarray(filled, dtype=np.bool_)] + 1, dtype=np.int64)


def csv_ends(block: bytes, quotes: Quotes) -> Offsets:
    """Just behind each row; ``block`` begins where a row does. A row that does not end in it is not counted."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == LF)
    if b"\r" in block:
        lone = np.flatnonzero(data == CR)
        ends = np.union1d(ends, lone[data[np.minimum(lone + 1, len(data) - 1)] != LF])
    if len(quotes.bounds):
        ends = ends[~quotes.hold(ends)]
    if not len(ends):
        return ends.astype(np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts - ((data[ends] == LF) & (ends > starts) & (data[ends - 1] == CR))
    return np.asarray(ends[lengths > 0] + 1, dtype=np.int64)
