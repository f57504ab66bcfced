"""Takes connections from a listening socket that other processes may take from too."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sized
from typing import Protocol

log = logging.getLogger("foretell")

AGAIN_S = 1.0  # after there was no descriptor or no memory for one more connection
MOST_AT_ONCE = 64
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Turns(Protocol):
    """Who takes the next connection, of the workers that share a socket."""

    def patience_s(self, connections: int) -> float | None:
        """How long a worker with so many leaves a connection to the others; None while it is for them alone."""
        ...


class Accepting:
    """``open`` takes connections and gives each a protocol; ``close`` takes what has come before the socket closes.

    It stands where uvicorn keeps its asyncio servers. ``connections``: those that are open, which the protocols keep.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Sized,
        turns: Turns | None = None,
    ) -> None:
        self.listening = listening
        self.protocol = protocol
        self.connections = connections
        self.turns = turns
        self._joining: set[asyncio.Task[None]] = set()
        self._open = False
        self._reading = False
        self._pause: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """Connections that are open, or will be in a moment."""
        return len(self.connections) + len(self._joining)

    @property
    def is_joining(self) -> bool:
        """Whether a connection has been taken that has no protocol yet."""
        return bool(self._joining)

    def open(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._open = True
        self.resume()

    def resume(self) -> None:
        """Take connections again, if that was left to others."""
        if self._open and not self._reading:
            self._reading = True
            self.loop.add_reader(self.listening.fileno(), self._arrived)

    def abandon(self) -> None:
        """Take no more connections: others take them."""
        self._open = False
        self._leave()
        self.listening.close()

    def close(self) -> None:
        """Take what has come, which would be reset else, and then no more."""
        while self._open and self._take():
            pass
        self._open = False
        self._leave()
        self.listening.close()

    async def wait_closed(self) -> None:
        """There is nothing more to wait for."""

    def _arrived(self) -> None:
        for _ in range(MOST_AT_ONCE):
            patience_s = 0.0 if self.turns is None else self.turns.patience_s(self.count)
            if patience_s != 0.0:
                self._leave()
                if patience_s is not None:
                    self._pause = self.loop.call_later(patience_s, self._take_anyway)
                return
            if not self._take():
                return

    def _take_anyway(self) -> None:
        """Take a connection that nobody else has taken in the meantime."""
        self._pause = None
        self._take()
        if self._pause is None:
            self.resume()

    def _leave(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._reading:
            self._reading = False
            self.loop.remove_reader(self.listening.fileno())

    def _take(self) -> bool:
        """Accept one connection; False when there is none, or no room for it."""
        try:
            connection, _ = self.listening.accept()
        except ConnectionAbortedError:  # whoever connected has gone already
            return True
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            log.error("no connection can be taken for a second: %s", error.strerror)
            self._leave()
            self._pause = self.loop.call_later(AGAIN_S, self._take_anyway)
            return False
        connection.setblocking(False)
        task = self.loop.create_task(self._join(connection))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)
        return True

    async def _join(self, connection: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(self.protocol, connection)
        except OSError as error:
            connection.close()
            log.debug("a connection was lost before it began: %s", error)
