"""Connections on a socket that others take from too."""

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest

from foretell.modes.http import accepting
from foretell.modes.http.accepting import Accepting
from foretell.sockets import listen


class Protocol(asyncio.Protocol):
    """Counts itself among the open connections."""

    def __init__(self, connections: set["Protocol"]) -> None:
        self.connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.connections.add(self)


class Patience:
    """Says what it is told to."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    def patience_s(self, connections: int) -> float | None:
        return self.seconds


class Crowded(socket.socket):
    """A listening socket of a process that has no descriptor left, once."""

    times = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.times += 1
        if self.times == 1:
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


async def until(condition: Callable[[], object], tries: int = 2000) -> bool:
    """Whether the loop gets there."""
    for _ in range(tries):
        if condition():
            return True
        await asyncio.sleep(0.001)
    return False


def connect(listening: socket.socket) -> socket.socket:
    return socket.create_connection(listening.getsockname())


async def end(taker: Accepting, connections: set[Protocol]) -> None:
    taker.close()
    await until(lambda: not taker.is_joining)
    for connection in connections:
        connection.transport.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize("seconds", [0.0, 0.002])
def test_a_connection_is_taken_at_once_or_after_others_had_their_turn(seconds: float) -> None:
    async def run() -> None:
        connections: set[Protocol] = set()
        with listen("127.0.0.1", 0) as listening:
            taker = Accepting(listening, lambda: Protocol(connections), connections, Patience(seconds))
            taker.open()
            with connect(listening), connect(listening):
                assert await until(lambda: len(connections) == 2)
                await end(taker, connections)

    asyncio.run(run())


def test_what_is_for_the_others_alone_is_left_to_them_until_it_is_not() -> None:
    async def run() -> None:
        connections: set[Protocol] = set()
        with listen("127.0.0.1", 0) as listening:
            turns = Patience(None)
            taker = Accepting(listening, lambda: Protocol(connections), connections, turns)
            taker.open()
            with connect(listening):
                assert not await until(lambda: connections, tries=20)
                turns.seconds = 0.0
                taker.resume()
                assert await until(lambda: len(connections) == 1)
                await end(taker, connections)

    asyncio.run(run())


def test_what_waits_when_the_socket_closes_is_taken() -> None:
    async def run() -> None:
        connections: set[Protocol] = set()
        with listen("127.0.0.1", 0) as listening:
            taker = Accepting(listening, lambda: Protocol(connections), connections)
            taker.open()
            clients = [connect(listening) for _ in range(5)]
            taker.close()
            assert await until(lambda: len(connections) == 5)
            await end(taker, connections)
            for client in clients:
                client.close()

    asyncio.run(run())


def test_without_a_descriptor_left_it_waits_and_takes_the_connection_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "AGAIN_S", 0.01)

    async def run() -> None:
        connections: set[Protocol] = set()
        with listen("127.0.0.1", 0) as plain, Crowded(fileno=plain.detach()) as listening:
            listening.setblocking(False)
            taker = Accepting(listening, lambda: Protocol(connections), connections)
            taker.open()
            with connect(listening):
                assert await until(lambda: len(connections) == 1)
                assert listening.times >= 2
                await end(taker, connections)

    asyncio.run(run())
