"""Named vectors of numbers in a stretch of memory that other processes read while it is written.

One process writes a region, any number read it, without locks. The form, in words of 8 bytes and the machine's own order::

    word 0   where the records end, in words; 0: there are none
    word 1   vectors that found no room
    word 2   the first record, the next behind it, and so on
    record   name's bytes << 32 | numbers in the vector; the name, padded to whole words; the numbers, float64

A record is written first and published last, by word 0; a number is one aligned store. Thus a reader sees whole records and
whole numbers, and a writer that is killed leaves a region in which the next goes on counting. (Where a processor shows stores
in another order, a reader can miss a record that was just published: it stops there, and finds it the next time.)
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

Name = tuple[str, ...]
"""Parts of a vector's name: what it counts, then the values of its labels."""
if TYPE_CHECKING:
    Vector = memoryview[float]
else:
    Vector = memoryview  # of float64: ``vector[3] += 1.0`` counts; the numbers are never negative

WORD = 8
FIRST = 2
MOST_NAME_BYTES = 1024
_BETWEEN = "\x00"
_LARGEST = 1e300


class Region:
    """What one process writes. ``memory`` has zeros at first, or what a predecessor counted; without it, it is private."""

    def __init__(self, memory: memoryview | None = None, size_bytes: int = 2**20) -> None:
        self.memory = _whole_words(memoryview(bytearray(size_bytes)) if memory is None else memory)
        self._words = self.memory.cast("Q")
        self._numbers = self.memory.cast("d")
        self._vectors: dict[Name, Vector] = {}
        end = FIRST
        for name, start, stop in _records(self.memory):
            self._vectors[name] = vector = self._numbers[start:stop]
            for place, number in enumerate(_sane(vector.tolist())):
                vector[place] = number
            end = stop
        self._words[0] = end

    def vector(self, name: Name, size: int) -> Vector | None:
        """The vector of this name, made of zeros if it is new; None when there is no room for it, which is counted."""
        text = _BETWEEN.join(part.replace(_BETWEEN, "") for part in name).encode("utf-8", "replace")
        name = tuple(text.decode().split(_BETWEEN))
        if name not in self._vectors:
            self._append(name, text, size)
        found = self._vectors.get(name)
        if found is None or len(found) != size:
            self._words[1] += 1
            return None
        return found

    def names(self) -> Iterator[Name]:
        """Of every vector."""
        return iter(tuple(self._vectors))

    def _append(self, name: Name, text: bytes, size: int) -> None:
        start = self._words[0] + 1 + -(-len(text) // WORD)
        stop = start + size
        if not 0 < len(text) <= MOST_NAME_BYTES or stop > len(self._words):
            return
        begin = self._words[0] * WORD
        self.memory[begin : stop * WORD] = bytes(stop * WORD - begin)  # a killed predecessor may have begun a record here
        self.memory[begin + WORD : begin + WORD + len(text)] = text
        self._words[self._words[0]] = len(text) << 32 | size
        self._words[0] = stop
        self._vectors[name] = self._numbers[start:stop]


def read(memory: memoryview) -> dict[Name, list[float]]:
    """The numbers of every vector in a region, now; of what is broken or no region, those that can be read."""
    memory = _whole_words(memory)
    numbers = memory.cast("d")
    return {name: _sane(numbers[start:stop].tolist()) for name, start, stop in _records(memory)}


def lost(memory: memoryview) -> int:
    """How often a vector found no room in a region."""
    words = _whole_words(memory).cast("Q")
    return int(words[1]) if len(words) >= FIRST else 0


def total(regions: Iterable[memoryview]) -> dict[Name, list[float]]:
    """The sums of the vectors of the same name in several regions, number by number."""
    sums: dict[Name, list[float]] = {}
    for region in regions:
        for name, numbers in read(region).items():
            before = sums.get(name)
            if before is None or len(before) != len(numbers):
                sums[name] = numbers
            else:
                sums[name] = [left + right for left, right in zip(before, numbers, strict=True)]
    return sums


def _whole_words(memory: memoryview) -> memoryview:
    octets = memory.cast("B")
    return octets[: len(octets) // WORD * WORD]


def _sane(numbers: Sequence[float]) -> list[float]:
    """Numbers as counts can be; 0.0 in the place of what is none, NaN included."""
    if 0.0 <= sum(numbers) < _LARGEST and min(numbers) >= 0.0:  # any NaN makes the sum one
        return list(numbers)
    return [number if 0.0 <= number < _LARGEST else 0.0 for number in numbers]


def _records(memory: memoryview) -> Iterator[tuple[Name, int, int]]:
    """Name, first word and end of every vector, up to the first record that cannot be one. ``memory`` is of whole words."""
    words = memory.cast("Q")
    end = min(words[0], len(words)) if len(words) >= FIRST else 0
    at = FIRST
    while at < end:
        length, size = words[at] >> 32, words[at] & 0xFFFFFFFF
        start = at + 1 + -(-length // WORD)
        if not (0 < length <= MOST_NAME_BYTES and size > 0 and start + size <= end):
            return
        try:
            name = str(memory[(at + 1) * WORD : (at + 1) * WORD + length], "utf-8")
        except UnicodeDecodeError:
            return
        yield tuple(name.split(_BETWEEN)), start, start + size
        at = start + size
