"""Health, answered without a router, so that a busy server answers its balancer in time."""

from collections.abc import Callable, Iterator

import orjson

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.modes.http.hosts import HostRoutes
from foretell.modes.http.status import JSON_HEADERS, Answer

Probe = Callable[[], Answer]


def open_probes(
    catalog: Catalog, is_ready: Callable[[], bool], is_draining: Callable[[], bool], hosts: HostRoutes
) -> dict[bytes, Probe]:
    """What answers a GET of these raw paths; the pages answer every other form of them alike."""

    def ping() -> Answer:
        ready = is_ready()
        return _answer({"status": "Healthy" if ready else "Unhealthy"}, ready=ready)

    def ready() -> Answer:
        told = is_ready()
        return _answer({"ready": told}, ready=told)

    probes: dict[bytes, Probe] = {b"/v2/health/live": _live, b"/v2/health/ready": ready, b"/ping": ping}
    if hosts.vertex_health:
        probes[hosts.vertex_health.encode()] = ping
    return probes | dict(_of_models(catalog, is_draining))


def _of_models(catalog: Catalog, is_draining: Callable[[], bool]) -> Iterator[tuple[bytes, Probe]]:
    for engine in catalog:
        path = f"/v2/models/{engine.name}".encode()
        yield b"%b/versions/%b/ready" % (path, engine.version.encode()), _of(engine, is_draining)
        if catalog.versions(engine.name)[-1] == engine.version:
            yield path + b"/ready", _of(engine, is_draining)


def _of(engine: Engine, is_draining: Callable[[], bool]) -> Probe:
    def model() -> Answer:
        ready = engine.ready and not is_draining()
        return _answer({"name": engine.name, "ready": ready}, ready=ready)

    return model


def _live() -> Answer:
    return _answer({"live": True}, ready=True)


def _answer(body: object, *, ready: bool) -> Answer:
    return Answer(200 if ready else 503, JSON_HEADERS, orjson.dumps(body))
