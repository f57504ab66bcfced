"""Everything that is not hot: health, metadata, metrics and the page for people."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request as WebRequest
from starlette.responses import Response
from starlette.routing import Route, Router

from foretell.engine.catalog import Catalog
from foretell.engine.describe import config, metadata
from foretell.engine.engine import Engine
from foretell.engine.states import Control, IndexEntry, State
from foretell.errors import ForetellError, Invalid, Missing, Unavailable, WrongVerb
from foretell.modes.http.docs import Docs
from foretell.modes.http.hosts import HostRoutes, find_default
from foretell.modes.http.jobs import JobPages
from foretell.modes.http.repository import RepositoryPages
from foretell.modes.http.tfserving import model_metadata, model_status

Statistics = Callable[[str, str], dict[str, Any]]
"""The ``model_stats`` entry of a model and version."""

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
PLACES = ("", "/versions/{version}", "/labels/{label}")


def no_statistics(name: str, version: str) -> dict[str, Any]:
    """For an application without metrics."""
    return {"name": name, "version": version}


class Pages:
    """The routes beside the doors, as an ASGI application."""

    def __init__(
        self,
        catalog: Catalog,
        metrics: Callable[[], bytes],
        statistics: Statistics,
        loader: Control,
        admin_key: str,
        hosts: HostRoutes,
    ) -> None:
        self.catalog = catalog
        self.metrics = metrics
        self.statistics = statistics
        self.loader = loader
        self.draining = False
        self.jobs = JobPages(admin_key)
        self.docs = Docs(catalog, loader.index)
        routes = [
            *self._host_routes(hosts),
            *self.docs.routes,
            *self._server_routes(),
            *RepositoryPages(loader, admin_key).routes,
            *self.jobs.routes,
            *(route for place in PLACES for route in self._model_routes(place)),
        ]
        self.router = Router(routes, redirect_slashes=False)
        self.docs.describe(routes)

    def _server_routes(self) -> list[Route]:
        pages = {
            "/metrics": self.exposition,
            "/v2": self.server,
            "/v2/health/live": self.live,
            "/v2/health/ready": self.ready,
            "/v2/models": self.models,
            "/v2/models/stats": self.all_stats,
        }
        return [Route(path, page, methods=["GET"]) for path, page in pages.items()]

    def _model_routes(self, place: str) -> list[Route]:
        """The pages of one model; a door's path is here too, for when there is no door."""
        model, tensorflow = "/v2/models/{model}" + place, "/v1/models/{model}" + place
        doors = [
            *(f"{model}/{verb}" for verb in ("infer", "generate", "generate_stream")),
            *(f"{tensorflow}:{verb}" for verb in ("predict", "classify", "regress")),
            "/predict/{model}" + place,
        ]
        pages = {
            model: self.metadata,
            f"{model}/ready": self.model_ready,
            f"{model}/config": self.config,
            f"{model}/stats": self.stats,
            tensorflow: self.tensorflow_status,
            f"{tensorflow}/metadata": self.tensorflow_metadata,
        }
        shut = [Route(path, self.shut, methods=["POST"]) for path in doors]
        if not place.startswith("/labels"):
            path = "/predictions/{model}" + place.replace("/versions", "")
            shut.append(Route(path, self.shut, methods=["POST", "PUT"]))
        return [*shut, *(Route(path, page, methods=["GET"]) for path, page in pages.items())]

    def _host_routes(self, hosts: HostRoutes) -> list[Route]:
        routes = [Route("/ping", self.ping, methods=["GET"]), Route("/invocations", self.nameless, methods=["POST"])]
        if hosts.vertex_health:
            routes.append(Route(hosts.vertex_health, self.ping, methods=["GET"]))
        if hosts.vertex_predict:
            routes.append(Route(hosts.vertex_predict, self.nameless, methods=["POST"]))
        return routes

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Raises ForetellError for every refusal, so that one place answers them all."""
        if b"%2f" in scope["raw_path"].lower():  # a slash in a name would be one of the path when it is decoded
            raise Missing("unknown_route", "there is nothing at this path: see /docs")
        try:
            await self.router({**scope, "app": self}, receive, send)
        except HTTPException as error:
            raise _not_routed(scope["method"], scope["path"], error) from error

    async def server(self, request: WebRequest) -> Response:
        return _json({"name": "foretell", "version": version("foretell"), "extensions": EXTENSIONS})

    async def live(self, request: WebRequest) -> Response:
        return _json({"live": True})

    async def ready(self, request: WebRequest) -> Response:
        ready = self.is_ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def ping(self, request: WebRequest) -> Response:
        """Ready, as TorchServe, SageMaker and Vertex ask it."""
        ready = self.is_ready()
        return _json({"status": "Healthy" if ready else "Unhealthy"}, 200 if ready else 503)

    async def models(self, request: WebRequest) -> Response:
        return _json([{"name": engine.name, "version": engine.version, "ready": engine.ready} for engine in self.catalog])

    async def metadata(self, request: WebRequest) -> Response:
        return _json(asdict(metadata(self._engine(request), self.catalog)))

    async def config(self, request: WebRequest) -> Response:
        return _json(config(self._engine(request), self.catalog))

    async def stats(self, request: WebRequest) -> Response:
        """Of one version, or without one of all."""
        engine = self._engine(request)
        versions = self.catalog.versions(engine.name) if request.path_params.keys() == {"model"} else [engine.version]
        return _json({"model_stats": [self.statistics(engine.name, version) for version in versions]})

    async def all_stats(self, request: WebRequest) -> Response:
        return _json({"model_stats": [self.statistics(engine.name, engine.version) for engine in self.catalog]})

    async def tensorflow_status(self, request: WebRequest) -> Response:
        """Of one version, or without one of all, whatever state they are in."""
        name = request.path_params["model"]
        if request.url.path.endswith(":explain"):
            raise _no_explanations()
        if request.url.path.endswith((":predict", ":classify", ":regress")):
            raise WrongVerb("wrong_verb", f"this path does not take {request.method[:16]}: use POST", allow="POST")
        if request.path_params.keys() == {"model"}:
            entries = [entry for entry in self.loader.index() if entry.name == name and entry.version]
            if entries:
                return _json(model_status(entries))
        engine = self._engine(request)
        return _json(model_status([IndexEntry(engine.name, engine.version, State.READY)]))

    async def tensorflow_metadata(self, request: WebRequest) -> Response:
        return _json(model_metadata(self._engine(request)))

    async def nameless(self, request: WebRequest) -> Response:
        """A host's route without a door: there is no model that it could mean, or it is not ready."""
        self.catalog.find(find_default(self.catalog))
        raise Missing("unknown_route", "there is nothing at this path: see /docs")

    async def model_ready(self, request: WebRequest) -> Response:
        name = request.path_params["model"]
        try:
            ready = self._engine(request).ready and not self.draining
        except Unavailable:
            ready = False
        return _json({"name": name, "ready": ready}, 200 if ready else 503)

    async def shut(self, request: WebRequest) -> Response:
        """An infer route without a door: the model or its version is not there, or not ready."""
        self.catalog.call(request.path_params["model"])
        engine = self._engine(request)
        raise Invalid("invalid_body", f"write the path of model {engine.name!r} without escapes")

    async def exposition(self, request: WebRequest) -> Response:
        return Response(self.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def is_draining(self) -> bool:
        return self.draining

    def is_ready(self) -> bool:
        """Whether all that the server was started with is ready, and goes on."""
        engines = list(self.catalog)
        is_whole = self.catalog.complete and not self.catalog.lacking
        return bool(engines) and is_whole and not self.draining and all(engine.ready for engine in engines)

    def _engine(self, request: WebRequest) -> Engine:
        asked = request.path_params
        return self.catalog.find(asked["model"], asked.get("version"), asked.get("label"))


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _not_routed(method: str, path: str, error: HTTPException) -> ForetellError:
    if path.endswith(":explain"):
        return _no_explanations()
    if error.status_code == 405:
        allow = ", ".join(sorted((error.headers or {}).get("Allow", "GET").split(", ")))
        return WrongVerb("wrong_verb", f"this path does not take {method[:16]}: use {allow}", allow=allow)
    return Missing("unknown_route", "there is nothing at this path: see /docs")


def _no_explanations() -> Missing:
    return Missing("unknown_route", "no model here explains its answers: ask its :predict")
