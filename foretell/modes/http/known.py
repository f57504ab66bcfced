"""Heads of requests that came before, byte for byte: clients send the same one again and again, and it means the same."""

from typing import NamedTuple

from foretell.modes.http.heads import NO_MARKS, Heads

MOST_HEADS = 1024
MOST_BYTES = 2048  # of one head
MOST_HEADERS = 32  # in it: each takes many times its bytes


class KnownHead(NamedTuple):
    """What the parser made of a head of the fast lane."""

    url: bytes
    heads: Heads
    keep_alive: bool
    size: int  # bytes of the whole request


class KnownHeads(dict[bytes, KnownHead]):
    """By all bytes of a head, request line and blank line included; when there are too many, all are forgotten."""

    def learn(self, start: bytes, size: int, url: bytes, heads: Heads, *, keep_alive: bool) -> None:
        """Know the head of a request that has ended, if it stands at ``start``: all that came since then are ``size`` bytes.

        Where that is more than this request, it is not learnt. A head that says who asks, such as a request id, does not come
        again.
        """
        end = size - heads.length
        if heads.marks is not NO_MARKS or len(heads.headers) > MOST_HEADERS:
            return
        if not 0 < end <= MOST_BYTES or start.find(b"\r\n\r\n") + 4 != end:
            return
        if len(self) >= MOST_HEADS:
            self.clear()
        self[start[:end]] = KnownHead(url, heads, keep_alive, size)
