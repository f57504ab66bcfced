"""What an error is over HTTP: one table from kind to status, and one form of body."""

import logging
import math
import secrets
from typing import NamedTuple

import orjson

from foretell.codes import tell
from foretell.errors import Broken, ForetellError, Kind
from foretell.passage import log_fields
from foretell.request import Marks, Request

log = logging.getLogger("foretell")

STATUS: dict[Kind, int] = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.DENIED: 403,
    Kind.MISSING: 404,
    Kind.WRONG_VERB: 405,
    Kind.CONFLICT: 409,
    Kind.MISMATCHED: 422,
    Kind.TOO_LARGE: 413,
    Kind.HEADERS_TOO_LARGE: 431,
    Kind.STALLED: 408,
    Kind.UNSUPPORTED: 415,
    Kind.BUSY: 429,
    Kind.UNAVAILABLE: 503,
    Kind.LATE: 504,
    Kind.CANCELLED: 499,
    Kind.BROKEN: 500,
    Kind.SETUP: 500,
}

Headers = list[tuple[bytes, bytes]]
JSON_HEADERS: Headers = [(b"content-type", b"application/json")]


class Answer(NamedTuple):
    """One HTTP answer, before it is written either way."""

    status: int
    headers: Headers
    body: bytes


def refusal(error: ForetellError, marks: Marks = (), model: str | None = None) -> Answer:
    """The answer for an error: a sentence, a stable code and the details; for a 500 an id, and the traceback in the log.

    ``marks`` and ``model`` name the request there.
    """
    details = dict(error.details)
    if error.kind in (Kind.BROKEN, Kind.SETUP):
        error_id = secrets.token_hex(8)
        details = {"error_id": error_id}
        named = {"error_id": error_id, "code": error.code, "model": model, **log_fields(marks)}
        trace = error if error.kind is Kind.BROKEN or error.__cause__ is not None else None  # a sentence about a file is enough
        log.error("%s: %s", error.code, error, exc_info=trace, extra=named)
    else:
        error.__traceback__ = None  # its frames hold the passage, which holds it: under a flood the collector would do the rest
    retry_after_s = details.pop("retry_after_s", None)
    body = orjson.dumps({"error": tell(error), "code": error.code, **details}, default=str, option=orjson.OPT_NON_STR_KEYS)
    headers = [*JSON_HEADERS]
    if isinstance(retry_after_s, int | float):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))))
    if error.kind is Kind.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(details.get("allow"), str):
        headers.append((b"allow", str(details["allow"]).encode()))
    return Answer(STATUS[error.kind], headers, body)


def with_timing(answer: Answer, request: Request) -> Answer:
    """An answer with the milliseconds of its journey: https://www.w3.org/TR/server-timing/."""
    passage = request.passage
    times = (passage.queue_s * 1e3, passage.compute_s * 1e3, passage.total_s * 1e3)
    told = b"queue;dur=%.3f, compute;dur=%.3f, total;dur=%.3f" % times
    return answer._replace(headers=[*answer.headers, (b"server-timing", told)])


def unexpected(error: BaseException) -> Broken:
    """A mistake of the server's own, as what the caller is told of it."""
    broken = Broken("internal", "the server made a mistake on this request")
    broken.__cause__ = error
    return broken
