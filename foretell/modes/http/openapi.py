"""``/openapi.json``: every route in OpenAPI 3.1, with the schemas of the models that are served now and an example of each.

https://spec.openapis.org/oas/v3.1.0. What a route is for stands in ``operations``; which there are is asked of the router.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import orjson
from starlette.routing import Route

from foretell.engine.catalog import Catalog
from foretell.engine.engine import Engine
from foretell.errors import ForetellError, Missing
from foretell.modes.http.bodies import Served, fitting, request_body
from foretell.modes.http.examples import Example, find_example
from foretell.modes.http.operations import JOB, MEANINGS, OPERATIONS, TAGS, Operation
from foretell.modes.http.schemas import COMPONENTS, Schema, error_schemas, refer

EVERYWHERE = (403, 431)
PARAMETERS = {
    "model": "A model that is served here.",
    "version": "One of its versions.",
    "label": "A label of a version, as the model's own configuration names them.",
    "name": "A file of the page.",
    "id": "The id of a job.",
    "door": "The door that the example is for.",
}
BINARY_HEADER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "For binary tensors: the bytes of JSON before them, the content type being `application/octet-stream`.",
    "schema": {"type": "integer", "minimum": 0},
}
TIMING_HEADER = {
    "name": "X-Server-Timing",
    "in": "header",
    "description": "With any value, the answer has a header `Server-Timing`: milliseconds of `queue`, `compute` and `total`.",
    "schema": {"type": "string"},
}
PREFER_HEADER = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async`: where the server keeps jobs, the answer is 202 at once, and the job's `Location`.",
    "schema": {"type": "string"},
}
LATER = {
    "description": "Accepted, for `Prefer: respond-async`: the answer will be below `Location`.",
    "headers": {"Location": {"schema": {"type": "string"}}, "Preference-Applied": {"schema": {"type": "string"}}},
    "content": {"application/json": {"schema": JOB}},
}
TIMING = {"Server-Timing": {"description": "For who sent `X-Server-Timing`.", "schema": {"type": "string"}}}
CONVERTER = re.compile(r":\w+}")


@dataclass(frozen=True)
class Made:
    """A document as it was made for one state of the catalog."""

    document: dict[str, Any]
    text: bytes
    served: dict[Engine, Served] = field(default_factory=dict)


class OpenApi:
    """Makes the document when it is asked for, and keeps it until the catalog changes."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.routes: Sequence[Route] = ()
        self._made: Made | None = None
        self._served: dict[Engine, Served] = {}
        self._making = asyncio.Lock()
        catalog.watch(self._forget)

    async def made(self) -> Made:
        """The document with what it was made of."""
        async with self._making:
            if self._made is None:
                self._made = await self._make()
            return self._made

    async def example(self, name: str) -> Example:
        """A row that a model's newest version answers. Raises Missing."""
        engine = self.catalog.find(name)
        served = (await self.made()).served.get(engine)
        if served is None or served.example is None:
            raise Missing("unknown_route", f"there is no example for model {name!r}: none that was made up is answered by it")
        return served.example

    def _forget(self) -> None:
        self._made = None

    async def _make(self) -> Made:
        served = {}
        for engine in newest(self.catalog):
            known = self._served.get(engine)
            example = known.example if known else await find_example(engine)
            labels = dict(sorted(self.catalog.labels(engine.name).items()))
            served[engine] = Served(engine, example, self.catalog.versions(engine.name), labels)
        self._served = served
        document = await asyncio.to_thread(describe_all, self.routes, list(served.values()))
        return Made(document, orjson.dumps(document), served)


def newest(catalog: Catalog) -> list[Engine]:
    """The engine that answers for each model when no version is named."""
    found = []
    for name in sorted({engine.name for engine in catalog}):
        try:
            found.append(catalog.find(name))
        except ForetellError:
            continue  # it is not ready, or was taken out just now
    return found


