"""What a connection of the fast lane writes: answers, refusals, and a last word before it hangs up."""

from asyncio import Future
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from foretell.errors import ForetellError
from foretell.modes.http.app import HttpApp
from foretell.modes.http.compress import pack
from foretell.modes.http.heads import NO_MARKS
from foretell.modes.http.status import Answer, Headers, refusal, unexpected
from foretell.modes.http.turn import JSON, Turn

OK = b"HTTP/1.1 200 OK\r\n"
JOINED_BYTES = 64 * 2**10  # a body of no more is joined to its head: that takes less than to write the two
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

    def write(self, status: bytes, headers: bytes, body: bytes) -> None:
        """Head and body in one write; then the connection is idle, or uvicorn's for what was pipelined."""
        turn = self.turn
        turn.response_complete = True
        if self.hung_up or self.transport.is_closing():
            return
        tail = _lines(turn.heads.marks) if turn.heads.marks else b""
        if not turn.keep_alive:
            tail += b"connection: close\r\n"
        head = b"%b%b%bcontent-length: %d\r\n%b\r\n" % (status, self._stamped(), headers, len(body), tail)
        if len(body) > JOINED_BYTES:
            self.transport.writelines([head, body])
        else:
            self.transport.write(head + body)
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

    def answer(self, answer: Answer) -> None:
        """``write`` any answer, good or not."""
        self.write(STATUS_LINE[answer.status], _lines(answer.headers), answer.body)

    def tell(self, answer: Answer) -> None:
        """``answer``, compressed if it is large and the client asked for that: in a thread, as nobody should wait."""
        if self.http.coding(self.turn.heads, len(answer.body)) is None:
            self.answer(answer)
        else:
            self.tell_later(lambda: answer)

    def tell_later(self, make: Callable[[], Answer]) -> None:
        """``tell`` the answer that ``make`` gives, in a thread."""
        self.turn.making = True
        self.loop.run_in_executor(None, self._make, make).add_done_callback(self._made)

    def _make(self, make: Callable[[], Answer]) -> Answer:
        answer = make()
        coding = self.http.coding(self.turn.heads, len(answer.body))
        return answer if coding is None else pack(answer, coding)

    def _made(self, making: "Future[Answer]") -> None:
        turn = self.turn
        turn.making = False
        if making.cancelled():
            return
        mistake = making.exception()
        if mistake is None:
            self.answer(making.result())
        else:
            self.answer(refusal(unexpected(mistake), turn.heads.marks, turn.door.engine.name))

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
