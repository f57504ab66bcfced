"""The repository's routes: which models there are, and for those who hold the key, loading and unloading.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson
from starlette.requests import Request as WebRequest
from starlette.responses import Response
from starlette.routing import Route

from foretell.engine.parameters import check_load_parameters
from foretell.engine.states import Control
from foretell.errors import Denied, Invalid, TooLarge, Unauthenticated
from foretell.security import check_admin, told_whole

MOST_BYTES = 64 * 2**10


class RepositoryPages:
    """``routes`` act on the loader; loading and unloading want ``authorization: Bearer KEY``."""

    def __init__(self, loader: Control, key: str) -> None:
        self.loader = loader
        self.key = key
        path = "/v2/repository"
        self.routes = [
            Route(path + "/index", self.index, methods=["POST"]),
            Route(path + "/models/{model}/load", self.load, methods=["POST"]),
            Route(path + "/models/{model}/unload", self.unload, methods=["POST"]),
        ]

    async def index(self, request: WebRequest) -> Response:
        ready = (await read_object(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise Invalid("invalid_json", "'ready' must be true or false")
        if self._is_admitted(request):  # others are told what was found before: a look at the disk takes a thread
            await self.loader.rescan()
        entries = self.loader.index(ready_only=ready)
        return Response(orjson.dumps([asdict(entry) for entry in entries]), media_type="application/json")

    async def load(self, request: WebRequest) -> Response:
        await self._admit(request)
        with told_whole():
            await self.loader.load(request.path_params["model"])
        return Response()

    async def unload(self, request: WebRequest) -> Response:
        await self._admit(request)
        await self.loader.unload(request.path_params["model"])
        return Response()

    def _is_admitted(self, request: WebRequest) -> bool:
        try:
            check_admin(self.key, authorization(request))
        except (Denied, Unauthenticated):
            return False
        return True

    async def _admit(self, request: WebRequest) -> None:
        """Raises Denied or Unauthenticated, and Invalid for parameters that would change what is loaded."""
        check_origin(request.headers)
        check_admin(self.key, authorization(request))
        parameters = (await read_object(request)).get("parameters", {})
        check_load_parameters(parameters if isinstance(parameters, dict) else {"parameters": parameters})


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse a request that a page of another site made in somebody's browser. Raises Denied ``foreign_origin``."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        raise Denied(
            "foreign_origin", "a page of another site made this request: administer from a shell or a page of this server"
        )


def authorization(request: WebRequest) -> str:
    """The header as it was sent, in UTF-8; two that differ are none that is known."""
    sent = ", ".join(dict.fromkeys(request.headers.getlist("authorization")))
    return sent.encode("latin-1").decode("utf-8", "surrogateescape")


async def read_object(request: WebRequest) -> dict[str, Any]:
    """The small JSON object of a request, empty for no body; whatever its content type says."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            text = f"the body has over {MOST_BYTES} bytes: this route reads a small JSON object"
            raise TooLarge("body_too_large", text, limit=MOST_BYTES, got=len(body))
    try:
        parsed = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise Invalid("invalid_json", f"the body is not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise Invalid("invalid_json", "the body must be a JSON object")
    return parsed
