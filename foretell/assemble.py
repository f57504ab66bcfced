"""The only file that knows every room: settings and paths become engines, observers and modes that run together."""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import uvloop

from foretell.board import Board, Slot
from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.engine.loader import Loader
from foretell.engine.start import start_engine
from foretell.engine.states import Control
from foretell.engine.suspects import Suspects
from foretell.engine.warmup import Disturbance
from foretell.errors import Setup
from foretell.memory import set_aside
from foretell.modes.http.accepting import Turns
from foretell.modes.http.app import HttpApp
from foretell.modes.http.hosts import HostRoutes
from foretell.modes.http.server import HttpServer
from foretell.observe.metrics import Gauge, Metrics
from foretell.observe.requests import RequestLog
from foretell.passage import Observer
from foretell.plugins import needs_extra
from foretell.repository import Repository, find_models
from foretell.repository.model_folder import ModelSource
from foretell.settings import Settings
from foretell.sockets import listen, tell_ready
from foretell.tensors import Signature
from foretell.workers.durable import open_jobs

if TYPE_CHECKING:
    from foretell.modes.grpc.server import GrpcServer

log = logging.getLogger("foretell")


@dataclass(frozen=True)
class Checked:
    """One model that was loaded and warmed, as ``foretell serve --check`` shows it.

    ``refusal``: why it could not be warmed; ``disturbance``: what others in a batch do to a row's answer, if it was measured.
    """

    name: str
    version: str
    signature: Signature
    placement: str
    warm_up_s: float
    memory_bytes: int
    refusal: str | None = None
    disturbance: Disturbance | None = None


@dataclass(frozen=True)
class Company:
    """What a worker shares with the others. ``control`` is for models what its loader is, but in all workers."""

    board: Board
    own: Slot
    control: Callable[[Loader], Control]


class Service:
    """The catalog of models, with its loader, the observers, and the HTTP application around it."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str] = MappingProxyType({}),
        company: Company | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.settings = settings
        self.began = time.monotonic()
        if company is None:
            self.metrics = Metrics(self._gauges)
        else:
            regions = [slot.counters for slot in company.board.slots]
            self.metrics = Metrics(self._gauges, regions, company.own.number, company.board)
        self.catalog = Catalog(self.metrics.comparisons)
        logged = (RequestLog(),) if settings.log.requests else ()
        suspects = None if company is None else Suspects(company.own.suspects, company.board.suspicion)
        self.loader = Loader(self.catalog, settings, (self.metrics, *logged, *observers), suspects)
        self.watching: asyncio.Task[None] | None = None
        self.control: Control = self.loader if company is None else company.control(self.loader)
        self.http = HttpApp(
            self.catalog,
            settings,
            self.metrics.text,
            statistics=self.metrics.statistics,
            loader=self.control,
            hosts=HostRoutes.of(environ),
        )

    def watch(self) -> None:
        """Look from now on for models that come, change or go."""
        if self.watching is None:
            self.watching = asyncio.ensure_future(self.loader.watch(self.control.load, self.control.unload))

    def _gauges(self) -> Iterable[Gauge]:
        return map(_gauge, self.catalog)


def _gauge(engine: Engine) -> Gauge:
    """What holds of an engine at this moment; what is not in the model yet counts as waiting."""
    queue = engine.batcher
    return Gauge(
        engine.name,
        engine.version,
        queue_rows=queue.waiting_rows,
        queue_requests=max(0, engine.in_flight - len(queue.running)),
        queue_bytes=queue.waiting_bytes,
        in_flight=engine.in_flight,
        memory_bytes=engine.memory_bytes,
    )


def serve(
    paths: Iterable[Path], name: str | None, settings: Settings, environ: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Serve models from this process until a signal; gives the exit code.

    ``environ`` is where hosting platforms name their routes. Raises Setup when it cannot start.
    """
    with listen(settings.host, settings.http.port) as listening, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_from(Seat(Service(settings, environ), listening), find_all(paths, name)))
    return 0


def find_all(paths: Iterable[Path], name: str | None) -> Repository:
    """The repository of these paths. Raises Setup when there is nothing in it."""
    repository = Repository(paths, name)
    if not repository.models():
        raise Setup("missing_file", "there are no models in the folders that were named: see docs/start.md for the layout")
    return repository


