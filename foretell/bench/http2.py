"""Unary gRPC over HTTP/2 for the load generator: a request is two frames made once, an answer is read for its status alone.

RFC 9113 and RFC 7541. A table of headers is not kept (its size is set to 0), and a connection carries one call at a time.
"""

import socket
import struct
from collections.abc import Callable, Sequence

from foretell.bench.network import GARBAGE, HUNG_UP, SocketLink

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 4, 5
WINDOW = 2**31 - 1
FIRST_WINDOW = 2**16 - 1
MORE_WINDOW = 2**29
MOST_STREAMS = 2**30
STATUS = b"\x0bgrpc-status"
STATUSES = [  # by their numbers
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
_HEAD = struct.Struct(">HBBBI")  # length in 16 + 8 bits, type, flags, stream
_NUMBER = struct.Struct(">I")
_SETTING = struct.Struct(">HI")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame with its head."""
    return _HEAD.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def write_headers(authority: str, path: str) -> bytes:
    """The header block of a call, in literals that change no table."""
    block = bytearray(b"\x83\x86")  # :method POST, :scheme http
    for name, value in ((b"\x04", path), (b"\x01", authority), (b"\x0f\x10", "application/grpc"), (b"\x00\x02te", "trailers")):
        block += name + _length(len(value)) + value.encode()
    return bytes(block)


def write_message(message: bytes) -> bytes:
    """A gRPC message, not compressed, with its length."""
    return b"\0" + _NUMBER.pack(len(message)) + message


def hello() -> bytes:
    """What a client says first."""
    wanted = ((HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WINDOW))
    settings = frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in wanted))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + _more_window(WINDOW - FIRST_WINDOW)


class GrpcLink(SocketLink):
    """One HTTP/2 connection with one call at a time. ``messages`` are framed by ``write_message``."""

    def __init__(
        self,
        headers: bytes,
        messages: Sequence[bytes],
        room: bytearray,
        opened: socket.socket,
        watch: Callable[[int, int], None],
    ) -> None:
        super().__init__(opened, watch)
        self.headers = headers
        self.messages = messages
        self._room = room
        self._came = b""
        self._stream = -1
        self._status = ""
        self._unsent = memoryview(b"")
        self._window = self._stream_window = self._first_window = FIRST_WINDOW
        self._most = 2**14
        self._taken = 0
        self.send(hello())

    def ask(self, number: int) -> None:
        self.busy = True
        self._status = ""
        self._stream += 2
        self.spent = self._stream > MOST_STREAMS
        message = self.messages[number % len(self.messages)]
        head = frame(HEADERS, END_HEADERS, self._stream, self.headers)
        self._stream_window = self._first_window
        if len(message) <= min(self._window, self._stream_window, self._most):
            self._window -= len(message)
            self.send(head + frame(DATA, END_STREAM, self._stream, message))
        else:
            self._unsent = memoryview(message)
            self.send(head)
            self._send_more()

    def hear(self) -> str:
        try:
            size = self.socket.recv_into(self._room)
        except BlockingIOError:
            return ""
        except OSError:
            return HUNG_UP
        if not size:
            return HUNG_UP
        data = self._came + bytes(memoryview(self._room)[:size])
        at, outcome = 0, ""
        while len(data) - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + (high << 8 | low)
            if kind > 9 and at == 0 and data.startswith(b"HTTP/"):
                return GARBAGE
            if end > len(data):
                break
            outcome = self._take(kind, flags, stream, data[at + _HEAD.size : end]) or outcome
            at = end
        self._came = data[at:]
        return outcome

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> str:
        """One frame; the outcome of the call if it ends with it."""
        if kind == DATA:
            self._taken += len(payload)
            if self._taken > MORE_WINDOW:
                self.send(_more_window(self._taken))
                self._taken = 0
        elif kind == HEADERS and stream == self._stream:
            self._status = _status(payload) or self._status
            if flags & END_STREAM:
                self._unsent = memoryview(b"")
                return self._status or GARBAGE
        elif kind == RST_STREAM and stream == self._stream:
            return "reset"
        elif kind == GOAWAY:
            self.spent = True
        else:
            self._take_of_connection(kind, flags, stream, payload)
        return ""

    def _take_of_connection(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            for key, value in _SETTING.iter_unpack(payload[: len(payload) // 6 * 6]):
                if key == INITIAL_WINDOW_SIZE:
                    self._stream_window += value - self._first_window
                    self._first_window = value
                elif key == MAX_FRAME_SIZE:
                    self._most = value
            self.send(frame(SETTINGS, ACK, 0, b""))
            self._send_more()
        elif kind == WINDOW_UPDATE and len(payload) == _NUMBER.size:
            more = _NUMBER.unpack(payload)[0]
            if stream == 0:
                self._window += more
            elif stream == self._stream:
                self._stream_window += more
            self._send_more()

    def _send_more(self) -> None:
        """Of a message larger than a frame or a window, as much as both sides' windows let through."""
        parts = []
        while self._unsent and (size := min(self._window, self._stream_window, self._most, len(self._unsent))) > 0:
            part, self._unsent = self._unsent[:size], self._unsent[size:]
            self._window -= size
            self._stream_window -= size
            parts.append(frame(DATA, 0 if self._unsent else END_STREAM, self._stream, bytes(part)))
        if parts:
            self.send(b"".join(parts))


def _status(block: bytes) -> str:
    """The status in the trailers, which servers write as a literal; "" when there is none."""
    at = block.find(STATUS)
    if at < 0 or len(block) < at + len(STATUS) + 2:
        return ""
    text = block[at + len(STATUS) + 1 :][: block[at + len(STATUS)] & 127]
    return STATUSES[int(text)] if text.isdigit() and int(text) < len(STATUSES) else GARBAGE


def _length(size: int) -> bytes:
    """The length of a literal: 7 bits, then 7 bits a byte."""
    if size < 127:
        return bytes([size])
    rest, tail = size - 127, bytearray([127])
    while rest >= 128:
        tail.append(rest & 127 | 128)
        rest >>= 7
    return bytes(tail) + bytes([rest])


def _more_window(size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, _NUMBER.pack(size))
