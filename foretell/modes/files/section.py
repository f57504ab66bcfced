"""A section of a CSV file as a stream that Arrow reads, in which a row with a faulty quote costs no other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from foretell.modes.files.lines import Block, count_lines, csv_blocks, csv_ends
from foretell.modes.files.quotes import NONE


@dataclass(frozen=True)
class Extent:
    """Bytes ``start`` to ``stop`` of a file, the first of which is in line ``line``, counted from 1."""

    start: int
    stop: int
    line: int


class Section:
    """Gives whole rows, about ``block_bytes`` a time. A row with a faulty quote is replaced by one that Arrow refuses.

    ``columns``: how many a row has. ``faults``: the line of the quote, by the text of the row that stands for its own.
    """

    def __init__(self, stream: BinaryIO, extent: Extent, block_bytes: int, columns: int) -> None:
        self.stream = stream
        self.extent = extent
        self.columns = columns
        self.read_to = extent.start
        self.faults: dict[str, int] = {}
        self._blocks = self._give(csv_blocks(stream, extent.start, extent.stop, block_bytes))
        self._counted = (extent.start, extent.line)

    @property
    def closed(self) -> bool:
        return self.stream.closed

    @property
    def done(self) -> float:
        length = self.extent.stop - self.extent.start
        return min(1.0, (self.read_to - self.extent.start) / length) if length else 1.0

    def read(self, size: int = -1) -> bytes:
        """The next rows, more or less than ``size`` bytes of them. Raises ValueError for a row that is too long."""
        return next(self._blocks, b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.stream.close()

    def _give(self, blocks: Iterator[Block]) -> Iterator[bytes]:
        for block in blocks:
            self.read_to = block.place + len(block.data)
            yield self._without_faults(block)

    def _without_faults(self, block: Block) -> bytes:
        quotes = block.quotes or NONE
        if not quotes.faults:
            return block.data
        ends = csv_ends(block.data, quotes)
        pieces, behind = [], 0
        for fault, at in zip(quotes.faults, np.searchsorted(ends, quotes.faults, side="right"), strict=True):
            start = int(ends[at - 1]) if at else 0
            pieces += [block.data[behind:start], self._stand_in(self._line_of(block.place + fault))]
            behind = int(ends[at])
        return b"".join([*pieces, block.data[behind:]])

    def _stand_in(self, line: int) -> bytes:
        """A row with another number of cells than all others."""
        text = f"\0{line}" if self.columns > 1 else f"\0{line},"
        self.faults[text] = line
        return text.encode() + b"\n"

    def _line_of(self, place: int) -> int:
        """Lines are counted only where there are faults, each once."""
        start, line = self._counted
        back = self.stream.tell()
        self.stream.seek(start)
        while start < place and (read := self.stream.read(min(2**20, place - start))):
            line += count_lines(read)
            start += len(read)
        self.stream.seek(back)
        self._counted = (start, line)
        return line
