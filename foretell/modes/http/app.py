"""The ASGI way in: hot routes matched on the raw path, everything else by the pages."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from foretell.engine.catalog import Catalog
from foretell.errors import Cancelled, ForetellError
from foretell.modes.http.heads import LOOPBACK, Heads, check_body, check_host, too_large
from foretell.modes.http.pages import Pages
from foretell.modes.http.rows import RowDoor
from foretell.modes.http.status import Answer, Headers, refusal, unexpected
from foretell.modes.http.tensors import TensorDoor
from foretell.request import Request
from foretell.settings import Settings
from foretell.tensors import Arrays

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Door = TensorDoor | RowDoor

ON_LOOP_BYTES = 64 * 2**10  # more than this is parsed and written in a thread, so that nobody else waits for it
WATCH_AFTER_S = 0.01  # a client that waits longer than this is watched for going away
JSON_HEADERS: Headers = [(b"content-type", b"application/json")]


class HttpApp:
    """The ASGI application. ``doors`` are its hot routes: raw path -> door of a ready engine."""

    def __init__(self, catalog: Catalog, settings: Settings, metrics: Callable[[], bytes]) -> None:
        self.catalog = catalog
        self.most_bytes = settings.http.max_request_bytes
        self.most_header_bytes = settings.http.max_header_bytes
        self.total_s = settings.timeouts.total_s
        self.only_loopback = settings.host in LOOPBACK
        self.fast_lane = settings.http.fast_lane
        self.doors: dict[bytes, Door] = {}
        self.pages = Pages(catalog, metrics)
        self.draining = False
        catalog.watch(self.open_doors)

    def open_doors(self) -> None:
        """The doors of all engines; the newest version of a model also answers without its number."""
        doors: dict[bytes, Door] = {}
        for engine in self.catalog:
            tensors, rows = TensorDoor(engine), RowDoor(engine)
            name = engine.name.encode()
            version = b"/versions/" + engine.version.encode()
            newest = self.catalog.versions(engine.name)[-1] == engine.version
            for path in (version, b"") if newest else (version,):
                doors[b"/v2/models/%b%b/infer" % (name, path)] = tensors
                doors[b"/predict/%b%b" % (name, path)] = rows
        self.doors = doors

    def drain(self) -> None:
        """Turn unready and close connections after their next answer; what comes is still answered."""
        self.draining = True
        self.pages.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        door = self.doors.get(scope["raw_path"]) if scope["method"] == "POST" else None
        heads = Heads(scope["headers"])
        try:
            if self.only_loopback:
                check_host(heads)
            if door is None:
                await self.pages(scope, receive, _marking(send, self._marks(heads)))
                return
            answer = await self._infer(door, heads, receive)
        except Cancelled:
            return
        except ForetellError as error:
            answer = refusal(error, heads.request_id)
        except Exception as error:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's 500
            answer = refusal(unexpected(error), heads.request_id)
        await _send(send, answer, self._marks(heads))

    def _marks(self, heads: Heads) -> Headers:
        return [*heads.marks, (b"connection", b"close")] if self.draining else heads.marks

    async def _infer(self, door: Door, heads: Heads, receive: Receive) -> Answer:
        try:
            check_body(heads, self.most_bytes, json_only=door.json_only)
            body = await _read_body(receive, self.most_bytes)
            received = time.monotonic()
            if len(body) > ON_LOOP_BYTES:
                request = await asyncio.to_thread(door.read, body, heads.content_type, received, self.total_s)
            else:
                request = door.read(body, heads.content_type, received, self.total_s)
        except ForetellError as error:
            door.engine.refuse(Request({}, time.monotonic(), mode="http"), error)
            raise
        answer = door.engine.infer(request)
        outputs = await answer if door.engine.quick else await _unless_gone(answer, receive)
        if sum(array.nbytes for array in outputs.values()) > ON_LOOP_BYTES:
            return Answer(200, JSON_HEADERS, await asyncio.to_thread(door.write, request, outputs))
        return Answer(200, JSON_HEADERS, door.write(request, outputs))


async def _read_body(receive: Receive, most_bytes: int) -> bytes:
    """The whole body, never more than the limit of it."""
    message = await receive()
    chunks, size = [message.get("body", b"")], len(message.get("body", b""))
    while message.get("more_body"):
        if size > most_bytes:
            raise too_large(most_bytes, size)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("cancelled", "the caller went away before the whole request came")
        chunks.append(message["body"])
        size += len(message["body"])
    if size > most_bytes:
        raise too_large(most_bytes, size)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _unless_gone(answer: Coroutine[Any, Any, Arrays], receive: Receive) -> Arrays:
    """The answer, unless the client goes away while it is waited for: then the work is taken back."""
    work = asyncio.ensure_future(answer)
    try:
        done, _ = await asyncio.wait({work}, timeout=WATCH_AFTER_S)
        if not done:
            gone = asyncio.ensure_future(_until_gone(receive))
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
        if not work.done():
            raise Cancelled("cancelled", "the caller went away before the answer")
        return work.result()
    finally:
        work.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _marking(send: Send, marks: Headers) -> Send:
    async def marked(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *marks]
        await send(message)

    return marked


async def _send(send: Send, answer: Answer, extra: Headers) -> None:
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), *extra]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
