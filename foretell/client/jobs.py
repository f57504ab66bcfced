"""The jobs of a server: submitted, looked at, waited for, cancelled."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from foretell.client.answers import read_json
from foretell.client.calls import JSON, Calls
from foretell.client.options import Address, Options
from foretell.client.transport import Blocking, finish
from foretell.client.wire import Message

LOOK_S = 0.5
NO_HEADERS: Mapping[str, str] = {}
ENDED = ("done", "failed", "cancelled")
Job = dict[str, Any]
"""A job as ``GET /jobs/{id}`` tells it."""


class JobsClient:
    """Asks one server for its jobs. ``key`` is its admin key. Every call raises ForetellError."""

    def __init__(
        self, url: str, *, key: str | None = None, timeout_s: float = 60.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        options = Options()
        address = Address.parse(url, options.tls)
        self.sleep = sleep
        self._calls = Calls(address, Blocking(address, options.connections, sleep), key, timeout_s, options)

    def __enter__(self) -> "JobsClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._calls.close()

    def submit(self, order: Mapping[str, Any], *, webhook: str | None = None, idempotency_key: str | None = None) -> Job:
        """A new job over files, as ``POST /jobs`` reads it. It is made once, however often it has to be sent.

        Without a key of yours it has one that nobody else uses.
        """
        headers = {"Content-Type": JSON, "Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        if webhook is not None:
            headers["Foretell-Webhook"] = webhook
        return self._ask("POST", "/jobs", headers, orjson.dumps(order))

    def list(self, state: str | None = None, most: int = 100) -> Iterator[Job]:
        """The newest first, at most so many."""
        after: str | None = None
        while most > 0:
            query = {"state": state, "after": after, "limit": str(min(most, 1000))}
            page = self._ask("GET", "/jobs?" + urlencode({name: value for name, value in query.items() if value is not None}))
            yield from page["jobs"]
            most, after = most - len(page["jobs"]), page["after"]
            if after is None:
                return

    def get(self, id: str) -> Job:
        return self._ask("GET", _path(id))

    def result(self, id: str) -> Job:
        """The report of a job over files that is done, or the JSON answer of a request."""
        return self._ask("GET", _path(id) + "/result")

    def cancel(self, id: str) -> Job:
        return self._ask("DELETE", _path(id))

    def retry(self, id: str) -> Job:
        """A new job over the rows that failed."""
        return self._ask("POST", _path(id) + "/retry", {"Idempotency-Key": secrets.token_hex(16)})

    def logs(self, id: str) -> Job:
        """``{"lines": [{"at": ..., "text": ...}]}``."""
        return self._ask("GET", _path(id) + "/logs")

    def watch(self, id: str) -> Iterator[Job]:
        """The job, again and again, until it has ended."""
        while True:
            job = self.get(id)
            yield job
            if job["state"] in ENDED:
                return
            self.sleep(LOOK_S)

    def _ask(self, verb: str, path: str, headers: Mapping[str, str] = NO_HEADERS, body: bytes = b"") -> Job:
        message = Message(verb, path, dict(headers), [body] if body else [])
        answer: Job = read_json(finish(self._calls.ask(lambda _: message, None)).body, "an object")
        return answer


def _path(id: str) -> str:
    return "/jobs/" + quote(id, safe="")
