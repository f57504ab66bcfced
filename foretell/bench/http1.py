"""HTTP/1.1 for the load generator: requests are bytes made once, answers are read for their status and their length alone."""

import re
import socket
from collections.abc import Callable, Mapping, Sequence

from foretell.bench.network import GARBAGE, HUNG_UP, SocketLink

RECEIVE_BYTES = 2**18
MOST_BYTES_OF_A_HEAD = 2**16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,15}) *(?:\r\n|$)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,12})[^\r\n]{0,200}\r\n")
_STATUS = {b"%d" % status: str(status) for status in range(200, 600)}


def write_request(host: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class HttpLink(SocketLink):
    """One connection of HTTP/1.1, kept alive. All links receive into the same ``room``: nothing stays there between reads."""

    def __init__(
        self, requests: Sequence[bytes], room: bytearray, opened: socket.socket, watch: Callable[[int, int], None]
    ) -> None:
        super().__init__(opened, watch)
        self.requests = requests
        self._room = room
        self._head = b""
        self._left = 0
        self._status = ""
        self._chunks: bytearray | None = None

    def ask(self, number: int) -> None:
        self.busy = True
        self.send(self.requests[number % len(self.requests)])

    def hear(self) -> str:
        data = self._room
        try:
            size = self.socket.recv_into(data)
        except BlockingIOError:
            return ""
        except OSError:
            return HUNG_UP
        if self._left > 0 and size:
            self._left -= size
            return self._status if self._left == 0 else "" if self._left > 0 else GARBAGE
        if self._head or self._chunks is not None or not size:
            return self._hear_more(bytes(memoryview(data)[:size]))
        end = data.find(b"\r\n\r\n", 0, size)
        length = _LENGTH.search(data, 0, end + 2)
        if end < 0 or length is None or end + 4 + int(length[1]) != size or not data.startswith(b"HTTP/1.1 "):
            return self._hear_head(bytes(memoryview(data)[:size]))
        if _CLOSE.search(data, 0, end):
            self.spent = True
        return _STATUS.get(bytes(data[9:12]), GARBAGE)

    def _hear_more(self, data: bytes) -> str:
        if not data:
            return HUNG_UP
        if self._chunks is not None:
            self._chunks += data
            return self._hear_chunks()
        return self._hear_head(self._head + data)

    def _hear_head(self, data: bytes) -> str:
        """An answer that comes in parts, or in chunks."""
        if data[:9] != b"HTTP/1.1 "[: len(data)] or len(data) > MOST_BYTES_OF_A_HEAD + RECEIVE_BYTES:
            return GARBAGE
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._head = data
            return "" if len(data) <= MOST_BYTES_OF_A_HEAD else GARBAGE
        self._head = b""
        self._status = _STATUS.get(data[9:12], GARBAGE)
        self.spent = bool(_CLOSE.search(data, 0, end))
        if _CHUNKED.search(data, 0, end):
            self._chunks = bytearray(data[end + 4 :])
            return self._hear_chunks()
        length = _LENGTH.search(data, 0, end + 2)
        if length is None:
            return GARBAGE
        self._left = int(length[1]) - (len(data) - end - 4)
        return self._status if self._left == 0 else "" if self._left > 0 else GARBAGE

    def _hear_chunks(self) -> str:
        """Takes whole chunks off the front; the last one is empty."""
        assert self._chunks is not None
        while (size := _CHUNK.match(self._chunks)) is not None:
            data_bytes, whole = int(size[1], 16), size.end() + int(size[1], 16) + 2
            if len(self._chunks) < whole:
                return ""
            size = None  # it would keep the buffer from being cut
            del self._chunks[:whole]
            if data_bytes == 0:
                self._chunks = None
                return self._status
        return "" if len(self._chunks) < 256 else GARBAGE
