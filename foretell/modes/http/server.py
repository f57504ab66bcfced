"""Listens, and stops as it should: uvicorn with the fast lane, its signals and its draining."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn

from foretell.errors import Setup
from foretell.modes.http.app import HttpApp
from foretell.modes.http.lane import FastLane
from foretell.settings import Settings

log = logging.getLogger("foretell")


class HttpServer(uvicorn.Server):
    """One HTTP server on one listening socket. ``stop`` drains it; ``serve_until_stopped`` ends when that is done.

    What is in ``also_stopping`` is told the seconds of grace when it stops.
    """

    def __init__(self, app: HttpApp, settings: Settings, listening: socket.socket) -> None:
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
        self.listening = listening
        self.also_stopping: list[Callable[[float], None]] = []
        self.shutdown_s = settings.timeouts.shutdown_s
        self._stopping = False
        self._ends = 0.0

    async def serve_until_stopped(self) -> None:
        """Serve until SIGTERM or SIGINT (or ``stop``), then until what is in flight has been answered."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop, self.grace_s)
        loop.add_signal_handler(signal.SIGINT, self.stop, 0.0)
        await self.serve(sockets=[self.listening])

    def stop(self, grace_s: float = 0.0) -> None:
        """Turn unready, go on accepting for ``grace_s``, then finish what is in flight. A second call exits at once."""
        if self._stopping:
            os._exit(1)
        self._stopping = True
        self._ends = time.monotonic() + grace_s + self.shutdown_s
        log.info("stopping: requests are taken for another %g s, then those in flight are answered", grace_s)
        self.app.drain()
        for also_stop in self.also_stopping:
            also_stop(grace_s)
        asyncio.get_running_loop().call_later(grace_s, setattr, self, "should_exit", True)

    def seconds_left(self) -> float:
        """How long a stop may still take; all of ``timeouts.shutdown_s`` when none was asked for."""
        return max(0.1, self._ends - time.monotonic()) if self._stopping else self.shutdown_s

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The signals are ours: see ``serve_until_stopped``."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Setup ``wrong_address``, naming what to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        text = f"cannot listen on {host} port {port}: {error.strerror or error}; choose another with --http-port or --host"
        raise Setup("wrong_address", text) from error
    listening.setblocking(False)
    return listening
