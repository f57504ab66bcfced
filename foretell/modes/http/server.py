"""Serves, and stops as it should: uvicorn with the fast lane, its own accepting and its own draining."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from foretell.modes.http.accepting import Accepting, Turns
from foretell.modes.http.app import HttpApp
from foretell.modes.http.lane import FastLane
from foretell.settings import Settings

log = logging.getLogger("foretell")

FIRST_REQUEST_S = 0.5  # how long a last connection may take to say what it wants


class HttpServer(uvicorn.Server):
    """One HTTP server on one listening socket. ``stop`` drains it; ``serve_until_stopped`` ends when that is done.

    What is in ``also_stopping`` is told the seconds of grace when it stops. ``turns``: for a socket that workers share.
    """

    def __init__(self, app: HttpApp, settings: Settings, listening: socket.socket, turns: Turns | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=FastLane,
                interface="asgi3",
                lifespan="off",
                ws="none",
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_keep_alive=settings.http.keep_alive_s,  # type: ignore[arg-type]  # it is a timer's seconds
                timeout_graceful_shutdown=settings.timeouts.shutdown_s,  # type: ignore[arg-type]  # likewise
            )
        )
        self.app = app
        self.grace_s = settings.timeouts.drain_grace_s
        self.keep_alive_s = settings.http.keep_alive_s
        self.accepting = Accepting(listening, self._protocol, self.server_state.connections, turns)
        self.also_stopping: list[Callable[[float], None]] = []
        self.shutdown_s = settings.timeouts.shutdown_s
        self.is_stopping = False
        self._retiring = False
        self._ends = 0.0

    def stop_on_signals(self) -> None:
        """Have SIGTERM stop it with the grace, and SIGINT without."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, self.grace_s)
        loop.add_signal_handler(signal.SIGINT, self.stop, 0.0)

    async def serve_until_stopped(self) -> None:
        """Serve until ``stop`` or ``retire``, then until what is in flight has been answered."""
        await self.serve(sockets=[])

    def stop(self, grace_s: float = 0.0) -> None:
        """Turn unready, go on accepting for ``grace_s``, then finish what is in flight. A second call exits at once."""
        if self.is_stopping:
            os._exit(1)
        self.is_stopping = True
        self._ends = time.monotonic() + grace_s + self.shutdown_s
        still = f"requests are taken for another {grace_s:g} s, then " if grace_s else ""
        log.info("stopping: %sthose in flight are answered", still)
        self.app.drain()
        for also_stop in self.also_stopping:
            also_stop(grace_s)
        asyncio.get_running_loop().call_later(grace_s, self._end)

    def retire(self) -> None:
        """Leave what comes to others, and end when every connection has been closed: after its next answer, or idle."""
        if self.is_stopping or self._retiring:
            return
        self._retiring = True
        self.accepting.abandon()
        self.app.close_after_answers()
        for also_stop in self.also_stopping:
            also_stop(0.0)
        self._retire_until(time.monotonic() + self.keep_alive_s)

    def seconds_left(self) -> float:
        """How long a stop may still take; all of ``timeouts.shutdown_s`` when none was asked for."""
        return max(0.1, self._ends - time.monotonic()) if self.is_stopping else self.shutdown_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections: what uvicorn does with asyncio's servers."""
        await self.lifespan.startup()
        self.servers: list[Any] = [self.accepting]
        self.accepting.open()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: connections that have come are answered, which uvicorn would close if it has not read their request yet."""
        self.accepting.close()
        until = time.monotonic() + min(FIRST_REQUEST_S, self.shutdown_s)
        while time.monotonic() < until and (self.accepting.is_joining or any(map(_is_new, self.server_state.connections))):
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def _end(self) -> None:
        self.should_exit = True

    def _retire_until(self, latest: float) -> None:
        if self.accepting.count and time.monotonic() < latest:
            asyncio.get_running_loop().call_later(0.1, self._retire_until, latest)
        else:
            self._end()

    def _protocol(self) -> FastLane:
        config, state = self.config, self.lifespan.state
        return FastLane(config=config, server_state=self.server_state, app_state=state)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The signals are ours: see ``stop_on_signals``."""
        yield


def _is_new(connection: Any) -> bool:
    """Whether it has just come, and has not said yet what it wants."""
    return connection.cycle is None and not connection.transport.is_closing()
