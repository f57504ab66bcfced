"""The ASGI way in: hot routes matched on the raw path, everything else by the pages."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, MutableMapping
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, TypeVar

from foretell.engine.catalog import Catalog
from foretell.engine.loader import Loader
from foretell.engine.states import Control
from foretell.errors import Cancelled, ForetellError, Kind
from foretell.modes.http.binary import json_bytes
from foretell.modes.http.collected import Collected
from foretell.modes.http.compress import accepted, pack, unpack
from foretell.modes.http.doors import TORCHSERVE, AnyDoor, Door, Doors, SplitDoor, Streams, open_doors
from foretell.modes.http.framed import ON_LOOP_BYTES, is_soon_written, write_answer
from foretell.modes.http.generate import EventStream, GenerateDoor, pieces
from foretell.modes.http.heads import LOOPBACK, PLAIN, TIMING, Heads, check_body, check_host, find_caller, too_large
from foretell.modes.http.hosts import HostRoutes
from foretell.modes.http.jobs import JobDoor
from foretell.modes.http.known import KnownHeads
from foretell.modes.http.later import Stored, kept, wants_later
from foretell.modes.http.pages import Pages, Statistics, no_statistics
from foretell.modes.http.patience import stalled
from foretell.modes.http.probes import Probe, open_probes
from foretell.modes.http.status import STATUS, Answer, Headers, refusal, unexpected, with_timing
from foretell.modes.http.tensors import TensorDoor
from foretell.request import NORMAL, Request
from foretell.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

TIMER_MOVES = 16  # at most so often in the time that a body may stall
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
        loader: Control | None = None,
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
        self.receive_s = settings.timeouts.receive_s
        self.caller_header = settings.http.caller_header.lower().encode()
        self.doors: Doors = {}
        self.streams: Streams = {}
        self.known = KnownHeads()
        self.splits: dict[bytes, SplitDoor[Door]] = {}
        self.probes: dict[bytes, Probe] = {}
        loader = loader or Loader(catalog, settings)
        self.pages = Pages(catalog, metrics, statistics, loader, settings.admin.key, self.hosts)
        self.jobs: JobDoor | None = None
        self.draining = False
        catalog.watch(self.open_doors)

    def open_doors(self) -> None:
        """Open the doors of all engines, and no others."""
        self.opened = opened = open_doors(self.catalog, self.hosts)
        self.doors, self.streams, self.splits = opened.doors, opened.streams, opened.splits
        self.probes = open_probes(self.catalog, self.pages.is_ready, self.pages.is_draining, self.hosts)

    def find(self, path: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Door | None:
        """The door of a path, for a request with these headers: one of several where versions share it."""
        door = self.doors.get(path)
        return self.splits[path].pick(headers) if door is None and path in self.splits else door

    def find_stream(self, path: bytes, headers: Iterable[tuple[bytes, bytes]]) -> GenerateDoor | None:
        """The same for a path that is answered in a stream."""
        door = self.streams.get(path)
        splits = self.opened.split_streams
        return splits[path].pick(headers) if door is None and path in splits else door

    def open_jobs(self, jobs: JobDoor) -> None:
        """Keep requests that prefer to be answered later, and have the pages of jobs."""
        self.jobs = self.pages.jobs.door = jobs

    def drain(self) -> None:
        """Turn unready and close connections after their next answer; what comes is still answered."""
        self.close_after_answers()
        self.pages.draining = True

    def close_after_answers(self) -> None:
        """Close connections after their next answer, and stay ready: what comes goes to other workers."""
        self.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        heads = Heads(scope["headers"])
        priority = scope.get("foretell.priority", NORMAL)
        call = Call(scope["raw_path"], heads, self._caller(scope, heads), receive, priority)
        post = scope["method"] == "POST" or (scope["method"] == "PUT" and call.path.startswith(TORCHSERVE))
        door = self.find(call.path, heads.headers) if post else None
        stream = self.find_stream(call.path, heads.headers) if post and door is None else None
        events = None if stream is None else EventStream(send, self._marks(heads))
        try:
            if self.only_loopback:
                check_host(heads)
            if stream is not None and events is not None:
                await self._stream(stream, call, events)
                return
            if door is not None and self.jobs is not None and heads.odd and wants_later(heads):
                answer = await self._defer(self.jobs, door, call, scope["method"])
            elif door is not None:
                answer = await self._infer(door, call)
            elif scope["method"] == "GET" and call.path in self.probes:
                answer = self.probes[call.path]()
            else:
                await self.pages(scope, partial(_within, receive, self.receive_s), _marking(send, self._marks(heads)))
                return
        except Cancelled:
            return
        except ForetellError as error:
            answer = refusal(error, heads.marks, _model_of(door or stream))
        except Exception as error:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's 500
            answer = refusal(unexpected(error), heads.marks, _model_of(door or stream))
        if events is not None and events.started:
            await events.fail(answer)
            return
        await _send(send, answer, self._marks(heads, closes=answer.status == STATUS[Kind.STALLED]))

    def coding(self, heads: Heads, size: int) -> bytes | None:
        """How an answer of this size is to be compressed; None for not at all."""
        return accepted(heads.find(b"accept-encoding") or b"") if size > self.compress_above else None

    def _marks(self, heads: Heads, *, closes: bool = False) -> Headers:
        """What goes with every answer; what still comes of a request that stalled could not be answered."""
        return [*heads.marks, (b"connection", b"close")] if self.draining or closes else heads.marks

    def _caller(self, scope: Scope, heads: Heads) -> str:
        peer = scope.get("client")
        address = str(peer[0]) if peer else ""
        return find_caller(heads.headers, self.caller_header, address) if self.caller_header else address

    async def _infer(self, door: Door, call: "Call") -> Answer:
        request, door = await self._read(door, call)
        work = door.engine.infer(request)
        outputs = await work if door.engine.quick else await _unless_gone(work, call.receive)
        if is_soon_written(request, outputs):
            answer = write_answer(door, request, outputs)
        else:
            answer = await asyncio.to_thread(write_answer, door, request, outputs)
        coding = self.coding(call.heads, len(answer.body))
        answer = answer if coding is None else await asyncio.to_thread(pack, answer, coding)
        return with_timing(answer, request) if call.heads.odd and call.heads.find(TIMING) is not None else answer

    async def _defer(self, jobs: JobDoor, door: Door, call: "Call", method: str) -> Answer:
        """Keep a request, to be answered when there is time for it."""
        heads = call.heads
        webhook = jobs.webhook(heads)
        check_body(heads, self.most_bytes, json_only=door.json_only and heads.binary is None)
        body = bytes(await _read_body(partial(_within, call.receive, self.receive_s), self.most_bytes))
        return await jobs.accept(Stored(method, call.path, kept(heads.headers), call.caller, body, webhook), heads)

    async def _stream(self, door: GenerateDoor, call: "Call", events: EventStream) -> None:
        """Each piece of an answer as it comes; what fails before the first is refused as ever."""
        request, door = await self._read(door, call)
        gone = asyncio.ensure_future(_until_gone(call.receive))
        try:
            async with aclosing(pieces(door, request)) as source:
                while (piece := await _next(source, gone)) is not None:
                    await events.tell(piece)
        finally:
            gone.cancel()
        await events.end()

    async def _read(self, door: AnyDoor, call: "Call") -> tuple[Request, AnyDoor]:
        """The request that comes to a door, and that door or the one that took over from it while the body came.

        Raises what it is refused for, and tells the observers.
        """
        heads = call.heads
        try:
            binary = heads.binary if isinstance(door, TensorDoor) else None
            check_body(heads, self.most_bytes, json_only=door.json_only and binary is None)
            lead = None if binary is None or heads.encoding else json_bytes(binary)
            body = await _read_in_time(call.receive, self.receive_s, self.most_bytes, lead)
            received = time.monotonic()
            if heads.encoding.lower() not in PLAIN:
                body = await asyncio.to_thread(unpack, bytes(body), heads.encoding, self.most_bytes)
            request = None
            while request is None or (not door.engine.ready and self._successor(door, call) is not door):
                door = door if door.engine.ready else self._successor(door, call)
                request = await self._parse(door, body, heads, binary, received)  # which may take so long that all has changed
        except ForetellError as error:
            refused = Request({}, time.monotonic(), mode="http", caller=call.caller, marks=heads.marks)
            door.engine.refuse(refused, error)
            raise
        request.caller, request.marks = call.caller, heads.marks
        if call.priority != NORMAL:
            request.priority = call.priority
        return request, door

    def _successor(self, door: AnyDoor, call: "Call") -> AnyDoor:
        """The door that is at a path now, if it is of the same kind."""
        now = self.find(call.path, call.heads.headers) or self.find_stream(call.path, call.heads.headers)
        return now if isinstance(now, type(door)) else door

    async def _parse(
        self, door: Door, body: bytes | memoryview, heads: Heads, binary: bytes | None, received: float
    ) -> Request:
        """What takes long runs in a thread, so that nobody else waits for it."""
        if binary is not None and isinstance(door, TensorDoor):
            read = partial(door.read_binary, binary, body, received, self.total_s)
            is_quick = door.reads_in_place and json_bytes(binary) <= ON_LOOP_BYTES
        else:
            is_quick = False
            read = partial(door.read, bytes(body), heads.content_type, received, self.total_s)
        return read() if len(body) <= ON_LOOP_BYTES or is_quick else await asyncio.to_thread(read)


class Call(NamedTuple):
    """One request to a door, before its body has come."""

    path: bytes
    heads: Heads
    caller: str
    receive: Receive
    priority: int = NORMAL


async def _next(source: AsyncIterator[bytes], gone: "asyncio.Future[Any]") -> bytes | None:
    """The next piece of an answer, None behind the last; the work on it has ended when Cancelled is raised."""
    step: asyncio.Future[Any] = asyncio.ensure_future(_step(source))
    try:
        await asyncio.wait({step, gone}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise Cancelled("cancelled", "the caller went away before the answer")
        piece: bytes | None = step.result()
        return piece
    finally:
        step.cancel()
        await asyncio.wait({step})


async def _step(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)


def _model_of(door: Door | None) -> str | None:
    return None if door is None else door.engine.name


async def _within(receive: Receive, receive_s: float) -> MutableMapping[str, Any]:
    """The next part of a body. Raises Stalled when it takes longer."""
    try:
        async with asyncio.timeout(receive_s):
            return await receive()
    except TimeoutError as error:
        raise stalled(receive_s) from error


async def _read_in_time(receive: Receive, receive_s: float, most_bytes: int, lead: int | None) -> bytes | memoryview:
    """The whole body. Raises Stalled when nothing of it comes for ``receive_s``, or a little longer.

    One timer is moved now and then: one for each part would cost as much as the part.
    """
    loop, slack_s = asyncio.get_running_loop(), receive_s / TIMER_MOVES
    moved = loop.time()

    async def receive_and_note() -> MutableMapping[str, Any]:
        nonlocal moved
        message = await receive()
        now = loop.time()
        if now - moved > slack_s:
            moved = now
            limit.reschedule(now + receive_s + slack_s)
        return message

    try:
        async with asyncio.timeout(receive_s + slack_s) as limit:
            return await _read_body(receive_and_note, most_bytes, lead)
    except TimeoutError as error:
        raise stalled(receive_s) from error


async def _read_body(receive: Receive, most_bytes: int, lead: int | None = None) -> bytes | memoryview:
    """The whole body, never more than the limit of it.

    Of one with binary tensors behind ``lead`` bytes it is memory of its own, in which they are used where they stand.
    """
    collected, more = Collected(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("cancelled", "the caller went away before the whole request came")
        collected.add(message.get("body", b""))
        if collected.size > most_bytes:
            raise too_large(most_bytes, collected.size)
        more = message.get("more_body", False)
    return collected.take(lead)


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
            told = {name for name, _ in message["headers"]}  # an answer that was kept has the marks of its own request
            message["headers"] = [*message["headers"], *(mark for mark in marks if mark[0] not in told)]
        await send(message)

    return marked


async def _send(send: Send, answer: Answer, extra: Headers) -> None:
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), *extra]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
