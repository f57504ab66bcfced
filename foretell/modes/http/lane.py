"""The fast lane: infer requests answered straight from the HTTP parser, with no ASGI scope, task or future.

A subclass of uvicorn's httptools protocol. It takes what both ways would accept and nobody has to wait for: a POST of
little JSON or of binary tensors, of known length, on an open door, while the connection is idle. All else goes the ASGI
way. Both ways use the same doors and the same refusals, so that their answers are the same bytes.
"""

import time
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from foretell.errors import Cancelled, ForetellError, HeadersTooLarge, Invalid
from foretell.modes.http.answering import Answering
from foretell.modes.http.app import HttpApp
from foretell.modes.http.binary import json_bytes
from foretell.modes.http.doors import Door
from foretell.modes.http.framed import COPIED_ON_LOOP_BYTES, ON_LOOP_BYTES
from foretell.modes.http.heads import NO_MARKS, Heads, find_caller, is_json, is_loopback
from foretell.modes.http.known import MOST_BYTES, KnownHead
from foretell.modes.http.patience import Patience
from foretell.modes.http.probes import Probe
from foretell.modes.http.status import unexpected
from foretell.modes.http.tensors import TensorDoor
from foretell.modes.http.turn import Flow, Turn
from foretell.request import Request


class FastLane(Answering):
    """``collecting`` is True while the body that comes is the lane's own, ``between`` while no request has begun to come.

    ``start`` is what a request that is being read began with, if that was the beginning of a chunk, and ``came`` all bytes
    since. ``left`` are those to come of a body that is not given to the parser, as its head is known.
    """

    __slots__ = (
        "address",
        "arrived",
        "between",
        "came",
        "collecting",
        "header_bytes",
        "in_headers",
        "left",
        "offers_upgrade",
        "patience",
        "probe",
        "start",
    )

    app: Any
    cycle: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)
        self.http: HttpApp = self.app
        self.turn = Turn(self, self.http.compress_above)
        self.running = None
        self.collecting = False
        self.between = True
        self.start = b""
        self.came = 0
        self.left = 0
        self.in_headers = False
        self.header_bytes = 0
        self.arrived = 0
        self.answered = 0
        self.patience = Patience(self, self.http.receive_s, self.timeout_keep_alive)
        self.patience.begin()
        self.address = self.client[0] if self.client else ""
        self.probe: Probe | None = None
        self.stamp = ([], b"", b"")
        self.hung_up = False
        self.offers_upgrade = False

    # -- what the parser calls

    def data_received(self, data: bytes) -> None:
        if self.hung_up:
            return
        if self.between:
            end = data.find(b"\r\n\r\n") + 4
            known = self.http.known.get(data[:end])
            if known is not None and (left := known.size - len(data)) >= 0 and self._takes_known(known):
                if left:
                    self._await_rest(data[end:], left)
                else:
                    self._ask(data[end:])
                return
            self.start, self.came = data[:MOST_BYTES], len(data)
        elif self.left:
            self._take(data)
            return
        else:
            self.came += len(data)
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
        """Whether to go on writing: half a connection still takes an answer that is being made, or comes in this tick."""
        turn = self.turn
        turn.keep_alive = False
        return turn.making or (turn.entry is not None and turn.door.engine.quick)

    def on_message_begin(self) -> None:
        self.between = False
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
        http = self.http
        door = http.doors.get(self.url) if http.fast_lane else None
        if door is None and http.fast_lane:
            if self._takes_probe():
                return
            split = http.splits.get(self.url)
            door = None if split is None or split.slow else split.pick(self.headers)
        if door is not None and self._is_idle() and self._fits_lane(door, heads := Heads(self.headers)):
            self.turn.door = door
            self.turn.collected.clear()
            self._begin(heads, keep_alive=self.parser.should_keep_alive())
            self.collecting = True
            return
        self.collecting = False
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _takes_probe(self) -> bool:
        """Whether this asks for the health of something, and is answered when it is whole."""
        probe = self.http.probes.get(self.url)
        if probe is None or self.parser.get_method() != b"GET" or not self._is_idle():
            return False
        heads = Heads(self.headers)
        is_foreign = self.http.only_loopback and heads.host and not is_loopback(heads.host)
        if heads.length > 0 or heads.odd or is_foreign or self.parser.get_http_version() != "1.1":
            return False
        self._begin(heads, keep_alive=self.parser.should_keep_alive())
        self.collecting = False
        self.probe = probe
        return True

    def _begin(self, heads: Heads, *, keep_alive: bool) -> None:
        """Have the connection's turn stand where uvicorn looks for the request in flight."""
        self.cycle = turn = self.turn
        turn.heads = heads
        turn.keep_alive = keep_alive
        turn.response_complete = False

    def on_body(self, body: bytes) -> None:
        if self.collecting:
            self.turn.collected.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.between = True
        if not self.collecting:
            self.start = b""
            if self.probe is not None:
                probe, self.probe = self.probe, None
                self.answer(probe())
            elif not self.offers_upgrade:
                super().on_message_complete()
            return
        self.http.known.learn(self.start, self.came, self.url, self.turn.heads, keep_alive=self.turn.keep_alive)
        self.start = b""  # an idle connection holds nothing
        self._ask_collected()

    def _takes_known(self, known: KnownHead) -> bool:
        """Whether a request whose head is known is the lane's now; the parser is not asked, and stays between requests."""
        door = self.http.doors.get(known.url)
        if door is None or door.engine.pipeline.slow or not self._is_idle() or self.transport.is_closing():
            return False
        heads = known.heads
        if heads.binary is not None and not _reads_in_place(door):
            return False
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self.url, self.headers = known.url, heads.headers
        self.cycle = turn = self.turn
        turn.door, turn.heads, turn.keep_alive, turn.response_complete = door, heads, known.keep_alive, False
        return True

    def _await_rest(self, body: bytes, left: int) -> None:
        """Wait for the rest of a body, whose head is known."""
        self.between, self.collecting = False, True
        self.left = left
        self.turn.collected.clear()
        if body:
            self.turn.collected.add(body)

    def _take(self, data: bytes) -> None:
        """Collect what is left of a body, and read on behind it."""
        size = self.left
        self.left = max(size - len(data), 0)
        self.turn.collected.add(data[:size])
        if not self.left:
            self.between = True
            self._ask_collected()
        if len(data) > size:
            self.data_received(data[size:])

    def _ask_collected(self) -> None:
        """``_ask`` what is whole now, of whom answers by now."""
        turn, http = self.turn, self.http
        self.collecting = False
        if not turn.door.engine.ready:  # another has taken over while the body came
            now = http.find(self.url, self.headers)
            turn.door = now if isinstance(now, type(turn.door)) else turn.door
        if http.draining:
            turn.keep_alive = False
        binary = turn.heads.binary
        self._ask(turn.collected.take(None if binary is None else json_bytes(binary)))

    def _ask(self, body: Any) -> None:
        """Have the engine answer the request that is whole. ``body`` is bytes, or for binary tensors also a memoryview."""
        turn, http, received = self.turn, self.http, time.monotonic()
        door, heads = turn.door, turn.heads
        try:
            if heads.binary is None:
                request = door.read(body, heads.content_type, received, http.total_s)
            else:
                assert isinstance(door, TensorDoor)
                request = door.read_binary(heads.binary, body, received, http.total_s)
            turn.request = request
            request.caller = self.address if not http.caller_header else self._caller()
            request.marks = heads.marks
            entry = door.engine.infer_nowait(request, turn.reply)
            turn.entry = entry if entry.wanted else None  # None: it was answered, or refused, at once
        except ForetellError as error:
            self._tell_refused(error, received)
            turn.reply(None, error)
        except Exception as error:  # noqa: BLE001 - the mode's outermost loop: a mistake is one caller's 500
            turn.reply(None, unexpected(error))

    def _caller(self) -> str:
        return find_caller(self.headers, self.http.caller_header, self.address) if self.http.caller_header else self.address

    def _tell_refused(self, error: ForetellError, received: float) -> None:
        request = Request({}, received, mode="http", caller=self._caller(), marks=self.turn.heads.marks)
        self.turn.door.engine.refuse(request, error)

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Read a request anew without its offer to upgrade (Java's client makes one): the parser drops the body with it."""
        try:
            while self.offers_upgrade:
                self.offers_upgrade = False  # what comes behind may make another, which is looked at when its head is whole
                kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
                line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                data = line + b"".join(kept) + b"\r\n" + rest
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
                try:
                    self.parser.feed_data(data)
                    return
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
        """Whether this is a body of known length, of little JSON or of binary tensors, which the ASGI way would accept too."""
        http = self.http
        if heads.binary is None:
            is_soon_read = heads.length <= ON_LOOP_BYTES and is_json(heads.content_type)
        else:
            is_little = json_bytes(heads.binary) <= ON_LOOP_BYTES and heads.length <= COPIED_ON_LOOP_BYTES
            is_soon_read = is_little and _reads_in_place(door)
        return (
            is_soon_read
            and 0 <= heads.length <= http.most_bytes
            and not (heads.odd or heads.encoding or door.engine.pipeline.slow)
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

    # -- what its patience asks

    def collected_bytes(self) -> int | None:
        """How much there is of a body that is the lane's own, None when none is coming."""
        return self.turn.collected.size if self.collecting else None

    def idle_mark(self) -> int | None:
        """How often an idle connection was answered; None when it is not idle, or uvicorn's to close."""
        is_ours = self.cycle is None or (self.cycle is self.turn and self.turn.response_complete)
        return self.answered if is_ours else None

    def give_up(self, error: ForetellError) -> None:
        """Refuse a request that does not come whole."""
        marks = NO_MARKS
        if self.collecting:
            self.collecting = False
            marks = self.turn.heads.marks
            self._tell_refused(error, time.monotonic())
        self.hang_up(error, marks)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.collecting:
            self.collecting = False
            self._tell_refused(Cancelled("cancelled", "the caller went away before the whole request came"), time.monotonic())
        self.turn.disconnected = True
        self.patience.end()
        self._take_back()
        self.parser = None  # type: ignore[assignment]  # not asked any more; this is one of a cycle, and may live on for long:
        self.headers = []  # what had been read is not kept with it
        self.turn.collected.clear()


def _reads_in_place(door: Door) -> bool:
    """Whether a door uses binary tensors where they stand in the body."""
    return isinstance(door, TensorDoor) and door.reads_in_place


def not_http() -> Invalid:
    """The refusal of what no parser can make sense of."""
    return Invalid("invalid_http", "this is not an HTTP/1.1 request that can be read")
