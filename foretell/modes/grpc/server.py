"""Listens, and stops as it should: grpc.aio servers on one port, in the event loop of the engines."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import grpc

from foretell.engine.catalog import Catalog
from foretell.engine.states import Control
from foretell.errors import Setup
from foretell.modes.grpc import health, inference, tfserving
from foretell.modes.grpc.calls import Methods
from foretell.settings import Settings
from foretell.sockets import reserve

LISTENERS = 16
"""grpc.aio servers of one process. Each takes one call in a turn of the loop: so many can share a batch, and a turn's cost."""


class GrpcServer:
    """The gRPC server over a catalog. ``start`` listens, ``stop`` drains, ``wait_stopped`` ends when that is done.

    ``shares_port``: its port is reserved, and other workers listen on it too, each for a part of the connections.
    """

    def __init__(
        self,
        catalog: Catalog,
        loader: Control,
        statistics: Callable[[str, str], dict[str, Any]],
        settings: Settings,
        *,
        shares_port: bool = False,
    ) -> None:
        self.catalog = catalog
        self.settings = settings
        self.shares_port = shares_port
        self.port = 0
        self.draining = False
        self.health = health.HealthService(self.is_ready, (inference.SERVICE, tfserving.SERVICE, health.SERVICE))
        self.inference = inference.InferenceService(catalog, loader, statistics, settings, self.is_ready)
        self.services = {
            inference.SERVICE: self.inference.methods(),
            tfserving.SERVICE: tfserving.PredictionService(catalog, settings).methods(),
            health.SERVICE: self.health.methods(),
        }
        self._stopping: asyncio.Task[None] | None = None

    def is_ready(self) -> bool:
        """Whether all that the server was started with is loaded, something is, and it is not stopping."""
        engines = list(self.catalog)
        ready = all(engine.ready for engine in engines)
        return self.catalog.complete and not self.catalog.lacking and not self.draining and bool(engines) and ready

    async def start(self) -> int:
        """Listen, if it does not yet; gives the port. Raises Setup ``wrong_address``."""
        if self.port:
            return self.port
        host, port = self.settings.host, self.settings.grpc.port
        with nullcontext() if self.shares_port else reserve(host, port) as kept:
            port = port if kept is None else kept.getsockname()[1]
            self.listeners = [self._listener(host, port) for _ in range(LISTENERS)]
        for listener in self.listeners:
            await listener.start()
        self.port = port
        self.catalog.watch(self.health.changed)
        return port

    def _listener(self, host: str, port: int) -> grpc.aio.Server:
        listener = grpc.aio.server(options=_options(self.settings))
        listener.add_generic_rpc_handlers((Methods(self.services),))
        try:
            listener.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            text = f"cannot listen on {host} port {port} for gRPC; choose another with --grpc-port or --host"
            raise Setup("wrong_address", text) from error
        return listener

    def stop(self, grace_s: float = 0.0) -> None:
        """Turn unready, go on accepting for ``grace_s``, then finish what is in flight."""
        if not self.draining:
            self.draining = True
            self.health.changed()
            self._stopping = asyncio.ensure_future(self._stop(grace_s))

    async def wait_stopped(self) -> None:
        """Stop now if nothing has yet, and wait until what is in flight has been answered."""
        self.stop()
        assert self._stopping is not None
        await self._stopping

    async def _stop(self, grace_s: float) -> None:
        await asyncio.sleep(grace_s)
        self.health.close()
        self.inference.close()
        if self.port:
            await asyncio.gather(*[listener.stop(self.settings.timeouts.shutdown_s) for listener in self.listeners])


def _options(settings: Settings) -> list[tuple[str, int]]:
    most, most_metadata = settings.http.max_request_bytes, settings.http.max_header_bytes
    return [
        ("grpc.max_receive_message_length", min(most, 2**31 - 1)),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", most_metadata),
        ("grpc.absolute_max_metadata_size", most_metadata),
        ("grpc.so_reuseport", 1),
    ]
