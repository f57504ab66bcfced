"""HTTP/1.1 as the client speaks it: requests to bytes, bytes to answers; no socket is touched here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httptools

from foretell import __version__
from foretell.client.options import Address
from foretell.client.transport import Chunk

JOINED_BYTES = 2**16  # a body up to this size travels with its head in one piece
_BODILESS = (204, 304)


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
    """Reads one answer; ``answer`` is there once it is whole, ``reusable`` says whether the connection can carry another."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.started = False
        self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] | None = None
        self._body: list[bytes] = []
        self._new: dict[str, str] = {}

    def feed(self, data: bytes) -> None:
        """What was received. Raises httptools.HttpParserError for what is no HTTP."""
        self.started = True
        self._parser.feed_data(data)

    def feed_end(self) -> None:
        """The server hung up, which is the end of an answer that gives no length."""
        framed = self._headers is None or "content-length" in self._headers or "transfer-encoding" in self._headers
        if self.answer is None and not framed:
            self._complete(reusable=False)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._new[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._headers = self._new

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

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
        self.answer = Answer(self._parser.get_status_code(), self._headers or {}, bytearray().join(self._body))
