"""The ASGI way in: hot routes matched on the raw path, everything else by the pages."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from functools import partial
from typing import Any, TypeVar

from foretell.engine.catalog import Catalog
from foretell.engine.loader import Loader
from foretell.errors import Cancelled, ForetellError
from foretell.modes.http.compress import accepted, pack, unpack
from foretell.modes.http.doors import Door, Doors, Streams, open_doors
from foretell.modes.http.framed import FramedRequest
from foretell.modes.http.generate import EventStream, GenerateDoor, pieces
from foretell.modes.http.heads import BINARY, LOOPBACK, PLAIN, Heads, check_body, check_host, too_large
from foretell.modes.http.hosts import HostRoutes
from foretell.modes.http.pages import Pages, Statistics, no_statistics
from foretell.modes.http.status import Answer, Headers, refusal, unexpected
from foretell.modes.http.tensors import JSON_HEADERS, TensorDoor
from foretell.request import Request
from foretell.settings import Settings
from foretell.tensors import Arrays

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

ON_LOOP_BYTES = 64 * 2**10  # more than this is parsed and written in a thread, so that nobody else waits for it
WATCH_AFTER_S = 0.01  # a client that waits longer than this is watched for going away


class HttpApp:
    """The ASGI application. ``doors`` are its hot routes: raw path -> door of a ready engine."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        metrics: Callable[[], bytes],
        *,
        statistics: Statistics = no_statistics,
        loader: Loader | None = None,
        hosts: HostRoutes | None = None,
    ) -> None:
        self.catalog = catalog
        self.most_bytes = settings.http.max_request_bytes
        self.most_header_bytes = settings.http.max_header_bytes
        self.compress_above = settings.http.compress_above_bytes
        self.total_s = settings.timeouts.total_s
        self.only_loopback = settings.host in LOOPBACK
        self.fast_lane = settings.http.fast_lane
        self.hosts = hosts or HostRoutes()
        self.doors: Doors = {}
        self.streams: Streams = {}
        loader = loader or Loader(catalog, settings)
        self.pages = Pages(catalog, metrics, statistics, loader, settings.admin.key, self.hosts)
        self.draining = False
        catalog.watch(self.open_doors)

    def open_doors(self) -> None:
        """Open the doors of all engines, and no others."""
        self.doors, self.streams = open_doors(self.catalog, self.hosts)

    def drain(self) -> None:
        """Turn unready and close connections after their next answer; what comes is still answered."""
        self.draining = True
        self.pages.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, post = scope["raw_path"], scope["method"] == "POST"
        door = self.doors.get(path) if post else None
        heads = Heads(scope["headers"])
        events = EventStream(send, self._marks(heads)) if post and path in self.streams else None
        try:
            if self.only_loopback:
                check_host(heads)
            if events is not None:
                await self._stream(self.streams[path], heads, receive, events)
                return
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
        if events is not None and events.started:
            await events.fail(answer)
            return
        await _send(send, answer, self._marks(heads))

    def coding(self, heads: Heads, size: int) -> bytes | None:
        """How an answer of this size is to be compressed; None for not at all."""
        return accepted(heads.find(b"accept-encoding") or b"") if size > self.compress_above else None

    def _marks(self, heads: Heads) -> Headers:
        return [*heads.marks, (b"connection", b"close")] if self.draining else heads.marks

    async def _infer(self, door: Door, heads: Heads, receive: Receive) -> Answer:
        request = await self._read(door, heads, receive)
        work = door.engine.infer(request)
        outputs = await work if door.engine.quick else await _unless_gone(work, receive)
        if sum([array.nbytes for array in outputs.values()]) > ON_LOOP_BYTES:
            answer = await asyncio.to_thread(_write, door, request, outputs)
        else:
            answer = _write(door, request, outputs)
        coding = self.coding(heads, len(answer.body))
        return answer if coding is None else await asyncio.to_thread(pack, answer, coding)

    async def _stream(self, door: GenerateDoor, heads: Heads, receive: Receive, events: EventStream) -> None:
        """Each piece of an answer as it comes; what fails before the first is refused as ever."""
        request = await self._read(door, heads, receive)
        source = pieces(door, request)
        while (piece := await _unless_gone(_next(source), receive)) is not None:
            await events.tell(piece)
        await events.end()

    async def _read(self, door: Door, heads: Heads, receive: Receive) -> Request:
        """The request that comes to a door. Raises what it is refused for, and tells the observers."""
        try:
            binary = heads.find(BINARY) if heads.odd and isinstance(door, TensorDoor) else None
            check_body(heads, self.most_bytes, json_only=door.json_only and binary is None)
            body = await _read_body(receive, self.most_bytes)
            received = time.monotonic()
            if heads.encoding.lower() not in PLAIN:
                body = await asyncio.to_thread(unpack, body, heads.encoding, self.most_bytes)
            if binary is None and len(body) <= ON_LOOP_BYTES:
                return door.read(body, heads.content_type, received, self.total_s)
            if binary is not None and isinstance(door, TensorDoor):
                read = partial(door.read_binary, binary, body, received, self.total_s)
            else:
                read = partial(door.read, body, heads.content_type, received, self.total_s)
            return await asyncio.to_thread(read) if len(body) > ON_LOOP_BYTES else read()
        except ForetellError as error:
            door.engine.refuse(Request({}, time.monotonic(), mode="http"), error)
            raise


def _write(door: Door, request: Request, outputs: Arrays) -> Answer:
    if isinstance(request, FramedRequest):
        return request.frame(outputs)
    return Answer(200, JSON_HEADERS, door.write(request, outputs))


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)


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


async def _unless_gone(answer: Coroutine[Any, Any, T], receive: Receive) -> T:
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
