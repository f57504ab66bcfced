"""How long a connection may keep its server waiting: for a request that has begun, for its answer to be read, and idle."""

import time
from asyncio import AbstractEventLoop, TimerHandle
from typing import Any, Protocol

from foretell.errors import Stalled

LOOKS = 4  # in the time of each limit: what is over it is seen that much later at most
SHORTEST_S, LONGEST_S = 0.02, 7.5


class Connection(Protocol):
    """What is looked at: flags of the parser, ``transport`` and ``flow`` are asyncio's and uvicorn's."""

    loop: AbstractEventLoop
    transport: Any
    flow: Any
    headers: Any
    in_headers: bool
    hung_up: bool

    def collected_bytes(self) -> int | None: ...

    def idle_mark(self) -> int | None: ...

    def give_up(self, error: Stalled) -> None: ...


class Patience:
    """One timer for a connection, which looks a few times in each limit whether there is progress: requests cost nothing.

    Headers must be whole within ``receive_s`` of their first byte; of a body, and of an answer that is being read, something
    must move within it. Without a request, a connection is kept for ``keep_alive_s``.
    """

    def __init__(self, connection: Connection, receive_s: float, keep_alive_s: float) -> None:
        self.connection = connection
        self.limits_s = {"headers": receive_s, "body": receive_s, "answer": receive_s, "idle": keep_alive_s}
        self.every_s = min(max(min(receive_s, keep_alive_s) / LOOKS, SHORTEST_S), LONGEST_S)
        self._sign: tuple[str, object] | None = None
        self._since = 0.0
        self._timer: TimerHandle | None = None

    def begin(self) -> None:
        self._timer = self.connection.loop.call_later(self.every_s, self._look)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now, sign = time.monotonic(), self._read_sign()
        if sign != self._sign:
            self._sign, self._since = sign, now
        elif sign is not None and now - self._since + self.every_s / 2 >= self.limits_s[sign[0]]:
            self._give_up(sign[0])
            self._sign = None
        self.begin()

    def _read_sign(self) -> tuple[str, object] | None:
        """What the connection waits for, and something that changes with progress; None when it is not the client's."""
        connection = self.connection
        unread_bytes = connection.transport.get_write_buffer_size()
        if unread_bytes:
            return "answer", (unread_bytes, connection.flow.resumptions)
        if connection.transport.is_closing() or connection.hung_up or connection.flow.read_paused:
            return None
        if connection.in_headers:
            return "headers", id(connection.headers)
        collected = connection.collected_bytes()
        if collected is not None:
            return "body", collected
        idle = connection.idle_mark()
        return None if idle is None else ("idle", idle)

    def _give_up(self, what: str) -> None:
        if what == "answer":
            self.connection.transport.abort()
        elif what == "idle":
            self.connection.transport.close()
        else:
            self.connection.give_up(stalled(self.limits_s[what], what))


def stalled(receive_s: float, what: str = "body") -> Stalled:
    """The refusal of a request whose ``headers`` or ``body`` stopped coming."""
    how = f"the headers did not come whole within {receive_s:g} s"
    if what == "body":
        how = f"nothing of the body came for {receive_s:g} s"
    return Stalled("request_stalled", f"{how} (setting timeouts.receive_s)", limit_s=receive_s, setting="timeouts.receive_s")
