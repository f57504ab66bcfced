"""What a client may be told: where the server is, how long things may take, and when to try again."""

import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from foretell.errors import Setup


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When a request is sent again: after 429, 503 and connection errors, never after another answer.

    Before the n-th retry a random part of ``first_wait_s * 2**(n - 1)`` is waited, at most ``longest_wait_s``; what the server
    asks for with ``Retry-After`` is added. All requests of a client share a budget: a retry takes one token out of it, a
    success puts ``put_back`` of one in, so that a server in trouble gets few requests twice.
    """

    most: int = 3
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0
    budget: float = 10.0
    put_back: float = 0.1
    random: Callable[[], float] = random.random


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is seldom changed.

    ``connections`` are open at once, at most; one that was idle for ``idle_s`` is not used again (servers and load
    balancers hang up after 60 to 75 s). ``binary=False`` sends and asks for JSON tensors, for servers that speak nothing else.
    An answer of more than ``max_response_bytes``, or an error's of more than 1 MiB, is refused while it comes.
    ``tls`` replaces the default, which verifies certificates against those of the system. ``clock`` gives monotonic seconds.
    """

    connect_timeout_s: float = 5.0
    connections: int = 64
    idle_s: float = 50.0
    binary: bool = True
    max_response_bytes: int = 2**30
    retry: Retry = field(default_factory=Retry)
    tls: ssl.SSLContext | None = None
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Address:
    """A server's URL, taken apart. ``path`` stands before every route and does not end in a slash."""

    host: str
    port: int
    path: str
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None = None) -> "Address":
        """``http://host:8000`` or ``https://host/prefix``. Raises Setup ``wrong_setting``."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https") or parts.username or parts.query or parts.fragment:
            raise Setup("wrong_setting", f"{url!r} is not the address of a server: write it like http://127.0.0.1:8000")
        if not (f"{host}{parts.path}".isascii() and f"{host}{parts.path}".isprintable() and " " not in parts.path):
            raise Setup("wrong_setting", f"the address {url!r} has characters that must be escaped: use plain ASCII")
        if parts.scheme == "http":
            return cls(host, port or 80, parts.path.rstrip("/"), None)
        return cls(host, port or 443, parts.path.rstrip("/"), tls or ssl.create_default_context())

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"
