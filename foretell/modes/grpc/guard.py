"""Looks at large messages before they are parsed: a few bytes on the wire can be many times as much in memory.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Mapping
from typing import Any

from foretell.errors import Invalid

SMALL_BYTES = 64 * 2**10
"""Of what is smaller, even the worst is harmless when parsed."""
MOST_PARTS = 100_000
Tree = Mapping[int, Any]
"""The fields to look into, by number, each with its own tree."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_parts(message: bytes, tree: Tree) -> None:
    """Refuse a message that is cut off, or has too many parts in the fields of ``tree``. Raises Invalid ``invalid_body``."""
    if len(message) <= SMALL_BYTES:
        return
    left = MOST_PARTS
    levels = [(0, len(message), tree)]
    while levels:
        at, end, fields = levels.pop()
        while at < end:
            left -= 1
            if left < 0:
                text = f"the message has more than {MOST_PARTS} parts: send fewer rows, or tensors in raw_input_contents"
                raise Invalid("invalid_body", text, limit=MOST_PARTS)
            tag, at = _varint(message, at, end)
            start, at = _skip(message, at, end, tag & 7)
            if at > end:
                raise not_protobuf()
            inner = fields.get(tag >> 3)
            if inner is not None and tag & 7 == _BYTES:
                levels.append((start, at, inner))


def not_protobuf() -> Invalid:
    """The refusal of what is no message of the kind that a method takes."""
    return Invalid("invalid_body", "the message cannot be read: it is cut off, or not the message that this method takes")


def _skip(message: bytes, at: int, end: int, wire_type: int) -> tuple[int, int]:
    """Where a field's content begins and ends."""
    if wire_type == _BYTES:
        size, at = _varint(message, at, end)
        return at, at + size
    if wire_type == _VARINT:
        return at, _varint(message, at, end)[1]
    if wire_type in (_FIXED64, _FIXED32):
        return at, at + (8 if wire_type == _FIXED64 else 4)
    raise not_protobuf()  # groups: no message here has any


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    number = shift = 0
    while at < end and shift < 70:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise not_protobuf()
