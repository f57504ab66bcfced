"""The only file that knows every room: settings and paths become engines, observers and modes that run together."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from foretell.engine.catalog import Catalog
from foretell.engine.loader import Loader, start_engine
from foretell.errors import Setup
from foretell.modes.http.app import HttpApp
from foretell.modes.http.server import HttpServer, listen
from foretell.observe.metrics import Gauge, Metrics
from foretell.repository import ModelSource, find_models
from foretell.settings import Settings
from foretell.tensors import Signature

log = logging.getLogger("foretell")


@dataclass(frozen=True)
class Checked:
    """One model that was loaded and warmed, as ``foretell serve --check`` shows it."""

    name: str
    version: str
    signature: Signature
    placement: str
    warm_up_s: float


class Service:
    """The catalog of models, with its loader, the observers, and the HTTP application around it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalog = Catalog()
        self.metrics = Metrics(self._gauges)
        self.loader = Loader(self.catalog, settings, (self.metrics,))
        self.http = HttpApp(self.catalog, settings, self.metrics.text)

    def _gauges(self) -> Iterable[Gauge]:
        return [(engine.name, engine.version, engine.batcher.waiting_rows, engine.in_flight) for engine in self.catalog]


def serve(paths: Iterable[Path], name: str | None, settings: Settings) -> int:
    """Serve models over HTTP until a signal; gives the exit code. Raises Setup when it cannot start."""
    sources = find_models(paths, name)
    if not sources:
        raise Setup("missing_file", "there are no models in the folders that were named: see docs/start.md for the layout")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(sources, settings))


def check(paths: Iterable[Path], name: str | None, settings: Settings) -> list[Checked]:
    """Load and warm every model, and say what it is; nothing listens. Raises Setup."""
    return asyncio.run(_check(find_models(paths, name), settings))


async def _serve(sources: Sequence[ModelSource], settings: Settings) -> int:
    service = Service(settings)
    started = time.monotonic()
    with listen(settings.host, settings.http.port) as listening:
        server = HttpServer(service.http, settings, listening)
        serving = asyncio.ensure_future(server.serve_until_stopped())
        loading = asyncio.ensure_future(service.loader.start(sources))
        try:
            await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
                _announce(service, settings.host, listening.getsockname()[1], time.monotonic() - started)
            await serving
        finally:
            loading.cancel()
            server.should_exit = True
            await asyncio.wait({serving})
            await _close(service, settings.timeouts.shutdown_s)
    return 0


async def _close(service: Service, within_s: float) -> None:
    """Close every model; one that still runs after that time is left behind, since nothing can stop a thread."""
    try:
        async with asyncio.timeout(within_s):
            await service.loader.close()
    except TimeoutError:
        log.warning("a model still runs after %g s: it is left behind", within_s)
        sys.stdout.flush()
        os._exit(0)


async def _check(sources: Sequence[ModelSource], settings: Settings) -> list[Checked]:
    checked = []
    for source in sources:
        engine = await start_engine(source, settings)
        checked.append(Checked(engine.name, engine.version, engine.pipeline.signature, engine.place.name, engine.warm.first_s))
        await engine.stop()
    return checked


def _announce(service: Service, host: str, port: int, seconds: float) -> None:
    """The line that says that all is ready, and where."""
    models = ", ".join(f"{engine.name} ({engine.version})" for engine in service.catalog)
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(
        f"ready  http://{shown}:{port}  models: {models}  ({seconds:.2f} s; page for people: http://{shown}:{port}/docs)\n"
    )
    sys.stdout.flush()
