"""The fast lane: small infer requests answered straight from the HTTP parser, with no ASGI scope, task or future.

A subclass of uvicorn's httptools protocol. It takes what both ways would accept and nobody has to wait for: a small POST
of JSON, of known length, on an open door, while the connection is idle. All else goes the ASGI way. Both ways use the
same doors and the same refusals, so that their answers are the same bytes.
"""

import time
from asyncio import Event, TimerHandle
from collections.abc import Sized
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from foretell.engine.batcher import Entry
from foretell.errors import ForetellError, HeadersTooLarge, Invalid
from foretell.modes.http.app import ON_LOOP_BYTES, HttpApp
from foretell.modes.http.compress import pack
from foretell.modes.http.doors import Door
from foretell.modes.http.framed import FramedRequest
from foretell.modes.http.heads import Heads, is_json, is_loopback
from foretell.modes.http.status import Answer, Headers, refusal, unexpected
from foretell.modes.http.tensors import JSON_HEADERS
from foretell.request import Request
from foretell.tensors import Arrays

JSON = b"content-type: application/json\r\n"
LINGER_S = 1.0  # how long a connection that was hung up on is still read


class Turn:
    """A connection's request in the lane. It stands where uvicorn keeps its own, so that what is pipelined behind waits."""

    door: Door
    request: Request

    def __init__(self, lane: "FastLane") -> None:
        self.lane = lane
        self.most_plain = lane.http.compress_above
        self.entry: Entry | None = None
        self.heads = Heads(())
        # what uvicorn reads and sets on the request in flight
        self.response_complete = True
        self.keep_alive = True
        self.disconnected = False
        self.more_body = False
        self.body = bytearray()
        self.message_event = Event()

    def reply(self, outputs: Arrays | None, error: ForetellError | None) -> None:
        """Write the one answer: called by the engine, or with a refusal."""
        self.entry = None
        if outputs is not None:
            try:
                if isinstance(self.request, FramedRequest):
                    self.lane.tell(self.request.frame(outputs))
                    return
                body = self.door.write(self.request, outputs)
                if len(body) > self.most_plain:
                    self.lane.tell(Answer(200, JSON_HEADERS, body))
                else:
                    self.lane.write(b"HTTP/1.1 200 OK\r\n", JSON, body)
                return
            except Exception as mistake:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's 500
                error = unexpected(mistake)
        assert error is not None
        self.lane.refuse(refusal(error, self.heads.request_id))


class Flow(FlowControl):
    """uvicorn's flow control, which also reads no more while requests wait in the pipeline: else they would pile up."""

    def __init__(self, transport: Any, pipeline: Sized) -> None:
        super().__init__(transport)
        self.pipeline = pipeline

    def resume_reading(self) -> None:
        if not self.pipeline:
            super().resume_reading()


