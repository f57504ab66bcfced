"""``/jobs``: what was accepted to be answered later, and jobs over files for those who hold the admin key."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request as WebRequest
from starlette.responses import Response
from starlette.routing import Route

from foretell.codes import CODES
from foretell.errors import Broken, Conflict, Denied, ForetellError, Invalid, Setup, TooLarge
from foretell.jobs.addresses import Hosts
from foretell.jobs.envelope import unpack
from foretell.jobs.job import ENDED, Job, State, new_id
from foretell.jobs.orders import FilesOrder, Orders
from foretell.jobs.service import JobService, unknown
from foretell.modes.http.compress import accepted, pack
from foretell.modes.http.heads import Heads
from foretell.modes.http.later import WEBHOOK, Stored, idempotency_key, unpack_answer, wait_s
from foretell.modes.http.repository import authorization, check_origin, read_object
from foretell.modes.http.status import Answer, Headers
from foretell.security import check_admin

REQUEST, FILES = "request", "files"
MOST_LISTED = 1000
_ID = re.compile(r"[0-9a-f]{48}")
SHOWN = frozenset(State) - {State.EXPIRED}


@dataclass(frozen=True)
class JobDoor:
    """What takes jobs in. ``most_bytes``: of a stored request.

    ``orders`` makes jobs over files of what their submitter says.
    """

    service: JobService
    hosts: Hosts
    orders: Orders
    most_bytes: int
    compress_above: int

    async def accept(self, stored: Stored, heads: Heads) -> Answer:
        """Keep a request that is to be answered later; the answer says where. Raises what it is refused for."""
        if len(stored.body) > self.most_bytes:
            text = f"the body has {len(stored.body)} bytes, at most {self.most_bytes} are kept (setting jobs.max_stored_bytes)"
            details = {"limit": self.most_bytes, "got": len(stored.body), "setting": "jobs.max_stored_bytes"}
            raise TooLarge("body_too_large", text, **details)
        now, owner = time.time(), stored.caller  # whose key this is: strangers may use the same
        fingerprint, key = stored.fingerprint, idempotency_key(heads)
        job = Job(new_id(), REQUEST, stored.pack(), now, now, owner=owner, key=key, fingerprint=fingerprint)
        kept = await self.service.submit(job)
        headers = [(b"content-type", b"application/json"), (b"location", b"/jobs/" + kept.id.encode())]
        return Answer(202, [*headers, (b"preference-applied", b"respond-async")], orjson.dumps(describe(kept)))

    def webhook(self, heads: Heads) -> str | None:
        """The address that is to be told of the end. Raises Invalid ``wrong_webhook`` or Denied ``host_not_listed``."""
        given = heads.find(WEBHOOK)
        return None if given is None else self.hosts.check(given.decode("latin-1")).geturl()


class JobPages:
    """The routes. ``door`` is None where no jobs are kept: then each says so."""

    def __init__(self, admin_key: str) -> None:
        self.key = admin_key
        self.door: JobDoor | None = None
        one = "/jobs/{id}"
        self.routes = [
            Route("/jobs", self.submit, methods=["POST"]),
            Route("/jobs", self.list, methods=["GET"]),
            Route(one, self.status, methods=["GET"]),
            Route(one, self.cancel, methods=["DELETE"]),
            Route(one + "/cancel", self.cancel, methods=["POST"]),
            Route(one + "/result", self.result, methods=["GET"]),
            Route(one + "/retry", self.retry, methods=["POST"]),
            Route(one + "/logs", self.logs, methods=["GET"]),
        ]

    async def submit(self, request: WebRequest) -> Response:
        """A job over files."""
        door = self._open()
        self._admit(request)
        heads = _heads(request)
        order = FilesOrder.read(await read_object(request))
        return await self._keep(door, order, idempotency_key(heads), door.webhook(heads))

    async def list(self, request: WebRequest) -> Response:
        door = self._open()
        self._admit(request)
        query = request.query_params
        state, after, most = query.get("state"), query.get("after"), query.get("limit", "100")
        if state is not None and state not in SHOWN:
            raise Invalid("unknown_state", f"there is no state {state[:40]!r}: use one of {', '.join(sorted(SHOWN))}")
        if not (most.isascii() and most.isdigit() and len(most) < 9 and 1 <= int(most) <= MOST_LISTED):
            raise Invalid("unknown_state", f"limit is a whole number from 1 to {MOST_LISTED}")
        if after is not None and not _ID.fullmatch(after):
            raise unknown(after)
        store = door.service.ledger.store
        jobs = await door.service.ledger.call(store.list, State(state) if state else None, after, int(most))
        following = jobs[-1].id if len(jobs) == int(most) else None
        return _json({"jobs": [describe(job) for job in jobs], "after": following})

    async def status(self, request: WebRequest) -> Response:
        return _json(describe(await self._find(request, wait_s(_heads(request)))))

    async def cancel(self, request: WebRequest) -> Response:
        door = self._open()
        job = await self._find(request)
        return _json(describe(job if job.state in ENDED else await door.service.cancel(job.id)))

    async def result(self, request: WebRequest) -> Response:
        """The answer of a request, as it would have come at once; the report of a job over files; 202 before there is one."""
        heads = _heads(request)
        job = await self._find(request, wait_s(heads))
        if job.state not in ENDED:
            return _json(describe(job), 202, {"retry-after": "1"})
        if job.state is State.CANCELLED:
            raise Conflict("job_cancelled", "the job was cancelled: it has no result")
        if job.error is not None or job.result is None:
            raise _error_of(job)
        if job.kind != REQUEST:
            return _json(unpack(job.result)[0])
        answer = unpack_answer(job.result)
        coding = accepted(heads.find(b"accept-encoding") or b"") if len(answer.body) > self._open().compress_above else None
        return _as_it_came(answer if coding is None else pack(answer, coding))

    async def retry(self, request: WebRequest) -> Response:
        """A new job over the rows that failed in one that has ended."""
        door = self._open()
        job = await self._find(request)
        if job.kind != FILES:
            raise Conflict("no_failed_rows", "only jobs over files have rows: send a request again to have it answered anew")
        if job.state not in ENDED:
            raise Conflict("job_unfinished", "the job has not ended: wait for that, or cancel it")
        order = door.orders.again(job)
        return await self._keep(door, order, idempotency_key(_heads(request)), None)

    async def logs(self, request: WebRequest) -> Response:
        door = self._open()
        job = await self._find(request)
        lines = await door.service.ledger.call(door.service.ledger.store.read_log, job.id)
        return _json({"lines": [{"at": moment(line.at), "text": line.text} for line in lines]})

    async def _keep(self, door: JobDoor, order: FilesOrder, key: str | None, webhook: str | None) -> Response:
        spec = await door.service.ledger.call(door.orders.spec, order, webhook)
        now = time.time()
        fields: Mapping[str, Any] = {"priority": order.priority, "key": key, "fingerprint": order.fingerprint}
        kept = await door.service.submit(Job(new_id(), FILES, spec, now, now, owner="admin", **fields))
        return _json(describe(kept), 202, {"location": f"/jobs/{kept.id}"})

    async def _find(self, request: WebRequest, within_s: float = 0.0) -> Job:
        """The job of a path: a request's for who knows its id, any other for holders of the admin key."""
        door, id = self._open(), request.path_params["id"]
        if not _ID.fullmatch(id):
            raise unknown(id)
        job = await door.service.wait(id, within_s)
        if job.kind != REQUEST:
            self._admit(request)
        return job

    def _open(self) -> JobDoor:
        if self.door is None:
            raise Denied("jobs_off", "this server keeps no jobs: have the operator start it with --jobs-state-folder FOLDER")
        return self.door

    def _admit(self, request: WebRequest) -> None:
        check_origin(request.headers)
        check_admin(self.key, authorization(request))