def check(paths: Iterable[Path], name: str | None, settings: Settings) -> list[Checked]:
    """Load and warm every model, and say what it is; nothing listens. Raises Setup."""
    if settings.grpc.port >= 0:
        _import_grpc()
    return asyncio.run(_check(find_models(paths, name), settings))


class Seat:
    """Where a process serves from. This one is alone, with sockets of its own; a worker's is in worker.py."""

    turns: Turns | None = None
    shares_ports = False
    served: Mapping[str, Sequence[str]] | None = None  # model -> versions: what to start with; None: what the settings say
    lacking: Sequence[str] | None = None  # what is lost on disk, where models that cannot be loaded are to be gone without
    may_listen = True  # for gRPC, before its models are loaded

    def __init__(self, service: Service, listening: socket.socket) -> None:
        self.service = service
        self.listening = listening

    def take(self, server: HttpServer) -> None:
        """The server is about to serve."""
        server.stop_on_signals()

    def loaded(self, grpc_port: int) -> None:
        """All models are loaded, and gRPC listens on a port, or on -1."""
        settings = self.service.settings
        settings = replace(settings, grpc=replace(settings.grpc, port=grpc_port))
        tell_ready(settings, self.listening, model_names(self.service), time.monotonic() - self.service.began)
        if settings.repository.poll_s:
            self.service.watch()


async def serve_from(seat: Seat, repository: Repository) -> None:
    """Serve until the server stops, and close what it served. Raises Setup when something cannot be loaded."""
    service = seat.service
    jobs = open_jobs(service.settings, service.http, service.catalog, repository)
    if jobs is not None:
        service.metrics.jobs = partial(getattr, jobs, "counts")
    server = HttpServer(service.http, service.settings, seat.listening, seat.turns)
    grpc = _grpc_server(service, seat)
    if grpc is not None:
        server.also_stopping.append(grpc.stop)
        if seat.may_listen:
            await grpc.start()
    if jobs is not None:
        server.also_stopping.append(jobs.drain)
    seat.take(server)
    serving = asyncio.ensure_future(server.serve_until_stopped())
    loading = asyncio.ensure_future(service.loader.start(repository, seat.served, seat.lacking))
    try:
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            set_aside()
            if jobs is not None:
                await jobs.start()
            port = -1
            if grpc is not None:
                port = await grpc.start()
                grpc.health.changed()
            seat.loaded(port)
        await serving
    finally:
        loading.cancel()
        server.should_exit = True
        await asyncio.wait({serving})
        if grpc is not None:
            await grpc.wait_stopped()
        if jobs is not None:
            await jobs.stop(server.seconds_left())
        await _close(service, server.seconds_left())


async def _close(service: Service, within_s: float) -> None:
    """Close every model; what still runs or loads after that time is left behind, since nothing can stop a thread."""
    closing = asyncio.ensure_future(close_all(service))
    done, _ = await asyncio.wait({closing}, timeout=within_s)
    if not done:
        log.warning("a model still runs or loads: it is left behind")
        sys.stdout.flush()
        os._exit(0)


async def close_all(service: Service) -> None:
    if service.watching is not None:
        service.watching.cancel()
    await service.loader.close()
    await asyncio.get_running_loop().shutdown_default_executor()


async def _check(sources: Sequence[ModelSource], settings: Settings) -> list[Checked]:
    checked = []
    for source in sources:
        engine = await start_engine(source, settings)
        warm, signature, memory = engine.warm, engine.pipeline.signature, engine.memory_bytes
        found = (warm.first_s, memory, warm.refusal, warm.disturbance)
        checked.append(Checked(engine.name, engine.version, signature, engine.whereabouts, *found))
        await engine.stop()
    return checked


def _import_grpc() -> "type[GrpcServer]":
    """Raises Setup ``missing_extra``."""
    with needs_extra("serving over gRPC", "grpc"):
        from foretell.modes.grpc.server import GrpcServer
    return GrpcServer


def _grpc_server(service: Service, seat: Seat) -> "GrpcServer | None":
    """The gRPC server, if it has a port. Raises Setup ``missing_extra``."""
    if service.settings.grpc.port < 0:
        return None
    kind = _import_grpc()
    return kind(service.catalog, service.control, service.metrics.statistics, service.settings, shares_port=seat.shares_ports)


def model_names(service: Service) -> list[str]:
    """``["digits (1)", "threat (2)"]``: what is served."""
    return [f"{engine.name} ({engine.version})" for engine in service.catalog]
