"""The only file that knows every room: settings and paths become engines, observers and modes that run together."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import uvloop

from foretell.engine.catalog import Catalog
from foretell.engine.loader import Loader, start_engine
from foretell.errors import Setup
from foretell.modes.http.app import HttpApp
from foretell.modes.http.hosts import HostRoutes
from foretell.modes.http.server import HttpServer, listen
from foretell.observe.metrics import Gauge, Metrics
from foretell.plugins import needs_extra
from foretell.repository import Repository, find_models
from foretell.repository.model_folder import ModelSource
from foretell.settings import Settings
from foretell.tensors import Signature

if TYPE_CHECKING:
    from foretell.modes.grpc.server import GrpcServer

log = logging.getLogger("foretell")


@dataclass(frozen=True)
class Checked:
    """One model that was loaded and warmed, as ``foretell serve --check`` shows it. ``refusal``: why it could not be warmed."""

    name: str
    version: str
    signature: Signature
    placement: str
    warm_up_s: float
    refusal: str | None = None


class Service:
    """The catalog of models, with its loader, the observers, and the HTTP application around it."""

    def __init__(self, settings: Settings, environ: Mapping[str, str] = MappingProxyType({})) -> None:
        self.settings = settings
        self.catalog = Catalog()
        self.metrics = Metrics(self._gauges)
        self.loader = Loader(self.catalog, settings, (self.metrics,))
        self.http = HttpApp(
            self.catalog,
            settings,
            self.metrics.text,
            statistics=self.metrics.statistics,
            loader=self.loader,
            hosts=HostRoutes.of(environ),
        )

    def _gauges(self) -> Iterable[Gauge]:
        return [(engine.name, engine.version, engine.batcher.waiting_rows, engine.in_flight) for engine in self.catalog]


def serve(
    paths: Iterable[Path], name: str | None, settings: Settings, environ: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Serve models until a signal; gives the exit code. ``environ`` is where hosting platforms name their routes.

    Raises Setup when it cannot start.
    """
    repository = Repository(paths, name)
    if not repository.models():
        raise Setup("missing_file", "there are no models in the folders that were named: see docs/start.md for the layout")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(repository, settings, environ))


def check(paths: Iterable[Path], name: str | None, settings: Settings) -> list[Checked]:
    """Load and warm every model, and say what it is; nothing listens. Raises Setup."""
    return asyncio.run(_check(find_models(paths, name), settings))


async def _serve(repository: Repository, settings: Settings, environ: Mapping[str, str]) -> int:
    service = Service(settings, environ)
    started = time.monotonic()
    with listen(settings.host, settings.http.port) as listening:
        server = HttpServer(service.http, settings, listening)
        grpc = _grpc_server(service)
        addresses = [f"http://{_shown(settings.host)}:{listening.getsockname()[1]}"]
        if grpc is not None:
            addresses.append(f"gRPC {_shown(settings.host)}:{await grpc.start()}")
            server.also_stopping.append(grpc.stop)
        serving = asyncio.ensure_future(server.serve_until_stopped())
        loading = asyncio.ensure_future(service.loader.start(repository))
        try:
            await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
                if grpc is not None:
                    grpc.health.changed()
                _announce(service, addresses, time.monotonic() - started)
            await serving
        finally:
            loading.cancel()
            server.should_exit = True
            await asyncio.wait({serving})
            if grpc is not None:
                await grpc.wait_stopped()
            await _close(service, server.seconds_left())
    return 0


async def _close(service: Service, within_s: float) -> None:
    """Close every model; what still runs or loads after that time is left behind, since nothing can stop a thread."""
    closing = asyncio.ensure_future(_close_all(service))
    done, _ = await asyncio.wait({closing}, timeout=within_s)
    if not done:
        log.warning("a model still runs or loads: it is left behind")
        sys.stdout.flush()
        os._exit(0)


async def _close_all(service: Service) -> None:
    await service.loader.close()
    await asyncio.get_running_loop().shutdown_default_executor()


async def _check(sources: Sequence[ModelSource], settings: Settings) -> list[Checked]:
    checked = []
    for source in sources:
        engine = await start_engine(source, settings)
        warm, signature = engine.warm, engine.pipeline.signature
        checked.append(Checked(engine.name, engine.version, signature, engine.place.name, warm.first_s, warm.refusal))
        await engine.stop()
    return checked


def _grpc_server(service: Service) -> "GrpcServer | None":
    """The gRPC server, if it has a port. Raises Setup ``missing_extra``."""
    if service.settings.grpc.port < 0:
        return None
    with needs_extra("serving over gRPC", "grpc"):
        from foretell.modes.grpc.server import GrpcServer
    return GrpcServer(service.catalog, service.loader, service.metrics.statistics, service.settings)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _announce(service: Service, addresses: Sequence[str], seconds: float) -> None:
    """The line that says that all is ready, and where."""
    models = ", ".join(f"{engine.name} ({engine.version})" for engine in service.catalog)
    where = "  ".join(addresses)
    sys.stdout.write(f"ready  {where}  models: {models}  ({seconds:.2f} s; page for people: {addresses[0]}/docs)\n")
    sys.stdout.flush()