def describe(job: Job) -> dict[str, Any]:
    """What is shown of a job. Times are UTC as RFC 3339 has them."""
    shown: dict[str, Any] = {"id": job.id, "kind": job.kind, "state": str(job.state), "attempts": job.attempts}
    times = {"created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at}
    shown |= {name: None if at is None else moment(at) for name, at in {**times, "expires_at": job.expires_at}.items()}
    if job.progress:
        shown["progress"] = orjson.loads(job.progress)
    if job.kind == FILES and job.spec:
        shown["order"] = FilesOrder.shown(job.spec)
    if job.cancel_wanted and job.state not in ENDED:
        shown["cancelling"] = True
    if job.error is not None:
        shown |= {"code": job.error.code, "error": job.error.message}
    return shown


def moment(at: float) -> str:
    """``2026-01-31T12:00:00.250Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"


def _error_of(job: Job) -> ForetellError:
    code, text = ("internal", "") if job.error is None else (job.error.code, job.error.message)
    kind = CODES[code][0] if code in CODES else Broken
    error = kind(code if code in CODES else "internal", text)
    if isinstance(error, Setup):
        error.whole = True  # what is kept of a failure is what its caller may see
    return error


def _heads(request: WebRequest) -> Heads:
    return Heads(list(request.scope["headers"]))


def _as_it_came(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    length: Headers = [(b"content-length", b"%d" % len(answer.body))]
    response.raw_headers = [*answer.headers, *length]
    return response


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")
