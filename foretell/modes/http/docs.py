"""The routes of the page for people, of the OpenAPI document, and of the examples that both show."""

from collections.abc import Callable, Sequence
from importlib.resources import files

from starlette.requests import Request as WebRequest
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from foretell.engine.catalog import Catalog
from foretell.engine.states import IndexEntry
from foretell.errors import Missing
from foretell.modes.http.openapi import OpenApi
from foretell.modes.http.page import render

SECURE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
KINDS = {"page.js": "text/javascript", "page.css": "text/css"}


class Docs:
    """``routes`` are its own; ``describe`` is told of all that the server has."""

    def __init__(self, catalog: Catalog, index: Callable[[], Sequence[IndexEntry]] = tuple) -> None:
        self.openapi = OpenApi(catalog)
        self.index = index
        get = ["GET"]
        self.routes = [
            Route("/", lambda request: RedirectResponse("/docs"), methods=get),
            Route("/docs", self.page, methods=get),
            Route("/docs/{name:str}", self.static, methods=get),
            Route("/docs/examples/{model}/{door}", self.example, methods=get),
            Route("/openapi.json", self.document, methods=get),
        ]

    def describe(self, routes: Sequence[Route]) -> None:
        """Have the document tell of these routes."""
        self.openapi.routes = tuple(routes)

    async def page(self, request: WebRequest) -> Response:
        base = f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"
        made = await self.openapi.made()
        return HTMLResponse(render(made.document, made.served.values(), base, self.index()), headers=SECURE)

    async def document(self, request: WebRequest) -> Response:
        return Response((await self.openapi.made()).text, media_type="application/json")

    async def static(self, request: WebRequest) -> Response:
        name = request.path_params["name"]
        if name not in KINDS:
            raise Missing("unknown_route", "there is nothing at this path: see /docs")
        text = files("foretell.modes.http").joinpath("static", name).read_text("utf-8")
        return Response(text, media_type=KINDS[name], headers=SECURE)

    async def example(self, request: WebRequest) -> Response:
        """A body for the row door, or for the tensor door."""
        example = await self.openapi.example(request.path_params["model"])
        door = request.path_params["door"]
        if door not in ("row", "infer"):
            raise Missing("unknown_route", "there are examples for two doors: row and infer")
        kind = example.media_type or "application/json" if door == "row" else "application/json"
        body = example.body(kind) if door == "row" else example.infer_body()
        return Response(body, media_type=kind, headers=SECURE)
