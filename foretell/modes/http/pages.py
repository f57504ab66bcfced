"""Everything that is not hot: health, metadata, metrics and the page for people."""

import html
import json
import shlex
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request as WebRequest
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route, Router

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.errors import ForetellError, Invalid, Missing, Unavailable, WrongVerb
from foretell.modes.http.rows import example_row
from foretell.tensors import Datatype, Signature, TensorSpec, show_shape

SECURE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
LONGEST_EXAMPLE = 1000


class Pages:
    """The routes beside the doors, as an ASGI application."""

    def __init__(self, catalog: Catalog, metrics: Callable[[], bytes]) -> None:
        self.catalog = catalog
        self.metrics = metrics
        self.draining = False
        get = ["GET"]
        model = "/v2/models/{model}"
        routes = [
            Route("/", lambda request: RedirectResponse("/docs"), methods=get),
            Route("/docs", self.docs, methods=get),
            Route("/docs/{name:str}", self.static, methods=get),
            Route("/metrics", self.exposition, methods=get),
            Route("/v2", self.server, methods=get),
            Route("/v2/health/live", self.live, methods=get),
            Route("/v2/health/ready", self.ready, methods=get),
            Route("/v2/models", self.models, methods=get),
        ]
        for path in (model, model + "/versions/{version}"):
            routes += [
                Route(path, self.metadata, methods=get),
                Route(path + "/ready", self.model_ready, methods=get),
                Route(path + "/infer", self.shut, methods=["POST"]),
                Route(path.replace("/v2/models", "/predict"), self.shut, methods=["POST"]),
            ]
        self.router = Router(routes, redirect_slashes=False)

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
            raise _not_routed(scope["method"], error) from error

    async def server(self, request: WebRequest) -> Response:
        return _json({"name": "foretell", "version": version("foretell"), "extensions": []})

    async def live(self, request: WebRequest) -> Response:
        return _json({"live": True})

    async def ready(self, request: WebRequest) -> Response:
        ready = self.catalog.complete and not self.draining and all(engine.ready for engine in self.catalog)
        return _json({"ready": ready}, 200 if ready else 503)

    async def models(self, request: WebRequest) -> Response:
        return _json([{"name": engine.name, "version": engine.version, "ready": engine.ready} for engine in self.catalog])

    async def metadata(self, request: WebRequest) -> Response:
        return _json(describe(self._engine(request), self.catalog))

    async def model_ready(self, request: WebRequest) -> Response:
        name = request.path_params["model"]
        try:
            ready = self._engine(request).ready and not self.draining
        except Unavailable:
            ready = False
        return _json({"name": name, "ready": ready}, 200 if ready else 503)

    async def shut(self, request: WebRequest) -> Response:
        """An infer route without a door: the model or its version is not there, or not ready."""
        engine = self._engine(request)
        raise Invalid("invalid_body", f"write the path of model {engine.name!r} without escapes")

    async def exposition(self, request: WebRequest) -> Response:
        return Response(self.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def static(self, request: WebRequest) -> Response:
        kinds = {"page.js": "text/javascript", "page.css": "text/css"}
        name = request.path_params["name"]
        if name not in kinds:
            raise Missing("unknown_route", "there is nothing at this path: see /docs")
        text = files("foretell.modes.http").joinpath("static", name).read_text("utf-8")
        return Response(text, media_type=kinds[name], headers=SECURE)

    async def docs(self, request: WebRequest) -> Response:
        base = f"http://{request.headers.get('host', 'localhost')}"
        cards = "".join(_card(engine, base) for engine in self.catalog) or "<p>No model is ready yet: load this page again.</p>"
        page = files("foretell.modes.http").joinpath("static", "page.html").read_text("utf-8")
        return HTMLResponse(page.replace("<!-- models -->", cards), headers=SECURE)

    def _engine(self, request: WebRequest) -> Engine:
        return self.catalog.find(request.path_params["model"], request.path_params.get("version"))


def describe(engine: Engine, catalog: Catalog) -> dict[str, Any]:
    """Model metadata of the Open Inference Protocol; -1 is an axis of any length."""
    signature = engine.pipeline.signature

    def show(spec: TensorSpec) -> dict[str, Any]:
        shape = ([None] if signature.rows else []) + list(spec.shape)
        return {"name": spec.name, "datatype": str(spec.dtype), "shape": [-1 if size is None else size for size in shape]}

    return {
        "name": engine.name,
        "versions": catalog.versions(engine.name),
        "platform": "foretell_pipeline",
        "inputs": [show(spec) for spec in signature.inputs],
        "outputs": [show(spec) for spec in signature.outputs],
    }


def example_curl(engine: Engine, base: str) -> str:
    """A line for the shell that asks the model by the row door."""
    inputs = engine.pipeline.signature.inputs
    url = f"{base}/predict/{engine.name}"
    if len(inputs) == 1 and inputs[0].dtype is Datatype.BYTES and not inputs[0].shape:
        return f"curl -H 'content-type: image/png' --data-binary @image.png {url}"
    row = json.dumps(example_row(engine.pipeline.signature), ensure_ascii=False)
    row = row if len(row) < 400 else row[:380] + " ...}"
    return f"curl -H 'content-type: application/json' -d {shlex.quote(row)} {url}"


def _card(engine: Engine, base: str) -> str:
    signature = engine.pipeline.signature
    name = html.escape(engine.name)
    curl = example_curl(engine, base)
    return (
        f"<section id='{name}'><h2>{name} <small>version {html.escape(engine.version)}</small></h2><div class='halves'>"
        f"<div>{_table('Takes', signature.inputs)}{_table('Gives', signature.outputs)}</div>"
        f"{_form(name, signature, takes_image=' image/png' in curl)}</div>"
        f"<h3>From a shell</h3><pre>{html.escape(curl)}</pre></section>"
    )


def _table(title: str, specs: tuple[TensorSpec, ...]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(spec.name)}</td><td>{spec.dtype}</td>"
        f"<td>{show_shape(spec.shape) if spec.shape else 'one value'}</td></tr>"
        for spec in specs
    )
    head = "<tr><th>name</th><th>datatype</th><th>in a row</th></tr>"
    return f"<h3>{title}</h3><div class='scrolls'><table>{head}{rows}</table></div>"


def _form(name: str, signature: Signature, *, takes_image: bool) -> str:
    field = "<input type=file accept='image/*'>"
    if not takes_image:
        row = json.dumps(example_row(signature), indent=2, ensure_ascii=False)
        row = row if len(row) < LONGEST_EXAMPLE else json.dumps(example_row(signature), ensure_ascii=False)
        lines = min(16, row.count("\n") + 1 + len(row) // 400)
        field = f"<textarea rows={lines} spellcheck=false aria-label='a row'>{html.escape(row)}</textarea>"
    kind = "image" if takes_image else "json"
    return (
        f"<form data-url='/predict/{name}' data-kind='{kind}'><h3>Try it</h3>{field}<button>Ask</button>"
        "<p class='note' role='status'></p><output></output></form>"
    )


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _not_routed(method: str, error: HTTPException) -> ForetellError:
    if error.status_code == 405:
        allow = ", ".join(sorted((error.headers or {}).get("Allow", "GET").split(", ")))
        return WrongVerb("wrong_verb", f"this path does not take {method[:16]}: use {allow}", allow=allow)
    return Missing("unknown_route", "there is nothing at this path: see /docs")
