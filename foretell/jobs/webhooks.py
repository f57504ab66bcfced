"""Tells the end of a job to the address that its owner named: signed, to listed hosts only, tried again until it is heard.

Signed as https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md says. A delivery is a job
of its own, so that it survives whoever was to make it.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

import orjson

from foretell.errors import Setup, Unavailable
from foretell.jobs.addresses import Hosts
from foretell.jobs.envelope import pack, unpack
from foretell.jobs.job import ENDED, Failure, Job, State
from foretell.jobs.work import Again, Done, Notes

log = logging.getLogger("foretell")

KIND = "webhook"
PAUSES_S = (5.0, 60.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0)
"""Before each further attempt, a little more or less: about 19 hours in all."""
WITHIN_S = 10.0  # for one attempt, from looking up the host to the status line
MOST_HEAD_BYTES = 16 * 2**10
NOT_ENDED_S = 1.0  # after a delivery came before the end that it tells of
PREFIX = "whsec_"
GONE = 410  # the receiver wants no more of them


def read_secret(text: str) -> bytes:
    """The bytes of a secret ``whsec_<base64>``. Raises Setup ``wrong_setting``."""
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except ValueError:
        secret = b""
    if not text.startswith(PREFIX) or not 24 <= len(secret) <= 64:
        cure = 'make one with: echo "whsec_$(openssl rand -base64 32)"'
        raise Setup("wrong_setting", f"setting jobs.webhook_secret takes whsec_ and 24 to 64 bytes in base64: {cure}")
    return secret


def sign(secret: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``."""
    signature = hmac.digest(secret, b"%b.%d.%b" % (id.encode(), timestamp, body), hashlib.sha256)
    return "v1," + base64.b64encode(signature).decode()


def delivery(job: Job, url: str, new_id: Callable[[], str], now: float) -> Job:
    """The job that tells ``url`` of the end of another; made twice, it is the same."""
    spec = pack({"url": url, "job": job.id}, tell_end(job))
    attempts = len(PAUSES_S) + 1
    return Job(new_id(), KIND, spec, now, now, owner="webhooks", key=f"webhook:{job.id}", most_attempts=attempts + 1)


def tell_end(job: Job) -> bytes:
    """What is told of a job that has ended."""
    data: dict[str, object] = {"id": job.id, "state": str(job.state), "result": f"/jobs/{job.id}/result"}
    if job.state is State.FAILED and job.error is not None:  # another may have that of an attempt before
        data["code"] = job.error.code
    return orjson.dumps({"type": f"job.{job.state}", "timestamp": _iso(job.finished_at or 0.0), "data": data})


def _iso(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


@dataclass(frozen=True)
class Webhooks:
    """Delivers. ``find`` gives the job that a delivery tells of, as it is now: what is told is how it really ended.

    What was to be told when the delivery was made is for a job that has been deleted by then.
    """

    hosts: Hosts
    secret: bytes
    find: Callable[[str], Job | None]
    tls: ssl.SSLContext | None = None

    async def __call__(self, job: Job, notes: Notes) -> Done:
        """One attempt. Raises Again for one that failed, as long as there are more."""
        head, body = unpack(job.spec)
        try:
            told_of = await asyncio.to_thread(self.find, head["job"])
        except Unavailable as error:
            raise Again(NOT_ENDED_S) from error
        if told_of is not None and told_of.state not in ENDED:
            raise Again(NOT_ENDED_S)
        body = body if told_of is None else tell_end(told_of)
        try:
            async with asyncio.timeout(WITHIN_S):
                status = await self._post(self.hosts.check(head["url"]), f"msg_{head['job']}", body)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise self._failed(job, f"no answer ({type(error).__name__})") from error
        if 200 <= status < 300 or status == GONE:
            return Done(pack({"status": status}))
        raise self._failed(job, f"status {status}")

    def _failed(self, job: Job, how: str) -> Again:
        pause_s = PAUSES_S[min(job.attempts, len(PAUSES_S)) - 1]
        log.warning("a webhook was not heard: %s, attempt %d", how, job.attempts, extra={"job": job.id})
        return Again(pause_s * random.uniform(0.9, 1.1), Failure("webhook_failed", f"the webhook was not heard: {how}"))

    async def _post(self, url: SplitResult, id: str, body: bytes) -> int:
        """The status of the answer; nothing else of it is read, and a redirect is not followed."""
        address, port = await self.hosts.resolve(url)
        tls = None if url.scheme == "http" else self.tls or ssl.create_default_context()
        name = None if tls is None else url.hostname
        reader, writer = await asyncio.open_connection(address, port, ssl=tls, server_hostname=name, limit=MOST_HEAD_BYTES)
        try:
            writer.write(_request(url, self._headers(id, body), body))
            await writer.drain()
            line = await reader.readline()
        finally:
            writer.transport.abort()
        version, _, rest = line.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise ValueError("what came back is not HTTP/1.1")
        return int(rest[:3])

    def _headers(self, id: str, body: bytes) -> Mapping[str, str]:
        timestamp = int(time.time())
        signature = sign(self.secret, id, timestamp, body)
        return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def _request(url: SplitResult, headers: Mapping[str, str], body: bytes) -> bytes:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    host = url.netloc
    fixed = {"host": host, "content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in {**fixed, **headers}.items())]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body
