"""Compressed bodies both ways: gzip and deflate, never more out of a body than the limit."""

import gzip
import re
import zlib
from collections.abc import Callable

from foretell.errors import Invalid
from foretell.modes.http.heads import too_large
from foretell.modes.http.status import Answer

_WEIGHT = re.compile(rb"|q *= *(1(\.0{0,3})?|0\.(?!0*$)[0-9]{1,3})")
"""Not 0: https://www.rfc-editor.org/rfc/rfc9110#name-quality-values."""
_LEVEL = 1  # an answer is compressed while its caller waits
_GZIP, _ZLIB, _BARE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_PACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": lambda body: gzip.compress(body, _LEVEL, mtime=0),
    b"deflate": lambda body: zlib.compress(body, _LEVEL),
}


def unpack(body: bytes, coding: bytes, most_bytes: int) -> bytes:
    """The body that was compressed. Raises TooLarge as soon as more than ``most_bytes`` come out, Invalid for a broken one."""
    bits = _GZIP if coding.strip().lower() == b"gzip" else _ZLIB if _is_zlib(body) else _BARE
    parts: list[bytes] = []
    size = 0
    while body or not parts:  # a gzip body may be several, one behind the other
        stream = zlib.decompressobj(bits)
        try:
            part = stream.decompress(body, most_bytes + 1 - size)
        except zlib.error as error:
            raise Invalid("invalid_body", f"the body is not {coding.decode()[:20]}, as Content-Encoding says") from error
        size += len(part)
        if size > most_bytes:
            raise too_large(most_bytes, size)
        if not stream.eof:
            raise Invalid("invalid_body", f"the body ends in the middle of its {coding.decode()[:20]} data")
        parts.append(part)
        body = stream.unused_data
        if body and (bits != _GZIP or len(parts) >= 64):
            raise Invalid("invalid_body", f"{len(body)} bytes are left over behind the compressed body")
    return b"".join(parts)


def accepted(accept_encoding: bytes) -> bytes | None:
    """What of gzip and deflate an ``Accept-Encoding`` allows, gzip first; None for neither."""
    allowed: dict[bytes, bool] = {}
    for item in accept_encoding.lower().split(b",")[:16]:
        coding, _, weight = item.partition(b";")
        allowed[coding.strip()] = _WEIGHT.fullmatch(weight.strip()) is not None
    return next((coding for coding in _PACK if allowed.get(coding)), None)


def pack(answer: Answer, coding: bytes) -> Answer:
    """An answer with its body compressed."""
    marks = [(b"content-encoding", coding), (b"vary", b"accept-encoding")]
    return Answer(answer.status, [*answer.headers, *marks], _PACK[coding](answer.body))


def _is_zlib(body: bytes) -> bool:
    """Whether deflate data has zlib's two bytes in front, as it should; some clients send it bare."""
    return len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