def describe_all(routes: Iterable[Route], served: Sequence[Served]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in operations_of(routes):
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, operation, served)
        if operation.by_model and path == operation.path:
            for model in served:
                own = path.replace("{model}", model.engine.name)
                paths.setdefault(own, {})[method.lower()] = _operation(own, method, operation, [model])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "foretell",
            "version": version("foretell"),
            "description": "The models that this server answers for, and every way to ask them.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": dict(sorted(paths.items(), key=lambda item: _rank(item[1]))),
        "components": {
            "schemas": {**COMPONENTS, **error_schemas()},
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
            "responses": {f"Error{status}": _refused(status, refer(f"Error{status}")) for status in MEANINGS},
        },
    }


def operations_of(routes: Iterable[Route]) -> list[tuple[str, str, Operation]]:
    """Path, method and meaning of every route; a test sees that none is left out."""
    found = []
    for route in routes:
        path = CONVERTER.sub("}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            operation = OPERATIONS.get(f"{method} {plain(path)}") or OPERATIONS.get(f"{method} {route.name}")
            if operation is not None:
                found.append((path, method, operation))
    return found


def plain(path: str) -> str:
    """A path as the table has it: without a version or a label in it."""
    return path.replace("/versions/{version}", "").replace("/labels/{label}", "").replace("/{version}", "")


def _rank(methods: dict[str, Any]) -> int:
    tag = next(iter(methods.values()))["tags"][0]
    return list(TAGS).index(tag)


def _operation(path: str, method: str, operation: Operation, served: Sequence[Served]) -> dict[str, Any]:
    own = "{model}" not in path and operation.by_model
    model = fitting(operation.body, served) or (served[0] if served else None)
    which = f" of `{model.engine.name}`" if own and model else ""
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary.replace(" of a model", which or " of a model"),
        "operationId": _id(path, method),
        "parameters": [*_parameters(path, served, model), *_headers(operation)],
        "responses": _responses(operation, model if own else None, templated="{" in path),
    }
    if own and model:
        described["x-model"] = model.engine.name
    if operation.about:
        described["description"] = operation.about
    if operation.body:
        described["requestBody"] = request_body(operation.body, served, own=own)
    if operation.admin:
        described["security"] = [{"admin": []}]
    return described


def _id(path: str, method: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", path.replace("{", "by_")).strip("_")
    return f"{method.lower()}_{words or 'root'}"


def _parameters(path: str, served: Sequence[Served], model: Served | None) -> list[dict[str, Any]]:
    """The path's own, each with a value that leads somewhere."""
    first = model.engine if model else None
    labelled = [label for each in served for label in each.labels]
    values = {
        "model": ([each.engine.name for each in served], first and first.name),
        "version": (sorted({number for each in served for number in each.versions}), first and first.version),
        "label": (sorted(set(labelled)), next(iter(model.labels), None) if model else None),
        "name": (["page.css", "page.js"], "page.css"),
        "door": (["row", "infer"], "row"),
    }
    found = []
    for name in re.findall(r"{(\w+)}", path):
        known, example = values.get(name, ([], None))
        schema: Schema = {"type": "string", **({"enum": known} if known else {})}
        shown = {} if example is None else {"example": example}
        found.append({"name": name, "in": "path", "required": True, "description": PARAMETERS[name], "schema": schema, **shown})
    return found


def _headers(operation: Operation) -> list[dict[str, Any]]:
    """What a request may have in its headers."""
    return [
        *([BINARY_HEADER] if operation.body == "infer" else []),
        *([TIMING_HEADER, PREFER_HEADER] if operation.timed else []),
    ]


def _responses(operation: Operation, model: Served | None, *, templated: bool) -> dict[str, Any]:
    signature = model.engine.pipeline.signature if model else None
    content = {kind: {"schema": schema} if schema else {} for kind, schema in operation.answers(signature).items()}
    good: dict[str, Any] = {"description": operation.gives, **({"content": content} if content else {})}
    told: dict[str, Any] = {str(operation.status): good}
    if operation.timed:
        good["headers"] = TIMING
        told["202"] = LATER
    refused = {*operation.refusals, *EVERYWHERE, *((404,) if templated else ())}
    for status in sorted(refused):
        told[str(status)] = {"$ref": f"#/components/responses/Error{status}"}
    if operation.unready:
        told["503"] = _refused(503, {"anyOf": [refer("Error503"), operation.unready]})
    return told


def _refused(status: int, schema: Schema) -> dict[str, Any]:
    return {"description": MEANINGS[status], "content": {"application/json": {"schema": schema}}}
