"""A small real HTTP server that answers by a script, and both clients called alike."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from foretell.client import AsyncClient, Client, Options, Retry
from foretell.testing import FakeClock

GOOD = b'{"outputs":[{"name":"y","datatype":"INT64","shape":[1],"data":[7]}]}'
RESET = b""
"""Instead of an answer: the connection is torn down."""


def answer(status: int, body: bytes = GOOD, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refusal(status: int, code: str, **headers: str) -> bytes:
    return answer(status, orjson.dumps({"error": "a sentence", "code": code, "got": 3}), **headers)


@dataclass
class Seen:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def head(self) -> Any:
        """The JSON part of an infer request."""
        return orjson.loads(self.body[: int(self.headers.get("inference-header-content-length", len(self.body)))])


@dataclass
class Troubled:
    """Gives its answers in turn, the last one for ever. One that says ``Connection: close`` is the last of its connection."""

    answers: list[bytes]
    hang_up: bool = False
    tls: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    @contextmanager
    def listening(self) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()
            scheme = "http" if self.tls is None else "https"
            yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
            listening.shutdown(socket.SHUT_RDWR)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        with suppress(OSError, EOFError), accepted:
            if self.tls is not None:
                accepted = self.tls.wrap_socket(accepted, server_side=True)
            with accepted, accepted.makefile("rb") as file:
                while True:
                    self.seen.append(_read(file))
                    reply = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    accepted.sendall(reply)
                    if reply == RESET:
                        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    if reply == RESET or self.hang_up or b"Connection: close" in reply:
                        return


def _read(file: Any) -> Seen:
    first, headers = file.readline(), {}
    if not first:
        raise EOFError
    while line := file.readline().strip():
        name, _, value = line.partition(b": ")
        headers[name.decode().lower()] = value.decode()
    return Seen(first.split()[1].decode(), headers, file.read(int(headers.get("content-length", 0))))


@dataclass
class Naps:
    """A clock that only sleeping turns."""

    clock: FakeClock = field(default_factory=FakeClock)
    taken: list[float] = field(default_factory=list)

    def nap(self, seconds: float) -> None:
        self.taken.append(round(seconds, 6))
        self.clock.now += seconds

    async def nap_in_loop(self, seconds: float) -> None:
        self.nap(seconds)


class Connect(Protocol):
    """Makes a client of either kind."""

    def __call__(self, url: str, naps: Naps | None = None, /, *, key: str | None = None, **options: Any) -> Any: ...


class InLoop:
    """An AsyncClient, called like a Client."""

    def __init__(self, client: AsyncClient) -> None:
        self.runner = asyncio.Runner()
        self.client = client

    def __enter__(self) -> "InLoop":
        return self

    def __exit__(self, *error: object) -> None:
        self.runner.run(self.client.close())
        self.runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self.client, name)
        return lambda *args, **options: self.runner.run(call(*args, **options))


def blocking(url: str, naps: Naps | None = None, /, *, key: str | None = None, **options: Any) -> Any:
    if naps is None:
        return Client(url, key=key, options=Options(**options))
    return Client(url, key=key, options=Options(clock=naps.clock, **_steady(options)), sleep=naps.nap)


def in_loop(url: str, naps: Naps | None = None, /, *, key: str | None = None, **options: Any) -> Any:
    if naps is None:
        return InLoop(AsyncClient(url, key=key, options=Options(**options)))
    return InLoop(AsyncClient(url, key=key, options=Options(clock=naps.clock, **_steady(options)), sleep=naps.nap_in_loop))


def _steady(options: dict[str, Any]) -> dict[str, Any]:
    """Without chance: the longest jitter."""
    return {"retry": Retry(random=lambda: 1.0), **options}
