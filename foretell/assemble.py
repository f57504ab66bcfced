"""The only file that knows every room: settings and paths become engines, observers and modes that run together."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from foretell.backends import ModelOptions
from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.errors import Setup
from foretell.modes.http.app import HttpApp
from foretell.modes.http.server import HttpServer, listen
from foretell.observe.metrics import Gauge, Metrics
from foretell.passage import Observer
from foretell.repository import ModelSource, find_models, open_pipeline
from foretell.settings import Settings, override
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
    """The catalog of models, with the observers and the HTTP application around it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalog = Catalog()
        self.metrics = Metrics(self._gauges)
        self.http = HttpApp(self.catalog, settings, self.metrics.text)

    async def load(self, sources: Sequence[ModelSource]) -> None:
        """Load and warm every model, one after the other; then the service is ready. Raises Setup for the first that fails."""
        for source in sources:
            engine = await start_engine(source, self.settings, (self.metrics,))
            self.catalog.add(engine)
            log.info("model %s version %s is ready: it runs in the %s", engine.name, engine.version, engine.place.name)
        self.catalog.complete = True

    async def close(self) -> None:
        """Stop every engine, once it has answered what it runs."""
        await asyncio.gather(*(engine.stop() for engine in self.catalog))

    def _gauges(self) -> Iterable[Gauge]:
        return [(engine.name, engine.version, engine.batcher.waiting_rows, engine.in_flight) for engine in self.catalog]


async def start_engine(source: ModelSource, settings: Settings, observers: Sequence[Observer] = ()) -> Engine:
    """One model, loaded and warmed within ``timeouts.load_s``. Raises Setup."""
    engine_settings = override(settings.engine, source.config.engine, f"[engine] of model {source.name!r}")
    options = ModelOptions(threads=engine_settings.threads)
    try:
        async with asyncio.timeout(settings.timeouts.load_s):
            pipeline = await asyncio.to_thread(open_pipeline, source, model_options=options)
            engine = Engine(source.name, source.version, pipeline, engine_settings, observers)
            await engine.start()
    except TimeoutError as error:
        seconds = settings.timeouts.load_s
        text = f"{source.path} was not loaded within {seconds:g} s: raise timeouts.load_s or make it smaller"
        raise Setup("broken_model", text) from error
    return engine


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
        loading = asyncio.ensure_future(service.load(sources))
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
            await service.close()
    return 0


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
