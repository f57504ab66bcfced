"""A JSON head and raw bytes behind it as one value: how what a job is to do, and what came of it, is kept in a store."""

from collections.abc import Mapping
from typing import Any

import orjson

_LENGTH = 4  # bytes of the head's length, big-endian


def pack(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Four bytes with the length of the head, the head as JSON, the body as it is."""
    text = orjson.dumps(head)
    return len(text).to_bytes(_LENGTH, "big") + text + body


def unpack(packed: bytes) -> tuple[dict[str, Any], bytes]:
    """Head and body. Raises ValueError for what ``pack`` did not make."""
    end = _LENGTH + int.from_bytes(packed[:_LENGTH], "big")
    if len(packed) < _LENGTH or end > len(packed):
        raise ValueError("an envelope is cut off")
    head = orjson.loads(packed[_LENGTH:end])
    if not isinstance(head, dict):
        raise ValueError("the head of an envelope is no object")
    return head, packed[end:]
