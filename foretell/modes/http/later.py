"""Requests that are answered later: what ``Prefer: respond-async`` asks for, and a request and its answer as they are kept.

https://www.rfc-editor.org/rfc/rfc7240 and https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from foretell.errors import Invalid
from foretell.jobs.envelope import pack, unpack
from foretell.modes.http.heads import BINARY, Heads
from foretell.modes.http.status import Answer, Headers

PREFER = b"prefer"
KEY = b"idempotency-key"
WEBHOOK = b"foretell-webhook"
LONGEST_PREFER = 1024
LONGEST_KEY = 256
LONGEST_WAIT_S = 60.0
DROPPED = frozenset(
    {
        *(PREFER, KEY, WEBHOOK, b"host", b"content-length", b"accept-encoding", b"authorization", b"cookie"),
        *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"proxy-authorization"),
    }
)
"""Headers of the one connection, secrets, and what is said when the answer is fetched: they are not kept."""
IDENTITY = (b"content-type", b"content-encoding", BINARY)
"""Headers without which the same body is another request."""
_WAIT = re.compile(rb'"?(\d{1,6})"?')


def preferences(heads: Heads) -> dict[bytes, bytes]:
    """Name and value of each preference, in small letters; the first of a name holds. None of a header that is too long."""
    given = heads.find(PREFER)
    found: dict[bytes, bytes] = {}
    if given is None or len(given) > LONGEST_PREFER:
        return found
    for preference in given.lower().split(b","):
        name, _, value = preference.partition(b";")[0].partition(b"=")
        found.setdefault(name.strip(), value.strip())
    return found


def wants_later(heads: Heads) -> bool:
    """Whether a request prefers to be answered later."""
    return b"respond-async" in preferences(heads)


def wait_s(heads: Heads) -> float:
    """How long who asks for a result would wait for it: ``Prefer: wait=10``; 0 without that."""
    match = _WAIT.fullmatch(preferences(heads).get(b"wait", b""))
    return 0.0 if match is None else min(float(match[1]), LONGEST_WAIT_S)


def idempotency_key(heads: Heads) -> str | None:
    """The key of a request, quoted as the draft has it or plain. Raises Invalid ``wrong_key_header``."""
    values = [value for name, value in heads.headers if name == KEY]
    if not values:
        return None
    value = values[0].strip()
    key = value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value
    if len(values) > 1 or not 0 < len(key) <= LONGEST_KEY or not (key.isascii() and key.decode().isprintable()):
        raise Invalid("wrong_key_header", f"an Idempotency-Key has 1 to {LONGEST_KEY} ASCII characters, and comes once")
    return key.decode()


@dataclass(frozen=True)
class Stored:
    """A request as it is kept. ``webhook``: the address that is told of its end."""

    method: str
    path: bytes
    headers: Headers
    caller: str
    body: bytes
    webhook: str | None = None

    def pack(self) -> bytes:
        head = {
            "method": self.method,
            "path": self.path.decode("latin-1"),
            "headers": _texts(self.headers),
            "caller": self.caller,
            "webhook": self.webhook,
        }
        return pack(head, self.body)

    @classmethod
    def unpack(cls, packed: bytes) -> "Stored":
        head, body = unpack(packed)
        path = head["path"].encode("latin-1")
        return cls(head["method"], path, _bytes(head["headers"]), head["caller"], body, head["webhook"])

    @property
    def fingerprint(self) -> str:
        """What is the same for the same request, and differs for another."""
        told = [b"%b:%b" % header for header in self.headers if header[0] in IDENTITY]
        hashed = hashlib.sha256()
        for part in (self.method.encode(), self.path, *told, self.body):
            hashed.update(len(part).to_bytes(8, "big") + part)
        return hashed.hexdigest()


def kept(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Those headers of a request that its answer may depend on."""
    return [header for header in headers if header[0] not in DROPPED]


def pack_answer(answer: Answer) -> bytes:
    """An answer as it is kept."""
    return pack({"status": answer.status, "headers": _texts(answer.headers)}, answer.body)


def unpack_answer(packed: bytes) -> Answer:
    """The answer that was kept."""
    head, body = unpack(packed)
    return Answer(head["status"], _bytes(head["headers"]), body)


def _texts(headers: Headers) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]


def _bytes(headers: list[list[str]]) -> Headers:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
