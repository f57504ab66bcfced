"""What the headers of a request say to a door: looked through once, checked before the body is read."""

import re
from collections.abc import Iterable
from functools import lru_cache

from foretell.errors import Denied, TooLarge, Unsupported
from foretell.modes.http.status import Headers

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_MARK = 256
_LOOPBACK_HOST = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)
BINARY = b"inference-header-content-length"
TIMING = b"x-server-timing"
ODD = frozenset({b"transfer-encoding", b"expect", b"upgrade", TIMING, b"prefer"})
PLAIN = (b"", b"identity")
PACKED = (b"gzip", b"deflate")
SPOKEN = "application/json, application/octet-stream"


class Heads:
    """The headers that matter. ``length`` is -1 when it is not given, ``marks`` are given back as they came.

    ``binary`` is how much of the body is JSON where binary tensors are sent, None where none are.
    ``odd``: whether there is one that takes more than the fast lane has. All are in ``headers``, for what is asked rarely.
    """

    __slots__ = ("binary", "content_type", "encoding", "headers", "host", "length", "marks", "odd")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.length = -1
        self.content_type = b""
        self.encoding = b""
        self.host = b""
        self.binary: bytes | None = None
        self.odd = False
        self.marks: Headers = NO_MARKS
        for name, value in headers:
            if name == b"host":
                self.host = value if not self.host else b"%b, %b" % (self.host, value)  # two are none that is known
            elif name == b"content-length":
                self.length = int(value) if len(value) < 19 else 10**18
            elif name == b"content-type":
                self.content_type = value
            elif name == b"content-encoding":
                self.encoding = value.strip()
            elif name == BINARY:
                self.binary = value if self.binary is None else b"%b,%b" % (self.binary, value)
            elif name in ODD:
                self.odd = True
            elif name in (b"x-request-id", b"traceparent") and _can_be_given_back(value):
                self.marks = [*self.marks, (name, value)]

    def find(self, wanted: bytes) -> bytes | None:
        """The value of a header, those of several joined by commas; None if it is not there."""
        values = [value for name, value in self.headers if name == wanted]
        return b",".join(values) if values else None


NO_MARKS: Headers = []


def find_caller(headers: Iterable[tuple[bytes, bytes]], header: bytes, address: str) -> str:
    """Who asks: the value of the header that names callers, or the address of the connection where that is not sensible."""
    values = [value for name, value in headers if name == header]
    return values[0].decode() if len(values) == 1 and values[0] and _can_be_given_back(values[0]) else address


def check_host(heads: Heads) -> None:
    """Refuse a foreign Host on a loopback address: a web page could have pointed its own name here. Raises Denied."""
    if heads.host and not is_loopback(heads.host):
        raise Denied("foreign_host", "this server listens on loopback only: call it by 127.0.0.1 or localhost")


def check_body(heads: Heads, most_bytes: int, *, json_only: bool) -> None:
    """Refuse a body that will not be read, before it is. Raises TooLarge or Unsupported."""
    if heads.length > most_bytes:
        raise too_large(most_bytes, heads.length)
    if heads.encoding and heads.encoding.lower() not in PLAIN + PACKED:
        got = heads.encoding.decode("latin-1")[:40]
        text = f"a body encoded as {got!r} is not read here: send it plain, or as gzip or deflate"
        raise Unsupported("unsupported_encoding", text, supported="gzip, deflate", got=got)
    if json_only and not (is_json(heads.content_type) or is_untold(heads.content_type)):
        got = heads.content_type.decode("latin-1")[:80]
        text = f"this route reads {SPOKEN}, not {got!r}: send -H 'content-type: application/json'"
        raise Unsupported("unsupported_content_type", text, supported=SPOKEN, got=got)


@lru_cache(maxsize=64)
def is_json(content_type: bytes) -> bool:
    """Whether a body of this content type is JSON; one without a content type is taken as such."""
    return content_type.partition(b";")[0].strip().lower() in (b"", b"application/json")


def is_untold(content_type: bytes) -> bool:
    """Whether a content type only says that it is bytes: clients that never thought of it send JSON so."""
    return content_type.partition(b";")[0].strip().lower() == b"application/octet-stream"


@lru_cache(maxsize=64)
def is_loopback(host: bytes) -> bool:
    """Whether a Host header names this machine's loopback, with or without a port."""
    return _LOOPBACK_HOST.fullmatch(host) is not None


def too_large(most_bytes: int, got: int) -> TooLarge:
    """The refusal of a body over the limit; ``got`` is its length as far as it is known."""
    text = f"the body has {got} bytes, at most {most_bytes} are read (setting http.max_request_bytes)"
    return TooLarge("body_too_large", text, limit=most_bytes, got=got, setting="http.max_request_bytes")


def _can_be_given_back(value: bytes) -> bool:
    return len(value) <= LONGEST_MARK and value.isascii() and value.decode().isprintable()
