"""Asks the HTTP application a request that was kept, as if it came now, and gives its answer as it is to be kept."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from foretell.errors import TooLarge
from foretell.jobs.job import Failure, Job
from foretell.jobs.work import Again, Done, Notes
from foretell.modes.http.later import Stored, pack_answer
from foretell.modes.http.status import Answer
from foretell.request import LOW

PASSING = (429, 503, 504)
"""What says nothing about the request: it is asked again."""
AGAIN_S = 1.0
LONGEST_AGAIN_S = 60.0
OF_ITS_CONNECTION = (b"connection", b"content-length")

Application = Callable[..., Awaitable[None]]


class Replay:
    """Does jobs that are requests, behind what callers wait for. ``most_bytes``: of an answer that is kept."""

    def __init__(self, application: Application, most_bytes: int) -> None:
        self.application = application
        self.most_bytes = most_bytes

    async def __call__(self, job: Job, notes: Notes) -> Done:
        """Raises Again for a refusal that passes, TooLarge ``answer_too_large``."""
        answer = await self.ask(Stored.unpack(job.spec))
        if answer is None or (answer.status in PASSING and job.attempts < job.most_attempts - 1):
            wait_s = min(AGAIN_S * 2 ** (job.attempts - 1), LONGEST_AGAIN_S)
            raise Again(wait_s, Failure("job_abandoned", "the server could not answer it, however often it tried"))
        if len(answer.body) > self.most_bytes:
            text = f"the answer has {len(answer.body)} bytes, at most {self.most_bytes} are kept (jobs.max_stored_bytes)"
            raise TooLarge("answer_too_large", text, limit=self.most_bytes, got=len(answer.body))
        return Done(pack_answer(answer))

    async def ask(self, stored: Stored) -> Answer | None:
        """The answer as it would have been written to the connection; None if there was none."""
        heads = [*stored.headers, (b"content-length", b"%d" % len(stored.body))]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": stored.method,
            "scheme": "http",
            "path": unquote(stored.path.decode("latin-1")),
            "raw_path": stored.path,
            "query_string": b"",
            "root_path": "",
            "headers": heads,
            "client": (stored.caller, 0),
            "server": None,
            "foretell.priority": LOW,
        }
        sent: list[MutableMapping[str, Any]] = []
        bodies = [{"type": "http.request", "body": stored.body, "more_body": False}]

        async def receive() -> MutableMapping[str, Any]:
            return bodies.pop() if bodies else await asyncio.get_running_loop().create_future()  # it never goes away

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        if not sent:
            return None
        headers = [header for header in sent[0]["headers"] if header[0] not in OF_ITS_CONNECTION]
        return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))
