"""HTTP/1.1 as the client speaks it: requests to bytes, bytes to answers; no socket is touched here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httptools

from foretell import __version__
from foretell.client.options import Address
from foretell.client.transport import Chunk
from foretell.errors import Broken

JOINED_BYTES = 2**16  # a body up to this size travels with its head in one piece
ERROR_BYTES = 2**20  # of an answer that is no success
FRAME_BYTES = 2**20  # of headers, hints and the like, before a byte of a body


@dataclass(frozen=True)
class Message:
    """One request. ``path`` begins behind the address's own."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[Chunk] = ()


@dataclass(frozen=True)
class Answer:
    """One answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytearray


class Writer:
    """Writes requests to one server."""

    def __init__(self, address: Address, headers: Mapping[str, str]) -> None:
        self.path = address.path
        fixed = {"Host": address.authority, "User-Agent": f"foretell/{__version__}", **headers}
        self.fixed = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())

    def write(self, message: Message) -> list[Chunk]:
        """The bytes of a request, in pieces that are sent one after the other."""
        size = sum(map(len, message.body))
        lines = [f"{message.method} {self.path}{message.path} HTTP/1.1\r\n{self.fixed}"]
        lines += [f"{name}: {value}\r\n" for name, value in message.headers.items()]
        if message.method != "GET":
            lines.append(f"Content-Length: {size}\r\n")
        head = "".join([*lines, "\r\n"]).encode("latin-1")
        return [b"".join((head, *message.body))] if size <= JOINED_BYTES else [head, *message.body]


class Reader:
    """Reads one answer; ``answer`` is there once it is whole, ``reusable`` says whether the connection can carry another.

    Never holds more than ``most`` bytes of a success's body, and of an error's no more than ``ERROR_BYTES``.
    """

    def __init__(self, most: int = 2**30) -> None:
        self.most = most
        self.answer: Answer | None = None
        self.started = False
        self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] | None = None
        self._body = bytearray()
        self._frame_bytes = 0
        self._new: dict[str, str] = {}

    def feed(self, data: bytes) -> None:
        """What was received. Raises httptools.HttpParserError for what is no HTTP, Broken ``foreign_answer`` for too much."""
        self.started = True
        before = len(self._body)
        self._parser.feed_data(data)
        self._frame_bytes = 0 if len(self._body) > before else self._frame_bytes + len(data)
        if self._frame_bytes > FRAME_BYTES:
            raise Broken("foreign_answer", f"the answer has over {FRAME_BYTES} bytes of headers: check the address")
        self._check_size()

    def feed_end(self) -> None:
        """The server hung up, which is the end of an answer that gives no length."""
        framed = self._headers is None or "content-length" in self._headers or "transfer-encoding" in self._headers
        if self.answer is None and not framed:
            self._complete(reusable=False)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.answer is None:
            self._new[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._headers = self._new

    def on_body(self, body: bytes) -> None:
        if self.answer is None:
            self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # an early hint: the answer comes behind it
            self._headers, self._new = None, {}
        elif self.answer is None:
            self._complete(reusable=self._parser.should_keep_alive())
        else:
            self.reusable = False

    def on_message_begin(self) -> None:
        if self.answer is not None:
            self.reusable = False

    def _complete(self, *, reusable: bool) -> None:
        self.reusable = reusable
        self.answer = Answer(self._parser.get_status_code(), self._headers or {}, self._body)

    def _check_size(self) -> None:
        if self._headers is None:
            return
        status = self._parser.get_status_code() if self.answer is None else self.answer.status
        success = 200 <= status < 300
        most = self.most if success else min(self.most, ERROR_BYTES)
        if max(len(self._body), self._declared()) > most:
            cure = "allow more with Options(max_response_bytes=...)" if success else "check the address"
            raise Broken("foreign_answer", f"the answer is longer than {most} bytes: {cure}")

    def _declared(self) -> int:
        """The length that the headers give; the parser has checked that it is a number."""
        value = (self._headers or {}).get("content-length", "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
