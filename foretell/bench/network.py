"""Connections of the load generator: plain sockets in one poll, because an event loop would cost more than what it measures.

A link carries one request at a time. What speaks a protocol is a link of its own: see ``http1.py`` and ``http2.py``.
"""

import resource
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from foretell.errors import Setup, Unavailable

CONNECT_WITHIN_S = 5.0
MOST_LINKS = 900  # below the 1,024 open files that a process may have by default
SPARE_FILES = 100  # what the process has open besides
COARSE_S = 0.002  # what poll may oversleep, and some
HUNG_UP, GARBAGE, NO_ANSWER, NEVER_SENT = "hung up", "no HTTP", "no answer", "never sent"
GOOD = frozenset({"200", "OK"})


class Link(Protocol):
    """One connection. ``due`` is when its request was meant to be sent, ``asked`` when it was, by the network's clock."""

    due: float
    asked: float
    busy: bool
    spent: bool
    """True when the other side said that it will hang up: no further request fits."""

    def ask(self, number: int) -> None:
        """Send request ``number`` of those there are, counted round."""

    def hear(self) -> str:
        """Read what came. How the request ended, once its answer is whole: a status, or why there is none; else ``""``."""

    def close(self) -> None: ...


class Network(Protocol):
    """Where links come from, and what waits for them."""

    clock: Callable[[], float]

    def open(self) -> Link: ...

    def wait(self, timeout_s: float) -> Sequence[Link]:
        """The links of which something may be heard, at the latest after the time."""

    def close(self) -> None:
        """Close every link that is open."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Of ``http://127.0.0.1:8000``. Raises Setup ``wrong_setting``."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
            text = (
                f"a load is sent to an address like http://127.0.0.1:8000, over plain HTTP and without a path; not to {url!r}"
            )
            raise Setup("wrong_setting", text)
        return cls(parts.hostname, port or 80)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def resolve(self) -> tuple[socket.AddressFamily, tuple[str | int, ...]]:
        """Its family and numbers, tried once. Raises Unavailable ``unreachable``."""
        try:
            with socket.create_connection((self.host, self.port), CONNECT_WITHIN_S) as tried:
                return tried.family, tried.getpeername()
        except OSError as error:
            raise Unavailable("unreachable", f"nobody listens at {self}: {error.strerror or error}") from error


def most_links() -> int:
    """How many connections a load may have: 900, or fewer where this process may open fewer files (``ulimit -n``)."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_LINKS if files == resource.RLIM_INFINITY else max(min(MOST_LINKS, files - SPARE_FILES), 1)


class SocketLink(ABC):
    """What every protocol over a socket shares: bytes out, without waiting."""

    def __init__(self, opened: socket.socket, watch: Callable[[int, int], None]) -> None:
        self.socket = opened
        self.due = 0.0
        self.asked = 0.0
        self.busy = False
        self.spent = False
        self._watch = watch
        self._rest = memoryview(b"")

    @abstractmethod
    def ask(self, number: int) -> None: ...

    @abstractmethod
    def hear(self) -> str: ...

    def send(self, data: bytes) -> None:
        """Send now what the socket takes, and the rest when it takes more."""
        if self._rest:
            self._rest = memoryview(bytes(self._rest) + data)
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # a lost connection is told by the next read
        if sent < len(data):
            self._rest = memoryview(data)[sent:]
            self._watch(self.socket.fileno(), POLL_BOTH)

    def flush(self) -> None:
        """Send more of the rest."""
        try:
            self._rest = self._rest[self.socket.send(self._rest) :]
        except BlockingIOError:
            return
        except OSError:
            self._rest = memoryview(b"")
        if not self._rest:
            self._watch(self.socket.fileno(), POLL_IN)

    def close(self) -> None:
        self.socket.close()


POLL_IN, POLL_OUT = 1, 4  # as epoll and poll have them
POLL_BOTH = POLL_IN | POLL_OUT


class Sockets:
    """Real connections to one server. ``make`` turns a socket that connects into a link of the wanted protocol."""

    def __init__(self, address: Address, make: Callable[[socket.socket, Callable[[int, int], None]], SocketLink]) -> None:
        self.clock = time.perf_counter
        self.family, self.where = address.resolve()
        self.make = make
        self.links: dict[int, SocketLink] = {}
        self.poll = _poll()

    def open(self) -> Link:
        opened = socket.socket(self.family)
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.connect_ex(self.where)
        self.poll.register(opened.fileno(), POLL_IN)
        link = self.make(opened, self.poll.modify)
        self.links[opened.fileno()] = link
        return link

    def wait(self, timeout_s: float) -> Sequence[Link]:
        """Waits to the microsecond where the machine has epoll, which itself counts milliseconds: select waits for it."""
        if 0.0 < timeout_s < COARSE_S:
            timeout_s = self.poll.wait_finely(timeout_s)
        links = self.links
        heard: list[Link] = []
        for number, event in self.poll.poll(timeout_s - COARSE_S / 2 if timeout_s >= COARSE_S else timeout_s):
            link = links.get(number)
            if link is None or link.socket.fileno() != number:
                continue  # closed, by what was heard before it in this round
            if event == POLL_IN:
                heard.append(link)
                continue
            if event & POLL_OUT:
                link.flush()
            if event & ~POLL_OUT:
                heard.append(link)
        return heard

    def close(self) -> None:
        for link in self.links.values():
            link.close()
        self.links.clear()
        self.poll.close()


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.register, self.modify, self.close = self._epoll.register, self._epoll.modify, self._epoll.close
        self.poll = self._epoll.poll

    def wait_finely(self, timeout_s: float) -> float:
        """Wait less than a millisecond; gives the seconds that are left to wait."""
        select.select([self._epoll.fileno()], [], [], timeout_s)
        return 0.0


class _Poll:
    """Where there is no epoll. It must be told of what was closed."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register, self.modify = self._poll.register, self._poll.modify

    def poll(self, timeout_s: float) -> list[tuple[int, int]]:
        found = self._poll.poll(max(timeout_s, 0.0) * 1e3)
        for number, event in found:
            if event & select.POLLNVAL:
                self._poll.unregister(number)
        return [(number, event) for number, event in found if not event & select.POLLNVAL]

    def wait_finely(self, timeout_s: float) -> float:
        """It cannot."""
        return timeout_s

    def close(self) -> None: ...


def _poll() -> _Epoll | _Poll:
    return _Epoll() if hasattr(select, "epoll") else _Poll()
