"""What a connection of the fast lane writes: answers, refusals, and a last word before it hangs up."""

from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from foretell.errors import ForetellError
from foretell.modes.http.app import HttpApp
from foretell.modes.http.compress import pack
from foretell.modes.http.heads import NO_MARKS
from foretell.modes.http.status import Answer, Headers, refusal, unexpected
from foretell.modes.http.turn import JSON, Turn

OK = b"HTTP/1.1 200 OK\r\n"
JOINED_BYTES = 64 * 2**10  # parts of an answer that has no more are joined: that takes less than writing them one by one
LINGER_S = 1.0  # how long a connection that was hung up on is still read


class Answering(HttpToolsProtocol):
    """``turn`` is the request that is answered, ``running`` what the ASGI way answers now, ``answered`` how many were.

    ``stamp`` are uvicorn's own headers, those headers as they are written, and with the head of a good answer in front.
    """

    __slots__ = ("answered", "http", "hung_up", "running", "stamp", "turn")

    http: HttpApp
    turn: Turn
    running: Any
    stamp: tuple[Headers, bytes, bytes]
    hung_up: bool
    answered: int

    def write(self, status: bytes, headers: bytes, body: bytes, parts: Sequence[bytes | memoryview] = ()) -> None:
        """Head and body in one write; then the connection is idle, or uvicorn's for what was pipelined."""
        turn = self.turn
        turn.response_complete = True
        if self.hung_up or self.transport.is_closing():
            return
        tail = _lines(turn.heads.marks) if turn.heads.marks else b""
        if not turn.keep_alive:
            tail += b"connection: close\r\n"
        size = len(body) + sum(map(len, parts))
        start = b"%b%b%bcontent-length: %d\r\n%b\r\n%b" % (status, self._stamped(), headers, size, tail, body)
        if size > JOINED_BYTES:
            self.transport.writelines([start, *parts])
        else:
            self.transport.write(b"".join([start, *parts]) if parts else start)
        if not turn.keep_alive:
            self.transport.close()
        self._go_on()

    def write_json(self, body: bytes) -> None:
        """``write`` of the commonest answer."""
        turn, transport = self.turn, self.transport
        if turn.heads.marks or not turn.keep_alive:
            self.write(OK, JSON, body)
            return
        turn.response_complete = True
        if self.hung_up or transport.is_closing():
            return
        headers = self.server_state.default_headers
        if headers is not self.stamp[0]:
            self._stamped()
        transport.write(b"%b%d\r\n\r\n%b" % (self.stamp[2], len(body), body))
        self._go_on()

    def tell(self, answer: Answer) -> None:
        """Write an answer, compressed if it is large and the client asked for that: in a thread, as nobody should wait."""
        coding = self.http.coding(self.turn.heads, answer.size)
        if coding is None:
            self.refuse(answer)
        else:
            packing = self.loop.run_in_executor(None, pack, answer, coding)
            packing.add_done_callback(lambda done: self.refuse(done.result()))

    def tell_later(self, write: Callable[[], Answer]) -> None:
        """``tell`` the answer that ``write`` makes, in a thread: nobody should wait for it."""

        def told(writing: "Future[Answer]") -> None:
            error = writing.exception()
            if error is None:
                self.tell(writing.result())
            else:
                self.refuse(refusal(unexpected(error), self.turn.heads.marks, self.turn.door.engine.name))

        self.loop.run_in_executor(None, write).add_done_callback(told)

    def refuse(self, answer: Answer) -> None:
        self.write(STATUS_LINE[answer.status], _lines(answer.headers), answer.body, answer.parts)

    def hang_up(self, error: ForetellError, marks: Headers = NO_MARKS) -> None:
        """Refuse what is not even a whole request. What still comes is dropped for a while: a reset would lose the answer."""
        if self.hung_up or self.transport.is_closing():
            return
        self.hung_up = True
        self._take_back()
        answer = refusal(error)
        told = _lines(marks)
        head = b"%bcontent-length: %d\r\n%bconnection: close\r\n\r\n" % (JSON, len(answer.body), told)
        self.transport.write(b"%b%b%b%b" % (STATUS_LINE[answer.status], self._stamped(), head, answer.body))
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _stamped(self) -> bytes:
        """uvicorn's own headers (the date), joined anew only when they change, with the head of a good answer."""
        headers = self.server_state.default_headers
        if headers is not self.stamp[0]:
            lines = _lines(headers)
            self.stamp = (headers, lines, b"%b%b%bcontent-length: " % (OK, lines, JSON))
        return self.stamp[1]

    def _go_on(self) -> None:
        if self.pipeline or self.transport.is_closing():
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self.answered += 1

    def _take_back(self) -> None:
        """Have nobody work for a client that is gone."""
        if self.running is not None:
            self.running.disconnected = True
            self.running.message_event.set()
        if self.turn.entry is not None:
            self.turn.door.engine.cancel(self.turn.entry)
            self.turn.entry = None


def _lines(headers: Headers) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
