"""How bytes travel: over blocking sockets or in an event loop. This is all in which the two clients differ.

Everything above is written once, as coroutines. Over ``Blocking`` they never wait at an ``await``, because the socket call
inside has waited already; ``finish`` runs such a coroutine like a plain function.
"""

import asyncio
import select
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from foretell.client.options import Address

Chunk = bytes | bytearray | memoryview
T = TypeVar("T")
RECEIVE_BYTES = 2**18
AHEAD_BYTES = 2**22  # what an event loop takes before it is asked for


class Connection(Protocol):
    """One connection to the server, used by one request at a time. Times that pass raise TimeoutError, the rest OSError."""

    async def send(self, chunks: Sequence[Chunk], timeout_s: float) -> None: ...

    async def receive(self, timeout_s: float) -> bytes:
        """What came, at least one byte; none at the end."""
        ...

    def is_usable(self) -> bool:
        """Whether the server has neither hung up nor said anything unasked."""
        ...

    def close(self) -> None: ...


class Transport(Protocol):
    """Opens connections, at most so many at a time, and waits."""

    async def open(self, timeout_s: float) -> Connection: ...

    async def enter(self, timeout_s: float) -> None:
        """Wait until one more connection may be used. Raises TimeoutError."""
        ...

    def leave(self) -> None: ...

    async def sleep(self, seconds: float) -> None: ...


def finish(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine over ``Blocking`` gives."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("a coroutine over blocking sockets waited for an event loop")


class Blocking:
    """Sockets that block the thread that calls."""

    def __init__(self, address: Address, most: int, sleep: Callable[[float], None]) -> None:
        self.address = address
        self.slots = threading.BoundedSemaphore(most)
        self.wait = sleep

    async def open(self, timeout_s: float) -> Connection:
        ends = time.monotonic() + timeout_s
        opened = socket.create_connection((self.address.host, self.address.port), timeout_s)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.address.tls is not None:
            opened.settimeout(max(ends - time.monotonic(), 1e-3))
            opened = self.address.tls.wrap_socket(opened, server_hostname=self.address.host)
        return _Socket(opened)

    async def enter(self, timeout_s: float) -> None:
        if not self.slots.acquire(timeout=timeout_s):
            raise TimeoutError

    def leave(self) -> None:
        self.slots.release()

    async def sleep(self, seconds: float) -> None:
        self.wait(seconds)


class _Socket:
    """A blocking socket as a connection."""

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened

    async def send(self, chunks: Sequence[Chunk], timeout_s: float) -> None:
        ends = time.monotonic() + timeout_s
        for chunk in chunks:
            self.socket.settimeout(max(ends - time.monotonic(), 1e-3))
            self.socket.sendall(chunk)

    async def receive(self, timeout_s: float) -> bytes:
        self.socket.settimeout(timeout_s)
        return self.socket.recv(RECEIVE_BYTES)

    def is_usable(self) -> bool:
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self.socket.close()


class Streaming:
    """Connections of the running event loop."""

    def __init__(self, address: Address, most: int, sleep: Callable[[float], Awaitable[None]]) -> None:
        self.address = address
        self.slots = asyncio.Semaphore(most)
        self.wait = sleep

    async def open(self, timeout_s: float) -> Connection:
        async with asyncio.timeout(timeout_s):
            _, stream = await asyncio.get_running_loop().create_connection(
                _Stream, self.address.host, self.address.port, ssl=self.address.tls
            )
        return stream

    async def enter(self, timeout_s: float) -> None:
        if self.slots.locked():
            async with asyncio.timeout(timeout_s):
                await self.slots.acquire()
        else:
            await self.slots.acquire()

    def leave(self) -> None:
        self.slots.release()

    async def sleep(self, seconds: float) -> None:
        await self.wait(seconds)


class _Stream(asyncio.Protocol):
    """A connection of the event loop. What came before it was lost is still received: an early refusal is not missed."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.ahead = 0
        self.ended = False
        self.paused = False
        self.error: Exception | None = None
        self.waiting: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        self.ahead += len(data)
        if self.ahead > AHEAD_BYTES:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        self.error = error
        self._wake()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._wake()

    async def send(self, chunks: Sequence[Chunk], timeout_s: float) -> None:
        ends = time.monotonic() + timeout_s
        for chunk in chunks:
            if self.ended:
                raise self.error or ConnectionResetError("the server hung up")
            self.transport.write(chunk)
            while self.paused and not self.ended:
                await self._changed(ends - time.monotonic())

    async def receive(self, timeout_s: float) -> bytes:
        if not self.parts and not self.ended:
            await self._changed(timeout_s)
        if self.parts:
            data = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            self.parts.clear()
            if self.ahead > AHEAD_BYTES:
                self.transport.resume_reading()
            self.ahead = 0
            return data
        if self.error is not None:
            raise self.error
        return b""

    def is_usable(self) -> bool:
        return not (self.parts or self.ended or self.transport.is_closing())

    def close(self) -> None:
        self.transport.abort()

    async def _changed(self, timeout_s: float) -> None:
        self.waiting = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self.waiting
        finally:
            self.waiting = None

    def _wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)