class FastLane(HttpToolsProtocol):
    """``collecting`` is True while the body that comes is the lane's own."""

    app: Any
    cycle: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)
        self.http: HttpApp = self.app
        self.turn = Turn(self)
        self.running: Any = None  # the request that the ASGI way answers now; ``cycle`` is the last that came
        self.collecting = False
        self.in_headers = False
        self.header_bytes = 0
        self.arrived = 0
        self.idle_since = time.monotonic()
        self.idle_timer: TimerHandle | None = self.loop.call_later(self.timeout_keep_alive, self._close_idle)
        self.stamp: tuple[Headers, bytes] = ([], b"")
        self.hung_up = False
        self.offers_upgrade = False

    # -- what the parser calls

    def data_received(self, data: bytes) -> None:
        if self.hung_up:
            return
        headers = self.headers
        self.arrived = len(data) + (self.arrived if self.in_headers else 0)
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as stop:
            self._read_without_upgrade(data[stop.args[0] :])
        except HttpParserError:
            self.hang_up(not_http())
        if self.in_headers and self.headers is headers:  # all of it is of headers that have no end yet
            self._count_header_bytes(len(data))

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio allows an answer
        """Whether to go on writing: half a connection still takes an answer that comes in this tick of the loop."""
        turn = self.turn
        turn.keep_alive = False
        return turn.entry is not None and turn.door.engine.quick

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.header_bytes = 0
        self.in_headers = True
        self.offers_upgrade = False
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"upgrade":
            self.offers_upgrade = True

    def on_headers_complete(self) -> None:
        self.in_headers = False
        if self.arrived > self.http.most_header_bytes:  # perhaps: what came may hold the body too
            size = sum([len(name) + len(value) + 4 for name, value in self.headers], len(self.url))
            self._count_header_bytes(size - self.header_bytes)
        if self.hung_up or self.transport.is_closing():
            raise ConnectionAbortedError("what comes behind a last answer is not read")
        if self.offers_upgrade:
            self.offers_upgrade = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
            if self.offers_upgrade:
                self.collecting = False
                return
        door = self.http.doors.get(self.url) if self.http.fast_lane else None
        if door is not None and self._is_idle() and self._fits_lane(door, heads := Heads(self.headers)):
            self.cycle = turn = self.turn
            turn.door = door
            turn.heads = heads
            turn.response_complete = False
            turn.keep_alive = self.parser.should_keep_alive()
            turn.body.clear()
            self.collecting = True
            return
        self.collecting = False
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.collecting:
            self.turn.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.collecting:
            if not self.offers_upgrade:
                super().on_message_complete()
            return
        self.collecting = False
        turn, received = self.turn, time.monotonic()
        try:
            turn.request = turn.door.read(bytes(turn.body), b"", received, self.http.total_s)
            turn.entry = turn.door.engine.infer_nowait(turn.request, turn.reply)
        except ForetellError as error:
            turn.door.engine.refuse(Request({}, received, mode="http"), error)
            turn.reply(None, error)
        except Exception as error:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's 500
            turn.reply(None, unexpected(error))

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Read a request anew without its offer to upgrade (Java's client makes one): the parser drops the body with it."""
        try:
            while self.offers_upgrade:
                kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
                line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                data = line + b"".join(kept) + b"\r\n" + rest
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
                try:
                    self.parser.feed_data(data)
                except HttpParserUpgrade as stop:
                    rest = data[stop.args[0] :]
        except HttpParserError:
            self.hang_up(not_http())

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def _is_idle(self) -> bool:
        """Whether nothing is in flight here, and the client reads its answers."""
        busy = self.cycle is not None and not self.cycle.response_complete
        return not (busy or self.pipeline or self.flow.write_paused or self.http.draining)

    def _fits_lane(self, door: Door, heads: Heads) -> bool:
        """Whether this is a small body of JSON and of known length, which the ASGI way would accept too."""
        http = self.http
        return (
            0 <= heads.length <= ON_LOOP_BYTES
            and heads.length <= http.most_bytes
            and not (heads.odd or heads.encoding or door.engine.pipeline.slow)
            and is_json(heads.content_type)
            and (not http.only_loopback or not heads.host or is_loopback(heads.host))
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
        )

    def _count_header_bytes(self, size: int) -> None:
        """Refuse headers over the limit, and hang up: no more of them is read."""
        self.header_bytes += size
        most = self.http.most_header_bytes
        if self.header_bytes > most:
            text = f"the headers have over {most} bytes (setting http.max_header_bytes)"
            self.hang_up(HeadersTooLarge("headers_too_large", text, limit=most, setting="http.max_header_bytes"))

    # -- answers

    def write(self, status: bytes, headers: bytes, body: bytes) -> None:
        """Head and body in one write; then the connection is idle, or uvicorn's for what was pipelined."""
        turn = self.turn
        turn.response_complete = True
        if self.hung_up or self.transport.is_closing():
            return
        tail = b"".join(b"%b: %b\r\n" % mark for mark in turn.heads.marks) if turn.heads.marks else b""
        if not turn.keep_alive:
            tail += b"connection: close\r\n"
        self.transport.write(
            b"%b%b%bcontent-length: %d\r\n%b\r\n%b" % (status, self._stamped(), headers, len(body), tail, body)
        )
        if not turn.keep_alive:
            self.transport.close()
        self._go_on()

    def tell(self, answer: Answer) -> None:
        """Write an answer, compressed if it is large and the client asked for that: in a thread, as nobody should wait."""
        coding = self.http.coding(self.turn.heads, len(answer.body))
        if coding is None:
            self.refuse(answer)
        else:
            packing = self.loop.run_in_executor(None, pack, answer, coding)
            packing.add_done_callback(lambda done: self.refuse(done.result()))

    def refuse(self, answer: Answer) -> None:
        self.write(STATUS_LINE[answer.status], b"".join(b"%b: %b\r\n" % header for header in answer.headers), answer.body)

    def hang_up(self, error: ForetellError) -> None:
        """Refuse what is not even a request. What still comes is dropped for a while: a reset would lose the answer."""
        if self.hung_up or self.transport.is_closing():
            return
        self.hung_up = True
        self._take_back()
        answer = refusal(error)
        head = b"%bcontent-length: %d\r\nconnection: close\r\n\r\n" % (JSON, len(answer.body))
        self.transport.write(b"%b%b%b%b" % (STATUS_LINE[answer.status], self._stamped(), head, answer.body))
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _stamped(self) -> bytes:
        """uvicorn's own headers (the date), joined anew only when they change."""
        headers = self.server_state.default_headers
        if headers is not self.stamp[0]:
            self.stamp = (headers, b"".join(b"%b: %b\r\n" % header for header in headers))
        return self.stamp[1]

    def _go_on(self) -> None:
        if self.pipeline or self.transport.is_closing():
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self.idle_since = time.monotonic()
        if self.idle_timer is None:  # one timer a connection, set again only when it rings: cheaper than one a request
            self.idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_idle)

    def _close_idle(self) -> None:
        """Close after ``http.keep_alive_s`` without a request, or if the first one has not come in that time."""
        self.idle_timer = None
        asked = self.cycle is not None
        if self.transport.is_closing() or (asked and not (self.cycle is self.turn and self.turn.response_complete)):
            return
        left = self.idle_since + self.timeout_keep_alive - time.monotonic()
        if left <= 0 and not (asked and self.in_headers):
            self.transport.close()
        else:
            self.idle_timer = self.loop.call_later(max(left, 1.0), self._close_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.turn.disconnected = True
        if self.idle_timer is not None:
            self.idle_timer.cancel()
        self._take_back()

    def _take_back(self) -> None:
        """Have nobody work for a client that is gone."""
        if self.running is not None:
            self.running.disconnected = True
            self.running.message_event.set()
        if self.turn.entry is not None:
            self.turn.door.engine.cancel(self.turn.entry)
            self.turn.entry = None


def not_http() -> Invalid:
    """The refusal of what no parser can make sense of."""
    return Invalid("invalid_http", "this is not an HTTP/1.1 request that can be read")
