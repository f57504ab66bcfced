"""Reads Universal Binary JSON (https://ubjson.org), big-endian as written by XGBoost; typed arrays become numpy's."""

import struct
from typing import Any

import numpy as np

MOST_DEPTH = 32
_NUMBERS = {b"i": "i1", b"U": "u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_WORDS = {b"Z": None, b"T": True, b"F": False}


def read_ubjson(data: bytes) -> Any:
    """The one value that the bytes hold. Raises ValueError."""
    reader = _Reader(data)
    value = reader.value(reader.take(1), 0)
    if reader.at != len(data):
        raise ValueError(f"it goes on behind its end, at byte {reader.at} of {len(data)}")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError(f"it is cut off: {count} bytes are wanted at byte {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, kind: bytes, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise ValueError(f"its values lie more than {MOST_DEPTH} deep in one another")
        if kind in _NUMBERS:
            return self.numbers(kind, 1)[0].item()
        if kind in _WORDS:
            return _WORDS[kind]
        if kind == b"S":
            return self.text()
        if kind == b"C":
            return self.take(1).decode("ascii")
        if kind == b"{":
            return self.object(depth)
        if kind == b"[":
            return self.array(depth)
        raise ValueError(f"it has an unknown kind of value {kind!r} at byte {self.at}")

    def numbers(self, kind: bytes, count: int) -> Any:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype).astype(dtype.newbyteorder("="))

    def count(self) -> int:
        kind = self.take(1)
        if kind not in _NUMBERS or kind in b"dD":
            raise ValueError(f"it has no length at byte {self.at}")
        (count,) = struct.unpack(">q", self.take(8)) if kind == b"L" else (self.numbers(kind, 1)[0].item(),)
        return int(count)

    def text(self) -> str:
        return self.take(self.count()).decode("utf-8")

    def object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.data[self.at : self.at + 1] != b"}":
            name = self.text()
            if name in found:
                raise ValueError(f"{name[:40]!r} stands there twice")
            found[name] = self.value(self.take(1), depth + 1)
        self.take(1)
        return found

    def array(self, depth: int) -> Any:
        kind = None
        if self.data[self.at : self.at + 1] == b"$":
            self.take(1)
            kind = self.take(1)
        if self.data[self.at : self.at + 1] == b"#":
            self.take(1)
            count = self.count()
            if kind in _NUMBERS:
                return self.numbers(kind, count)
            if not 0 <= count <= len(self.data) - self.at:
                raise ValueError(f"it is cut off: {count} values are wanted at byte {self.at} of {len(self.data)}")
            return [self.value(kind or self.take(1), depth + 1) for _ in range(count)]
        found = []
        while self.data[self.at : self.at + 1] != b"]":
            found.append(self.value(self.take(1), depth + 1))
        self.take(1)
        return found
