"""Where the rows of CSV and NDJSON end, found without reading their cells, so that a file can be cut between two rows.

As Arrow reads CSV (https://www.rfc-editor.org/rfc/rfc4180): a quote opens a field only at its beginning, a doubled one inside
stands for itself, line ends inside quotes are text; a line ends by CR, LF or both; a line without a character is no row.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.int64]
BLOCK_BYTES = 2**16  # larger ones are given back to the kernel after each, and taken anew
LONGEST_BYTES = 256 * 2**20
LF, CR, QUOTE, COMMA = b'\n\r",'
_BLANK_LINE = re.compile(rb"\n[ \t\r\x0b\x0c]*\n")
_BEFORE_A_FIELD = b",\r\n"


@dataclass(frozen=True)
class Piece:
    """Bytes ``start`` to ``stop`` of a file, which hold whole rows, so many."""

    start: int
    stop: int
    rows: int


def cut(stream: BinaryIO, start: int, form: str, most_rows: int, most_bytes: int) -> Iterator[Piece]:
    """Pieces of a file of ``form`` csv or ndjson, from byte ``start``, where a row begins, to its end.

    A piece ends with the row that makes it ``most_rows`` long or fills ``most_bytes``; the last holds what is left. Lines that
    are no rows lie in some piece. Raises ValueError for a row that is too long to be one.
    """
    find_ends, count = (csv_ends, csv_count) if form == "csv" else (ndjson_ends, ndjson_count)
    began, rows, stop = start, 0, start
    for place, block, ends in _blocks(stream, start, find_ends):
        counted = count(block) if ends is None else None
        stop = min(place + len(block), stream.tell())
        if counted is not None and rows + counted < most_rows and stop - began < most_bytes:
            rows += counted
            continue
        for end in (find_ends(block) if ends is None else ends).tolist():
            rows += 1
            if rows >= most_rows or place + end - began >= most_bytes:
                yield Piece(began, min(place + end, stream.tell()), rows)
                began, rows = place + end, 0
    if rows:
        yield Piece(began, stop, rows)


def _blocks(stream: BinaryIO, start: int, find_ends: Callable[[bytes], Offsets]) -> Iterator[tuple[int, bytes, Offsets | None]]:
    """The file in blocks of whole rows, each with its place, and the ends of its rows where they had to be looked for.

    A last row that is left open gets its end.
    """
    stream.seek(start)
    rest, place = b"", start
    while data := stream.read(_next_bytes(rest)):
        block = rest + data
        is_plain = find_ends is ndjson_ends or not (b'"' in block or b"\r" in block)
        ends = None if is_plain else find_ends(block)
        stop = block.rfind(b"\n") + 1 if ends is None else int(ends[-1]) if len(ends) else 0
        if stop:
            yield place, block[:stop], ends
        rest, place = block[stop:], place + stop
        if len(rest) > LONGEST_BYTES:
            raise ValueError(f"a row has more than {LONGEST_BYTES} bytes")
    if rest:
        is_open = find_ends is csv_ends and b'"' in rest and not len(find_ends(rest + b"\n"))
        yield place, rest + (b'"\n' if is_open else b"\n"), None


def _next_bytes(rest: bytes) -> int:
    """As much again as a row that goes on has by now, so that a long one is joined few times."""
    return min(max(BLOCK_BYTES, len(rest)), LONGEST_BYTES + 1 - len(rest))


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


def csv_ends(block: bytes) -> Offsets:
    """Just behind each row; ``block`` begins where a row does. A row that does not end in it is not counted."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == LF)
    if b"\r" in block:
        lone = np.flatnonzero(data[:-1] == CR)
        ends = np.union1d(ends, lone[data[lone + 1] != LF])
    if b'"' in block:
        ends = ends[~_is_quoted(block, data, ends)]
    if not len(ends):
        return ends.astype(np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts - ((data[ends] == LF) & (ends > starts) & (data[ends - 1] == CR))
    return np.asarray(ends[lengths > 0] + 1, dtype=np.int64)


def _is_quoted(block: bytes, data: NDArray[np.uint8], ends: Offsets) -> NDArray[np.bool_]:
    """Whether each place is inside quotes. Every second quote opens, as long as each of those stands where one may."""
    quotes = np.flatnonzero(data == QUOTE)
    opening = quotes[0::2]
    before = data[np.maximum(opening - 1, 0)]
    doubled = np.zeros(len(opening), dtype=np.bool_)
    doubled[1:] = quotes[1:-1:2][: len(opening) - 1] + 1 == opening[1:]
    plain = (opening == 0) | (before == COMMA) | (before == LF) | (before == CR) | doubled
    if not plain.all():
        quotes = _true_quotes(block, quotes)
    return np.asarray(np.searchsorted(quotes, ends) % 2 == 1)


def _true_quotes(block: bytes, quotes: Offsets) -> Offsets:
    """Those of the quotes that open and close fields, where others are text of fields that began without one."""
    found: list[int] = []
    for place in quotes.tolist():
        inside = len(found) % 2 == 1
        opens = place == 0 or block[place - 1] in _BEFORE_A_FIELD or (bool(found) and found[-1] == place - 1)
        if inside or opens:
            found.append(place)
    return np.asarray(found, dtype=np.int64)
